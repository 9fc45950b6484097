"""Extractors of the user's own: a TorchScript or an ONNX file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganwright.errors import MetricError, MissingExtraError
from ganwright.files import hash_file
from ganwright.metrics.extractor_base import Extractor
from ganwright.metrics.resizing import resize_name

FILE_ENDINGS = (".pt", ".torchscript", ".onnx")


class UserFile(Extractor):
    """A TorchScript (.pt, .torchscript) or ONNX (.onnx) file of the user's own.

    Its input is float32 RGB (N, 3, S, S) in [0, 1], S = 224 or as the name says after an @ (`net.onnx@96`), N any
    number; its (first) output is (N, D).

    Raises:
        MetricError: There is no such file, it cannot be read, or it does not work on such input.
        MissingExtraError: An ONNX file without the package `onnxruntime`.
    """

    has_logits = False

    def __init__(self, spec: str, device: torch.device | str = "cpu") -> None:
        super().__init__(device)
        path_text, size = split_size(spec)
        path, self.size = Path(path_text), size
        if not path.is_file():
            raise MetricError("The extractor file does not exist.", where=path, fix="give a .pt or .onnx file")
        self.name, self.version = path.name, hash_file(path)[:8]
        self.preprocessing = resize_name(self.resize, self.size) + ", x / 255"
        self._run = _open_onnx(path) if path.suffix == ".onnx" else _open_torchscript(path, self.device)
        try:
            probe, _ = self.forward(torch.zeros(2, 3, self.size, self.size, device=self.device))
            shape: object = tuple(probe.shape)
        except Exception as error:  # TorchScript and ONNX Runtime have errors of their own
            raise MetricError(
                f"The extractor fails on a float32 input of shape (2, 3, {self.size}, {self.size}): "
                + " ".join(str(error).split())[-300:],
                where=path,
                fix=f"say the size it expects after an @ ({path.name}@96), and export it for any number of images",
            ) from error
        if not (isinstance(shape, tuple) and len(shape) == 2 and shape[0] == 2 and shape[1] > 0):
            raise MetricError(f"The extractor must give (N, D) for N images; two images gave {shape}.", where=path)
        self.feature_dim = probe.shape[1]

    def forward(self, images: Tensor) -> tuple[Tensor, None]:
        """Features (N, D)."""
        return self._run(images / 255), None


def split_size(spec: str) -> tuple[str, int]:
    """Path and input size of `net.onnx@96`; 224 where no size is said."""
    path, at, size = spec.rpartition("@")
    return (path, int(size)) if at and size.isdigit() and int(size) > 0 else (spec, 224)


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
        first = found[0] if isinstance(found, tuple | list) else found
        if not isinstance(first, Tensor):
            raise TypeError(f"its output is a {type(first).__name__}, not a tensor")
        return first

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
