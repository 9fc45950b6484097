"""Which physical values are kept, and how they map to 16 bits, to [-1, 1], and back to physical units."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ganwright.data.medical.scan import FloatArray, Scan
from ganwright.errors import SettingsError, nearest

PRESETS = {
    "brain": (40.0, 80.0),
    "subdural": (75.0, 215.0),
    "stroke": (40.0, 40.0),
    "bone": (400.0, 1800.0),
    "soft-tissue": (50.0, 400.0),
    "abdomen": (50.0, 400.0),
    "liver": (30.0, 150.0),
    "mediastinum": (50.0, 350.0),
    "lung": (-600.0, 1500.0),
    "angio": (300.0, 600.0),
}
"""The usual CT windows: centre and width in Hounsfield units."""
CT_RANGE = (-1024.0, 3071.0)
"""What 12 bits of Hounsfield units hold: every level has 16 of its own in 16 bits."""
_PERCENTILES = (0.5, 99.5)
_SAMPLED_VALUES = 2_000_000
_TOP = 65535
_NUMBER = r"([-+]?\d+(?:\.\d+)?)"


@dataclass(frozen=True)
class ValueRange:
    """Physical values from `low` to `high`, which become 0 to 65535, or -1 to 1; what lies outside is clipped.

    Attributes:
        low: The lowest physical value kept.
        high: The highest.
        inverted: Whether `low` becomes the brightest instead (MONOCHROME1).
    """

    low: float
    high: float
    inverted: bool = False

    def to_uint16(self, values: npt.NDArray[Any], valid: npt.NDArray[np.bool_] | None = None) -> npt.NDArray[np.uint16]:
        """Values as 16-bit pixels; what is not valid becomes 0."""
        pixels = np.round(self._share(values) * _TOP).astype(np.uint16)
        if valid is not None:
            pixels[~valid] = 0
        return pixels

    def _share(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Values in [0, 1]."""
        share = (values.astype(np.float64) - self.low) / (self.high - self.low)
        share = np.nan_to_num(share, nan=0.0).clip(0, 1)
        return 1 - share if self.inverted else share

    def to_unit(self, values: npt.NDArray[Any], valid: npt.NDArray[np.bool_] | None = None) -> FloatArray:
        """Values as networks see them, float32 in [-1, 1]; what is not valid becomes -1."""
        unit = 2 * self._share(values) - 1
        return (unit if valid is None else np.where(valid, unit, -1)).astype(np.float32)

    def to_physical(self, unit: npt.NDArray[Any]) -> FloatArray:
        """A network's output in [-1, 1] as physical values."""
        share = (unit.astype(np.float64).clip(-1, 1) + 1) / 2
        return (self.low + (1 - share if self.inverted else share) * (self.high - self.low)).astype(np.float32)


@dataclass(frozen=True)
class Window:
    """A rule that gives each scan its `ValueRange`.

    Attributes:
        text: As the user wrote it.
        fixed: (low, high), the same for all, or None.
        percentiles: Of each scan's valid values, or None.
        file_window: Which of the windows the file proposes, from 0; None: none of them.
    """

    text: str
    fixed: tuple[float, float] | None = None
    percentiles: tuple[float, float] | None = None
    file_window: int | None = None

    def of(self, scan: Scan) -> ValueRange:
        """The range of one scan. Colour is kept as it is."""
        return ValueRange(*self._limits(scan), inverted=scan.inverted)

    def _limits(self, scan: Scan) -> tuple[float, float]:
        if scan.colour:
            return 0.0, 255.0
        if self.fixed is not None:
            return self.fixed
        if self.file_window is not None and self.file_window < len(scan.windows):
            return scan.windows[self.file_window]
        if self.percentiles is None and scan.modality == "CT":
            return CT_RANGE
        return percentile_limits(scan, self.percentiles or _PERCENTILES)

    def told(self, scan: Scan) -> str:
        """What is done to this scan, in words."""
        if scan.colour:
            return "colour as stored"
        if self.file_window is not None and self.file_window < len(scan.windows):
            return "the file's own window"
        low, high = self.percentiles or _PERCENTILES
        if self.fixed is None and (self.percentiles is not None or scan.modality != "CT"):
            return f"{low:g}% to {high:g}% of each scan's values"
        low, high = self._limits(scan)
        return f"{low:g} to {high:g}" + (f" {scan.unit}" if scan.unit else "")


def parse_window(text: str) -> Window:
    """Read what `DataSettings.window` says.

    Raises:
        SettingsError: It is none of the forms.
    """
    if text == "auto":
        return Window(text)
    if text in PRESETS:
        centre, width = PRESETS[text]
        return Window(text, fixed=(centre - width / 2, centre + width / 2))
    found = re.fullmatch(r"file(?::([1-9]\d*))?", text)
    if found:
        return Window(text, file_window=int(found[1] or 1) - 1)
    found = re.fullmatch(f"{_NUMBER}/{_NUMBER}", text)
    if found and float(found[2]) > 0:
        return Window(text, fixed=(float(found[1]) - float(found[2]) / 2, float(found[1]) + float(found[2]) / 2))
    found = re.fullmatch(f"{_NUMBER}%:{_NUMBER}%", text)
    if found and 0 <= float(found[1]) < float(found[2]) <= 100:
        return Window(text, percentiles=(float(found[1]), float(found[2])))
    found = re.fullmatch(f"{_NUMBER}:{_NUMBER}", text)
    if found and float(found[1]) < float(found[2]):
        return Window(text, fixed=(float(found[1]), float(found[2])))
    raise SettingsError(
        f"'{text}' is no window.{nearest(text, PRESETS)}",
        where="window",
        fix=f"choose auto, file, CENTRE/WIDTH (40/80), LOW:HIGH (-160:240), 1%:99%, or one of {', '.join(PRESETS)}",
    )


def percentile_limits(scan: Scan, percentiles: tuple[float, float]) -> tuple[float, float]:
    """Percentiles of a scan's valid values; evenly spread over large scans, so that they are the same every time."""
    values = scan.values if scan.valid is None else scan.values[scan.valid]
    values = values.reshape(-1)
    if values.size == 0:
        return 0.0, 1.0
    some = values[:: max(1, -(-values.size // _SAMPLED_VALUES))]
    low, high = (float(value) for value in np.percentile(some, percentiles))
    low = float(values.min()) if percentiles[0] == 0 else low  # the sample may miss the extremes
    high = float(values.max()) if percentiles[1] == 100 else high
    if high <= low:  # nearly all values are equal (a sparse mask, say)
        low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low, low + 1.0)
