"""What every augmenter is; this one leaves images alone."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn


class Randomness(Protocol):
    """Where an augmenter's random numbers come from (a `StepContext`, say)."""

    def normal(self, rows: int, *shape: int) -> Tensor:
        """Standard normal numbers (rows, *shape)."""

    def uniform(self, rows: int, *shape: int) -> Tensor:
        """Uniform numbers in [0, 1), (rows, *shape)."""


class Augmenter(nn.Module):
    """Changes images on their way into a discriminator; this base class does not.

    Reals and fakes pass through it alike, in the steps of both players, and penalties on D's gradient with respect to
    images differentiate through it: it can be differentiated any number of times. What it remembers from step to step
    is in its buffers.
    """

    def forward(self, images: Tensor, ctx: Randomness) -> Tensor:
        """Augment each image by itself.

        Args:
            images: Float (N, C, H, W) in [-1, 1].
            ctx: Random numbers; as many are drawn whatever the state, so that what is drawn after them is the same.

        Returns:
            Images of the same shape and dtype; values may leave [-1, 1].
        """
        return images

    def observe(self, real_logits: Tensor) -> None:
        """Learn from D's outputs on augmented reals (N, …), once a discriminator step; 0 is D's "undecided"."""

    def log(self) -> dict[str, Tensor]:
        """Scalars for the log."""
        return {}
