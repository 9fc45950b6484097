"""Statistics and features in `.npz` files: mean and covariance that pytorch-fid reads and writes, and whole features.

    mu        float64 (D,)       mean
    sigma     float64 (D, D)     covariance
    features  float32 (N, D)     optional, with `logits` (N, K) and `spatial` (N, S)
    about     uint8              optional: JSON with extractor, preprocessing, protocol, n, content

`mu` and `sigma` alone are pytorch-fid's format, both ways. A file without `about` does not say what it was measured
with, and readers are told so.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ganwright.data.arrays import array_names, read_arrays
from ganwright.errors import DataError
from ganwright.files import atomic_path
from ganwright.metrics.extractor_base import Features
from ganwright.metrics.moments import Moments, check_features

_KNOWN = ("mu", "sigma", "features", "logits", "spatial", "about")


@dataclass(frozen=True)
class StatisticsFile:
    """What such a file holds.

    Attributes:
        moments: Mean and covariance.
        features: All features, or None.
        about: `extractor`, `preprocessing`, `protocol`, `n`, `content`; empty where the file does not say.
    """

    moments: Moments
    features: Features | None
    about: dict[str, Any]


def is_statistics(source: Any) -> bool:
    """Whether a path is a file of statistics or features rather than of images."""
    if not isinstance(source, str | Path):
        return False
    path = Path(source)
    if path.suffix.lower() == ".npy" and path.is_file():
        try:
            return len(array_names(path)["array"]) == 2
        except (DataError, ValueError, OSError):
            return False
    if path.suffix.lower() != ".npz" or not path.is_file():
        return False
    try:
        names = set(array_names(path))
    except DataError:
        return False
    return {"mu", "sigma"} <= names or "features" in names


def read_statistics(path: Path) -> StatisticsFile:
    """Read a file of statistics or features; nothing is unpickled.

    Raises:
        DataError: It is broken, or holds neither.
        MetricError: Its values are no statistics (not finite, not a covariance).
    """
    arrays = read_arrays(path, _KNOWN)
    about: dict[str, Any] = {}
    if "about" in arrays:
        try:
            loaded = json.loads(np.asarray(arrays["about"], np.uint8).tobytes())
            about = loaded if isinstance(loaded, dict) else {}
        except (ValueError, TypeError) as error:
            raise DataError("What this file says of itself cannot be read.", where=path) from error
    features = None
    if "features" in arrays or "array" in arrays:
        values = np.asarray(arrays.get("features", arrays.get("array")), np.float32)
        check_features(values, str(path))
        more = {
            kind: np.asarray(arrays[kind], np.float32)
            for kind in ("logits", "spatial")
            if kind in arrays and arrays[kind].ndim == 2 and len(arrays[kind]) == len(values)
        }
        features = Features(values, more.get("logits"), more.get("spatial"))
    if "mu" in arrays and "sigma" in arrays:
        moments = Moments.of_covariance(arrays["mu"], arrays["sigma"])
    elif features is not None:
        moments = Moments.of_features(features.features)
    else:
        raise DataError(
            f"The file holds neither mu and sigma nor features, but {', '.join(arrays) or 'nothing'}.", where=path
        )
    return StatisticsFile(moments, features, about)


def write_statistics(
    path: Path,
    moments: Moments,
    about: dict[str, Any],
    features: Features | None = None,
) -> None:
    """Write mean and covariance, and all features where given, whole or not at all."""
    arrays: dict[str, npt.NDArray[Any]] = {
        "mu": moments.mean,
        "sigma": moments.covariance,
        "about": np.frombuffer(json.dumps(about).encode(), np.uint8),
    }
    if features is not None:
        arrays["features"] = features.features
        for kind, array in (("logits", features.logits), ("spatial", features.spatial)):
            if array is not None:
                arrays[kind] = array
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
