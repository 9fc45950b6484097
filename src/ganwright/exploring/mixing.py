"""Style mixing (Karras et al. 2019, section 3.1): some layers take the style of one source, the rest another's."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ganwright.exploring.latents import Latents, joined
from ganwright.exploring.layers import describe_layers, parse_layers
from ganwright.exploring.sheet import Sheet
from ganwright.exploring.space import Space
from ganwright.exploring.truncation import captions_of


def mixed(rows: Latents, columns: Latents, layers: Sequence[int]) -> Latents:
    """Row i with the styles of column j in `layers`, for all i and j: w+ (rows · columns, L, D), row by row."""
    n, m = len(rows), len(columns)
    values = rows.values[:, None].repeat(1, m, 1, 1)
    values[:, :, list(layers)] = columns.values[None, :, list(layers)].expand(n, -1, -1, -1)
    names = tuple(f"{a} with {b}" for a in rows.names for b in columns.names)
    return Latents(values.flatten(0, 1), "w+", names)


def mixing_sheet(space: Space, rows: Latents, columns: Latents, layers: str | Sequence[int | str] = "coarse") -> Sheet:
    """The sources along the edges, and every pair of them mixed.

    Args:
        space: The generator.
        rows: Sources in W that keep the other layers.
        columns: Sources in W that give the styles of `layers`.
        layers: Which; see `parse_layers`.

    Raises:
        SettingsError: There is no W, or no such layer.
    """
    styles = space.need_styles("Style mixing")
    chosen = parse_layers(layers, styles.layers)
    images = space.images(joined([columns, rows, mixed(rows, columns, chosen)]))
    n, m = len(rows), len(columns)
    cells = torch.zeros(n + 1, m + 1, dtype=torch.int64)
    cells[0, 1:] = torch.arange(m)
    cells[1:, 0] = m + torch.arange(n)
    cells[1:, 1:] = m + n + torch.arange(n * m).view(n, m)
    described = describe_layers(chosen, styles.layers)
    return Sheet(
        images[cells.numpy()],
        ["", *captions_of(rows)],
        ["row source", *captions_of(columns)],
        f"style mixing: {space.name}",
        [f"{described} take the column's style, all others the row's"],
        blank=frozenset({(0, 0)}),
    )
