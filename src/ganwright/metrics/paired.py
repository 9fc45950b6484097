"""PSNR, mean absolute error, SSIM and MS-SSIM of image pairs: one number an image, and the mean over images.

What "beside papers" takes is here too: the luma of super-resolution papers, and the border that is shaved off. The
structural measures' mathematics is in `structural.py`; finding pairs in files is in `pairs.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.stats
import torch
from torch import Tensor

from ganwright.errors import MetricError
from ganwright.metrics import structural
from ganwright.metrics.estimate import Estimate, Evaluation, Provenance
from ganwright.metrics.extractor_base import Extractor

Array = npt.NDArray[np.float64]
FEATURE_DISTANCE, SPATIAL = "feature-distance", "feature-distance-spatial"
"""Names of the metrics of pairs that `feature_distance.py` computes."""
_ROUGH = 10
"""Below so many pairs an interval is worth a warning."""
_CHUNK_VALUES = 1 << 22
"""Pixel values of each side in float64 at a time, at most (one image may have more); about 300 MB for SSIM."""


@dataclass(frozen=True)
class PairedMetric:
    """One row of `PAIRED`.

    Attributes:
        of_planes: float64 (N, C, H, W) twice and the data range to (N,).
        label: What people read.
        higher_is_better: Direction.
        bounds: Smallest and largest value for 8-bit images.
        smallest: Smallest side it can be computed for, in pixels.
    """

    of_planes: Callable[[Tensor, Tensor, float], Tensor]
    label: str
    higher_is_better: bool
    bounds: tuple[float, float]
    smallest: int = 1


PSNR_CAP = 100.0
"""Decibels that identical images, whose PSNR is infinite, count in a mean; higher values count as this too."""


def psnr(a: Any, b: Any, *, data_range: float | None = None, luma: bool = False, shave: int = 0) -> Array:
    """Peak signal-to-noise ratio of each pair, in dB: 10 log10(L² / MSE), the error over all pixels and channels.

    Args:
        a: Images (N, H, W, C) or one (H, W, C), C = 1 or 3: uint8, or float in [0, data_range];
            arrays or tensors.
        b: The same.
        data_range: L, the largest possible value; for uint8 it is 255.
        luma: Compare luma only, see `luma_of`.
        shave: Pixels left out at each border.

    Returns:
        (N,); `inf` for identical images.

    Raises:
        MetricError: The two differ in shape, or float images have no `data_range` or exceed it.
    """
    return scores("psnr", a, b, data_range=data_range, luma=luma, shave=shave)


def mae(a: Any, b: Any, *, data_range: float | None = None, luma: bool = False, shave: int = 0) -> Array:
    """Mean absolute error of each pair, in the images' own units (grey levels for uint8); arguments as `psnr`."""
    return scores("mae", a, b, data_range=data_range, luma=luma, shave=shave)


def ssim(a: Any, b: Any, *, data_range: float | None = None, luma: bool = False, shave: int = 0) -> Array:
    """Structural similarity of each pair, see `structural.ssim`; arguments as `psnr`."""
    return scores("ssim", a, b, data_range=data_range, luma=luma, shave=shave)


def ms_ssim(a: Any, b: Any, *, data_range: float | None = None, luma: bool = False, shave: int = 0) -> Array:
    """Multi-scale structural similarity of each pair, see `structural.ms_ssim`; arguments as `psnr`."""
    return scores("ms-ssim", a, b, data_range=data_range, luma=luma, shave=shave)


def scores(
    name: str,
    a: Any,
    b: Any,
    *,
    data_range: float | None = None,
    luma: bool = False,
    shave: int = 0,
    device: torch.device | str = "cpu",
) -> Array:
    """One of `PAIRED` for each pair; see `psnr` for the arguments."""
    one, two, top = _batch(a, data_range), _batch(b, data_range), float(data_range or 255)
    if one.shape[:3] != two.shape[:3]:
        raise MetricError(f"The two sides of the pairs differ in shape: {tuple(one.shape)} and {tuple(two.shape)}.")
    at_a_time = max(1, _CHUNK_VALUES // max(1, one.shape[1] * one.shape[2] * 3))
    parts = []
    for start in range(0, len(one), at_a_time):
        rows = slice(start, start + at_a_time)
        x, y = _tensor(one[rows], top), _tensor(two[rows], top)
        x, y = planes(x, y, data_range=top, luma=luma, shave=shave, device=device)
        parts.append(PAIRED[name].of_planes(x, y, top).cpu().numpy())
    return np.concatenate(parts) if parts else np.zeros(0)


def planes(
    a: Tensor, b: Tensor, *, data_range: float, luma: bool, shave: int, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Two batches (N, H, W, 1 or 3) as float64 planes (N, C, h, w) that may be compared.

    Where one side is grey and the other RGB, grey counts as RGB of three equal channels. Where both are grey they are
    their own luma, in full range: so it is in the papers' tables, and only so does Set14, one of whose pictures is
    stored in grey, give their figures.

    Raises:
        MetricError: Nothing is left inside the border.
    """
    if shave < 0 or min(a.shape[1:3]) <= 2 * shave:
        raise MetricError(f"{shave} pixels cannot be shaved off {a.shape[1]}x{a.shape[2]} images.")
    # float64 does not exist on Apple's GPUs
    place = torch.device("cpu") if torch.device(device).type == "mps" else torch.device(device)
    colour = max(a.shape[-1], b.shape[-1]) == 3
    found = []
    for side in (a, b):
        x = side[:, shave : side.shape[1] - shave, shave : side.shape[2] - shave].to(place).permute(0, 3, 1, 2).double()
        if colour:
            x = x.expand(-1, 3, -1, -1)
        found.append(luma_of(x, data_range=data_range) if luma and colour else x.contiguous())
    return found[0], found[1]


def luma_of(rgb: Tensor, *, data_range: float) -> Tensor:
    """Luma Y of ITU-R BT.601 in studio range: 16 to 235 of 255 (N, 1, H, W), not rounded.

    Y = 16 + 65.481 R + 128.553 G + 24.966 B for R, G, B in [0, 1], as MATLAB's `rgb2ycbcr` and the super-resolution
    papers have it; scaled to `data_range`. MATLAB rounds 8-bit images to whole levels after this, which moves the PSNR
    by some 0.01 dB.
    """
    weights = torch.tensor([65.481, 128.553, 24.966], dtype=rgb.dtype, device=rgb.device) / 255
    return (rgb * weights.view(3, 1, 1)).sum(1, keepdim=True) + 16 * data_range / 255


def _batch(images: Any, data_range: float | None) -> Any:
    """(N, H, W, C) as it was given, with the range known."""
    if images.ndim == 3:
        images = images[None]
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise MetricError(
            f"Images must be (N, H, W, 1 or 3), not {tuple(images.shape)}.", fix="move the channels to the last axis"
        )
    kind = str(images.dtype).removeprefix("torch.")
    if kind == "uint8":
        if data_range not in (None, 255):
            raise MetricError(f"The data range of uint8 images is 255, not {data_range}.")
    elif not kind.startswith(("float", "bfloat")) or data_range is None:
        raise MetricError(
            f"The range of images of type {kind} is not known.",
            fix="give uint8, or float in [0, data_range] and say which, such as data_range=1.0",
        )
    elif data_range <= 0:
        raise MetricError(f"A data range of {data_range} is impossible.", fix="give the largest possible value")
    return images


def _tensor(images: Any, data_range: float) -> Tensor:
    """Some rows as a tensor; a copy, since arrays may be read-only."""
    x = torch.from_numpy(np.array(images)) if isinstance(images, np.ndarray) else images.detach()
    if x.dtype != torch.uint8:
        low, high = float(x.min()), float(x.max())  # NaN if any pixel is
        if not (low >= 0 and high <= data_range):
            raise MetricError(
                f"Float images must lie in [0, {data_range:g}], not [{low:.4g}, {high:.4g}].",
                fix="clip them, shift [-1, 1] to [0, 1], or state another data_range",
            )
    return x


def _psnr(x: Tensor, y: Tensor, data_range: float) -> Tensor:
    return 10 * torch.log10(data_range**2 / (x - y).square().mean((1, 2, 3)))  # 1 / 0 is inf, and so is its logarithm


PAIRED: dict[str, PairedMetric] = {
    "psnr": PairedMetric(_psnr, "PSNR (dB)", True, (0.0, PSNR_CAP)),
    "ssim": PairedMetric(
        lambda x, y, top: structural.ssim(x, y, data_range=top), "SSIM", True, (-1.0, 1.0), structural.WINDOW
    ),
    "ms-ssim": PairedMetric(
        lambda x, y, top: structural.ms_ssim(x, y, data_range=top),
        "MS-SSIM",
        True,
        (0.0, 1.0),
        structural.smallest_side(len(structural.SCALE_WEIGHTS)),
    ),
    "mae": PairedMetric(lambda x, y, top: (x - y).abs().mean((1, 2, 3)), "MAE (grey levels)", False, (0.0, 255.0)),
}
"""Pixel metrics of pairs by name; a new one is a row."""


@dataclass(frozen=True)
class PairScores:
    """What was measured of each pair.

    Attributes:
        names: Of the pairs that could be read, in order.
        scores: By metric, float64 (N,); PSNR is `inf` where the two images are identical.
        pixels: How pixels were compared, in words ("RGB", "luma …").
        targets: Hash of the targets' pixels.
        extractor: Of the feature distance, or None.
        unrelated: Mean feature distance of targets that do not belong together, or NaN.
        warnings: Images left out, metrics left out.
    """

    names: tuple[str, ...]
    scores: Mapping[str, Array]
    pixels: str
    targets: str
    extractor: Extractor | None = None
    unrelated: float = math.nan
    warnings: tuple[str, ...] = ()

    def worst(self, metric: str, k: int = 10) -> list[tuple[str, float]]:
        """The `k` pairs that this metric likes least, the worst first: (name, score)."""
        values = self.scores[metric]
        order = np.argsort(values if _direction(metric) else -values, kind="stable")
        return [(self.names[i], float(values[i])) for i in order[:k]]

    def evaluation(self) -> Evaluation:
        """The mean of each metric over the pairs, with a t interval."""
        return Evaluation.of(self._estimate(name) for name in self.scores)

    def _estimate(self, name: str) -> Estimate:
        values, warnings, details = self.scores[name], list(self.warnings), {}
        if name == "psnr":
            details["identical"] = float(np.isinf(values).sum())
            if (values > PSNR_CAP).any():
                warnings.append(
                    f"{int((values > PSNR_CAP).sum())} pairs are identical or nearly so; in the mean each counts as "
                    f"{PSNR_CAP:g} dB"
                )
            values = values.clip(max=PSNR_CAP)
        n = len(values)
        if 1 < n < _ROUGH:
            warnings.append(f"only {n} pairs: the interval is rough")
        details |= {"std": float(values.std(ddof=1)) if n > 1 else 0.0}
        details |= {"lowest": float(values.min()), "highest": float(values.max())}
        if name in (FEATURE_DISTANCE, SPATIAL):
            assert self.extractor is not None
            provenance = Provenance(
                f"{self.extractor.name}/{self.extractor.version}",
                f"{self.pixels}; {self.extractor.preprocessing}",
                self.targets,
                n,
            )
            place = ", place by place" if name == SPATIAL else ""
            label, bounds = f"feature distance ({self.extractor.name}{place})", (0.0, 2.0)
            if name == FEATURE_DISTANCE and math.isfinite(self.unrelated):
                details["unrelated"] = self.unrelated
        else:
            provenance = Provenance("", self.pixels, self.targets, n)
            label, bounds = PAIRED[name].label, PAIRED[name].bounds
            if "luma" in self.pixels:
                label = label.replace("SSIM", "SSIM-Y").replace("PSNR", "PSNR-Y").replace("MAE", "MAE-Y")
        low, high, how = mean_interval(values, bounds)
        value, better = float(values.mean()), _direction(name)
        return Estimate(name, label, value, low, high, n, provenance, how, better, tuple(warnings), details)


def mean_interval(values: Array, bounds: tuple[float, float]) -> tuple[float, float, str]:
    """95 % interval of a mean by Student's t, within the values' bounds; of one value: the bounds themselves.

    Better than a bootstrap over images where it matters: with 5 or 14 images, as the usual test sets have, this covered
    88 to 95 of 100 means in simulations (fewest for very skewed scores), a bootstrap's percentile interval 79 to 91.
    """
    n = len(values)
    if n < 2:
        return *bounds, "none: one pair says nothing of others, so these are the metric's bounds"
    half = float(scipy.stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / math.sqrt(n))
    mean = float(values.mean())
    return max(bounds[0], mean - half), min(bounds[1], mean + half), "95 %, Student's t over images"


def _direction(metric: str) -> bool:
    return metric in PAIRED and PAIRED[metric].higher_is_better
