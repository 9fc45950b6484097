"""Features of images that are in memory or made on the way; those of stored sets live in `store.py`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from ganwright.console import progress
from ganwright.errors import MetricError
from ganwright.metrics.extractor_base import Extractor, Features

Images = npt.NDArray[np.uint8]
_CHUNK, _CHUNK_PIXELS = 64, 1 << 24
"""Images and pixels handed to the extractor at a time, at most (one image may have more pixels)."""


def extract(extractor: Extractor, images: Iterable[Images], total: int, *, note: str, quiet: bool = False) -> Features:
    """Features of images (H, W, C) of any and mixed sizes, one after another; pixels are not kept.

    Raises:
        MetricError: There are none, or a feature is NaN or infinite.
    """
    parts: list[Features] = []
    with progress(note, total, quiet=quiet) as advance:
        for chunk in chunks(iter(images)):
            parts.append(extractor(chunk))
            advance(len(chunk))
    if not parts:
        raise MetricError("There are no readable images to measure.", where=note)
    found = join(parts)
    require_finite(found, extractor)
    return found


def chunks(images: Iterator[npt.NDArray[np.uint8]]) -> Iterator[list[npt.NDArray[np.uint8]]]:
    """Images in lists that bound both their number and their pixels."""
    chunk: list[npt.NDArray[np.uint8]] = []
    pixels = 0
    for image in images:
        size = image.shape[0] * image.shape[1]
        if chunk and (len(chunk) == _CHUNK or pixels + size > _CHUNK_PIXELS):
            yield chunk
            chunk, pixels = [], 0
        chunk.append(image)
        pixels += size
    if chunk:
        yield chunk


def join(parts: Sequence[Features]) -> Features:
    """Features of several parts, in order."""
    logits = [part.logits for part in parts if part.logits is not None]
    spatial = [part.spatial for part in parts if part.spatial is not None]
    return Features(
        np.concatenate([part.features for part in parts]),
        np.concatenate(logits) if logits else None,
        np.concatenate(spatial) if spatial else None,
    )


def require_finite(features: Features, extractor: Extractor) -> None:
    """Refuse features that are no numbers.

    Raises:
        MetricError: Some are NaN or infinite.
    """
    for array in (features.features, features.logits, features.spatial):
        if array is not None and not np.isfinite(array).all():
            bad = int((~np.isfinite(array).all(axis=1)).sum())
            raise MetricError(
                f"The extractor {extractor.name} gave NaN or infinite features for {bad} of {len(array)} images.",
                fix="look at those images, or use another --extractor",
            )
