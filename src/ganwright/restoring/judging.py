"""The classical result beside a restoration, and which of the two is better."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ganwright.data.photo import Photo
from ganwright.errors import DataError
from ganwright.metrics.paired import psnr, ssim
from ganwright.metrics.structural import WINDOW
from ganwright.restoring import classical
from ganwright.restoring.classical import Smoother, bicubic, biharmonic, resized
from ganwright.restoring.measuring import (
    Floats,
    Mask,
    Method,
    Verdict,
    blind_errors,
    block_errors,
    centre,
    compare,
    pixel_errors,
    random_pixels,
)

MEASURED_SIDE = 512
"""Pictures are compared in a central square of so many pixels at most."""
_SHARE, _SEED = 0.03, 2018
NO_SCIKIT_IMAGE = "No classical result: scikit-image is not installed (pip install 'ganwright[restore]')."
NO_MEASURE = (
    "Which is better cannot be told without the original (JPEG's damage is in hidden pixels too); --truth FILE."
)
ALL_FITTED = "No pixels were held out, so which is better cannot be told without the original; --truth FILE."


@dataclass(frozen=True)
class Beside:
    """A classical result.

    Attributes:
        name: The method, for people; "" where there is none.
        short: The method, for file names.
        colours: (H, W, C) in [0, 1], or None.
        verdict: What a comparison without the truth found.
    """

    name: str
    short: str
    colours: Floats | None
    verdict: Verdict


@dataclass(frozen=True)
class Candidate:
    """What the classical method is compared with.

    Attributes:
        name: For people.
        estimate: Its own picture of what it was shown, where it did not see `held_out`; or None.
        held_out: Those pixels.
        method: How to run it on another picture; or None, where that takes too long.
    """

    name: str
    estimate: Floats | None = None
    held_out: Mask | None = None
    method: Method | None = None


def beside_denoised(picture: Floats, candidate: Candidate, sigma: float | None) -> Beside:
    """Total variation, non-local means or wavelets, compared on pixels that neither method saw."""
    smoother = classical.best_smoother(picture, sigma)
    if smoother is None:
        return Beside("", "", None, Verdict("", note=NO_SCIKIT_IMAGE))
    if candidate.estimate is not None and candidate.held_out is not None:
        if not candidate.held_out.any():
            return Beside(smoother.name, smoother.short, smoother.method(picture), Verdict("", note=ALL_FITTED))
        errors = {
            candidate.name: pixel_errors(candidate.estimate, picture, candidate.held_out),
            smoother.name: blind_errors(smoother.method, picture, candidate.held_out),
        }
    else:
        assert candidate.method is not None
        part = picture[centre((picture.shape[0], picture.shape[1]), MEASURED_SIDE)]
        held_out = random_pixels((part.shape[0], part.shape[1]), _SHARE, _SEED)
        methods = {candidate.name: candidate.method, smoother.name: smoother.method}
        errors = {name: blind_errors(method, part, held_out) for name, method in methods.items()}
    note = (
        "Both predict pixels that were hidden from them, noise included, so the figures are no quality in themselves."
    )
    return Beside(smoother.name, smoother.short, smoother.method(picture), compare("on held-out pixels", errors, note))


def beside_inpainted(picture: Floats, missing: Mask, candidate: Candidate) -> Beside:
    """Biharmonic filling, compared on known pixels that were hidden from both, in places as wide as the holes."""
    name = "biharmonic filling"
    filled = biharmonic(picture, missing)
    assert candidate.estimate is not None and candidate.held_out is not None
    if filled is not None and not candidate.held_out.any():
        return Beside(name, "biharmonic", filled, Verdict("", note=ALL_FITTED))
    blind = None if filled is None else biharmonic(picture, missing | candidate.held_out)
    if filled is None or blind is None:
        why = "The holes are too large for biharmonic filling." if classical.available() else NO_SCIKIT_IMAGE
        return Beside("", "", None, Verdict("", note=why))
    errors = {
        candidate.name: pixel_errors(candidate.estimate, picture, candidate.held_out),
        name: pixel_errors(blind, picture, candidate.held_out),
    }
    note = "These are known pixels treated as holes; the holes themselves may be harder."
    return Beside(name, "biharmonic", filled, compare("on held-out pixels", errors, note))


def beside_upscaled(picture: Floats, factor: int, candidate: Candidate) -> Beside:
    """Bicubic, compared on the picture itself: both enlarge a copy of it that was shrunk by the factor."""
    name, larger = "bicubic", bicubic(picture, factor)
    rows, columns = centre((picture.shape[0], picture.shape[1]), MEASURED_SIDE, factor)
    part = picture[rows, columns]
    small = resized(part, (part.shape[0] // factor, part.shape[1] // factor))
    if candidate.method is None or min(small.shape[:2]) < 16:
        why = "The picture is too small" if candidate.method is not None else "Nothing was measured"
        return Beside(name, name, larger, Verdict("", note=f"{why}, so which is better is not known; --truth FILE."))
    errors = {
        candidate.name: block_errors(np.clip(candidate.method(small), 0, 1), part),
        name: block_errors(bicubic(small, factor), part),
    }
    note = "At the picture's own size both may do better or worse."
    return Beside(name, name, larger, compare(f"from a copy shrunk by {factor}", errors, note))


def beside_deblocked(picture: Floats, path: Path, sigma: float | None) -> Beside:
    """Total variation at the level of JPEG's own rounding; not compared without the truth."""
    level = classical.jpeg_sigma(path) if sigma is None else sigma
    smoother: Smoother | None = classical.best_smoother(picture, level, calibrate=False)
    if smoother is None:
        return Beside("", "", None, Verdict("", note=NO_SCIKIT_IMAGE))
    return Beside(smoother.name, smoother.short, smoother.method(picture), Verdict("", note=NO_MEASURE))


def against_truth(truth: Photo, results: dict[str, Photo], where: object) -> Verdict:
    """PSNR and SSIM of each result, over all pixels and channels.

    Raises:
        DataError: The original has another size, or another number of channels.
    """
    found: dict[str, dict[str, float]] = {"psnr": {}, "ssim": {}}
    for name, photo in results.items():
        if photo.size != truth.size or photo.colour.shape[-1] != truth.colour.shape[-1]:
            raise DataError(
                f"The original is {_shape(truth)} and the result {_shape(photo)}.",
                where=where,
                fix="give the undamaged picture at the result's size",
            )
        for metric, score in (("psnr", psnr), ("ssim", ssim)):
            if metric == "psnr" or min(truth.size) >= WINDOW:
                found[metric][name] = float(score(photo.floats(), truth.floats(), data_range=1.0)[0])
    best = max(found["psnr"], key=lambda name: found["psnr"][name])
    ties = [name for name, value in found["psnr"].items() if abs(value - found["psnr"][best]) < 0.005]
    further = {"SSIM": found["ssim"]} if found["ssim"] else {}
    return Verdict("against the original, PSNR", found["psnr"], best if len(ties) == 1 else "", further)


def _shape(photo: Photo) -> str:
    return f"{photo.size[1]}x{photo.size[0]} with {photo.colour.shape[-1]} channels"
