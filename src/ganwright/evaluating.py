"""The evaluation part of the Python API: runs, sets of images, pairs, and files of statistics."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ganwright.config import EvalSettings
from ganwright.data.opening import open_dataset
from ganwright.data.pairs import open_pairs
from ganwright.data.spec import DataKind, Dataset
from ganwright.errors import MetricError
from ganwright.metrics.domain_evaluator import DomainEvaluator
from ganwright.metrics.domain_training import train_extractor
from ganwright.metrics.estimate import Evaluation
from ganwright.metrics.evaluator import Evaluator, make_evaluator
from ganwright.metrics.extractor_base import Features
from ganwright.metrics.moments import Moments
from ganwright.metrics.pair_evaluator import PairEvaluator
from ganwright.metrics.pairs import evaluate_pairs
from ganwright.metrics.processes import ExtractorSpec
from ganwright.metrics.protocols import choose_protocol, find_protocol
from ganwright.metrics.registry import USUAL
from ganwright.metrics.sets import Comparison, compare_sets
from ganwright.metrics.sides import SideOpener
from ganwright.metrics.statistics_file import write_statistics
from ganwright.recipes.registry import find_recipe
from ganwright.run import Run
from ganwright.samples import ImageSamples
from ganwright.training.journal import EVALUATION_SEED
from ganwright.training.launch import open_data
from ganwright.training.restore import data_of, default_device, load_recipe, sample_run
from ganwright.training.settings import RunSettings, resolve

__all__ = ["evaluate", "evaluate_pairs", "is_run", "save_statistics", "train_extractor"]


def evaluate(
    what: Any,
    *,
    reference: Any = None,
    held_out: Any = None,
    n: int | None = None,
    metrics: Sequence[str] | None = None,
    protocol: str | None = None,
    extractor: str | None = None,
    weights: str | Path | None = None,
    checkpoint: int | str = "last",
    report: str | Path | None = None,
    device: str | None = None,
    devices: int = 1,
    quiet: bool = False,
) -> Evaluation:
    """Evaluate a run, or a set of images against another.

    Args:
        what: A run, or images: a folder, archive, array, data set or name; a generator (a callable that is given a
            number k and returns k images); or a file of extracted features or statistics.
        reference: Real images, or a file of their statistics, to compare with; None, for a run: the data it was
            trained on. Of a run that translates or restores: the data it is shown working on (of pairs with a folder
            `test` in it, those pairs), in place of what it held out.
        held_out: Real images that were not trained on, where `reference` is the training set: for memorisation.
        n: Samples measured (of a run: its `eval_samples`, or what the protocol asks for; of a set: all).
        metrics: Which; None: all that fit.
        protocol: A named protocol ("clean-fid", "pytorch-fid", "torch-fidelity", "stylegan", "offline", "custom");
            None: the run's own, or the one that goes with the extractor.
        extractor: Over which features; None: the protocol's.
        weights: Weights file of the extractor, where it is not found by itself.
        checkpoint: Of a run: a step, "last" or "best".
        report: Write a self-contained HTML report here.
        device: Where to compute; None: a GPU where there is one.
        devices: Processes that extract features from sets.
        quiet: Show no progress.

    Returns:
        Estimates by name, each with interval, n and provenance.

    Raises:
        MetricError: Nothing to compare with, too few images, or no weights for the extractor.
        DataError: The images cannot be read.
    """
    where = device or default_device()
    sets: dict[str, Any] = {
        "metrics": metrics,
        "weights": None if weights is None else Path(weights),
        "held_out": held_out,
        "n": n,
        "device": where,
        "devices": devices,
        "quiet": quiet,
    }
    if is_run(what):
        run = what if isinstance(what, Run) else Run.open(what)
        if find_recipe(run.config["recipe"]).recipe.directions:
            return _evaluate_translator(run, reference, protocol or "", extractor or "", checkpoint, sets, report)
        found = _compare_run(run, reference, protocol or "", extractor or "", checkpoint, sets)
    elif reference is None:
        if isinstance(what, str | Path) and not Path(what).exists():
            raise MetricError("There is no such run.", where=what, fix="give a run, or images and --reference")
        raise MetricError("There is nothing to compare these images with.", fix="give --reference REAL_IMAGES")
    else:
        found = compare_sets(what, reference, protocol=protocol or "", extractor=extractor or "", **sets)
    evaluation = found.evaluation()
    if report is not None and os.environ.get("RANK", "0") == "0":  # under torchrun one process writes
        from ganwright.report.evaluation import write_evaluation_report

        write_evaluation_report(found, evaluation, Path(report), quiet=quiet)
    return evaluation


def _compare_run(
    run: Run, reference: Any, protocol: str, extractor: str, checkpoint: int | str, sets: dict[str, Any]
) -> Comparison:
    """A run's samples measured against `reference`, or against its own data where that is None."""
    settings = resolve(run.config["recipe"], run.config["settings"])
    defaults, where = settings.evaluation, sets["device"]
    named = protocol or extractor  # one named by hand replaces the run's own choice of both
    wanted = EvalSettings(
        metrics=USUAL if sets["metrics"] is None else tuple(sets["metrics"]),
        protocol=protocol if named else defaults.protocol,
        extractor=extractor if named else defaults.extractor,
        eval_samples=sets["n"] or (find_protocol(protocol).samples if protocol else 0) or defaults.eval_samples,
    )
    samples = sample_run(run, wanted.eval_samples, seed=EVALUATION_SEED, checkpoint=checkpoint, device=where)
    if not isinstance(samples, ImageSamples):
        raise MetricError("No metric fits what this run makes.", where=run.path)
    if reference is not None:
        return compare_sets(samples, reference, protocol=wanted.protocol, extractor=wanted.extractor, **sets)
    source = run.config.get("data_source")
    dataset = None if source is None else open_data(settings, source)
    evaluator = make_evaluator(dataset, wanted, device=where, quiet=sets["quiet"]) if dataset else None
    if not isinstance(evaluator, Evaluator):
        raise MetricError(
            "The data this run was trained on cannot be opened, or no metric fits it.",
            where=run.path,
            fix="give --reference REAL_IMAGES",
        )
    latent = None
    if "path-length" in wanted.metrics:
        latent = load_recipe(run, step=checkpoint, device=where).latent_space()
    return evaluator.compare(samples, latent)


def _evaluate_translator(
    run: Run,
    reference: Any,
    protocol: str,
    extractor: str,
    checkpoint: int | str,
    sets: dict[str, Any],
    report: str | Path | None,
) -> Evaluation:
    """What a run that turns images into images makes of held-out ones, or of those of `reference`."""
    settings = resolve(run.config["recipe"], run.config["settings"])
    recipe_class, defaults, where = settings.info.recipe, settings.evaluation, sets["device"]
    if report is not None:
        raise MetricError(
            "An evaluation report compares sets of images, which a translator's run has not.",
            where=run.path,
            fix=f"its own report has the figures and samples: ganwright report {run.path}",
        )
    named = protocol or extractor
    wanted = EvalSettings(
        metrics=defaults.metrics if sets["metrics"] is None else tuple(sets["metrics"]),
        protocol=protocol if named else defaults.protocol,
        extractor=extractor if named else defaults.extractor,
        eval_samples=sets["n"] or defaults.eval_samples,
    )
    dataset = _shown(run, settings, reference)
    inputs = dataset.held_out_batch(wanted.eval_samples, seed=EVALUATION_SEED)
    samples = sample_run(
        run,
        wanted.eval_samples,
        seed=EVALUATION_SEED,
        checkpoint=checkpoint,
        device=where,
        inputs=inputs,
        baselines=True,
    )
    evaluator = make_evaluator(dataset, wanted, device=where, quiet=sets["quiet"], measured_as=recipe_class.measured_as)
    if evaluator is None or not evaluator.fits(samples):
        raise MetricError("No metric fits what this run makes.", where=run.path)
    measure = evaluator.evaluate
    if reference is not None and isinstance(evaluator, PairEvaluator | DomainEvaluator):
        evaluator.warnings = ()  # nothing of it was trained on, as far as anyone knows
    return measure(samples)


def _shown(run: Run, settings: RunSettings, reference: Any) -> Dataset:
    """The data a translator is shown working on: its held-out part, or all of `reference`."""
    if reference is not None:
        if settings.info.recipe.accepts == {DataKind.PAIRS}:
            return open_pairs(reference, settings.data, seed=settings.train.seed, part="test")
        # In full: the share that is held out cannot be all of it, so none is.
        whole = replace(settings.data, held_out=0.0)
        return open_dataset(reference, whole, accepts=settings.info.recipe.accepts, seed=settings.train.seed)
    dataset = data_of(run)
    if dataset is None:
        raise MetricError(
            "The data this run was trained on was an array in memory, which is not stored.",
            where=run.path,
            fix="give --reference DATA",
        )
    return dataset


def save_statistics(
    data: Any,
    out: str | Path,
    *,
    protocol: str | None = None,
    extractor: str | None = None,
    weights: str | Path | None = None,
    with_features: bool = True,
    n: int | None = None,
    device: str | None = None,
    devices: int = 1,
    quiet: bool = False,
) -> Path:
    """Write reference statistics to an `.npz` file that `evaluate` and pytorch-fid (`mu`, `sigma`) read.

    Args:
        data: Images, as `evaluate` takes them.
        out: The file.
        protocol: As for `evaluate`.
        extractor: As for `evaluate`.
        weights: As for `evaluate`.
        with_features: Store all features too, which every metric but the Fréchet distance needs (8 kB an image over
            Inception); False: mean and covariance only.
        n: At most so many images; None: all.
        device: Where to compute; None: a GPU where there is one.
        devices: Processes that extract.
        quiet: Show no progress.

    Returns:
        The file.
    """
    how, name = choose_protocol(protocol or "", extractor or "")
    spec = ExtractorSpec(name, how, None if weights is None else Path(weights), device or default_device())
    network = spec.open()
    side = SideOpener(network, spec, devices, quiet).open(data, n)
    features = side.features or Features(np.zeros((0, network.feature_dim), np.float32), None)
    moments = side.moments or Moments.of_features(features.features, ddof=how.covariance_ddof)
    about = {
        "extractor": f"{network.name}/{network.version}",
        "preprocessing": network.preprocessing,
        "protocol": how.name,
        "n": side.n,
        "content": side.content,
        "data": side.name,
    }
    path = Path(out)
    path = path if path.suffix.lower() == ".npz" else path.with_name(path.name + ".npz")
    write_statistics(path, moments, about, features if with_features and len(features) else None)
    return path


def is_run(what: Any) -> bool:
    """Whether it is a run or the path of one."""
    if isinstance(what, Run):
        return True
    return isinstance(what, str | Path) and (Path(what) / "run.yaml").is_file()
