"""Two sets of images against each other: both are measured once, and every metric is computed from that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ganwright.errors import MetricError, SettingsError
from ganwright.files import hash_bytes
from ganwright.metrics.estimate import Estimate, Evaluation, Provenance
from ganwright.metrics.extractor_base import Extractor, Features
from ganwright.metrics.measured import Measured
from ganwright.metrics.processes import ExtractorSpec
from ganwright.metrics.protocols import choose_protocol
from ganwright.metrics.registry import USUAL, Metric, choose_metrics
from ganwright.metrics.results import remembered, result_key
from ganwright.metrics.sides import Side, SideOpener


@dataclass(frozen=True)
class Comparison:
    """Two sets that were measured, ready for any metric.

    Attributes:
        samples: The set that is judged.
        reference: The real one.
        held_out: Further real images that were not trained on, or None.
        measured: What metrics are computed from.
        metrics: Those that can be.
        key: Hash of all that the estimates depend on; "" where that is not known.
    """

    samples: Side
    reference: Side
    held_out: Side | None
    measured: Measured
    metrics: dict[str, Metric]
    key: str = ""

    def evaluation(self) -> Evaluation:
        """All estimates, from the cache where they are known."""
        return compute(self.metrics, self.measured, self.key)


def compute(metrics: dict[str, Metric], measured: Measured, key: str = "") -> Evaluation:
    """All estimates of the chosen metrics; those of one `result_key` are computed once."""
    features = measured.samples.features
    if len(features) and (features == features[0]).all() and metrics.keys() & {"fd", "kid", "is"}:
        alike = "all samples have the same features: the generator makes one image"
        measured = replace(measured, warnings=(*measured.warnings, alike))
    families: dict[Callable[[Measured], list[Estimate]], set[str]] = {}
    for name, metric in metrics.items():  # several numbers may come from one computation
        families.setdefault(metric.compute, set()).add(name)
    found = []
    for calculate, names in families.items():
        values = remembered(key, _name(calculate), lambda f=calculate: [e.to_dict() for e in f(measured)])  # type: ignore[misc]
        found += [e for e in map(Estimate.from_dict, values) if e.name in names]
    return Evaluation.of(found)


def _name(calculate: Callable[[Measured], list[Estimate]]) -> str:
    return f"{calculate.__module__}.{calculate.__qualname__}"


def _key(measured: Measured, *sides: Side | None) -> str:
    """The `result_key` of a comparison; "" where a side's pixels were not seen, but only features in a file."""
    if any(side is not None and (side.features is None or side.digests is None) for side in sides):
        return ""
    known = [None if side is None else (side.content, side.n) for side in sides]
    classes = [
        None if array is None else hash_bytes(array.tobytes())
        for array in (measured.sample_classes, measured.reference_classes)
    ]
    how = (measured.provenance, measured.protocol, tuple(measured.class_names), measured.warnings)
    return result_key(known, classes, how)


def compare_sets(
    images: Any,
    reference: Any,
    *,
    metrics: Sequence[str] | None = None,
    protocol: str = "",
    extractor: str = "",
    weights: Path | None = None,
    held_out: Any = None,
    n: int | None = None,
    device: torch.device | str = "cpu",
    devices: int = 1,
    quiet: bool = False,
) -> Comparison:
    """Measure a set against another; see `evaluate_images` for the arguments.

    Raises:
        DataError, MetricError, SettingsError: See `SideOpener.open`, `choose_protocol`, `choose_metrics`.
    """
    if n is not None and n < 2:
        raise SettingsError(f"{n} images are too few to measure.", where="n", fix="choose at least 2, or leave it out")
    if devices < 1:
        raise SettingsError(f"{devices} processes cannot measure.", where="devices", fix="choose at least 1")
    named = USUAL if metrics is None else tuple(metrics)
    choose_metrics(named)
    how, name = choose_protocol(protocol, extractor)
    spec = ExtractorSpec(name, how, weights, str(device))
    network = spec.open()
    opener = SideOpener(network, spec, devices, quiet)
    samples = opener.open(images, n)
    real = opener.open(reference, n)
    unseen = None if held_out is None else opener.open(held_out)
    measured = _measured(samples, real, unseen, network, how.name)
    available = _available(measured, samples, real)
    chosen = choose_metrics(named, available)
    if not chosen:
        raise MetricError(
            f"None of the metrics {', '.join(named)} can be computed from these sets.",
            where=f"{samples.name} and {real.name}",
            fix="`ganwright evaluate --help` says what each needs",
        )
    return Comparison(samples, real, unseen, measured, chosen, _key(measured, samples, real, unseen))


def evaluate_images(images: Any, reference: Any, **options: Any) -> Evaluation:
    """Measure a set of images against another, sizes mixed or not.

    Args:
        images: What is measured; see `SideOpener.open`.
        reference: Real images to compare with, or a file of their statistics.
        options: metrics: Which; None: all that can be computed.
            protocol: A name in `PROTOCOLS`; "": the one that goes with the extractor.
            extractor: Over which features; "": the protocol's.
            weights: Weights file of the extractor, where it is not found by itself.
            held_out: Real images that were not trained on, where `reference` is the training set.
            n: At most so many images of each; None: all.
            device: Where to compute.
            devices: Processes that extract features.
            quiet: Show no progress.

    Raises:
        DataError, MetricError, SettingsError: See `compare_sets`.
    """
    return compare_sets(images, reference, **options).evaluation()


def _measured(samples: Side, real: Side, unseen: Side | None, network: Extractor, protocol: str) -> Measured:
    empty = Features(np.zeros((0, network.feature_dim), np.float32), None)
    provenance = Provenance(
        f"{network.name}/{network.version}", network.preprocessing, real.content, real.n, protocol=protocol
    )
    how, _ = choose_protocol(protocol, network.name if protocol == "custom" else "")
    sample_classes, real_classes, names = _common_classes(samples, real)
    return Measured(
        samples.features or empty,
        real.features or empty,
        provenance,
        class_names=names,
        warnings=(
            *samples.warnings,
            *real.warnings,
            *_copies(samples, real),
            *_too_few(samples, how.samples, how.name),
        ),
        held_out=unseen.features if unseen is not None else None,
        sample_classes=sample_classes,
        reference_classes=real_classes,
        protocol=how,
        sample_moments=samples.moments,
        reference_moments=real.moments,
    )


def _available(measured: Measured, samples: Side, real: Side) -> set[str]:
    available = {"moments"}
    if samples.features is not None:
        available.add("samples")
        if samples.features.logits is not None:
            available.add("logits")
    if samples.features is not None and real.features is not None:
        available.add("reference")
        if samples.features.spatial is not None and real.features.spatial is not None:
            available.add("spatial")
        if measured.held_out is not None:
            available.add("held_out")
        if measured.sample_classes is not None and measured.reference_classes is not None:
            available.add("classes")
    return available


def _common_classes(
    samples: Side, real: Side
) -> tuple[npt.NDArray[np.int64] | None, npt.NDArray[np.int64] | None, tuple[str, ...]]:
    """Classes of both sides in the reference's numbering; None where the sides' classes are not the same."""
    if samples.classes is None or real.classes is None:
        return None, None, ()
    if not samples.class_names:  # a run's samples are numbered as its data are
        return samples.classes, real.classes, real.class_names
    place = {name: k for k, name in enumerate(real.class_names)}
    if not set(samples.class_names) <= set(place):
        return None, None, ()
    numbers = np.array([place[name] for name in samples.class_names], np.int64)
    return numbers[samples.classes], real.classes, real.class_names


def _copies(samples: Side, real: Side) -> tuple[str, ...]:
    """Says how many samples are real images to the pixel: leaks, or the wrong folder."""
    if samples.digests is None or real.digests is None:
        return ()
    known = {row.tobytes() for row in real.digests}
    same = sum(row.tobytes() in known for row in samples.digests)
    if same == 0:
        return ()
    return (f"{same:,} of {samples.n:,} samples are images of the reference to the pixel",)


def _too_few(samples: Side, wanted: int, protocol: str) -> tuple[str, ...]:
    if not wanted or samples.n == wanted:
        return ()
    return (f"the protocol '{protocol}' asks for {wanted:,} samples, and there are {samples.n:,}: not its number",)
