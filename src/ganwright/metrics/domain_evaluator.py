"""Evaluates a translator between two domains: distances of distributions in each direction, and the cycle's error.

There are no targets to compare with; what is measured is whether translations look like the other domain as a whole,
and whether an image comes back from it as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from ganwright.config import EvalSettings
from ganwright.data.domains import DomainsDataset
from ganwright.metrics.estimate import Estimate, Evaluation, Provenance
from ganwright.metrics.evaluator import Evaluator
from ganwright.metrics.pair_evaluator import NOT_HELD_OUT, chosen
from ganwright.metrics.paired import PAIRED, mean_interval, scores
from ganwright.metrics.registry import METRICS, USUAL
from ganwright.samples import DomainSamples, ImageSamples, PairSamples, Samples, Uint8Array

CYCLE = "cycle-mae"
"""Mean absolute difference of images and what comes back of them, in grey levels."""
_USUAL = ("fd", "kid", CYCLE)
_ARROWS = {"a2b": "A → B", "b2a": "B → A"}
_CYCLES = {"a2b": "A → B → A", "b2a": "B → A → B"}


class DomainEvaluator:
    """Measures translations in each direction against the domain they should belong to.

    Estimates are named `<metric>/<direction>`; `<metric>/<direction>:unchanged` is what doing nothing would have
    scored, where both domains have equally many channels.

    Args:
        dataset: The two domains.
        settings: Which metrics over which extractor.
        device: Where to compute.
        quiet: Show no progress.

    Raises:
        SettingsError: An unknown metric, protocol or extractor.
        MetricError: The extractor's weights are missing.
    """

    def __init__(
        self,
        dataset: DomainsDataset,
        settings: EvalSettings,
        *,
        device: torch.device | str = "cpu",
        quiet: bool = False,
    ) -> None:
        named = chosen(settings.metrics, (CYCLE, *USUAL)) or _USUAL
        self.with_cycle = CYCLE in named
        of_sets = replace(settings, metrics=tuple(name for name in named if name in METRICS))
        self.evaluators: dict[str, Evaluator] = {}
        for direction, wanted in (("a2b", dataset.b), ("b2a", dataset.a)):
            if of_sets.metrics and wanted.spec.channels in (1, 3):  # extractors take no other channels
                self.evaluators[direction] = Evaluator(wanted, of_sets, device=device, quiet=quiet)
        self.warnings: tuple[str, ...] = (NOT_HELD_OUT,) if dataset.nothing_held_out else ()
        self._unchanged: dict[tuple[str, int], list[Estimate]] = {}

    def fits(self, samples: Samples) -> bool:
        """Whether they are translations between two domains."""
        return isinstance(samples, DomainSamples)

    def evaluate(self, samples: DomainSamples) -> Evaluation:
        """All metrics, in each direction.

        Raises:
            MetricError: Too few samples, or features that are not finite.
        """
        found: list[Estimate] = []
        for direction, translated in samples.directions.items():
            found += self._of_set(direction, translated.outputs)
            found += self._doing_nothing(direction, translated)
            if self.with_cycle and translated.cycled is not None:
                found.append(_cycle_error(direction, translated.inputs, translated.cycled))
        return Evaluation.of(replace(e, warnings=(*e.warnings, *self.warnings)) for e in found)

    def _of_set(self, direction: str, images: Uint8Array, suffix: str = "") -> list[Estimate]:
        evaluator = self.evaluators.get(direction)
        if evaluator is None:
            return []
        told = f", {suffix}" if suffix else ""
        return [
            replace(
                estimate,
                name=f"{name}/{direction}" + (f":{suffix}" if suffix else ""),
                label=f"{estimate.label}, {_ARROWS.get(direction, direction)}{told}",
            )
            for name, estimate in evaluator.evaluate(ImageSamples(images)).items()
        ]

    def _doing_nothing(self, direction: str, translated: PairSamples) -> Sequence[Estimate]:
        """The inputs themselves measured as translations; once, since evaluations show the same inputs."""
        if translated.inputs.shape[-1] != translated.outputs.shape[-1]:
            return ()
        key = (direction, len(translated))
        if key not in self._unchanged:
            self._unchanged[key] = self._of_set(direction, translated.inputs, "unchanged")
        return self._unchanged[key]


def _cycle_error(direction: str, images: Uint8Array, cycled: Uint8Array) -> Estimate:
    bands = images.shape[-1]
    if bands in (2, 4):
        parts = [scores("mae", images[..., k : k + 1], cycled[..., k : k + 1]) for k in range(bands)]
        values = sum(parts[1:], parts[0]) / bands
    else:
        values = scores("mae", images, cycled)
    low, high, how = mean_interval(values, PAIRED["mae"].bounds)
    label = f"cycle error (grey levels), {_CYCLES.get(direction, direction)}"
    provenance = Provenance("", "8-bit pixels", "", len(values))
    return Estimate(f"{CYCLE}/{direction}", label, float(values.mean()), low, high, len(values), provenance, how, False)
