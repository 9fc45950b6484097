"""Perceptual path length (Karras et al. 2019): how fast images change along paths in latent space.

The published PPL measures with LPIPS over VGG16; here any registered extractor is used, so the number is named with it
and cannot be set beside published ones. Images reach the extractor as floats: rounded to 8 bits, steps this small would
vanish.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ganwright.console import progress
from ganwright.errors import MetricError, SettingsError
from ganwright.metrics.estimate import Estimate, Provenance
from ganwright.metrics.extractor_base import Extractor, full_precision
from ganwright.metrics.feature_distance import unit_distance
from ganwright.metrics.resizing import RESIZES

if TYPE_CHECKING:
    from ganwright.metrics.measured import Measured

Array = npt.NDArray[np.float64]
EPSILON = 1e-4
"""Step along the path, from 0 to 1 (Karras et al. 2019, sec. 4.1)."""
TRIM = 1.0
"""Per cent of the pairs that are discarded at each end, as the authors' program does."""
_RESAMPLES = 1000


class Generate(Protocol):
    """Makes images from latents: what a recipe offers to have its path length measured.

    Equal latents must give equal images: no noise of its own, no statistics of the batch.
    """

    def __call__(self, latents: Tensor, labels: Tensor | None, /) -> Tensor:
        """Latents (n, latent_dim) and classes int64 (n,), or None, to float images (n, 1 or 3, H, W) in [-1, 1]."""


@dataclass(frozen=True)
class Paths:
    """Which paths through latent space are measured.

    Attributes:
        latent_dim: Length of a latent vector z, standard normal.
        mapping: From z and classes to w, which is what the generator then takes: paths are straight in w ("lerp in
            w"). None: paths between latents z, see `slerp`.
        sampling: "full": positions t uniform in [0, 1]. "end": t = 0, at latents as they are drawn in training.
        num_classes: Draw a class for each path; 0: without.
        epsilon: Step along the path.
        seed: Of latents, positions and classes.

    Raises:
        SettingsError: An unknown sampling, or an impossible number.
    """

    latent_dim: int
    mapping: Callable[[Tensor, Tensor | None], Tensor] | None = None
    sampling: str = "full"
    num_classes: int = 0
    epsilon: float = EPSILON
    seed: int = 0

    def __post_init__(self) -> None:
        if self.sampling not in ("full", "end"):
            raise SettingsError(
                f"There is no sampling '{self.sampling}' of paths.", where="sampling", fix="choose full or end"
            )
        if self.latent_dim < 1 + (self.mapping is None) or self.num_classes < 0 or not 0 < self.epsilon < 1:
            raise SettingsError(
                "A path needs a latent of 2 dimensions or more and a step between 0 and 1.",
                where=f"latent_dim={self.latent_dim}, epsilon={self.epsilon}, num_classes={self.num_classes}",
            )

    @property
    def space(self) -> str:
        """Where they lie: "z" or "w"."""
        return "z" if self.mapping is None else "w"


def path_length(
    generate: Generate,
    paths: Paths,
    extractor: Extractor,
    *,
    n: int = 2000,
    batch_size: int = 0,
    device: torch.device | str = "cpu",
    quiet: bool = False,
) -> Estimate:
    """Mean of D(G(path(t)), G(path(t + epsilon))) / epsilon² over random paths, without the extreme 1 % at each end.

    D is half the squared distance of unit-length features (`feature_distance.unit_distance`), over the spatial ones
    where the extractor has them.

    Args:
        generate: Images from latents.
        paths: Which paths.
        extractor: Over whose features.
        n: Number of paths; published figures have 50,000 or 100,000.
        batch_size: Paths at a time; 0: as the extractor likes.
        device: Where the generator is.
        quiet: Show no progress.

    Raises:
        SettingsError: Fewer than 2 paths.
        MetricError: Images or features are not finite.
    """
    distances = path_distances(generate, paths, extractor, n=n, batch_size=batch_size, device=device, quiet=quiet)
    value, low, high = trimmed_mean(distances)
    spatial = ", place by place" if extractor.has_spatial else ""
    steps = "slerp in z" if paths.mapping is None else "lerp in w"
    told = (
        "not the published PPL, which is over LPIPS of VGG16: compare only with the same extractor, space and sampling",
        "a generator that makes one image has length 0: read it beside a measure of variety",
    )
    return Estimate(
        "path-length",
        f"path length ({extractor.name}{spatial}; {paths.space}, {paths.sampling})",
        value,
        low,
        high,
        n,
        Provenance(
            f"{extractor.name}/{extractor.version}",
            f"float images clipped to [-1, 1]; {extractor.preprocessing}; {steps}, {paths.sampling}, epsilon "
            f"{paths.epsilon:g}, {TRIM:g} % trimmed at each end",
        ),
        "95 %, bootstrap over paths",
        False,
        told,
        {"median": float(np.median(distances)), "untrimmed_mean": float(distances.mean())},
    )


@torch.no_grad()
def path_distances(
    generate: Generate,
    paths: Paths,
    extractor: Extractor,
    *,
    n: int,
    batch_size: int = 0,
    device: torch.device | str = "cpu",
    quiet: bool = False,
) -> Array:
    """The distance over epsilon² of each path, float64 (n,); see `path_length`."""
    if n < 2:
        raise SettingsError(f"{n} paths are too few for a mean with an interval.", where="n", fix="choose at least 2")
    generator, place = torch.Generator().manual_seed(paths.seed), torch.device(device)
    ends = torch.randn(n, 2, paths.latent_dim, generator=generator)
    t = torch.rand(n, 1, generator=generator, dtype=torch.float64) * (paths.sampling == "full")
    labels = torch.randint(paths.num_classes, (n,), generator=generator) if paths.num_classes else None
    at_a_time = batch_size or max(1, extractor.batch_size // 2)
    found = np.empty(n)
    with progress("path length", n, quiet=quiet) as advance, full_precision(place):
        for start in range(0, n, at_a_time):
            rows = slice(start, min(start + at_a_time, n))
            of_rows = None if labels is None else labels[rows].to(place)
            latents = _two_steps(ends[rows].to(place), of_rows, t[rows], paths)
            twice = None if of_rows is None else of_rows.repeat(2)
            features = _features(generate(latents, twice), extractor)
            half = len(features) // 2
            found[rows] = unit_distance(features[:half], features[half:]) / paths.epsilon**2
            advance(rows.stop - rows.start)
    return found


def slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Along the arc from `a` to `b` (..., D): directions at constant angular speed, lengths linearly.

    Karras et al. (2019) put all points on the unit sphere, where their generator puts them anyway. A generator that
    does not normalise its latents has seen none of that length, so lengths are kept here; where they do not matter, the
    images are the same.

    Args:
        a: One end.
        b: The other.
        t: Position (..., 1), 0 at `a`, 1 at `b`.
    """
    length_a, length_b = a.norm(dim=-1, keepdim=True), b.norm(dim=-1, keepdim=True)
    u, v = a / length_a, b / length_b
    cosine = (u * v).sum(-1, keepdim=True).clamp(-1, 1)
    across = v - cosine * u
    across = across / across.norm(dim=-1, keepdim=True).clamp_min(1e-30)
    angle = t * torch.acos(cosine)
    points: Tensor = (torch.cos(angle) * u + torch.sin(angle) * across) * (length_a + t * (length_b - length_a))
    return points


def trimmed_mean(distances: Array, *, percent: float = TRIM, seed: int = 0) -> tuple[float, float, float]:
    """Mean without the values beyond the outer percentiles, and the ends of its 95 % interval (percentile bootstrap).

    A percentile is the nearest value outwards, so that with few pairs none is discarded.

    Raises:
        MetricError: Values that are not finite.
    """
    if not np.isfinite(distances).all():
        raise MetricError("Some distances along the paths are NaN or infinite.", fix="look at the generator's images")
    ordered = np.sort(distances)
    random = np.random.default_rng(seed)
    n = len(ordered)
    resampled = np.empty(_RESAMPLES)
    for i in range(_RESAMPLES):
        # A sorted resample is the sorted values, each as often as it was drawn.
        resampled[i] = _trim(ordered[np.sort(random.integers(n, size=n))], percent)
    low, high = np.quantile(resampled, [0.025, 0.975])
    return _trim(ordered, percent), float(low), float(high)


def _trim(ordered: Array, percent: float) -> float:
    last = len(ordered) - 1
    low = ordered[math.floor(last * percent / 100)]
    high = ordered[math.ceil(last * (100 - percent) / 100)]
    return float(ordered[(ordered >= low) & (ordered <= high)].mean())


def _two_steps(ends: Tensor, labels: Tensor | None, t: Tensor, paths: Paths) -> Tensor:
    """Latents at t and then at t + epsilon, float32 (2n, ...); interpolated in float64 where the device has it."""
    kind = torch.float32 if ends.device.type == "mps" else torch.float64
    t = t.to(device=ends.device, dtype=kind)
    a, b = ends[:, 0], ends[:, 1]
    if paths.mapping is None:
        steps = [slerp(a.to(kind), b.to(kind), t + e) for e in (0.0, paths.epsilon)]
    else:
        w_a, w_b = paths.mapping(a, labels).to(kind), paths.mapping(b, labels).to(kind)
        t = t.reshape(-1, *[1] * (w_a.ndim - 1))
        steps = [torch.lerp(w_a, w_b, t + e) for e in (0.0, paths.epsilon)]
    return torch.cat(steps).float()


def _features(images: Tensor, extractor: Extractor) -> npt.NDArray[np.float32]:
    """Spatial features, or pooled ones, of float images in [-1, 1]: never rounded."""
    if not torch.isfinite(images).all():
        raise MetricError("The generator made images with values that are not finite.")
    parts = []
    for start in range(0, len(images), extractor.batch_size):
        x = (images[start : start + extractor.batch_size].to(extractor.device).float().clamp(-1, 1) + 1) * 127.5
        x = RESIZES[extractor.resize][0](x, extractor.size).expand(-1, 3, -1, -1)
        found = extractor.forward(x.contiguous(memory_format=torch.channels_last))
        features = found[2] if len(found) > 2 and found[2] is not None else found[0]
        assert features is not None
        parts.append(features.float().cpu().numpy())
    return np.concatenate(parts)


def estimate(measured: Measured) -> list[Estimate]:
    """The path length of a run's generator, with a tenth as many paths as the published 100,000 at most."""
    latent, extractor = measured.latent, measured.extractor
    if latent is None or extractor is None:
        return []
    styles = latent.styles
    paths = Paths(latent.latent_dim, None if styles is None else styles.mapping, num_classes=latent.num_classes)
    n = min(10_000, max(1000, measured.n))

    def generate(latents: Tensor, labels: Tensor | None) -> Tensor:
        return latent.generate(latents, labels) if styles is None else styles.synthesise(styles.spread(latents))

    return [path_length(generate, paths, extractor, n=n, device=extractor.device)]
