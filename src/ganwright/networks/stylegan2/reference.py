"""What StyleGAN2's layers mean, written for reading: slow forms that `resample.py` and `layers.py` are tested against.

A network built with `operations="reference"` computes with these.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ganwright.networks.stylegan2.resample import filter_length, pad_or_crop


def upfirdn(x: Tensor, f: Tensor, before: int, after: int, *, up: int = 1, down: int = 1, gain: float = 1.0) -> Tensor:
    """Upsample by zeros, pad, convolve with a filter, keep every `down`-th position (like `scipy.signal.upfirdn`).

    Args:
        x: Maps (N, C, H, W).
        f: Filter (K,), meaning its outer product with itself, or (K, K).
        before: Zeros above and left of the upsampled maps; negative: cropped.
        after: The same below and right.
        up: Each position becomes `up` x `up`, all but one of them 0.
        down: Every `down`-th position of the result is kept.
        gain: Factor.
    """
    n, c, h, w = x.shape
    spread = x.new_zeros(n, c, h * up, w * up)
    spread[:, :, ::up, ::up] = x
    kernel = (f if f.ndim == 2 else torch.outer(f, f)).to(x.dtype).flip(0, 1)
    padded = pad_or_crop(spread, before, after)
    y = F.conv2d(padded, gain * kernel.repeat(c, 1, 1, 1), groups=c)
    return y[:, :, ::down, ::down]


def upsample(x: Tensor, f: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, C, 2H, 2W)."""
    n = filter_length(f)
    return upfirdn(x, f, (n + 1) // 2, (n - 2) // 2, up=2, gain=4.0)


def downsample(x: Tensor, f: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, C, H/2, W/2)."""
    n = filter_length(f)
    return upfirdn(x, f, (n - 1) // 2, (n - 2) // 2, down=2)


def resampled_conv(
    x: Tensor, weight: Tensor, f: Tensor, bias: Tensor | None = None, *, up: int = 1, down: int = 1, groups: int = 1
) -> Tensor:
    """Upsample with the filter and convolve, or convolve the filtered map and leave out every second position.

    Arguments are those of `resample.resampled_conv`, and the number of groups.
    """
    if bias is not None:
        return resampled_conv(x, weight, f, up=up, down=down, groups=groups) + bias.view(-1, 1, 1)
    k, n = weight.shape[-1], filter_length(f)
    if up == 2:
        x = upfirdn(x, f, k // 2 + (n + 1) // 2, k // 2 + (n - 2) // 2, up=2, gain=4.0)
        return F.conv2d(x, weight.flip(2, 3), groups=groups)
    if down == 2:
        x = upfirdn(x, f, k // 2 + (n - 1) // 2, k // 2 + (n - 2) // 2)
        return F.conv2d(x, weight, groups=groups)[:, :, ::2, ::2]
    return F.conv2d(x, weight, padding=k // 2, groups=groups)


def modulated_conv(
    x: Tensor, weight: Tensor, styles: Tensor, f: Tensor, *, up: int = 1, demodulate: bool = True
) -> Tensor:
    """Each image's own convolution: w'ᵢⱼₖ = sᵢ·wᵢⱼₖ, w'' = w' / sqrt(Σᵢₖ w'² + ε) (Karras et al. 2020, eq. 1 and 3).

    Args:
        x: Maps (N, I, H, W).
        weight: (O, I, k, k).
        styles: s (N, I).
        f: Low-pass filter.
        up: 1 or 2.
        demodulate: Whether to divide.
    """
    n, i = styles.shape
    w = weight.unsqueeze(0) * styles.view(n, 1, i, 1, 1)  # (N, O, I, k, k)
    if demodulate:
        w = w * (w.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    w = w.flatten(0, 1)
    y = resampled_conv(x.reshape(1, n * i, *x.shape[2:]), w, f, up=up, groups=n)  # one group an image
    return y.view(n, -1, *y.shape[2:])
