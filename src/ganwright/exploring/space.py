"""A trained generator as exploration sees it: seeds to latents to images, in W where there is one, else in z."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ganwright.errors import SettingsError
from ganwright.exploring.latents import Kind, Latents
from ganwright.recipes.base import Recipe, SampleRequest, StyleSpace
from ganwright.samples import ImageSamples, Uint8Array

_IMAGES_AT_A_TIME = 32


class Space:
    """The latent space of a trained recipe.

    Args:
        recipe: In `eval` mode.
        name: What messages call it.

    Attributes:
        latent: The recipe's `LatentSpace`.
        styles: Its W, or None.
        kind: "w+" where there is a W, else "z": where points are moved about.
        device: Where the networks are.

    Raises:
        SettingsError: The recipe makes no images from latent vectors.
    """

    def __init__(self, recipe: Recipe, name: str) -> None:
        latent = recipe.latent_space()
        if latent is None:
            raise SettingsError(
                f"{name} makes no images from latent vectors, so there is no latent space to explore.",
                fix="explore a run of an image recipe; `ganwright recipes` lists them",
            )
        self.recipe, self.name, self.latent, self.styles = recipe, name, latent, latent.styles
        self.kind: Kind = "z" if latent.styles is None else "w+"
        self.device = recipe.device

    def need_styles(self, what: str) -> StyleSpace:
        """W.

        Raises:
            SettingsError: There is none; says what is possible instead.
        """
        if self.styles is None:
            raise SettingsError(
                f"{what} needs the intermediate latents W of a style-based generator, and {self.name} has none.",
                fix="train a style-based recipe such as stylegan2; with this run you can explore truncation, walk, "
                "interpolate, directions, edit and project, all in z",
            )
        return self.styles

    # Latents. ------------------------------------------------------------------------------------------------------

    def seeds(
        self, seeds: Sequence[int], labels: Sequence[int] | int | None = None, *, kind: Kind | None = None
    ) -> Latents:
        """The latents of seeds: seed s is the first image of `ganwright sample --seed s`.

        Args:
            seeds: n of them.
            labels: Classes of a conditional recipe: one for all, or several in turn. None: all classes in turn.
            kind: "z" or "w+"; None: `self.kind`.

        Raises:
            SettingsError: No seeds, or impossible labels.
        """
        if not seeds:
            raise SettingsError("No seeds were given.", where="seeds")
        z = torch.cat([SampleRequest(n=1, seed=seed).normal(self.latent.latent_dim) for seed in seeds])
        classes = self.classes(len(z), labels)
        names = tuple(f"seed {seed}" for seed in seeds)
        if classes is not None:
            known = self.recipe.data.class_names
            told = [known[c] if c < len(known) else str(int(c)) for c in classes]
            told = [f"class {text}" if text.isdigit() else text for text in told]
            names = tuple(f"{name}, {text}" for name, text in zip(names, told, strict=True))
        return self.mapped(Latents(z, "z", names, classes), kind or self.kind)

    def classes(self, n: int, labels: Sequence[int] | int | None) -> Tensor | None:
        """The class of each of n samples, int64 (n,), or None for a recipe without classes.

        Raises:
            SettingsError: Labels that there are not.
        """
        known = self.latent.num_classes
        if labels is None:
            return torch.arange(n) % known if known else None
        asked = [labels] if isinstance(labels, int) else list(labels)
        if not known:
            raise SettingsError(f"{self.name} has no classes, so none can be asked for.", where="label")
        if not asked or not all(0 <= label < known for label in asked):
            wrong = ", ".join(map(str, asked)) or "none"
            raise SettingsError(f"There is no class {wrong}.", where="label", fix=f"choose from 0 to {known - 1}")
        return torch.tensor([asked[i % len(asked)] for i in range(n)])

    @torch.no_grad()
    def mapped(self, latents: Latents, kind: Kind) -> Latents:
        """The same points as z or as w+ (which cannot be turned back)."""
        if kind == latents.kind:
            return latents
        styles = self.need_styles("This")
        assert kind == "w+"
        labels = None if latents.labels is None else latents.labels.to(self.device)
        w_plus = styles.spread(styles.mapping(latents.values.to(self.device), labels))
        return Latents(w_plus.float().cpu().contiguous(), "w+", latents.names)

    @torch.no_grad()
    def sampled_w(self, n: int, *, seed: int, labels: Sequence[int] | int | None = None) -> Iterator[Tensor]:
        """The w of n random latents, in float64 blocks (b, style_dim) on the CPU: memory does not grow with n."""
        styles = self.need_styles("Sampling w")
        generator = torch.Generator().manual_seed(seed)
        classes = self.classes(n, labels)
        for start in range(0, n, 1000):
            z = torch.randn(min(1000, n - start), self.latent.latent_dim, generator=generator).to(self.device)
            of_block = None if classes is None else classes[start : start + len(z)].to(self.device)
            yield styles.mapping(z, of_block).cpu().double()

    # Images. -------------------------------------------------------------------------------------------------------

    def generate(self, values: Tensor, kind: Kind, labels: Tensor | None = None) -> Tensor:
        """Float images (n, C, H, W) of latents on the device; differentiable."""
        if kind == "w+":
            return self.need_styles("This").synthesise(values)
        return self.latent.generate(values, labels)

    @torch.no_grad()
    def images(self, latents: Latents) -> Uint8Array:
        """uint8 images (n, H, W, C) of latents."""
        parts = []
        with self.noise(latents.noise):
            for start in range(0, len(latents), _IMAGES_AT_A_TIME):
                rows = slice(start, start + _IMAGES_AT_A_TIME)
                labels = None if latents.labels is None else latents.labels[rows].to(self.device)
                made = self.generate(latents.values[rows].to(self.device), latents.kind, labels)
                parts.append(ImageSamples.from_tensor(made).images)
        return np.concatenate(parts)

    def noise_buffers(self) -> dict[str, Tensor]:
        """The generator's constant per-pixel noise, by name of the buffer; empty where it has none."""
        return {name: buffer for name, buffer in self.recipe.named_buffers() if name.endswith("noise_const")}

    @contextlib.contextmanager
    def noise(self, replaced: Mapping[str, Tensor]) -> Iterator[None]:
        """Other constant noise inside the block."""
        buffers = self.noise_buffers()
        before = {name: buffers[name].detach().clone() for name in replaced if name in buffers}
        try:
            with torch.no_grad():
                for name in before:
                    buffers[name].copy_(replaced[name])
            yield
        finally:
            with torch.no_grad():
                for name, value in before.items():
                    buffers[name].copy_(value)
