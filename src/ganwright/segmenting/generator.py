"""The style-based generator of a run, as segmentation uses it: numbered style vectors, images and their features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ganwright.errors import RunError, SettingsError
from ganwright.files import hash_file
from ganwright.recipes.base import LatentSpace, StyleSpace
from ganwright.run import Run
from ganwright.samples import ImageSamples, Uint8Array
from ganwright.training.restore import checkpoint_folder, load_recipe

CANDIDATES, DATASET = 1, 2
"""Streams of latents: what is annotated and what becomes the data set never share one."""


@dataclass(frozen=True)
class StyleGenerator:
    """A run's averaged generator at one checkpoint.

    Attributes:
        run: Where from.
        step: The checkpoint's step.
        fingerprint: Hash of the averaged weights.
        latent: Its latent space, and `styles` in it.
        styles: W and W+.
        device: Where it is.
    """

    run: Run
    step: int
    fingerprint: str
    latent: LatentSpace
    styles: StyleSpace
    device: torch.device

    @torch.no_grad()
    def draw(self, indices: Sequence[int], *, seed: int, stream: int, truncation: float) -> tuple[Tensor, Tensor]:
        """Truncated style vectors by number: row i is a function of the seed, the stream and its index alone.

        Returns:
            w (n, style_dim) and classes int64 (n,), in turn by index; 0 for an unconditional run.

        Raises:
            SettingsError: The truncation is not in (0, 1].
        """
        if not 0 < truncation <= 1:
            raise SettingsError(f"Truncation is in (0, 1], not {truncation}.", where="truncation", fix="try 0.7")
        rows = [
            np.random.default_rng([abs(seed), stream, index]).standard_normal(self.latent.latent_dim)
            for index in indices
        ]
        z = torch.from_numpy(np.stack(rows)).float().to(self.device)
        labels = torch.tensor([i % max(1, self.latent.num_classes) for i in indices], device=self.device)
        w = self.styles.mapping(z, labels if self.latent.num_classes else None)
        mean = self.styles.mean.to(w)
        return mean + truncation * (w - mean), labels

    @torch.no_grad()
    def features(self, w: Tensor) -> tuple[Uint8Array, list[Tensor]]:
        """Images uint8 (n, H, W, C) of style vectors (n, style_dim), and their feature maps."""
        images, maps = self.styles.features(self.styles.spread(w.to(self.device)))
        return ImageSamples.from_tensor(images).images, maps


def open_generator(
    run: str | Path | Run,
    *,
    checkpoint: int | str = "last",
    fingerprint: str | None = None,
    device: torch.device | str = "cpu",
) -> StyleGenerator:
    """The generator of a run.

    Args:
        run: A run of a style-based recipe.
        checkpoint: A step, "last" or "best".
        fingerprint: What its weights must be, where something was made with them before.
        device: Where to put it.

    Raises:
        RunError: The recipe has no styles, or the weights are not the ones expected.
        CheckpointError: There is no such checkpoint.
    """
    opened = run if isinstance(run, Run) else Run.open(run)
    folder = checkpoint_folder(opened, checkpoint)
    found = hash_file(folder / "ema.safetensors")
    if fingerprint is not None and found != fingerprint:
        raise RunError(
            "The generator is not the one that made these pictures: its weights have changed since.",
            where=folder,
            fix="give the run they were made with, or make and annotate new pictures",
        )
    recipe = load_recipe(opened, step=checkpoint, device=device)
    latent = recipe.latent_space()
    if latent is None or latent.styles is None:
        raise RunError(
            f"The recipe '{opened.config['recipe']}' has no styles, whose layers' features are read here.",
            where=opened.path,
            fix="train a style-based one: ganwright train stylegan2 DATA",
        )
    step = int(folder.name.removeprefix("step-"))
    return StyleGenerator(opened, step, found, latent, latent.styles, torch.device(device))
