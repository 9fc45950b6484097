"""How far the networks of an ensemble disagree about an image (Zhang et al. 2021, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor

TOP_SHARE = 0.1
"""An image's uncertainty is the mean over this share of its pixels, the most uncertain ones (the authors' code)."""


def js_divergence(probabilities: Tensor) -> Tensor:
    """Jensen-Shannon divergence of M distributions with equal weights, H(mean p) − mean H(p), in nats.

    Args:
        probabilities: (M, K, ...), adding up to 1 over K.

    Returns:
        (...), in [0, log M]; 0 where all agree.
    """
    of_mean = torch.special.entr(probabilities.mean(0)).sum(0)
    mean_of = torch.special.entr(probabilities).sum(1).mean(0)
    divergence: Tensor = (of_mean - mean_of).clamp_min(0)
    return divergence


def image_uncertainty(divergence: Tensor) -> float:
    """Mean over the tenth of the pixels (H, W) where the divergence is largest."""
    flat = divergence.flatten()
    return float(flat.topk(max(1, int(len(flat) * TOP_SHARE))).values.double().mean())
