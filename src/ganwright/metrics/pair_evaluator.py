"""Evaluates what a translator or restorer makes of held-out pairs, beside what simple methods make of them.

The measures themselves are in `paired.py`, `structural.py` and `feature_distance.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch

from ganwright.config import EvalSettings
from ganwright.data.spec import Dataset
from ganwright.errors import MetricError, SettingsError, nearest
from ganwright.metrics.estimate import Estimate, Evaluation
from ganwright.metrics.extractors import Extractor, open_extractor
from ganwright.metrics.paired import FEATURE_DISTANCE, PAIRED, PairScores
from ganwright.metrics.pairs import DEFAULT_EXTRACTOR, score_pairs
from ganwright.metrics.registry import METRICS
from ganwright.samples import PairSamples, Samples, Uint8Array

NOT_HELD_OUT = "measured on training data, since nothing was held out: it says nothing of new pictures"
OF_PAIRS = (*PAIRED, FEATURE_DISTANCE)
"""Metrics of pairs by name."""


class PairEvaluator:
    """Measures outputs against their targets: the mean over pairs, with its interval.

    Args:
        dataset: What the run trains on.
        settings: Which metrics over which extractor; those of distributions are left out, and where none of pairs is
            named, all are measured.
        device: Where to compute.
        quiet: Show no progress.

    Raises:
        SettingsError: An unknown metric or extractor.
        MetricError: The extractor's weights are missing.
    """

    def __init__(
        self,
        dataset: Dataset,
        settings: EvalSettings,
        *,
        device: torch.device | str = "cpu",
        quiet: bool = False,
    ) -> None:
        self.dataset, self.device, self.quiet = dataset, device, quiet
        self.metrics = chosen(settings.metrics, OF_PAIRS) or OF_PAIRS
        self.extractor: Extractor | None = None
        if FEATURE_DISTANCE in self.metrics:
            self.extractor = open_extractor(settings.extractor or DEFAULT_EXTRACTOR, device=device)
        self.warnings: tuple[str, ...] = (NOT_HELD_OUT,) if dataset.nothing_held_out else ()
        self._baselines: tuple[str, list[Estimate]] | None = None

    def fits(self, samples: Samples) -> bool:
        """Whether they are outputs whose targets are known."""
        return isinstance(samples, PairSamples) and samples.targets is not None

    def evaluate(self, samples: PairSamples) -> Evaluation:
        """All metrics of the outputs; of each baseline too, under the name `<metric>:<baseline>`.

        Raises:
            MetricError: There are no targets, or outputs and targets differ in shape.
        """
        targets = samples.targets
        if targets is None:
            raise MetricError("There is nothing to compare these outputs with.", fix="give pairs")
        scores = self._scores(samples.outputs, targets)
        ours = [self._told(estimate) for estimate in scores.evaluation().values()]
        return Evaluation.of([*ours, *self._of_baselines(samples, targets, scores.targets)])

    def _of_baselines(self, samples: PairSamples, targets: Uint8Array, content: str) -> list[Estimate]:
        """Measured once for the same targets: their inputs are the same at each evaluation."""
        if self._baselines is None or self._baselines[0] != content:
            found = []
            for name, images in samples.baselines.items():
                for estimate in self._scores(images, targets).evaluation().values():
                    told = replace(estimate, name=f"{estimate.name}:{name}", label=f"{estimate.label}, {name}")
                    found.append(self._told(told))
            self._baselines = (content, found)
        return self._baselines[1]

    def _told(self, estimate: Estimate) -> Estimate:
        return replace(estimate, warnings=(*estimate.warnings, *self.warnings))

    def _scores(self, images: Uint8Array, targets: Uint8Array) -> PairScores:
        metrics = self._that_fit(images)
        if images.shape[-1] in (2, 4):
            return self._of_bands(images, targets, [name for name in metrics if name != FEATURE_DISTANCE])
        return score_pairs(images, targets, metrics=metrics, extractor=self.extractor, device=self.device, quiet=True)

    def _that_fit(self, images: Uint8Array) -> list[str]:
        """Without those that images of this size are too small for."""
        side = min(images.shape[1:3])
        return [name for name in self.metrics if name not in PAIRED or PAIRED[name].smallest <= side]

    def _of_bands(self, images: Uint8Array, targets: Uint8Array, metrics: list[str]) -> PairScores:
        """Images of two or four bands: each band as a grey image, and of each pair the mean over its bands."""
        n, bands = len(images), images.shape[-1]
        if images.shape != targets.shape:
            raise MetricError(f"Outputs and targets differ in shape: {images.shape} and {targets.shape}.")
        one, two = (np.moveaxis(side, -1, 1).reshape(n * bands, *side.shape[1:3], 1) for side in (images, targets))
        found = score_pairs(one, two, metrics=metrics, device=self.device, quiet=True)
        means = {name: values.reshape(n, bands).mean(1) for name, values in found.scores.items()}
        names = tuple(f"{i:06d}" for i in range(n))
        return replace(found, names=names, scores=means, pixels=f"{found.pixels}, mean of {bands} bands")


def chosen(names: Iterable[str], fitting: Iterable[str]) -> tuple[str, ...]:
    """Those of the named metrics that fit.

    Raises:
        SettingsError: One is unknown to all kinds of evaluation.
    """
    fitting = tuple(fitting)
    known = dict.fromkeys([*fitting, *OF_PAIRS, *METRICS])
    for name in names:
        if name not in known:
            raise SettingsError(
                f"There is no metric '{name}'.{nearest(name, known)}",
                where="metrics",
                fix="choose from " + ", ".join(fitting),
            )
    return tuple(name for name in fitting if name in set(names))
