"""DINOv2 and CLIP image encoders through the optional package `transformers`.

Their weights are read as safetensors only, from the Hugging Face Hub or a local folder in its format; no code of a
model's own is run.
"""

from __future__ import annotations

import contextlib
import importlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganwright.data.sources import printable
from ganwright.errors import MetricError, MissingExtraError
from ganwright.files import hash_bytes, hash_file
from ganwright.metrics.extractor_base import Extractor
from ganwright.metrics.resizing import resize_name

_WEIGHTS, _INDEX, _CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"
_UNUSED = {"embeddings.mask_token"}
"""Weights that only training needs."""
_SIDES = range(14, 1025)


@dataclass(frozen=True)
class Family:
    """How the models of one kind are read, and how images reach them.

    Attributes:
        classes: Class in `transformers` by the `model_type` of config.json.
        mean: Mean of each channel, of pixels in 0..1.
        std: Standard deviation of each.
        size: Side of the input in pixels; 0: the configuration's.
        unit_length: Whether features are divided by their length.
    """

    classes: dict[str, str]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    size: int
    unit_length: bool


FAMILIES = {
    # Stein et al. 2023 (FD-DINOv2): squeezed to 224x224 without cropping; class token after the last layer norm.
    "dinov2": Family(
        classes={"dinov2": "Dinov2Model", "dinov2_with_registers": "Dinov2WithRegistersModel"},
        # ImageNet's, and CLIP's below.
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        size=224,
        unit_length=False,
    ),
    # Jayasumana et al. 2024 (CMMD): projected embeddings, each divided by its length.
    "clip": Family(
        classes={"clip": "CLIPVisionModelWithProjection", "clip_vision_model": "CLIPVisionModelWithProjection"},
        mean=(0.48145466, 0.4578275, 0.40821073),
        std=(0.26862954, 0.26130258, 0.27577711),
        size=0,
        unit_length=True,
    ),
}
"""Families by the word before the colon of `dinov2:/folder`."""


@dataclass(frozen=True)
class Published:
    """A model with a short name.

    Attributes:
        family: Key of `FAMILIES`.
        repository: On the Hugging Face Hub.
        megabytes: Size of its weights, about.
    """

    family: str
    repository: str
    megabytes: int


PUBLISHED = {
    "dinov2": Published("dinov2", "facebook/dinov2-large", 1220),
    "dinov2-base": Published("dinov2", "facebook/dinov2-base", 350),
    "clip": Published("clip", "openai/clip-vit-large-patch14-336", 1710),
    "clip-base": Published("clip", "openai/clip-vit-base-patch32", 605),
}
"""Models by name; a new one is a row."""


class TransformersExtractor(Extractor):
    """DINOv2 (`dinov2`, `dinov2-base`), CLIP (`clip`, `clip-base`), or `dinov2:/folder`, `clip:/folder`.

    Images of any shape are resized to a square, not cropped.

    Args:
        spec: One of those.
        device: Where to compute.
        weights: A folder in Hugging Face format, in place of the download.

    Raises:
        MissingExtraError: The package `transformers` is not installed.
        MetricError: The model is not to be had, or not of its family, or incomplete; says what to do.
    """

    has_logits = False
    cpu_batch = 8

    def __init__(self, spec: str, device: torch.device | str = "cpu", weights: Path | None = None) -> None:
        super().__init__(device)
        word, colon, folder = spec.partition(":")
        published = None if colon else PUBLISHED[word]
        key = word if published is None else published.family
        self.family = FAMILIES[key]
        try:
            transformers: Any = importlib.import_module("transformers")
        except ImportError as error:
            raise MissingExtraError("transformers", "transformers", f"The extractor {word}") from error
        local = Path(folder) if colon else weights
        self.name = spec if not colon else f"{word}:{Path(folder).resolve().name}"
        if local is None:
            assert published is not None
            local = _downloaded(word, published)
        network, self.version = _open(transformers, local, self.family, key)
        self.size, self.feature_dim = _shape(network, self.family, local)
        mean, std = (" ".join(f"{v:.4g}" for v in values) for values in (self.family.mean, self.family.std))
        self.preprocessing = f"{resize_name(self.resize, self.size)}, (x / 255 - ({mean})) / ({std})"
        if self.family.unit_length:
            self.preprocessing += "; features of unit length"
        self.network = network.eval().requires_grad_(False).to(self.device)
        self._mean, self._std = (
            torch.tensor(v, device=self.device).view(1, 3, 1, 1) for v in (self.family.mean, self.family.std)
        )

    def forward(self, images: Tensor) -> tuple[Tensor, None]:
        """Features (N, D): the class token of DINOv2, the projected embedding of CLIP."""
        x = ((images / 255 - self._mean) / self._std).contiguous()
        found = self.network(pixel_values=x)
        if not self.family.unit_length:
            return found.last_hidden_state[:, 0], None
        features = found.image_embeds
        return features / features.norm(dim=-1, keepdim=True), None


def _downloaded(name: str, published: Published) -> Path:
    """The folder of a published model: from the Hub's cache, or fetched into it."""
    hub: Any = importlib.import_module("huggingface_hub")
    for offline in (True, False):  # what is cached is taken as it is, without asking
        try:
            for file in (_CONFIG, _WEIGHTS):
                path = hub.hf_hub_download(published.repository, file, local_files_only=offline)
            return Path(path).parent
        except Exception as error:  # the Hub's client, its HTTP library and the disk have errors of their own
            failure = error
    reason = printable(str(failure).strip().splitlines()[0])[:200] if str(failure).strip() else type(failure).__name__
    raise MetricError(
        f"The extractor {name} is not on this machine and could not be fetched ({reason}).",
        where=published.repository,
        fix=f"on a machine with internet, `hf download {published.repository} {_CONFIG} {_WEIGHTS} --local-dir FOLDER` "
        f"({published.megabytes} MB), copy the folder here and use --extractor {published.family}:/path/to/FOLDER. "
        f"{_convert(published.repository)}; or use --extractor efficientnet-lite0, which needs no download",
    ) from failure


def _convert(source: object) -> str:
    return (
        f"Where there is no {_WEIGHTS} but only a pickle (pytorch_model.bin), convert it once: "
        f"transformers.AutoModel.from_pretrained('{source}').save_pretrained('FOLDER')"
    )


def _open(transformers: Any, folder: Path, family: Family, word: str) -> tuple[Any, str]:
    """The network and its version, the hash of weights and configuration."""
    if not (folder / _CONFIG).is_file():
        fix = f"give a folder in Hugging Face format: {_CONFIG} and {_WEIGHTS}"
        raise MetricError(f"There is no {_CONFIG} here.", where=folder, fix=fix)
    files = [folder / _WEIGHTS] if (folder / _WEIGHTS).is_file() else []
    if not files and (folder / _INDEX).is_file():
        files = sorted(folder.glob("model-*.safetensors"))
    if not files:
        raise MetricError(f"There is no {_WEIGHTS} here.", where=folder, fix=_convert(folder))
    try:
        config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        kind = config["model_type"]
        class_name = family.classes.get(kind) if isinstance(kind, str) else None
    except (ValueError, RecursionError, TypeError, KeyError) as error:
        raise MetricError(f"This {_CONFIG} is not a model's.", where=folder / _CONFIG) from error
    if class_name is None:
        raise MetricError(
            f"This is a model of the type {printable(str(kind))[:50]}, and '{word}:' reads "
            f"{' and '.join(family.classes)} only.",
            where=folder / _CONFIG,
        )
    if "quantization_config" in config or (folder / "adapter_config.json").exists():
        raise MetricError("Quantised models and adapters are not read.", where=folder, fix="give the plain weights")
    try:
        # Opening one in a training draws none of its random numbers.
        with torch.random.fork_rng(devices=[]), _silent(transformers):
            network, loading = getattr(transformers, class_name).from_pretrained(
                str(folder),
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                dtype=torch.float32,
                attn_implementation="sdpa",
                output_loading_info=True,
            )
    except Exception as error:  # transformers and safetensors have errors of many kinds
        reason = printable(" ".join(str(error).split()))[:200]
        raise MetricError(f"These weights cannot be read: {reason}", where=folder) from error
    # Those would have been left random.
    lacking = sorted({str(name) for name in loading["missing_keys"]} - _UNUSED)
    lacking += [str(key) for key in loading["mismatched_keys"]]
    if lacking:
        raise MetricError(
            f"{len(lacking)} weights are missing or of another shape ({printable(', '.join(lacking[:3]))[:200]}).",
            where=folder,
            fix="CLIP needs the projection too, as CLIPModel and CLIPVisionModelWithProjection save it",
        )
    return network, hash_bytes(*(hash_file(path).encode() for path in (folder / _CONFIG, *files)))[:8]


def _shape(network: Any, family: Family, folder: Path) -> tuple[int, int]:
    """Side of the input and number of features."""
    size, patch = family.size or network.config.image_size, network.config.patch_size
    if not (isinstance(size, int) and isinstance(patch, int) and size in _SIDES and patch > 0 and size % patch == 0):
        raise MetricError(f"Images of {size} pixels in patches of {patch} are not supported.", where=folder / _CONFIG)
    return size, network.config.projection_dim if family.unit_length else network.config.hidden_size


@contextlib.contextmanager
def _silent(transformers: Any) -> Iterator[None]:
    """No load report and no progress bar of the package's own."""
    logging = transformers.utils.logging
    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()
