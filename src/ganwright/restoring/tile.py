"""A picture of any size through a network, tile by tile: bounded memory, and no seams.

Neighbouring tiles overlap. A quarter of the overlap on each side is context only, so that what a network does near the
border of a tile is not seen; over the half in between, one tile fades into the next. Where both agree, the result is
exactly theirs: an operator that looks no further than a quarter of the overlap is reproduced bit by bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ganwright.errors import SettingsError

Work = Callable[[Tensor], Tensor]
"""Float (1, C, h, w) -> float (1, C', scale * h, scale * w)."""


@dataclass(frozen=True)
class Tiling:
    """How a picture is cut.

    Attributes:
        tile: Height and width of a tile, in pixels of the input; 0: the whole picture at once.
        overlap: Pixels that neighbours share, at least; at most half a tile.
        scale: Output pixels an input pixel, in each direction.
    """

    tile: int = 512
    overlap: int = 64
    scale: int = 1

    def __post_init__(self) -> None:
        if self.tile and not (self.tile >= 16 and 0 <= self.overlap <= self.tile // 2):
            raise SettingsError(
                f"Tiles of {self.tile} pixels cannot overlap by {self.overlap}.",
                where="tile",
                fix="tiles need 16 pixels or more, and an overlap of at most half of that; 0 does the picture at once",
            )

    def starts(self, length: int) -> list[int]:
        """Where tiles begin along an axis: evenly spread, the first at 0, the last ending with the axis."""
        if not self.tile or length <= self.tile:
            return [0]
        n = math.ceil((length - self.overlap) / (self.tile - self.overlap))
        return [round(i * (length - self.tile) / (n - 1)) for i in range(n)]

    def side(self, length: int) -> int:
        """The length of a tile along an axis."""
        return min(length, self.tile) if self.tile else length

    def count(self, height: int, width: int) -> int:
        """How many tiles there are."""
        return len(self.starts(height)) * len(self.starts(width))


@dataclass(frozen=True)
class _Fade:
    """Where one tile fades into the next along an axis, in output pixels: from `start`, with the next one's shares."""

    start: int
    shares: Tensor

    @property
    def stop(self) -> int:
        return self.start + len(self.shares)


def _fade(tiling: Tiling, start: int, previous: int, length: int) -> _Fade:
    """Between the tiles that begin at `previous` and `start`."""
    first, last = start, previous + tiling.side(length)  # the pixels that both have
    centre, width = (first + last) / 2, max(tiling.overlap / 2, 1 / tiling.scale)
    low, high = math.floor((centre - width / 2) * tiling.scale), math.ceil((centre + width / 2) * tiling.scale)
    low, high = max(low, first * tiling.scale), min(high, last * tiling.scale)
    where = (torch.arange(low, high) + 0.5) / tiling.scale
    return _Fade(low, ((where - centre) / width + 0.5).clamp(0, 1))


def _blend(old: Tensor, new: Tensor, shares: Tensor) -> Tensor:
    """Old + t (new - old): exactly both where they are equal."""
    return torch.where(shares >= 1, new, old + shares * (new - old))


def work_in_tiles(
    work: Work,
    read: Callable[[slice, slice], Tensor],
    size: tuple[int, int],
    tiling: Tiling,
    emit: Callable[[int, Tensor], None],
    *,
    advance: Callable[[], object] = lambda: None,
) -> None:
    """Run a network over a picture and hand out the result from top to bottom.

    At no time is more held than two rows of tiles.

    Args:
        work: The network.
        read: Rows and columns of the picture -> (1, C, h, w), where `work` wants it.
        size: Height and width of the picture.
        tiling: How it is cut.
        emit: Takes the output row it begins with and finished rows (C', n, W'), float32 on the CPU; called in order.
        advance: Called after each tile.

    Raises:
        ValueError: `work` returns another size than `tiling.scale` says.
    """
    height = size[0]
    tops, scale = tiling.starts(height), tiling.scale
    held: Tensor | None = None  # the row of tiles above, from the last row handed out on
    cursor = 0
    for i, top in enumerate(tops):
        row = _row_of_tiles(work, read, top, size, tiling, advance)
        if held is not None:
            fade = _fade(tiling, top, tops[i - 1], height)
            emit(cursor, held[:, : fade.start - cursor])
            ours = row[:, fade.start - top * scale : fade.stop - top * scale]
            theirs = held[:, fade.start - cursor : fade.stop - cursor]
            emit(fade.start, _blend(theirs, ours, fade.shares.view(-1, 1)))
            cursor = fade.stop
        held = row[:, cursor - top * scale :]
    assert held is not None
    emit(cursor, held)


def _row_of_tiles(
    work: Work,
    read: Callable[[slice, slice], Tensor],
    top: int,
    size: tuple[int, int],
    tiling: Tiling,
    advance: Callable[[], object],
) -> Tensor:
    """(C', h', W'): the tiles of one row, blended from left to right."""
    height, width = size
    scale, h, w = tiling.scale, tiling.side(height), tiling.side(width)
    lefts = tiling.starts(width)
    row = torch.empty(0)
    for j, left in enumerate(lefts):
        made = work(read(slice(top, top + h), slice(left, left + w)))[0].float().cpu()
        if tuple(made.shape[1:]) != (h * scale, w * scale):
            raise ValueError(f"a tile of {h}x{w} became {tuple(made.shape[1:])}, not {scale} times as large")
        if j == 0:
            row = made if len(lefts) == 1 else made.new_empty(made.shape[0], h * scale, width * scale)
            row[:, :, : w * scale] = made
        else:
            fade = _fade(tiling, left, lefts[j - 1], width)
            here = slice(fade.start - left * scale, fade.stop - left * scale)
            row[:, :, fade.start : fade.stop] = _blend(row[:, :, fade.start : fade.stop], made[:, :, here], fade.shares)
            row[:, :, fade.stop : (left + w) * scale] = made[:, :, here.stop :]
        advance()
    return row


def tiled(
    work: Work,
    picture: npt.NDArray[Any],
    tiling: Tiling,
    *,
    device: torch.device | str = "cpu",
    advance: Callable[[], object] = lambda: None,
) -> npt.NDArray[Any]:
    """A stored picture through a network that works in [-1, 1].

    Args:
        work: The network.
        picture: uint8 or uint16 (H, W, C) over the full range, or float32 in [0, 1].
        tiling: How it is cut.
        device: Where `work` wants its tiles.
        advance: Called after each tile.

    Returns:
        The same type (scale * H, scale * W, C'), clipped and rounded to the nearest.
    """
    top = {"uint8": 255.0, "uint16": 65535.0}.get(str(picture.dtype), 1.0)
    made: list[npt.NDArray[Any]] = []

    def read(rows: slice, columns: slice) -> Tensor:
        values = torch.from_numpy(picture[rows, columns].astype(np.float32)).to(device)
        return (values * (2 / top) - 1).permute(2, 0, 1)[None]

    def emit(row: int, values: Tensor) -> None:
        if not made:
            shape = (picture.shape[0] * tiling.scale, picture.shape[1] * tiling.scale, values.shape[0])
            made.append(np.empty(shape, picture.dtype))
        scaled = ((values.clamp(-1, 1) + 1) * (top / 2)).permute(1, 2, 0).numpy()
        made[0][row : row + values.shape[1]] = scaled if top == 1 else np.rint(scaled)

    with torch.no_grad():
        work_in_tiles(work, read, (picture.shape[0], picture.shape[1]), tiling, emit, advance=advance)
    return made[0]
