"""Filtered resampling of StyleGAN2 (Karras et al. 2020, appendix B) in plain torch: convolutions that double or halve
the resolution, with a low-pass filter so that nothing aliases.

These are the fast forms: the filter is a depthwise convolution, and a convolution and the zeros put between (or the
positions left out by) it are one transposed (or strided) convolution. `reference.py` has the definitions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Taps = Sequence[float] | Sequence[Sequence[float]] | None
"""A low-pass filter as settings give it: the taps of a separable one, a matrix, or None for no filter."""

SEPARABLE_FROM = 8
"""Filters of as many taps are kept as a vector and applied by rows and columns; shorter ones become a matrix. State
dicts of the official networks have their filters in these shapes."""


def make_filter(taps: Taps) -> Tensor:
    """The filter with sum 1: a vector (K,) or a matrix (K, L), see `SEPARABLE_FROM`."""
    f = torch.as_tensor(1.0 if taps is None else taps, dtype=torch.float32)
    if f.ndim == 0:
        f = f.reshape(1)
    if f.ndim == 1 and len(f) < SEPARABLE_FROM:
        f = torch.outer(f, f)
    return f / f.sum()


def filter_length(f: Tensor) -> int:
    """Taps along each axis.

    Raises:
        ValueError: A matrix that is not square.
    """
    if f.ndim == 2 and f.shape[0] != f.shape[1]:
        raise ValueError(f"resampling filters are square, not {tuple(f.shape)}")
    return int(f.shape[0])


def pad_or_crop(x: Tensor, before: int, after: int) -> Tensor:
    """Maps x (N, C, H, W) with as many zeros before and after both axes; negative numbers crop."""
    return F.pad(x, (before, after, before, after)) if before or after else x


def low_pass(
    x: Tensor, f: Tensor, before: int, after: int, *, gain: float = 1.0, stride: int = 1, bias: Tensor | None = None
) -> Tensor:
    """Maps x (N, C, H, W), padded, convolved with f in each channel, keeping every `stride`-th position.

    Args:
        x: Maps.
        f: From `make_filter`.
        before: Zeros above and left of x; negative: rows and columns cropped.
        after: The same below and right.
        gain: Factor.
        stride: 1, or 2 to halve the resolution.
        bias: Added to each channel (C,).
    """
    channels = x.shape[1]
    kernel = (f * (gain if f.ndim == 2 else gain**0.5)).to(x.dtype)
    kernel = kernel.flip([0, 1] if f.ndim == 2 else [0])  # torch correlates
    padding = before if before == after and before >= 0 else 0  # padding within the convolution saves a copy
    x = x if padding else pad_or_crop(x, before, after)
    if f.ndim == 2:
        return F.conv2d(x, kernel.expand(channels, 1, -1, -1), bias, stride, padding, 1, channels)
    rows, columns = kernel.view(1, 1, 1, -1), kernel.view(1, 1, -1, 1)
    x = F.conv2d(x, rows.expand(channels, 1, -1, -1), None, (1, stride), (0, padding), 1, channels)
    return F.conv2d(x, columns.expand(channels, 1, -1, -1), bias, (stride, 1), (padding, 0), 1, channels)


def upsample(x: Tensor, f: Tensor, bias: Tensor | None = None) -> Tensor:
    """(N, C, H, W) -> (N, C, 2H, 2W): zeros between positions, then the filter with gain 4, then the bias (C,)."""
    channels, n = x.shape[1], filter_length(f)
    kernel = (4 * (f if f.ndim == 2 else torch.outer(f, f))).to(x.dtype).expand(channels, 1, -1, -1)
    before, after = (n + 1) // 2 - (n - 1), (n - 2) // 2 - (n - 2)  # what is left to pad of the transposed convolution
    crop = max(0, min(-before, -after))
    pads = max(before, after) > 0  # only for a filter of one tap; the bias belongs on the zeros too
    y = F.conv_transpose2d(x, kernel, None if pads else bias, 2, crop, 0, channels)
    y = pad_or_crop(y, before + crop, after + crop)
    return y + bias.view(-1, 1, 1) if pads and bias is not None else y


def downsample(x: Tensor, f: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, C, H/2, W/2): the filter, then every second position."""
    n = filter_length(f)
    return low_pass(x, f, (n - 1) // 2, (n - 2) // 2, stride=2)


def resampled_conv(
    x: Tensor, weight: Tensor, f: Tensor, bias: Tensor | None = None, *, up: int = 1, down: int = 1
) -> Tensor:
    """A convolution with zero padding k // 2 that may double or halve the resolution, filtered.

    Args:
        x: Maps (N, I, H, W).
        weight: (O, I, k, k). As in the official networks it is correlated with x, but convolved (flipped) where `up` is
            2.
        f: The low-pass filter.
        bias: (O,) or None.
        up: 1 or 2.
        down: 1 or 2, not together with `up`.
    """
    k, n = weight.shape[-1], filter_length(f)
    if up == 2:
        if k == 1:  # they commute: convolve the small map
            return upsample(F.conv2d(x, weight), f, bias)
        # Transposed convolutions do not flip, so the weight goes in as it is.
        before, after = k // 2 + (n + 1) // 2 - (k - 1), k // 2 + (n - 2) // 2 - (k - 2)
        y = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
        return low_pass(y, f, before, after, gain=4.0, bias=bias)
    if down == 2:
        before, after = k // 2 + (n - 1) // 2, k // 2 + (n - 2) // 2
        if k == 1:
            return F.conv2d(low_pass(x, f, before, after, stride=2), weight, bias)
        return F.conv2d(low_pass(x, f, before, after), weight, bias, stride=2)
    return F.conv2d(x, weight, bias, padding=k // 2)
