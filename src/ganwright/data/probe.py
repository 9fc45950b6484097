"""Choosing resolution and channels from a sample of headers; errors of sets that cannot be used."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np

from ganwright.config import DataSettings
from ganwright.data.decode import BrokenImageError, Header
from ganwright.data.sources import ImageSource, printable
from ganwright.errors import DataError, SettingsError

SAMPLED_HEADERS = 256
"""Headers looked at, evenly spread over the set."""
AUTOMATIC_RESOLUTIONS = (32, 64)
MAX_RESOLUTION = 4096


def sampled_headers(source: ImageSource) -> Iterator[tuple[int, Header]]:
    """(position, header) of readable images: of an even sample, or the first where that has none."""
    n, found = len(source), False
    sample = sorted({int(i) for i in np.linspace(0, n - 1, min(n, SAMPLED_HEADERS))})
    for i in sample:
        with contextlib.suppress(BrokenImageError):
            header = source.header(i)
            found = True
            yield i, header
    for i in () if found else range(n):
        with contextlib.suppress(BrokenImageError):
            yield i, source.header(i)
            return


def choose_resolution(source: ImageSource, settings: DataSettings) -> int:
    """The resolution asked for, or one chosen from the images.

    The largest of 32 and 64 that is not above the median shorter side; 32 where even that is above it.

    Raises:
        SettingsError: The resolution asked for is impossible.
        DataError: No image is readable.
    """
    if settings.resolution:
        if not 1 <= settings.resolution <= MAX_RESOLUTION:
            raise SettingsError(
                f"A resolution of {settings.resolution} is impossible.",
                where="resolution",
                fix=f"choose 1 to {MAX_RESOLUTION} pixels, or 0 for an automatic choice",
            )
        return settings.resolution
    sides = [min(header.width, header.height) for _, header in sampled_headers(source)]
    if not sides:
        raise _none_usable(source, [])
    fitting = [r for r in AUTOMATIC_RESOLUTIONS if r <= np.median(sides)]
    return max(fitting, default=AUTOMATIC_RESOLUTIONS[0])


def choose_channels(source: ImageSource, settings: DataSettings) -> int:
    """The channels asked for, or those of the images.

    Raises:
        DataError: Grey and colour are mixed, or no image is readable.
    """
    if settings.channels != "auto":
        return int(settings.channels)
    examples: dict[int, int] = {}
    for i, header in sampled_headers(source):
        examples.setdefault(header.channels, i)
    if not examples:
        raise _none_usable(source, [])
    if len(examples) > 1:
        raise mixture_error(source, examples[1], examples[3])
    return next(iter(examples))


def mixture_error(source: ImageSource, i: int, j: int) -> DataError:
    """The error of a set with both grey and colour images, `i` and `j` being one of each."""
    if source.header(i).channels == 3:
        i, j = j, i
    grey, colour = printable(source.names[i]), printable(source.names[j])
    return DataError(
        "The set mixes grey and colour images.",
        where=f"{source.location}: {grey} is grey, {colour} is colour",
        fix="--channels 3 makes all of them colour, --channels 1 makes all of them grey",
    )


def usable(source: ImageSource, count: int, skipped: list[tuple[str, str]]) -> None:
    """Check that some images were usable.

    Raises:
        DataError: None was.
    """
    if count == 0:
        raise _none_usable(source, skipped)


def _none_usable(source: ImageSource, skipped: list[tuple[str, str]]) -> DataError:
    example = ""
    if not skipped:
        try:
            source.picture(0)
        except BrokenImageError as error:
            skipped = [(printable(source.names[0]), error.what)]
    if skipped:
        example = f" {skipped[0][0]}: {skipped[0][1]}"
    return DataError(
        f"None of the {len(source)} images can be used.{example}",
        where=source.location,
        fix="`ganwright data` names each file and its fault",
    )
