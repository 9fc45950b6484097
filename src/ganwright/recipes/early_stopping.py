"""When to stop fitting one picture, without its truth: the averaged output, the best so far, and the two criteria.

A network fitted to a damaged picture first finds the picture and then its damage; what it was best at is never seen.
Two stand-ins are computed here: the error on pixels that were held out of the fit, and the variance of the output from
step to step (Wang et al. 2021, "Early stopping for deep image prior", arXiv:2112.06074).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.ndimage
import torch
from torch import Tensor, nn

_VARIANCE_WEIGHT = 0.1
"""Alpha of the exponential moving variance (Wang et al. 2021, ES-EMV)."""
_WARM_UP = 50
"""Steps before the first judgement: so long the output is grey, and as steady as it is wrong."""
_PROGRESS = 1e-3
"""By this share the criterion must improve on what was last called progress, for patience to begin anew."""


class BestSoFar(nn.Module):
    """The average of the outputs, the best of these averages, and how long ago that was. All state is in buffers.

    Args:
        shape: Of the picture, (C, H, W).
        decay: Share of the average that stays at each step, in [0, 1).
        patience: Steps without progress after which there is nothing more to expect; 0: never.
        patience_share: …and at least this share of the steps progress was last made at.
    """

    average: Tensor
    best: Tensor
    best_value: Tensor
    best_step: Tensor
    value: Tensor
    marked: Tensor
    marked_step: Tensor
    steps: Tensor

    def __init__(self, shape: tuple[int, int, int], decay: float, patience: int, patience_share: float) -> None:
        super().__init__()
        self.decay, self.patience, self.patience_share = decay, patience, patience_share
        for name in ("average", "best"):
            self.register_buffer(name, torch.full((1, *shape), 0.5))
        for name in ("best_value", "value", "marked"):
            self.register_buffer(name, torch.full((), torch.inf))
        for name in ("best_step", "marked_step", "steps"):
            self.register_buffer(name, torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def add(self, output: Tensor) -> Tensor:
        """Take one more output (1, C, H, W) in [0, 1] into the average; returns the average.

        A young average is a plain mean, so that it does not drag the grey of the first steps along.
        """
        self.steps += 1
        decay = (self.steps / (self.steps + 9.0)).clamp(max=self.decay)
        self.average.copy_(output + decay * (self.average - output))
        return self.average

    @torch.no_grad()
    def judge(self, value: Tensor, picture: Tensor) -> None:
        """Compare the picture at hand with the best one.

        Args:
            value: The criterion, a scalar; less is better.
            picture: What is kept if it is the best, (1, C, H, W).
        """
        self.value.copy_(value)
        allowed = self.steps >= _WARM_UP
        better = allowed & (value < self.best_value)
        self.best.copy_(torch.where(better, picture, self.best))
        self.best_value.copy_(torch.where(better, value, self.best_value))
        self.best_step.copy_(torch.where(better, self.steps, self.best_step))
        progress = allowed & (value < self.marked * (1 - _PROGRESS))
        self.marked.copy_(torch.where(progress, value, self.marked))
        self.marked_step.copy_(torch.where(progress, self.steps, self.marked_step))

    @torch.no_grad()
    def keep(self, picture: Tensor) -> None:
        """Without a criterion the last one is the best."""
        self.best.copy_(picture)
        self.best_step.copy_(self.steps)

    def waited(self) -> int:
        """Steps since progress was made, if that is more than patience allows; else 0."""
        since, at = int(self.steps - self.marked_step), int(self.marked_step)
        return since if self.patience and at and since >= max(self.patience, self.patience_share * at) else 0


class MovingVariance(nn.Module):
    """The exponential moving variance of the output (Wang et al. 2021, ES-EMV): falls, and rises with the damage."""

    mean: Tensor
    variance: Tensor

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1, *shape))
        self.register_buffer("variance", torch.zeros(()))

    @torch.no_grad()
    def add(self, output: Tensor) -> Tensor:
        """EMV_t = (1 - α) EMV_{t-1} + α (1 - α) |x_t - EMA_{t-1}|², a pixel's mean; then the average moves on."""
        distance = (output - self.mean).square().mean()
        self.variance.lerp_((1 - _VARIANCE_WEIGHT) * distance, _VARIANCE_WEIGHT)
        self.mean.lerp_(output, _VARIANCE_WEIGHT)
        return self.variance.clone()


def held_out_pixels(known: Tensor, share: float, side: int, uniform: Callable[[tuple[int, int]], Tensor]) -> Tensor:
    """Choose pixels that the fit does not see: squares at random places, as many as make up the share.

    Args:
        known: Bool (H, W); only known pixels are chosen.
        share: Of the known pixels, in (0, 1).
        side: Of a square; 1 for damage that is independent from pixel to pixel.
        uniform: Random numbers in [0, 1) of the shape it is given.

    Returns:
        Bool (H, W); at least one pixel, and never all.
    """
    h, w = known.shape
    rows, columns = -(-h // side), -(-w // side)
    order = uniform((rows, columns)).flatten().argsort(stable=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order))
    ranks = rank.view(rows, columns).repeat_interleave(side, 0).repeat_interleave(side, 1)[:h, :w]
    # Pixels in the order of their squares' ranks; the first ones that fill the share, whole squares only.
    counts = torch.bincount(ranks[known], minlength=rows * columns)
    wanted = max(1, round(share * int(known.sum())))
    taken = int((counts.cumsum(0) < wanted).sum()) + 1
    chosen = known & (ranks < taken)
    return chosen if bool((known & ~chosen).any()) else known & (ranks == ranks[known].min())


def hole_size(known: Tensor) -> int:
    """A square about as wide as the holes of a mask, bool (H, W): twice the mean depth of a missing pixel; 1 to 32."""
    missing = ~known.cpu().numpy()
    if not missing.any():
        return 1
    depth = scipy.ndimage.distance_transform_edt(missing)[missing]
    return int(np.clip(round(2 * float(depth.mean())), 1, 32))
