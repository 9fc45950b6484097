"""Evaluates a run's samples: opens extractor, judge and reference once, then measures as often as asked.

The reference of a run is its real training images (up to a cap, always the same ones), as published FIDs have it;
memorisation is measured against the held-out ones, which training never saw.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from ganwright.config import EvalSettings
from ganwright.data.arrays import ArraySource
from ganwright.data.decode import pixel_hash
from ganwright.data.domains import DomainsDataset
from ganwright.data.images import ImageDataset
from ganwright.data.spec import DataKind, Dataset
from ganwright.errors import MetricError
from ganwright.metrics.class_accuracy import Judge, open_judge
from ganwright.metrics.estimate import Evaluation, Provenance
from ganwright.metrics.extractors import Extractor, Features, open_extractor
from ganwright.metrics.features import extract
from ganwright.metrics.measured import HasLatentSpace, Measured
from ganwright.metrics.pixels import pick
from ganwright.metrics.protocols import choose_protocol
from ganwright.metrics.registry import Metric, choose_metrics
from ganwright.metrics.sets import Comparison
from ganwright.metrics.sides import Side
from ganwright.metrics.store import Extracted, FeatureStore
from ganwright.samples import ImageSamples, Samples

FEWEST_REFERENCE = 2000
"""Real images a reference has at least, where there are as many."""
_MOST_HELD_OUT = 5000
Index = npt.NDArray[np.int64]


class RunEvaluator(Protocol):
    """What measures a run's samples, whatever their kind."""

    def fits(self, samples: Samples) -> bool:
        """Whether these samples are of the kind that it measures."""

    def evaluate(self, samples: Any) -> Evaluation:
        """All metrics of samples that fit."""


class Evaluator:
    """Measures samples against one data set.

    Args:
        dataset: Images, perhaps labelled.
        settings: Which metrics over which extractor.
        device: Where to compute.
        quiet: Show no progress.

    Raises:
        SettingsError: An unknown metric, protocol or extractor.
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
        self.protocol, name = choose_protocol(settings.protocol, settings.extractor)
        self.extractor: Extractor = open_extractor(name, device=device, protocol=self.protocol)
        available = {"moments", "samples", "reference", "asked", "latent"}
        if self.extractor.has_logits:
            available.add("logits")
        if self.extractor.has_spatial:
            available.add("spatial")
        if len(dataset.held_out_index):
            available.add("held_out")
        if dataset.labels is not None:
            available |= {"judge", "classes"}
        self.metrics: dict[str, Metric] = choose_metrics(settings.metrics, available)
        self._real: dict[bool, Side] = {}
        self._judge: Judge | None = None

    @property
    def n_reference(self) -> int:
        """Number of real images compared with; a protocol with a sample count of its own takes all."""
        wanted = max(FEWEST_REFERENCE, self.settings.eval_samples, len(self.dataset.train_index) * self._whole)
        return min(len(self.dataset.train_index), wanted)

    @property
    def _whole(self) -> int:
        return int(self.protocol.samples > 0)

    def real(self, *, held_out: bool = False) -> Side:
        """The real images compared with, or those training never saw; features from the cache where they are known."""
        if held_out not in self._real:
            pool = self.dataset.held_out_index if held_out else self.dataset.train_index
            index = pick(pool, _MOST_HELD_OUT if held_out else self.n_reference, 0)
            index.sort()
            found = self._extracted(index)
            labels = self.dataset.labels
            self._real[held_out] = Side(
                f"{self.dataset.spec.name} ({'held out' if held_out else 'training'})",
                found.features,
                n=len(index),
                content=found.content,
                digests=found.digests,
                classes=None if labels is None else labels[index],
                class_names=self.dataset.spec.class_names,
                names=[f"{i:06d}" for i in index],
                pictures=lambda places: [self.dataset.images[index[place]] for place in places],
            )
        return self._real[held_out]

    def _extracted(self, index: Index) -> Extracted:
        store = FeatureStore.of(f"dataset {self.dataset.spec.fingerprint}", self.extractor, index)
        found = store.read()
        if found is None:
            images = ArraySource(self.dataset.images, name=self.dataset.spec.name)
            note = "features of the real images"
            store.extract(self.extractor, images, store.missing(), note=note, quiet=self.quiet)
            found = store.assemble()
        return found

    def judge(self) -> Judge:
        """The classifier of this data's classes."""
        if self._judge is None:
            self._judge = open_judge(self.dataset, device=self.device, quiet=self.quiet)
        return self._judge

    def fits(self, samples: Samples) -> bool:
        """Whether they are images that stand for a distribution."""
        return isinstance(samples, ImageSamples)

    def evaluate(self, samples: ImageSamples) -> Evaluation:
        """All metrics of these samples.

        Raises:
            MetricError: Too few samples, or features that are not finite.
        """
        return self.compare(samples).evaluation()

    def compare(self, samples: ImageSamples, latent: HasLatentSpace | None = None) -> Comparison:
        """Measure these samples once, for all metrics.

        Args:
            samples: What the generator made.
            latent: The generator's latent space, for the path length.

        Raises:
            MetricError: Too few samples, or features that are not finite.
        """
        if len(samples) < 2:
            raise MetricError(f"{len(samples)} sample is too few to measure.", fix="ask for at least 2")
        lacking = {"asked", "classes"} if samples.labels is None else set()
        lacking |= {"latent"} if latent is None else set()
        metrics = {name: metric for name, metric in self.metrics.items() if not metric.needs & lacking}
        needs = frozenset[str]().union(*(metric.needs for metric in metrics.values()))
        side = Side("samples", None, n=len(samples), classes=samples.labels)
        real, unseen = Side("reference", None), None
        if needs - {"judge", "asked", "latent"}:
            note = "features of the samples"
            found = extract(self.extractor, iter(samples.images), len(samples), note=note, quiet=self.quiet)
            hashes = b"".join(pixel_hash(image) for image in samples.images)

            def pictures(places: Sequence[int]) -> list[npt.NDArray[np.uint8]]:
                return [samples.images[place] for place in places]

            side = replace(
                side,
                features=found,
                digests=np.frombuffer(hashes, np.uint8).reshape(-1, 16),
                names=[f"{i:06d}" for i in range(len(samples))],
                pictures=pictures,
            )
        if needs & {"moments", "reference", "spatial", "held_out", "classes"}:
            real = self.real()
        if "held_out" in needs:
            unseen = self.real(held_out=True)
        measured = replace(self._measured(samples, side, real, unseen, "judge" in needs), latent=latent)
        return Comparison(side, real, unseen, measured, metrics)

    def _measured(
        self, samples: ImageSamples, side: Side, real: Side, unseen: Side | None, with_judge: bool
    ) -> Measured:
        network = self.extractor
        none = Features(np.zeros((len(samples), 1), np.float32), None)
        judge = self.judge() if with_judge else None
        return Measured(
            side.features or none,
            real.features or none,
            Provenance(
                f"{network.name}/{network.version}",
                network.preprocessing,
                self.dataset.spec.fingerprint,
                self.n_reference,
                protocol=self.protocol.name,
            ),
            None if judge is None else judge.classify(samples.images),
            samples.labels,
            self.dataset.spec.class_names,
            judge,
            held_out=None if unseen is None else unseen.features,
            sample_classes=samples.labels,
            reference_classes=real.classes,
            protocol=self.protocol,
            extractor=network,
            dataset=self.dataset,
            images=samples.images,
        )


def make_evaluator(
    dataset: Dataset,
    settings: EvalSettings,
    *,
    device: torch.device | str = "cpu",
    quiet: bool = False,
    measured_as: str = "",
) -> RunEvaluator | None:
    """The evaluator of a run, or None where no metric fits the kind of data.

    Args:
        dataset: What the run trains on.
        settings: Which metrics over which extractor.
        device: Where to compute.
        quiet: Show no progress.
        measured_as: See `Recipe.measured_as`; "": as the kind of data is.
    """
    make = _EVALUATORS.get(measured_as or _MEASURED_AS.get(dataset.spec.kind, ""))
    return None if make is None else make(dataset, settings, device=device, quiet=quiet)


def _of_images(dataset: Dataset, settings: EvalSettings, **how: Any) -> RunEvaluator | None:
    return Evaluator(dataset, settings, **how) if isinstance(dataset, ImageDataset) else None


def _of_pairs(dataset: Dataset, settings: EvalSettings, **how: Any) -> RunEvaluator:
    from ganwright.metrics.pair_evaluator import PairEvaluator

    return PairEvaluator(dataset, settings, **how)


def _of_domains(dataset: Dataset, settings: EvalSettings, **how: Any) -> RunEvaluator | None:
    from ganwright.metrics.domain_evaluator import DomainEvaluator  # it builds on this module

    return DomainEvaluator(dataset, settings, **how) if isinstance(dataset, DomainsDataset) else None


_MEASURED_AS = {
    DataKind.IMAGES: "images",
    DataKind.LABELLED_IMAGES: "images",
    DataKind.PAIRS: "pairs",
    DataKind.DOMAINS: "domains",
}
_EVALUATORS: dict[str, Callable[..., RunEvaluator | None]] = {
    "images": _of_images,
    "pairs": _of_pairs,
    "domains": _of_domains,
}
"""How samples are evaluated, by `Recipe.measured_as`."""
