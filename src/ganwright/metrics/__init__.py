"""Measuring generated images: extractors, distances, scores, and estimates that say how they were obtained.

Functions on arrays of features or images are here by name (`gw.metrics.frechet_distance(x, y)`), loaded on first use;
`ganwright.evaluate` does everything from files to estimates.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ganwright.metrics.estimate import Estimate, Evaluation, Provenance

if TYPE_CHECKING:
    from ganwright.metrics.extractors import open_extractor
    from ganwright.metrics.frechet import frechet_distance
    from ganwright.metrics.kernel import kernel_distance, subset_kernel_distance
    from ganwright.metrics.manifold import manifolds
    from ganwright.metrics.memorisation import authenticity, nearest
    from ganwright.metrics.moments import Moments
    from ganwright.metrics.paired import mae, ms_ssim, psnr, ssim
    from ganwright.metrics.pairs import score_pairs
    from ganwright.metrics.probe import linear_probe
    from ganwright.metrics.protocols import PROTOCOLS
    from ganwright.metrics.rbf_mmd import gaussian_mmd
    from ganwright.metrics.registry import METRICS
    from ganwright.metrics.vendi import vendi_score

_PLACES = {
    "METRICS": "registry",
    "Moments": "moments",
    "PROTOCOLS": "protocols",
    "authenticity": "memorisation",
    "frechet_distance": "frechet",
    "gaussian_mmd": "rbf_mmd",
    "kernel_distance": "kernel",
    "linear_probe": "probe",
    "mae": "paired",
    "manifolds": "manifold",
    "ms_ssim": "paired",
    "nearest": "memorisation",
    "open_extractor": "extractors",
    "psnr": "paired",
    "score_pairs": "pairs",
    "ssim": "paired",
    "subset_kernel_distance": "kernel",
    "vendi_score": "vendi",
}

__all__ = [
    "METRICS",
    "PROTOCOLS",
    "Estimate",
    "Evaluation",
    "Moments",
    "Provenance",
    "authenticity",
    "frechet_distance",
    "gaussian_mmd",
    "kernel_distance",
    "linear_probe",
    "mae",
    "manifolds",
    "ms_ssim",
    "nearest",
    "open_extractor",
    "psnr",
    "score_pairs",
    "ssim",
    "subset_kernel_distance",
    "vendi_score",
]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(importlib.import_module(f"ganwright.metrics.{_PLACES[name]}"), name)
    raise AttributeError(f"module 'ganwright.metrics' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
