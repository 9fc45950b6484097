"""Truncation: less variety for more typical images.

In W towards the mean (Karras et al. 2019, appendix B); in z by a narrower distribution of latents (Brock et al. 2019,
section 3.1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from scipy.special import ndtr, ndtri
from torch import Tensor

from ganwright.errors import SettingsError
from ganwright.exploring.latents import Latents, joined
from ganwright.exploring.layers import describe_layers, parse_layers
from ganwright.exploring.sheet import Sheet
from ganwright.exploring.space import Space

PSI = (0.0, 0.25, 0.5, 0.7, 0.85, 1.0, 1.25)
"""The default sweep in W."""
THRESHOLDS = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, math.inf)
"""The default sweep in z."""


def truncate(space: Space, latents: Latents, psi: float, layers: Sequence[int] | None = None) -> Latents:
    """Truncated w' = mean + psi (w - mean) in some layers (all by default); 1 changes nothing."""
    if psi == 1 or latents.kind == "z":
        return latents
    mean = space.need_styles("Truncation").mean.float().cpu()
    chosen = list(range(latents.values.shape[1]) if layers is None else layers)
    values = latents.values.clone()
    values[:, chosen] = mean + psi * (values[:, chosen] - mean)
    return latents.with_values(values)


def truncated_normal(z: Tensor, threshold: float) -> Tensor:
    """Normal latents turned into ones that are normal within ± threshold and never outside.

    Each number keeps its quantile, where the paper draws numbers outside anew: the distribution is the same, and a
    latent moves smoothly as the threshold falls.

    Args:
        z: Standard normal, any shape.
        threshold: From 0 (all zeros) to infinity (unchanged).

    Raises:
        SettingsError: A negative threshold.
    """
    if threshold < 0:
        raise SettingsError(f"A threshold of {threshold:g} leaves no latents.", where="psi", fix="choose 0 or more")
    if threshold == 0 or math.isinf(threshold):
        return z * 0 if threshold == 0 else z
    tail = ndtr(-threshold)
    # From the nearer tail, so that no precision is lost far out.
    below = tail + ndtr(-z.double().abs().numpy()) * (1 - 2 * tail)
    return torch.copysign(torch.from_numpy(-ndtri(below)).clamp(max=threshold), z.double()).to(z.dtype)


def truncation_sheet(
    space: Space,
    seeds: Sequence[int],
    psi: Sequence[float] | None = None,
    *,
    layers: str | Sequence[int | str] = "all",
    labels: Sequence[int] | int | None = None,
) -> Sheet:
    """One row a seed, one column a strength.

    Args:
        space: The generator.
        seeds: Rows.
        psi: In W: 0 is the mean image, 1 as trained, above 1 more extreme. In z: the threshold beyond which no number
            of a latent lies. None: `PSI` or `THRESHOLDS`.
        layers: In W: which are truncated (the paper's cutoff: the coarse ones); the others stay as they are.
        labels: Classes.

    Raises:
        SettingsError: Impossible strengths or layers.
    """
    if psi is not None and not psi:
        raise SettingsError("No strengths were given.", where="psi")
    latents = space.seeds(seeds, labels)
    if space.styles is None:
        if layers != "all":
            space.need_styles("Truncating some layers")
        strengths = list(THRESHOLDS if psi is None else psi)
        moved = [latents.with_values(truncated_normal(latents.values, t)) for t in strengths]
        captions = ["not truncated" if math.isinf(t) else f"|z| <= {t:g}" for t in strengths]
        notes = ["latents z from a normal distribution cut off at a threshold (this generator has no W)"]
    else:
        strengths = list(PSI if psi is None else psi)
        chosen = parse_layers(layers, space.styles.layers)
        moved = [truncate(space, latents, p, chosen) for p in strengths]
        captions = [f"psi {p:g}" for p in strengths]
        notes = [f"psi 0: the mean style; 1: as trained; {describe_layers(chosen, space.styles.layers)} truncated"]
    images = space.images(joined(moved))
    n = len(latents)
    arranged = images.reshape(len(strengths), n, *images.shape[1:]).swapaxes(0, 1)
    return Sheet(arranged, captions_of(latents), captions, f"truncation: {space.name}", notes)


def captions_of(latents: Latents) -> list[str]:
    """Names of latents, in two lines where a class follows."""
    return [name.replace(", ", "\n") for name in latents.names]
