"""SSIM (Wang et al. 2004) and MS-SSIM (Wang, Simoncelli & Bovik 2003) of image pairs, on tensors.

Values are computed in float64 over windows that lie wholly inside the image. Decoding, colour and borders are prepared
in `paired.py`.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ganwright.errors import MetricError

WINDOW, SIGMA = 11, 1.5
"""Side and standard deviation of the Gaussian window, in pixels (Wang et al. 2004, sec. III-C)."""
K1, K2 = 0.01, 0.03
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the five scales, the finest first (Wang et al. 2003, sec. 3.2)."""

_STRIP_VALUES = 1 << 18
"""Pixel values handled at a time: bounds memory for photographs, and stays in a processor's cache."""


def ssim(x: Tensor, y: Tensor, *, data_range: float) -> Tensor:
    """Structural similarity of each pair: the mean over windows and channels.

    SSIM = (2 mu_x mu_y + C1) (2 sigma_xy + C2) / ((mu_x² + mu_y² + C1) (sigma_x² + sigma_y² + C2)), with C = (K L)²,
    L the data range, and moments under a Gaussian window of 11x11 pixels (eq. 13; the covariance divides by the sum
    of the weights). Windows that reach over the border are left out, as the authors' program does.

    Args:
        x: (N, C, H, W), H and W at least 11.
        y: The same shape.
        data_range: Largest minus smallest possible value: 255 for 8-bit images.

    Returns:
        float64 (N,), in [-1, 1].

    Raises:
        MetricError: Shapes differ, or images are smaller than the window.
    """
    _check(x, y, data_range, 1)
    return _mean(x, y, data_range, whole=True).mean(1)


def ms_ssim(x: Tensor, y: Tensor, *, data_range: float, scales: int = len(SCALE_WEIGHTS)) -> Tensor:
    """Multi-scale structural similarity of each pair: the mean over channels.

    The product over scales of the mean contrast-structure term to the power of the scale's weight; the coarsest scale
    contributes the whole SSIM (eq. 7). Each scale is the mean of 2x2 pixels of the one before. A row or column too many
    is evened out by a row or column of zeros, and negative means count as 0, as pytorch-msssim does: published figures
    are mostly that program's.

    Args:
        x: (N, C, H, W); with five scales H and W are at least 161.
        y: The same shape.
        data_range: Largest minus smallest possible value.
        scales: Fewer than five for small images: the first weights, scaled to sum to 1. Another number, not to be
            compared with one over five scales.

    Returns:
        float64 (N,), in [0, 1].

    Raises:
        MetricError: Shapes differ, or images are too small for the scales.
    """
    if not 1 <= scales <= len(SCALE_WEIGHTS):
        raise MetricError(f"MS-SSIM has 1 to {len(SCALE_WEIGHTS)} scales, not {scales}.")
    _check(x, y, data_range, scales)
    a, b = x.double(), y.double()
    total = sum(SCALE_WEIGHTS[:scales])
    product = torch.ones(a.shape[:2], dtype=torch.float64, device=a.device)
    for scale, weight in enumerate(SCALE_WEIGHTS[:scales]):
        last = scale == scales - 1
        term = _mean(a, b, data_range, whole=last)
        exponent = weight if scales == len(SCALE_WEIGHTS) else weight / total
        product = product * term.relu() ** exponent
        if not last:
            odd = (a.shape[2] % 2, a.shape[3] % 2)
            a, b = F.avg_pool2d(a, 2, padding=odd), F.avg_pool2d(b, 2, padding=odd)
    return product.mean(1)


def smallest_side(scales: int) -> int:
    """The smallest height and width, in pixels, that still holds a window at the coarsest of so many scales."""
    return ((WINDOW - 1) << (scales - 1)) + 1


def _mean(x: Tensor, y: Tensor, data_range: float, *, whole: bool) -> Tensor:
    """Mean over all windows of SSIM, or of its contrast-structure term alone; (N, C), in strips of rows."""
    n, c, height, width = x.shape
    rows = max(1, _STRIP_VALUES // (n * c * width))
    total = torch.zeros(n, c, dtype=torch.float64, device=x.device)
    for top in range(0, height - WINDOW + 1, rows):
        part = slice(top, min(top + rows, height - WINDOW + 1) + WINDOW - 1)
        luminance, contrast = _maps(x[:, :, part].double(), y[:, :, part].double(), data_range)
        total += (luminance * contrast if whole else contrast).sum((2, 3))
    return total / ((height - WINDOW + 1) * (width - WINDOW + 1))


def _maps(x: Tensor, y: Tensor, data_range: float) -> tuple[Tensor, Tensor]:
    """Luminance term and contrast-structure term at each window, (N, C, H - 10, W - 10)."""
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    mu_x, mu_y = _blur(x), _blur(y)
    mu_xy, mu_squares = mu_x * mu_y, mu_x * mu_x + mu_y * mu_y
    sigma_squares = _blur(x * x + y * y) - mu_squares  # sigma_x² + sigma_y² is all that is needed of the two
    sigma_xy = _blur(x * y) - mu_xy
    return (2 * mu_xy + c1) / (mu_squares + c1), (2 * sigma_xy + c2) / (sigma_squares + c2)


def _blur(x: Tensor) -> Tensor:
    """Mean under the Gaussian window, (N, C, H - 10, W - 10): sums of shifted images, 5 times faster than conv2d."""
    weights = [math.exp(-((i - WINDOW // 2) ** 2) / (2 * SIGMA**2)) for i in range(WINDOW)]
    total = sum(weights)
    for axis in (-2, -1):
        length = x.shape[axis] - WINDOW + 1
        out = x.narrow(axis, 0, length) * (weights[0] / total)
        for i in range(1, WINDOW):
            out.add_(x.narrow(axis, i, length), alpha=weights[i] / total)
        x = out
    return x


def _check(x: Tensor, y: Tensor, data_range: float, scales: int) -> None:
    if x.shape != y.shape or x.ndim != 4:
        raise MetricError(f"Pairs must be two batches (N, C, H, W) of one shape, not {_size(x)} and {_size(y)}.")
    if data_range <= 0:
        raise MetricError(f"A data range of {data_range} is impossible.", fix="give 255 for 8-bit images")
    smallest = smallest_side(scales)
    if min(x.shape[2:]) < smallest:
        what = "SSIM" if scales == 1 else f"MS-SSIM over {scales} scales"
        raise MetricError(
            f"{what} needs images of at least {smallest} pixels a side, not {x.shape[2]}x{x.shape[3]}.",
            fix="measure larger images" if scales == 1 else "measure SSIM, or larger images",
        )


def _size(x: Tensor) -> tuple[int, ...]:
    return tuple(x.shape)
