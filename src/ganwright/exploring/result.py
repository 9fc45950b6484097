"""What a projection gives people: pictures, how near they came, and the latent to go on with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ganwright.data.decode import decode_picture, fit
from ganwright.errors import DataError
from ganwright.exploring.latents import Latents
from ganwright.exploring.projection import Found
from ganwright.exploring.sheet import Sheet
from ganwright.exploring.space import Space
from ganwright.metrics.extractor_base import Extractor
from ganwright.metrics.feature_distance import feature_distances
from ganwright.metrics.paired import psnr, ssim
from ganwright.metrics.structural import smallest_side
from ganwright.samples import Uint8Array


@dataclass(frozen=True)
class Quality:
    """How near a reconstruction is to its target.

    Attributes:
        psnr: Decibels.
        ssim: Structural similarity, or None for images below 11 pixels a side.
        feature_distance: 1 - cosine of pooled features (0: alike), or None without an extractor.
    """

    psnr: float
    ssim: float | None
    feature_distance: float | None

    def __str__(self) -> str:
        parts = [f"PSNR {self.psnr:.1f} dB"]
        parts += [] if self.ssim is None else [f"SSIM {self.ssim:.3f}"]
        parts += [] if self.feature_distance is None else [f"feature distance {self.feature_distance:.3f}"]
        return ", ".join(parts)


@dataclass(frozen=True)
class Projection:
    """A real image in latent space.

    Attributes:
        target: uint8 (H, W, C), as the generator could make it.
        latents: The nearest latent found, one.
        image: uint8 (H, W, C): its image.
        quality: Of that image.
        in_w: The same three for the best single style w; None in z, and where W was all that was asked for.
        steps: Of the snapshots on the way.
        snapshots: uint8 (S, H, W, C).
        loss: What was minimised, in words.
        notes: What people should know.
        interrupted: Ctrl-C ended it; this is the best until then.
    """

    target: Uint8Array
    latents: Latents
    image: Uint8Array
    quality: Quality
    in_w: tuple[Latents, Uint8Array, Quality] | None
    steps: tuple[int, ...]
    snapshots: Uint8Array
    loss: str
    notes: tuple[str, ...]
    interrupted: bool

    def sheet(self) -> Sheet:
        """Target, the way, and what was found."""
        where = "z" if self.latents.kind == "z" else "W+"
        where = where if where == "z" or self.in_w is not None else "W"
        images, captions = [self.target], ["target"]
        for step, image in zip(self.steps[:-1], self.snapshots[:-1], strict=True):
            images.append(image)
            captions.append(f"step {step}")
        quality = [f"{where}: {self.quality}"]
        if self.in_w is not None:
            images.append(self.in_w[1])
            captions.append("best in W")
            quality.insert(0, f"W: {self.in_w[2]}")
        images.append(self.image)
        captions.append(f"best in {where}")
        title = f"projection of {self.latents.names[0]}"
        return Sheet(np.stack(images)[None], [""], captions, title, [*quality, f"loss: {self.loss}", *self.notes])


def read_target(image: str | Path | Uint8Array, resolution: int, channels: int) -> tuple[Uint8Array, str, list[str]]:
    """An image of the generator's size, its name, and what was done to it.

    Args:
        image: A picture file, or uint8 pixels (H, W, 1 or 3).
        resolution: Side wanted, in pixels.
        channels: 1 or 3.

    Raises:
        DataError: It cannot be read.
    """
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] not in (1, 3):
            raise DataError(f"An image must be uint8 (H, W, 1 or 3), not {image.dtype} {image.shape}.")
        pixels, name = image, "image"
    else:
        path = Path(image)
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise DataError(f"The image cannot be read: {error.strerror}.", where=path) from error
        pixels, name = decode_picture(raw, str(path)).pixels, path.name
    notes, (h, w, c) = [], pixels.shape
    if (h, w) != (resolution, resolution):
        middle = "the central square of it, " if h != w else ""
        notes.append(f"the image of {w}x{h} was resized to the generator's size: {middle}{resolution}x{resolution}")
    if c != channels:
        notes.append("colour was turned grey" if channels == 1 else "grey was turned to RGB")
    return fit(pixels, resolution, channels), name, notes


def to_tensor(image: Uint8Array) -> torch.Tensor:
    """uint8 (H, W, C) to float (1, C, H, W) in [-1, 1]."""
    return torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1


def judged(image: Uint8Array, target: Uint8Array, extractor: Extractor | None) -> Quality:
    """Distances of one image from its target."""
    one, other = image[None], target[None]
    structural = float(ssim(one, other)[0]) if min(image.shape[:2]) >= smallest_side(1) else None
    features = None if extractor is None else float(feature_distances(extractor, [image], [target]).pooled[0])
    return Quality(float(psnr(one, other)[0]), structural, features)


def as_projection(
    space: Space, found: Found, target: Uint8Array, loss: str, notes: list[str], extractor: Extractor | None
) -> Projection:
    """Images and distances of what was found."""

    def shown(latents: Latents) -> tuple[Latents, Uint8Array, Quality]:
        image = space.images(latents)[0]
        return latents, image, judged(image, target, extractor)

    best = shown(found.best)
    trace = found.trace
    if trace.latents:
        labels = found.best.labels
        rows = None if labels is None else labels.expand(len(trace.latents))
        way = Latents(torch.cat(trace.latents), found.best.kind, ("",) * len(trace.latents), rows)
        snapshots = space.images(way)
    else:
        snapshots = best[1][None][:0]
    if found.best.kind == "z":
        length = float(found.best.values.norm()) / space.latent.latent_dim**0.5
        notes = [*notes, f"z is {length:.2f} times as long as a typical sample's"]
    if found.best.noise:
        notes = [*notes, "per-pixel noise was fitted too and is kept in the file"]
    if trace.interrupted:
        notes = [*notes, "interrupted: the best until then"]
    in_w = None if found.in_w is None or found.in_w is found.best else shown(found.in_w)
    return Projection(target, *best, in_w, tuple(trace.steps), snapshots, loss, tuple(notes), trace.interrupted)
