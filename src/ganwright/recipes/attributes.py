"""Attributes that an image has by itself: brightness, colour, texture, … No annotation, only arithmetic.

All are computed from 8-bit values, as a viewer sees them, and carry no gradient. What a GAN does with them is in
`attribute_gan.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

COLOURS = (
    "red",
    "orange",
    "yellow",
    "chartreuse",
    "green",
    "spring green",
    "cyan",
    "azure",
    "blue",
    "violet",
    "magenta",
    "rose",
    "grey",
)
"""Names of the 12 hues, 30 degrees each, the first centred on red; and of images without hue."""
ORIENTATIONS = ("vertical edges", "diagonal edges /", "horizontal edges", "diagonal edges \\")
GREY_BELOW = 0.05
"""An image of less mean chroma has no dominant colour."""


@dataclass(frozen=True)
class Attribute:
    """One attribute of an image.

    Attributes:
        compute: RGB images (N, 3, H, W), values 0..1 in steps of 1/255 -> (N,): a number, or a class as 0, 1, ….
        classes: Names of the classes; empty for a number.
        coloured: Whether grey images cannot have it.
        formula: What it is, in a sentence.
    """

    compute: Callable[[Tensor], Tensor]
    classes: tuple[str, ...]
    coloured: bool
    formula: str

    @property
    def meaning(self) -> str:
        """The formula, or the classes where there are any."""
        return "one of " + ", ".join(self.classes) if self.classes else self.formula

    @property
    def size(self) -> int:
        """Numbers that describe a value: 1, or one a class."""
        return max(1, len(self.classes))


@torch.no_grad()
def measure(images: Tensor, names: Sequence[str]) -> Tensor:
    """The attributes of images.

    Args:
        images: Float (N, C, H, W) in [-1, 1], C = 1 or 3; rounded to 8 bits first, as samples are.
        names: Keys of `ATTRIBUTES`.

    Returns:
        float32 (N, len(names)); classes as their number.
    """
    levels = (images.detach().float().clamp(-1, 1) * 127.5 + 127.5).round() / 255
    rgb = levels.expand(-1, 3, -1, -1) if levels.shape[1] == 1 else levels
    with torch.autocast(rgb.device.type, enabled=False):
        return torch.stack([ATTRIBUTES[name].compute(rgb) for name in names], dim=1)


def luma(rgb: Tensor) -> Tensor:
    """Y' = 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601), (N, H, W)."""
    r, g, b = rgb.unbind(1)
    return 0.299 * r + 0.587 * g + 0.114 * b


def brightness(rgb: Tensor) -> Tensor:
    """Mean luma, 0..1."""
    return luma(rgb).mean((1, 2))


def contrast(rgb: Tensor) -> Tensor:
    """Root-mean-square contrast: the standard deviation of luma over pixels (Peli 1990), 0..0.5."""
    return luma(rgb).std((1, 2), correction=0)


def saturation(rgb: Tensor) -> Tensor:
    """Mean HSV saturation, (max - min) / max of a pixel's channels, 0 for black; 0..1."""
    top, bottom = rgb.amax(1), rgb.amin(1)
    return ((top - bottom) / top.clamp(min=1e-8)).mean((1, 2))


def hue(rgb: Tensor) -> Tensor:
    """HSV hue in turns, [0, 1), (N, H, W); 0 for grey pixels."""
    r, g, b = rgb.unbind(1)
    top = rgb.amax(1)
    chroma = top - rgb.amin(1)
    safe = chroma.clamp(min=1e-8)
    sixths = torch.where(top == r, (g - b) / safe, torch.where(top == g, 2 + (b - r) / safe, 4 + (r - g) / safe))
    return torch.where(chroma > 0, sixths / 6, 0).remainder(1)


def colour(rgb: Tensor) -> Tensor:
    """Dominant colour: the peak of the hue histogram, 12 bins, each pixel weighted by its chroma (max - min).

    Bin 0 is centred on red, bin k on 30k degrees; class 12 is grey: mean chroma below `GREY_BELOW`.
    """
    bins = len(COLOURS) - 1
    chroma = rgb.amax(1) - rgb.amin(1)
    # The small number puts hues that lie on a bin's edge into the upper bin whatever the rounding.
    index = (hue(rgb) * bins + 0.5 + 1e-5).floor().long() % bins
    histogram = torch.zeros(len(rgb), bins, device=rgb.device).scatter_add_(1, index.flatten(1), chroma.flatten(1))
    grey = chroma.mean((1, 2)) < GREY_BELOW
    return torch.where(grey, bins, histogram.argmax(1)).float()


def gradient(rgb: Tensor) -> tuple[Tensor, Tensor]:
    """Central differences of luma along x and along y at the inner pixels, both (N, H - 2, W - 2)."""
    y = luma(rgb)
    return (y[:, 1:-1, 2:] - y[:, 1:-1, :-2]) / 2, (y[:, 2:, 1:-1] - y[:, :-2, 1:-1]) / 2


def edges(rgb: Tensor) -> Tensor:
    """Mean gradient magnitude of luma over the inner pixels, 0..0.71 a pixel."""
    gx, gy = gradient(rgb)
    return (gx.square() + gy.square()).sqrt().mean((1, 2))


def orientation(rgb: Tensor) -> Tensor:
    """Dominant orientation: the peak of the gradient's direction modulo 180 degrees, 4 bins, weighted by its square.

    Class k is centred on 45k degrees of the gradient (0: along x, so the edges are vertical).
    """
    gx, gy = gradient(rgb)
    bins = len(ORIENTATIONS)
    index = (torch.atan2(gy, gx) / math.pi * bins + 0.5 + 1e-5).floor().long() % bins
    energy = (gx.square() + gy.square()).flatten(1)
    histogram = torch.zeros(len(rgb), bins, device=rgb.device).scatter_add_(1, index.flatten(1), energy)
    return histogram.argmax(1).float()


_RING = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))
"""The eight neighbours, in order around the pixel, as (row, column)."""


def local_binary_patterns(rgb: Tensor) -> Tensor:
    """Share of each rotation-invariant uniform pattern, (N, 10) (Ojala et al. 2002, eq. 9, LBP^riu2 with P = 8, R = 1).

    At each inner pixel, which of the eight neighbours on the square ring have at least its luma (in 8 bits)? With at
    most two changes around the ring the pattern is their number, 0..8; otherwise it is 9.
    """
    y = (luma(rgb) * 255).round()
    height, width = y.shape[1:]
    centre = y[:, 1:-1, 1:-1]
    ring = [y[:, 1 + dy : height - 1 + dy, 1 + dx : width - 1 + dx] >= centre for dy, dx in _RING]
    signs = torch.stack(ring, dim=1)  # (N, 8, H - 2, W - 2)
    changes = (signs != signs.roll(1, dims=1)).sum(1)
    patterns = torch.where(changes <= 2, signs.sum(1), 9)
    return F.one_hot(patterns.flatten(1), 10).float().mean(1)


def texture(rgb: Tensor) -> Tensor:
    """Entropy of the local binary patterns over log 10: 0 for a flat image, 1 where all ten are as frequent."""
    p = local_binary_patterns(rgb)
    return -torch.xlogy(p, p).sum(1) / math.log(10)


ATTRIBUTES: dict[str, Attribute] = {
    "brightness": Attribute(brightness, (), False, "mean luma, 0 to 1"),
    "contrast": Attribute(contrast, (), False, "standard deviation of luma, 0 to 0.5"),
    "saturation": Attribute(saturation, (), True, "mean HSV saturation, 0 to 1"),
    "colour": Attribute(colour, COLOURS, True, "peak of the chroma-weighted hue histogram"),
    "edges": Attribute(edges, (), False, "mean gradient magnitude of luma"),
    "orientation": Attribute(orientation, ORIENTATIONS, False, "peak of the energy-weighted gradient direction"),
    "texture": Attribute(texture, (), False, "normalised entropy of local binary patterns"),
}
"""Attributes by name."""
