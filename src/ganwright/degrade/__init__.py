"""How pictures are spoilt: noise, low-dose CT, JPEG, downsampling; and the classical ways to undo it.

All functions take float images (N, C, H, W) in [-1, 1] of any bit depth, levels of one number an image, and explicit
randomness. Nothing is rounded or clipped unless `stored` is asked to.
"""

from ganwright.degrade.ct import low_dose_ct
from ganwright.degrade.draws import Draws, SeededDraws
from ganwright.degrade.noise import gaussian, poisson, rician
from ganwright.degrade.settings import (
    DEGRADATIONS,
    Degradation,
    DegradationSettings,
    check_degradation,
    make_degradation,
)
from ganwright.degrade.stored import jpeg, stored
from ganwright.degrade.superres import downsample, upsample

__all__ = [
    "DEGRADATIONS",
    "Degradation",
    "DegradationSettings",
    "Draws",
    "SeededDraws",
    "check_degradation",
    "downsample",
    "gaussian",
    "jpeg",
    "low_dose_ct",
    "make_degradation",
    "poisson",
    "rician",
    "stored",
    "upsample",
]
