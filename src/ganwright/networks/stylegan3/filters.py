"""Low-pass filters of StyleGAN3 and its filtered non-linearity (Karras et al. 2021, sections 3.2 and appendix C).

A leaky ReLU makes frequencies that the sampling rate cannot hold; so maps are upsampled before it and low-passed
after it. Each function here has a fast form and, in `reference_*`, the definition; tests hold them equal.
"""

from __future__ import annotations

import numpy as np
import scipy.signal
import scipy.special
import torch
import torch.nn.functional as F
from torch import Tensor

Padding = tuple[int, int, int, int]
"""Zeros left, right, above and below; negative numbers crop."""


def low_pass_filter(
    taps: int, *, cutoff: float, width: float, sampling_rate: float, radial: bool = False
) -> Tensor | None:
    """A Kaiser-windowed low-pass filter with sum 1.

    Args:
        taps: Length K along each axis; 1: no filter.
        cutoff: Frequency f_c from which it damps.
        width: Of the transition band, 2·f_h.
        sampling_rate: Of the signal; frequencies are in cycles per image.
        radial: Circularly symmetric, from the jinc function (appendix C.1), instead of separable.

    Returns:
        (K,) of a separable filter, (K, K) of a radial one, None for one tap.
    """
    if taps == 1:
        return None
    if not radial:
        return torch.as_tensor(scipy.signal.firwin(taps, cutoff, width=width, fs=sampling_rate), dtype=torch.float32)
    x = (np.arange(taps) - (taps - 1) / 2) / sampling_rate
    r = np.hypot(x[:, None], x[None, :])
    centre = r == 0
    r = np.where(centre, 1.0, r)
    jinc = np.where(centre, np.pi * cutoff**2, cutoff * scipy.special.j1(2 * np.pi * cutoff * r) / r)
    attenuation = scipy.signal.kaiser_atten(taps, width / (sampling_rate / 2))
    window = np.kaiser(taps, scipy.signal.kaiser_beta(attenuation))
    f = jinc * np.outer(window, window)
    return torch.as_tensor(f / f.sum(), dtype=torch.float32)


def filtered_leaky_relu(
    x: Tensor,
    bias: Tensor,
    up_filter: Tensor | None,
    down_filter: Tensor | None,
    *,
    up: int,
    down: int,
    padding: Padding,
    gain: float,
    slope: float,
    clamp: float | None,
) -> Tensor:
    """Bias, upsampling, leaky ReLU, clamp and downsampling.

    Args:
        x: Maps (N, C, H, W).
        bias: (C,).
        up_filter: Applied after upsampling; None: none.
        down_filter: Applied before downsampling; None: none.
        up: Zeros are put between samples to have so many times as many.
        down: Every so many-th sample is kept.
        padding: Of the upsampled maps.
        gain: Factor after the leaky ReLU.
        slope: Of its negative side.
        clamp: Values are kept within ± this before downsampling; None: not.

    Returns:
        (N, C, H', W') with H' = ⌈(H·up + padding - up taps - down taps + 2) / down⌉.
    """
    x = x + bias.to(x.dtype).view(-1, 1, 1)
    # gain · lrelu(x) = lrelu(gain · x): the factor goes into the filter, which is small.
    x = upsample(x, up_filter, up, padding, gain)
    x = F.leaky_relu(x, slope) if slope != 1 else x
    if clamp is not None:
        x = x.clamp(-clamp, clamp)
    return downsample(x, down_filter, down)


def upsample(x: Tensor, f: Tensor | None, factor: int, padding: Padding, gain: float = 1.0) -> Tensor:
    """Zeros between samples, padding, then the filter with gain `gain` · factor²: a transposed convolution an axis."""
    if f is None:
        if factor != 1:
            raise ValueError("upsampling needs a filter")
        x = F.pad(x, padding) if any(padding) else x
        return x * gain if gain != 1 else x
    channels, k = x.shape[1], f.shape[0]
    left, right, above, below = padding
    # The transposed convolution gives the whole overlap, without the zeros after the last sample.
    crop = [-(k - 1 - p) for p in (left, above)]
    size = [n * factor + a + b - (k - 1) for n, a, b in ((x.shape[3], left, right), (x.shape[2], above, below))]
    kernel = (f * (gain * factor**2 if f.ndim == 2 else gain**0.5 * factor)).to(x.dtype)
    if f.ndim == 2:
        x = F.conv_transpose2d(x, kernel.expand(channels, 1, k, k), stride=factor, groups=channels)
    else:
        x = F.conv_transpose2d(
            x, kernel.view(1, 1, 1, k).expand(channels, 1, 1, k), stride=(1, factor), groups=channels
        )
        x = F.pad(x, (crop[0], size[0] - x.shape[3] - crop[0], 0, 0))  # before the second axis: fewer columns
        x = F.conv_transpose2d(
            x, kernel.view(1, 1, k, 1).expand(channels, 1, k, 1), stride=(factor, 1), groups=channels
        )
        crop[0] = 0
    return F.pad(x, (crop[0], size[0] - x.shape[3] - crop[0], crop[1], size[1] - x.shape[2] - crop[1]))


def downsample(x: Tensor, f: Tensor | None, factor: int) -> Tensor:
    """The filter, then every `factor`-th sample: as one strided convolution an axis."""
    if f is None:
        return x[:, :, ::factor, ::factor] if factor != 1 else x
    channels, k = x.shape[1], f.shape[0]
    kernel = f.to(x.dtype).flip(*range(f.ndim))  # torch correlates
    if f.ndim == 2:
        return F.conv2d(x, kernel.expand(channels, 1, k, k), stride=factor, groups=channels)
    x = F.conv2d(x, kernel.view(1, 1, k, 1).expand(channels, 1, k, 1), stride=(factor, 1), groups=channels)
    return F.conv2d(x, kernel.view(1, 1, 1, k).expand(channels, 1, 1, k), stride=(1, factor), groups=channels)


def reference_filtered_leaky_relu(
    x: Tensor,
    bias: Tensor,
    up_filter: Tensor | None,
    down_filter: Tensor | None,
    *,
    up: int,
    down: int,
    padding: Padding,
    gain: float,
    slope: float,
    clamp: float | None,
) -> Tensor:
    """`filtered_leaky_relu` step by step, as the paper describes it."""
    n, c, h, w = x.shape
    x = x + bias.view(-1, 1, 1)
    spread = x.new_zeros(n, c, h * up, w * up)
    spread[:, :, ::up, ::up] = x
    x = _convolve(F.pad(spread, padding), up_filter) * up**2
    x = torch.where(x > 0, x, x * slope) * gain
    if clamp is not None:
        x = x.clamp(-clamp, clamp)
    return _convolve(x, down_filter)[:, :, ::down, ::down]


def _convolve(x: Tensor, f: Tensor | None) -> Tensor:
    if f is None:
        return x
    kernel = (f if f.ndim == 2 else torch.outer(f, f)).to(x.dtype).flip(0, 1)
    return F.conv2d(x, kernel.expand(x.shape[1], 1, *kernel.shape), groups=x.shape[1])
