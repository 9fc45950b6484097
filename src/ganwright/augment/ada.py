"""Adaptive discriminator augmentation (Karras et al. 2020, arXiv:2006.06676).

Each transform happens to an image with probability p, and p follows how much the discriminator overfits.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from ganwright.augment.augmenter import Augmenter, Randomness
from ganwright.augment.colour import colour_matrix, recolour
from ganwright.augment.corruption import add_noise, cut_out
from ganwright.augment.draws import Draws
from ganwright.augment.filtering import band_gains, filter_bands
from ganwright.augment.geometry import inverse_transform, transform
from ganwright.augment.matrices import where_changed
from ganwright.augment.settings import ADA_TRANSFORMS, BLIT, COLOR, GEOM
from ganwright.networks.blocks import mean_over_processes, world_size

ADJUST_EVERY = 4
"""Discriminator steps from one change of p to the next."""


class AdaptiveAugmenter(Augmenter):
    """ADA: a pipeline of transforms and the rule that sets their probability p.

    The overfitting heuristic is r_t = E[sign(D(x))] over the augmented reals of four discriminator steps (eq. 1); p
    then moves by the number of those images / (1000 · kimg), up if r_t is above the target and down if below, within
    [0, 1]. (NVIDIA's code lets p grow beyond 1, where nothing more changes except that it takes longer to return.)

    Args:
        transforms: Names from `ADA_TRANSFORMS`.
        p: The first p.
        target: r_t at rest; 0: p stays what it is.
        kimg: Thousands of images in which p goes from 0 to 1.
    """

    def __init__(
        self,
        transforms: Collection[str] = ADA_TRANSFORMS,
        *,
        p: float = 0.0,
        target: float = 0.6,
        kimg: float = 500.0,
    ) -> None:
        super().__init__()
        self.transforms = tuple(name for name in ADA_TRANSFORMS if name in transforms)
        self.target, self.kimg = target, kimg
        self.register_buffer("p", torch.tensor(float(p)))
        self.register_buffer("rt", torch.tensor(0.0))  # the last r_t p was adjusted by, for the log
        self.register_buffer("signs", torch.tensor(0.0))  # since then: sum of signs, images, steps
        self.register_buffer("images", torch.tensor(0.0))
        self.register_buffer("steps", torch.tensor(0.0))
        self.p: Tensor
        self.rt: Tensor
        self.signs: Tensor
        self.images: Tensor
        self.steps: Tensor

    def forward(self, images: Tensor, ctx: Randomness) -> Tensor:
        """Augment images (N, C, H, W), in float32 at least; with p = 0 they are returned as they are."""
        draws = Draws.of(ctx, len(images), self.p)
        noise = ctx.normal(*images.shape) if "noise" in self.transforms else None
        if draws.p == 0:
            return images
        with torch.autocast(images.device.type, enabled=False):
            x = images if images.dtype == torch.float64 else images.float()
            x = self._moved(x.contiguous(), draws)
            x = self._recoloured(x, draws)
            if "imgfilter" in self.transforms:
                gains = band_gains(draws)
                x = where_changed(x, (gains != 1).any(1), lambda some, rows: filter_bands(some, gains[rows]))
            if noise is not None:
                x = add_noise(x, noise, draws)
            if "cutout" in self.transforms:
                x = cut_out(x, draws)
        return x.to(images.dtype)

    def _moved(self, x: Tensor, draws: Draws) -> Tensor:
        if not set(self.transforms) & {*BLIT, *GEOM}:
            return x
        g_inv = inverse_transform(self.transforms, draws, *x.shape[2:])
        changed = (g_inv != torch.eye(3, dtype=g_inv.dtype)).flatten(1).any(1)
        return where_changed(x, changed, lambda some, rows: transform(some, g_inv[rows]))

    def _recoloured(self, x: Tensor, draws: Draws) -> Tensor:
        if not set(self.transforms) & {*COLOR}:
            return x
        c = colour_matrix(self.transforms, draws, x.shape[1])
        changed = (c != torch.eye(*c.shape[1:], dtype=c.dtype)).flatten(1).any(1)
        return where_changed(x, changed, lambda some, rows: recolour(some, c[rows]))

    @torch.no_grad()
    def observe(self, real_logits: Tensor) -> None:
        """Count one discriminator step; every fourth changes p. Every process must hold as many rows."""
        signs = mean_over_processes(real_logits.detach().float().sign().mean())
        images = world_size() * len(real_logits)
        self.signs += signs * images
        self.images += images
        self.steps += 1

        due = self.steps >= ADJUST_EVERY  # decided on the device: nothing waits for it
        rt = self.signs / self.images
        self.rt.copy_(torch.where(due, rt, self.rt))
        if self.target > 0:
            change = (rt - self.target).sign() * self.images / (1000 * self.kimg)
            self.p.copy_(torch.where(due, (self.p + change).clamp(0, 1), self.p))
        for counter in (self.signs, self.images, self.steps):
            counter.mul_(~due)

    def log(self) -> dict[str, Tensor]:
        """`augment_p`, and `augment_rt` as of the last change of p."""
        return {"augment_p": self.p.clone(), "augment_rt": self.rt.clone()}

    def extra_repr(self) -> str:
        """For printing."""
        return f"{', '.join(self.transforms)}; target={self.target}, kimg={self.kimg}"
