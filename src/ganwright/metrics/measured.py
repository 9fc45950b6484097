"""What every metric is computed from: features and logits of both sides, and how they were obtained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol as Interface

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ganwright.data.images import ImageDataset
from ganwright.metrics.class_accuracy import Judge
from ganwright.metrics.constants import Z95
from ganwright.metrics.estimate import Estimate, Provenance
from ganwright.metrics.extractor_base import Extractor, Features
from ganwright.metrics.extractor_inception import INCEPTION_SHA256_PREFIX
from ganwright.metrics.moments import Moments
from ganwright.metrics.protocols import PROTOCOLS, Protocol


class HasStyles(Interface):
    """What the path length needs of a style-based generator; see `recipes.base.StyleSpace`."""

    @property
    def mapping(self) -> Callable[[Tensor, Tensor | None], Tensor]:
        """From z and classes to w."""

    @property
    def synthesise(self) -> Callable[[Tensor], Tensor]:
        """Images from w+."""

    def spread(self, w: Tensor) -> Tensor:
        """From w to w+."""


class HasLatentSpace(Interface):
    """What the path length needs of a generator; see `recipes.base.LatentSpace`."""

    @property
    def latent_dim(self) -> int:
        """Length of a latent vector."""

    @property
    def num_classes(self) -> int:
        """Classes it must be given; 0: none."""

    @property
    def generate(self) -> Callable[[Tensor, Tensor | None], Tensor]:
        """Images in [-1, 1] from latents and classes."""

    @property
    def styles(self) -> HasStyles | None:
        """The intermediate latents, where there are any."""


@dataclass(frozen=True)
class Measured:
    """Inputs of all metrics.

    Attributes:
        samples: Features and logits of the samples.
        reference: The same of the real images.
        provenance: How they were obtained.
        predicted: The judge's class of each sample, or None.
        asked: The class asked for (n,), or None.
        class_names: Names of the classes.
        judge: Who read the classes.
        warnings: What holds for all numbers (skipped files, say).
        held_out: Features of real images that were not trained on, or None.
        sample_classes: Class of each sample (n,) where known (asked for, or of a labelled folder), or None.
        reference_classes: The same of the reference.
        protocol: How the statistics are computed.
        sample_moments: Mean and covariance of the samples, where only those are known, or None.
        reference_moments: The same of the reference.
        extractor: The extractor, for metrics that measure more images, or None.
        latent: The generator's latent space, or None.
        dataset: The data set of a run, or None.
        images: Pixels of the samples, uint8 (n, H, W, C), where they are in memory, or None.
    """

    samples: Features
    reference: Features
    provenance: Provenance
    predicted: npt.NDArray[np.int64] | None = None
    asked: npt.NDArray[np.int64] | None = None
    class_names: Sequence[str] = ()
    judge: Judge | None = None
    warnings: tuple[str, ...] = ()
    held_out: Features | None = None
    sample_classes: npt.NDArray[np.int64] | None = None
    reference_classes: npt.NDArray[np.int64] | None = None
    protocol: Protocol = PROTOCOLS["custom"]
    sample_moments: Moments | None = None
    reference_moments: Moments | None = None
    extractor: Extractor | None = None
    latent: HasLatentSpace | None = None
    dataset: ImageDataset | None = None
    images: npt.NDArray[np.uint8] | None = None

    @property
    def n(self) -> int:
        """Number of samples; 0 where it is not known."""
        return len(self.samples) if self.sample_moments is None else self.sample_moments.n

    @property
    def inception(self) -> bool:
        """Whether the published names (FID, KID, IS) may be used."""
        return self.provenance.extractor == f"inception/{INCEPTION_SHA256_PREFIX}"

    @property
    def extractor_name(self) -> str:
        """The extractor's name without its version."""
        return self.provenance.extractor.partition("/")[0]

    def label(self, published: str, general: str) -> str:
        """The published name over the 2015 Inception features, else the general one with the extractor's name."""
        return published if self.inception else f"{general} ({self.extractor_name})"

    def normal_estimate(
        self,
        name: str,
        label: str,
        value: float,
        error: float,
        *,
        better: bool,
        interval: str = "95 %, delta method over samples and reference",
        warnings: tuple[str, ...] = (),
        details: Mapping[str, float] | None = None,
    ) -> Estimate:
        """An estimate with a normal 95 % interval from a standard error."""
        return Estimate(
            name,
            label,
            value,
            value - Z95 * error,
            value + Z95 * error,
            self.n,
            self.provenance,
            interval,
            better,
            (*warnings, *self.warnings),
            details or {},
        )
