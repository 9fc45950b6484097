"""Images in the page: read from the run, recompressed or thinned until they fit, written as data URIs."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from ganwright.samples import Uint8Array

STAGES_BYTES = 2_300_000
"""Bytes of all stages together, before base64 adds a third."""
SHEET_BYTES = 400_000
"""Bytes of one further sheet (the real images)."""
MAX_STAGES = 60
MAX_SIDE = 1_280
"""Pixels a side beyond which an image is scaled down before it is recompressed; a page shows no more."""
T = TypeVar("T")

_LADDER = ((1.0, 92), (1.0, 82), (0.75, 82), (0.5, 80), (0.5, 60), (0.35, 60), (0.25, 50))
"""(scale, quality) tried in turn until the images fit."""


@dataclass(frozen=True)
class Picture:
    """An image in the page.

    Attributes:
        uri: `data:` URI.
        width: Width in pixels as embedded.
        height: Height in pixels as embedded.
        pixelated: Show enlarged pixels as squares (small originals), rather than blurred.
    """

    uri: str
    width: int
    height: int
    pixelated: bool


@dataclass(frozen=True)
class Album:
    """Stages that fit into their room.

    Attributes:
        pictures: (index into the paths given, picture), in order.
        notes: What was left out or recompressed, in sentences.
    """

    pictures: list[tuple[int, Picture]]
    notes: list[str]


def album(paths: Sequence[Path], *, room: int = STAGES_BYTES, most: int = MAX_STAGES) -> Album:
    """Embed images: as they are where they fit, else recompressed, then scaled down, then thinned.

    Args:
        paths: Image files; ones that cannot be read are named in the notes and left out.
        room: Bytes all of them together may take.
        most: How many are kept at most; first and last always are.
    """
    notes: list[str] = []
    chosen = _thin(list(range(len(paths))), most)
    sources: list[tuple[int, bytes, Image.Image]] = []
    for i in chosen:
        loaded = _load(paths[i])
        if loaded is None:
            notes.append(f"{paths[i].name} cannot be read as an image and is left out.")
        else:
            sources.append((i, *loaded))
    if len(chosen) < len(paths):
        notes.append(f"{len(chosen)} of {len(paths)} stages are shown; all are in the run's samples folder.")
    if sum(len(content) for _, content, _ in sources) <= room:
        return Album([(i, _picture(content, "png", image)) for i, content, image in sources], notes)

    while sources:
        probe = [image for _, _, image in _thin(sources, 3)]
        for scale, quality in _LADDER:
            if sum(len(_squeeze(image, scale, quality)[0]) for image in probe) / len(probe) * len(sources) > room:
                continue
            squeezed = [(i, *_squeeze(image, scale, quality)) for i, _, image in sources]
            if sum(len(content) for _, content, _ in squeezed) <= room:
                shrunk = f" and scaled to {scale:.0%}" if scale < 1 else ""
                notes.append(
                    f"Images are recompressed{shrunk} to keep this file small; the run folder has the originals."
                )
                return Album([(i, _picture(content, "webp", image)) for i, content, image in squeezed], notes)
        if len(sources) == 1:
            notes.append(f"{paths[sources[0][0]].name} is too large to be shown here.")
            break
        sources = _thin(sources, max(1, len(sources) // 2))
        notes.append(f"Only {len(sources)} stages fit into this file; all are in the run's samples folder.")
    return Album([], notes)


def picture(path: Path) -> Picture | None:
    """One image file; None where it is absent or cannot be read."""
    if not path.is_file():
        return None
    found = album([path], room=SHEET_BYTES)
    return found.pictures[0][1] if found.pictures else None


def array_picture(image: Uint8Array, *, largest: int = 192) -> Picture:
    """One uint8 image (H, W, 1 or 3), scaled down to at most `largest` pixels a side."""
    drawn = Image.fromarray(np.ascontiguousarray(image[..., 0] if image.shape[-1] == 1 else image))
    drawn.thumbnail((largest, largest), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    drawn.save(buffer, format="PNG", optimize=True)
    return _picture(buffer.getvalue(), "png", drawn)


def _load(path: Path) -> tuple[bytes, Image.Image] | None:
    """A PNG's bytes and its decoded image; None for anything that is not a sound PNG of bearable size."""
    try:
        content = path.read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
                image.load()
                drawn = image.convert("L" if image.mode in ("1", "L", "I;16") else "RGB")
    except (
        OSError,
        UnidentifiedImageError,
        ValueError,
        SyntaxError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ):
        return None
    if max(drawn.size) > MAX_SIDE:
        drawn.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    return content, drawn


def _squeeze(image: Image.Image, scale: float, quality: int) -> tuple[bytes, Image.Image]:
    if scale < 1:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format="WEBP", quality=quality, method=0)
    return buffer.getvalue(), image


def _picture(content: bytes, kind: str, image: Image.Image) -> Picture:
    uri = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    return Picture(uri, image.width, image.height, pixelated=max(image.size) < 700)


def _thin(items: list[T], most: int) -> list[T]:
    """At most `most` items, evenly spread, with the first and the last."""
    if len(items) <= most:
        return items
    if most == 1:
        return items[-1:]
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]
