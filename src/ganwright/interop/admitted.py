"""Which names a checkpoint may use, and what each becomes; everything else is refused. And how a file is opened.

The list holds what the files of NVIDIA's StyleGAN2-ADA-PyTorch and StyleGAN3 repositories, of R3GAN's, and plain state
dicts of torch were seen to use.
"""

from __future__ import annotations

import mmap
import zipfile
from pathlib import Path
from typing import Any

from ganwright.interop.opcodes import read_pickle
from ganwright.interop.restricted import CheckpointImportError, Global, ImportRefusedError, Inert, Rule, Rules
from ganwright.interop.tensors import NUMPY_RULES, STORAGE_RULES, TENSOR_RULES
from ganwright.interop.torch_files import LEGACY_MAGIC, load_from_bytes, read_legacy, read_zip


def _mapping(*pairs: Any) -> dict[Any, Any]:
    """An `OrderedDict` or `EasyDict`; its items come by SETITEMS, or as a list of pairs from Python 2."""
    if pairs in ((), ([],)):
        return {}
    raise ImportRefusedError("A dictionary is made of something other than its items.")


def _set(items: Any = ()) -> set[Any]:
    if not isinstance(items, list | tuple) or not all(type(item) in (str, int, float, bool) for item in items):
        raise ImportRefusedError("A set is made of something other than plain values.")
    return set(items)


def _persistent_object(meta: Any) -> Inert:
    """`torch_utils.persistence._reconstruct_persistent_obj`, which in the original runs the source text in `meta`."""
    fits = isinstance(meta, dict) and meta.get("type") == "class" and type(meta.get("class_name")) is str
    if not fits or not isinstance(meta.get("state"), dict) or type(meta.get("module_src")) is not str:
        raise ImportRefusedError("A network is stored in an unknown form.")
    return Inert(meta["class_name"], meta["state"], meta["module_src"])


def stand_in(module: str, name: str) -> Rule:
    """A rule that makes inert stand-ins for objects of a class."""

    def make(*arguments: Any) -> Inert:
        if arguments:
            raise ImportRefusedError(f"An object of {Global(module, name)} is made with arguments.")
        return Inert(f"{module}.{name}")

    return Rule(make, new=True)


_TORCH_LAYERS = {
    "container": ("ModuleList", "Sequential", "ModuleDict"),
    "conv": ("Conv2d", "ConvTranspose2d"),
    "linear": ("Linear", "Identity"),
    "activation": ("LeakyReLU", "ReLU", "Tanh", "Sigmoid"),
    "batchnorm": ("BatchNorm2d",),
    "instancenorm": ("InstanceNorm2d",),
    "sparse": ("Embedding",),
    "dropout": ("Dropout",),
    "upsampling": ("Upsample",),
    "padding": ("ReflectionPad2d", "ReplicationPad2d", "ZeroPad2d"),
}
_R3GAN_FORMS = ("CUDA", "Reference")
_R3GAN_CLASSES = {
    "R3GAN.Networks": [
        *("Generator", "Discriminator", "GeneratorStage", "DiscriminatorStage", "GenerativeBasis"),
        *("DiscriminativeBasis", "UpsampleLayer", "DownsampleLayer", "ResidualBlock", "Convolution"),
    ],
    "R3GAN.FusedOperators": [f"BiasedActivation{form}" for form in _R3GAN_FORMS],
    "R3GAN.Resamplers": [
        f"{kind}{way}{form}"
        for kind in ("Interpolative", "Inplace")
        for way in ("Upsampler", "Downsampler")
        for form in _R3GAN_FORMS
    ],
    "training.networks": ["Generator", "Discriminator"],
}
_STAND_INS = (
    *((f"torch.nn.modules.{module}", name) for module, names in _TORCH_LAYERS.items() for name in names),
    *((module, name) for module, names in _R3GAN_CLASSES.items() for name in names),
)

RULES: Rules = {
    ("collections", "OrderedDict"): Rule(_mapping, new=True),
    ("dnnlib.util", "EasyDict"): Rule(_mapping, new=True),
    ("dnnlib", "EasyDict"): Rule(_mapping, new=True),
    ("builtins", "set"): Rule(_set),
    ("__builtin__", "set"): Rule(_set),
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): Rule(_persistent_object),
    ("torch.storage", "_load_from_bytes"): Rule(load_from_bytes, nested=True),
    **STORAGE_RULES,
    **TENSOR_RULES,
    **NUMPY_RULES,
    **{(module, name): stand_in(module, name) for module, name in _STAND_INS},
}
"""Every admitted name."""


_OTHER_KINDS = {
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"GIF8": "a GIF picture",
    b"RIFF": "a WebP picture or a film",
    b"%PDF": "a PDF document",
    b"\x93NUMPY": "a NumPy array",
    b"\x1f\x8b": "a gzip archive",
    b"\x89HDF": "an HDF5 file",
    b"<!DOCTY": "a web page",
    b"<html": "a web page",
}
"""How files begin that people give by mistake."""


def read_checkpoint_file(path: Path) -> Any:
    """The content of a `.pkl`, `.pt` or `.pth` file, as plain containers, tensors, arrays and inert stand-ins.

    Args:
        path: A pickle, or a file written by `torch.save` in either of its formats.

    Raises:
        ImportRefusedError: The file asks for something that is not admitted; the error names it and where it stands.
        CheckpointImportError: The file is missing, damaged, or of another kind.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe, say, which would be waited for
            raise CheckpointImportError("The file cannot be read: it is no file.")
        with path.open("rb") as file:
            start = file.read(8)
            for mark, kind in _OTHER_KINDS.items():
                if start.startswith(mark):
                    raise CheckpointImportError(
                        f"This is {kind}, and no checkpoint.", fix="give a .pkl, .pt or .pth file"
                    )
            if zipfile.is_zipfile(file):
                with zipfile.ZipFile(file) as archive:
                    return read_zip(archive, RULES, path.stat().st_size)
            file.seek(0)
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as stream:
                value = read_pickle(stream, RULES)
                if type(value) is not int or value != LEGACY_MAGIC:
                    return value
                stream.seek(0)
                return read_legacy(stream, RULES)
    except CheckpointImportError as error:
        where = str(path) if error.where is None else f"{path}, {error.where}"
        raise type(error)(error.what, where=where, fix=error.fix) from error.__cause__
    except Exception as error:  # archives too are damaged in any of a hundred ways
        what = str(error) or type(error).__name__
        raise CheckpointImportError(
            f"The file cannot be read: {what}.", where=path, fix="check the path and the file"
        ) from error
