"""Evaluates samples: opens extractor, judge and reference once, then measures as often as asked.

The reference of a run is its real training images (up to a cap, always the same ones), as published FIDs have it;
memorisation is looked at separately, by the doctor and by nearest neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ganwright.config import EvalSettings
from ganwright.data.images import ImageDataset
from ganwright.data.spec import Dataset
from ganwright.errors import MetricError, SettingsError
from ganwright.metrics.class_accuracy import Judge, open_judge
from ganwright.metrics.estimate import Evaluation, Provenance
from ganwright.metrics.extractors import Extractor, Features, open_extractor
from ganwright.metrics.features import Extracted, cached_features, extract, source_features
from ganwright.metrics.measured import Measured
from ganwright.metrics.pixels import pick
from ganwright.metrics.registry import Metric, choose_metrics
from ganwright.samples import ImageSamples

FEWEST_REFERENCE = 2000
"""Real images a reference has at least, where there are as many."""


class Evaluator:
    """Measures samples against one data set.

    Args:
        dataset: Images, perhaps labelled.
        settings: Which metrics over which extractor.
        device: Where to compute.
        quiet: Show no progress.

    Raises:
        SettingsError: An unknown metric or extractor.
        MetricError: The extractor's weights are missing.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        settings: EvalSettings,
        *,
        device: torch.device | str = "cpu",
        quiet: bool = False,
    ) -> None:
        self.dataset, self.settings, self.device, self.quiet = dataset, settings, device, quiet
        choose_metrics(settings.metrics)
        self.extractor: Extractor = open_extractor(settings.extractor, device=device)
        available = {"reference", "asked"}
        if self.extractor.has_logits:
            available.add("logits")
        if dataset.labels is not None:
            available.add("judge")
        self.metrics: dict[str, Metric] = choose_metrics(settings.metrics, available)
        self._reference: Features | None = None
        self._judge: Judge | None = None

    @property
    def n_reference(self) -> int:
        """Number of real images compared with."""
        return min(len(self.dataset.train_index), max(FEWEST_REFERENCE, self.settings.eval_samples))

    def reference(self) -> Features:
        """Features of the real images, from the cache where they are known."""
        if self._reference is None:
            index = pick(self.dataset.train_index, self.n_reference, 0)
            index.sort()
            key = ["dataset", self.dataset.spec.fingerprint, ",".join(map(str, index))]
            images = (self.dataset.images[i] for i in index)
            note = "features of the real images"
            found = cached_features(
                key,
                self.extractor,
                lambda: Extracted(extract(self.extractor, images, len(index), note=note, quiet=self.quiet)),
            )
            self._reference = found.features
        return self._reference

    def judge(self) -> Judge:
        """The classifier of this data's classes."""
        if self._judge is None:
            self._judge = open_judge(self.dataset, device=self.device, quiet=self.quiet)
        return self._judge

    def evaluate(self, samples: ImageSamples) -> Evaluation:
        """All metrics of these samples.

        Raises:
            MetricError: Too few samples, or features that are not finite.
        """
        if len(samples) < 2:
            raise MetricError(f"{len(samples)} sample is too few to measure.", fix="ask for at least 2")
        metrics = {k: m for k, m in self.metrics.items() if samples.labels is not None or "asked" not in m.needs}
        if not metrics:
            return Evaluation()
        needs = frozenset().union(*(metric.needs for metric in metrics.values()))
        empty = Features(samples.images.reshape(len(samples), -1)[:, :1].astype("float32"), None)
        features, reference, judge, predicted = empty, empty, None, None
        if needs & {"reference", "logits"}:
            note = "features of the samples"
            features = extract(self.extractor, iter(samples.images), len(samples), note=note, quiet=self.quiet)
        if "reference" in needs:
            reference = self.reference()
        if "judge" in needs:
            judge = self.judge()
            predicted = judge.classify(samples.images)
        measured = Measured(
            features,
            reference,
            _provenance(self.extractor, self.dataset.spec.fingerprint, self.n_reference),
            predicted,
            samples.labels,
            self.dataset.spec.class_names,
            judge,
        )
        return compute(metrics, measured)


def compute(metrics: dict[str, Metric], measured: Measured) -> Evaluation:
    """All estimates of the chosen metrics."""
    features = measured.samples.features
    if (features == features[0]).all() and metrics.keys() & {"fd", "kid", "is"}:
        alike = "all samples have the same features: the generator makes one image"
        measured = replace(measured, warnings=(*measured.warnings, alike))
    return Evaluation.of(estimate for metric in metrics.values() for estimate in metric.compute(measured))


def _provenance(extractor: Extractor, reference: str, n_reference: int) -> Provenance:
    return Provenance(f"{extractor.name}/{extractor.version}", extractor.preprocessing, reference, n_reference)


def make_evaluator(
    dataset: Dataset, settings: EvalSettings, *, device: torch.device | str = "cpu", quiet: bool = False
) -> Evaluator | None:
    """The evaluator of a run, or None where no metric fits the kind of data."""
    if not isinstance(dataset, ImageDataset):
        return None
    return Evaluator(dataset, settings, device=device, quiet=quiet)


def evaluate_images(
    images: Any,
    reference: Any,
    *,
    metrics: Sequence[str] = ("fd", "kid", "is"),
    extractor: str = "efficientnet-lite0",
    weights: Path | None = None,
    n: int | None = None,
    device: torch.device | str = "cpu",
    quiet: bool = False,
) -> Evaluation:
    """Measure a set of images against another, each a folder, archive, array or named set, sizes mixed or not.

    Args:
        images: What is measured.
        reference: Real images to compare with.
        metrics: Which; those that need classes are left out.
        extractor: Over which features.
        weights: Weights file of the extractor, where it is not found by itself.
        n: At most so many images of each; None: all.
        device: Where to compute.
        quiet: Show no progress.

    Raises:
        DataError, MetricError, SettingsError: See `source_features`, `open_extractor`, `choose_metrics`.
    """
    if n is not None and n < 2:
        raise SettingsError(f"{n} images are too few to measure.", where="n", fix="choose at least 2, or leave it out")
    choose_metrics(metrics)
    network = open_extractor(extractor, device=device, weights=weights)
    available = {"reference", *(("logits",) if network.has_logits else ())}
    chosen = choose_metrics(metrics, available)
    if not chosen:
        raise MetricError(f"None of the metrics {', '.join(metrics)} can be computed from two sets of images.")
    found, _, warnings = source_features(images, network, n, quiet=quiet)
    real, name, more = source_features(reference, network, n, quiet=quiet)
    measured = Measured(found, real, _provenance(network, name, len(real.features)))
    return compute(chosen, replace(measured, warnings=(*warnings, *more)))
