"""A domain extractor: a small classifier trained on the user's own labelled data, in one safetensors file.

Here is what such a file holds, how it is checked and opened. `domain_training.py` trains one and writes it.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ganwright.data.sources import printable
from ganwright.errors import MetricError
from ganwright.files import atomic_path, hash_file
from ganwright.metrics.extractor_base import Extractor
from ganwright.metrics.resizing import resize_name
from ganwright.networks.domain_classifier import ARCHITECTURE, FEATURES, DomainClassifier
from ganwright.networks.folded import uninitialised

DOMAIN_ENDING = ".safetensors"
SMALLEST, LARGEST = 8, 64
"""Sides of the network's input, in pixels."""
_KEY = "ganwright-domain-extractor"
_FORMAT = 1
_LONGEST = 4 << 20
"""Longest description that is read, in characters."""
_MOST_CLASSES = 10_000
_LUMA = (0.299, 0.587, 0.114)
"""Grey of RGB by ITU-R BT.601, as Pillow's and this package's grey images are made."""
_RETRAIN = "train one with `ganwright extractor train LABELLED_DATA --out FILE.safetensors`"


@dataclass(frozen=True)
class DomainDescription:
    """What a file says of itself, as JSON under one key of its metadata.

    Attributes:
        classes: Names of the classes, in the order of the logits.
        resolution: Side of the input, in pixels.
        channels: 1 or 3.
        mean: Mean of each channel of the training images, in 0..255.
        std: Standard deviation of each.
        accuracy: Share of held-out real images read right; NaN where none were held out.
        n_held_out: How many those are.
        fingerprint: Of the data.
        seed: Of training and split.
        steps: Steps done.
        stopped_by: "steps": the plan was done; "time" or "interrupt": it was cut short.
        architecture: Names the network.
        format: Version of this description.
    """

    classes: tuple[str, ...]
    resolution: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    accuracy: float
    n_held_out: int
    fingerprint: str
    seed: int
    steps: int
    stopped_by: str
    architecture: str = ARCHITECTURE
    format: int = _FORMAT

    def to_json(self) -> str:
        """JSON; NaN, which JSON lacks, as null."""
        values = asdict(self) | {"accuracy": None if math.isnan(self.accuracy) else self.accuracy}
        return json.dumps(values, sort_keys=True, ensure_ascii=True)

    @classmethod
    def from_json(cls, text: str) -> DomainDescription:
        """The inverse of `to_json`, for text from anywhere.

        Raises:
            ValueError: It says why.
        """
        if len(text) > _LONGEST:
            raise ValueError("its description is too long")
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            raise ValueError("its description is not JSON") from None
        if not isinstance(found, dict):
            raise ValueError("its description is not a JSON object")
        if found.get("format") != _FORMAT or found.get("architecture") != ARCHITECTURE:
            raise ValueError("it was written by another version of ganwright")
        classes, channels = found.get("classes"), found.get("channels")
        if not (isinstance(classes, list) and 2 <= len(classes) <= _MOST_CLASSES):
            raise ValueError("its list of classes is unusable")
        if not all(isinstance(name, str) and len(name) <= 1000 for name in classes):
            raise ValueError("a class's name is unusable")
        if channels not in (1, 3) or isinstance(channels, bool):
            raise ValueError("its number of channels is neither 1 nor 3")
        mean, std = (_floats(found.get(name), channels, name) for name in ("mean", "std"))
        if not (min(mean) >= 0 and max(mean) <= 255 and min(std) >= 0.1 and max(std) <= 255):
            raise ValueError("its mean and standard deviation are not those of images")
        accuracy = found.get("accuracy")
        if accuracy is not None and not (_is_number(accuracy) and 0 <= accuracy <= 1):
            raise ValueError("its accuracy is not a share")
        return cls(
            classes=tuple(printable(name) for name in classes),
            resolution=_whole(found, "resolution", SMALLEST, LARGEST),
            channels=channels,
            mean=mean,
            std=std,
            accuracy=math.nan if accuracy is None else float(accuracy),
            n_held_out=_whole(found, "n_held_out", 0),
            fingerprint=printable(str(found.get("fingerprint", "")))[:100],
            seed=_whole(found, "seed", -(1 << 63)),
            steps=_whole(found, "steps", 1),
            stopped_by=printable(str(found.get("stopped_by", "")))[:20],
        )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e9 < value < 1e9


def _floats(value: object, count: int, name: str) -> tuple[float, ...]:
    if not (isinstance(value, list) and len(value) == count and all(map(_is_number, value))):
        raise ValueError(f"its {name} is not {count} numbers")
    return tuple(float(v) for v in value)


def _whole(found: dict[str, Any], name: str, low: int, high: int = 1 << 63) -> int:
    value = found.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"its {name} is unusable")
    return value


class DomainExtractor(Extractor):
    """A classifier of the user's own domain, trained by `ganwright extractor train`.

    Colour images are turned grey for a network of grey images, as the data was.

    Args:
        path: The .safetensors file.
        device: Where to compute.

    Raises:
        MetricError: There is no such file, or it is not one of these, or damaged.
    """

    feature_dim, has_logits = FEATURES, True
    cpu_batch = 64

    def __init__(self, path: str | Path, device: torch.device | str = "cpu") -> None:
        super().__init__(device)
        path = Path(path)
        network, self.description = read_domain_file(path)
        # Marked, so that a file called inception.safetensors never passes for the published network.
        self.name = f"domain:{printable(path.stem)}"
        self.version, self.size = hash_file(path)[:8], self.description.resolution
        self.class_names = self.description.classes
        grey = ", grey by ITU-R 601 luma" if self.description.channels == 1 else ""
        mean, std = (" ".join(f"{v:.4g}" for v in vs) for vs in (self.description.mean, self.description.std))
        self.preprocessing = f"{resize_name(self.resize, self.size)}{grey}, (x - ({mean})) / ({std})"
        network.eval().requires_grad_(False).to(self.device)
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._luma = torch.tensor(_LUMA, device=self.device).view(1, 3, 1, 1)
        self._mean, self._std = (
            torch.tensor(v, device=self.device).view(1, -1, 1, 1) for v in (self.description.mean, self.description.std)
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N, 256) and logits (N, K)."""
        if self.description.channels == 1:
            images = (images * self._luma).sum(1, keepdim=True)
        x = ((images - self._mean) / self._std).contiguous(memory_format=torch.channels_last)
        features, logits = self.network(x)
        return features, logits


def write_domain_file(path: Path, network: DomainClassifier, description: DomainDescription) -> None:
    """Write the file, whole or not at all. Equal weights and descriptions give equal bytes."""
    tensors = {name: t.detach().cpu().contiguous().clone() for name, t in _tensors(network).items()}
    with atomic_path(path) as temporary:
        # One key only: safetensors writes several in an arbitrary order.
        save_file(tensors, temporary, {_KEY: description.to_json()})


def is_domain_file(path: Path) -> bool:
    """Whether this is a domain extractor's file (of any version, perhaps damaged), and not anybody's weights."""
    try:
        with safe_open(path, "pt") as file:
            return _KEY in (file.metadata() or {})
    except Exception:  # safetensors has errors of its own
        return False


def read_domain_file(path: Path) -> tuple[DomainClassifier, DomainDescription]:
    """Network and description of a file; everything in it is checked, and nothing executed.

    Raises:
        MetricError: There is no such file, or it is not one of these, or damaged.
    """
    if not path.is_file():
        raise MetricError("The extractor file does not exist.", where=path, fix=_RETRAIN)
    try:
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get(_KEY)
            if text is None:
                raise ValueError("these are weights of something else")
            description = DomainDescription.from_json(text)
            network = uninitialised(lambda: _network(description))
            expected = _tensors(network)
            if missing := sorted(expected.keys() - file.keys()):
                raise ValueError(f"{len(missing)} weights are missing ({', '.join(missing[:3])})")
            for name, tensor in expected.items():
                shape, kind = file.get_slice(name).get_shape(), file.get_slice(name).get_dtype()
                if tuple(shape) != tuple(tensor.shape) or kind != "F32":
                    raise ValueError(f"{name} is {kind} {tuple(shape)}, not F32 {tuple(tensor.shape)}")
                found = file.get_tensor(name)
                if not torch.isfinite(found).all() or (name.endswith("running_var") and (found < 0).any()):
                    raise ValueError(f"{name} holds impossible numbers")
                tensor.copy_(found)
    except ValueError as error:
        raise MetricError(f"This is not a domain extractor: {error}.", where=path, fix=_RETRAIN) from error
    except Exception as error:  # safetensors has errors of its own
        reason = printable(" ".join(str(error).split()))[:200]
        raise MetricError(f"This safetensors file cannot be read: {reason}", where=path, fix=_RETRAIN) from error
    return network, description


def _network(description: DomainDescription) -> DomainClassifier:
    return DomainClassifier(description.channels, len(description.classes), description.resolution)


def _tensors(network: DomainClassifier) -> dict[str, Tensor]:
    """Weights and batch statistics by name; counters of batches, which inference does not need, are left out."""
    return {name: t for name, t in network.state_dict().items() if t.is_floating_point()}
