"""The judge of classes, Wilson's interval, and coverage on sets worked by hand."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from ganwright.config import DataSettings
from ganwright.data.opening import open_dataset
from ganwright.data.split import held_out_mask
from ganwright.errors import MetricError
from ganwright.files import cache_folder
from ganwright.metrics import class_accuracy
from ganwright.metrics.class_accuracy import (
    Judge,
    JudgeNetwork,
    estimate_accuracy,
    estimate_coverage,
    judge_split,
    open_judge,
    wilson_interval,
)
from ganwright.metrics.estimate import Provenance
from ganwright.metrics.extractors import Features
from ganwright.metrics.measured import Measured


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (10, 10), (3, 17), (480, 500)])
def test_wilson_is_scipys(hits: int, n: int) -> None:
    expected = binomtest(hits, n).proportion_ci(method="wilson")
    assert wilson_interval(hits, n) == pytest.approx((expected.low, expected.high), abs=1e-6)


def measured(predicted: list[int], asked: list[int] | None, names: str, shares: list[float]) -> Measured:
    judge = Judge(JudgeNetwork(1, len(names)), 0.97, 100, "judge", np.array(shares))
    none = Features(np.zeros((len(predicted), 1), np.float32), None)
    labels = None if asked is None else np.array(asked)
    return Measured(none, none, Provenance(), np.array(predicted), labels, tuple(names), judge)


def test_accuracy_counts_hits() -> None:
    (found,) = estimate_accuracy(measured([0, 1, 1, 2], [0, 1, 2, 2], "abc", [1 / 3] * 3))
    assert (found.value, found.n, found.higher_is_better) == (0.75, 4, True)
    assert any("97.0%" in warning for warning in found.warnings)


def test_coverage_names_what_is_missing() -> None:
    predicted = [0] * 500 + [1] * 498 + [2] * 2
    (found,) = estimate_coverage(measured(predicted, None, "abcd", [0.25] * 4))
    assert found.value == found.high == 0.5
    assert any("c (0.2%)" in w and "d (0.0%)" in w and "b" not in w.split(":")[1] for w in found.warnings)


def test_coverage_of_rare_classes_is_measured_by_how_rare_they_are() -> None:
    predicted = [0] * 960 + [1] * 40
    balanced_by_data = measured(predicted, None, "ab", [0.96, 0.04])
    assert estimate_coverage(balanced_by_data)[0].value == 1.0
    asked_in_halves = measured(predicted, [0, 1] * 500, "ab", [0.96, 0.04])
    assert estimate_coverage(asked_in_halves)[0].value == 0.5


def test_coverage_leaves_out_classes_never_asked_for() -> None:
    (found,) = estimate_coverage(measured([0, 1] * 50, [0, 1] * 50, "abc", [1 / 3] * 3))
    assert found.value == 1.0


def test_few_samples_leave_the_interval_open() -> None:
    (found,) = estimate_coverage(measured([0] * 5, None, "ab", [0.5, 0.5]))
    assert found.value == 0.5 and found.high == 1.0


def blobs(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Squares in one of four corners, in noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, n)
    images = rng.integers(0, 120, (n, 16, 16, 1), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        top, left = 2 + 7 * (label // 2), 2 + 7 * (label % 2)
        image[top : top + 4, left : left + 4] = 255
    return images, labels


def blob_dataset(held_out: float = 0.2):
    images, labels = blobs(0, 400)
    return open_dataset(images, DataSettings(resolution=16, held_out=held_out), labels=labels)


def test_judge_learns_is_cached_and_repeats() -> None:
    data = blob_dataset()
    judge = open_judge(data, quiet=True)
    images, labels = blobs(1, 200)
    read = judge.classify(images)
    assert (read == labels).mean() >= 0.97
    _, unseen = judge_split(data)
    assert judge.accuracy == pytest.approx((judge.classify(data.images[unseen]) == data.labels[unseen]).mean())
    assert judge.n_held_out == len(unseen) > 20
    again = open_judge(data, quiet=True, max_seconds=0)  # no time to train: it comes from the cache
    assert (again.name, again.accuracy) == (judge.name, judge.accuracy)
    np.testing.assert_array_equal(again.classify(images), read)
    shutil.rmtree(cache_folder() / "judges")
    anew = open_judge(data, quiet=True)
    for a, b in zip(judge.network.parameters(), anew.network.parameters(), strict=True):
        assert a.equal(b)


def test_a_judge_cut_short_is_another_judge() -> None:
    images, labels = blobs(2, 300)
    data = open_dataset(images, DataSettings(resolution=16, held_out=0.2), labels=labels)
    cut = open_judge(data, quiet=True, max_seconds=0)
    assert "cut at 1 steps" in cut.name
    assert open_judge(data, quiet=True).name == cut.name  # from the cache, still said
    shutil.rmtree(cache_folder() / "judges")
    assert "cut" not in open_judge(data, quiet=True).name


def test_damaged_cache_is_made_again() -> None:
    shutil.rmtree(cache_folder() / "judges", ignore_errors=True)
    data = blob_dataset()
    open_judge(data, quiet=True)
    (file,) = (cache_folder() / "judges").rglob("*.safetensors")
    file.write_bytes(file.read_bytes()[:100])
    assert open_judge(data, quiet=True).accuracy > 0.9


def test_runs_with_other_splits_have_the_same_judge_and_their_numbers_compare() -> None:
    images, labels = blobs(3, 300)
    runs = [
        open_dataset(images, DataSettings(resolution=16, held_out=share), seed=seed, labels=labels)
        for seed, share in ((0, 0.1), (1, 0.1), (2, 0.5), (3, 0.0))
    ]
    assert len({run.train_index.tobytes() for run in runs}) == 4
    judges = [open_judge(run, quiet=True) for run in runs]
    fresh_images, asked = blobs(4, 200)
    found = []
    for judge in judges:
        case = measured(judge.classify(fresh_images).tolist(), asked.tolist(), "abcd", [0.25] * 4)
        case = replace(case, judge=judge)
        found.append([estimate_accuracy(case)[0], estimate_coverage(case)[0]])
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            a.require_comparable(b)  # raises ProvenanceError where they do not compare
            assert a == b and not a.better_than(b)


def test_other_images_or_labels_have_another_judge() -> None:
    images, labels = blobs(5, 200)
    names = set()
    for pictures, classes in ((images, labels), (images[1:], labels[1:]), (images, (labels + 1) % 4)):
        data = open_dataset(pictures, DataSettings(resolution=16), labels=classes)
        names.add(open_judge(data, quiet=True, max_seconds=0).name)
    assert len(names) == 3


def test_the_judge_is_never_shown_what_it_is_tested_on(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = blobs(6, 200)
    images = np.concatenate([images, images[:100]])  # copies must not lie on both sides
    data = open_dataset(images, DataSettings(resolution=16), labels=np.concatenate([labels, labels[:100]]))
    shown: set[bytes] = set()
    tested: set[bytes] = set()
    to_float = class_accuracy._to_float

    def watching(batch: np.ndarray) -> torch.Tensor:
        (shown if torch.is_grad_enabled() else tested).update(image.tobytes() for image in batch)
        return to_float(batch)

    monkeypatch.setattr(class_accuracy, "_to_float", watching)
    judge = open_judge(data, quiet=True)
    assert len(tested) > 10 and judge.n_held_out > len(tested)
    assert not shown & tested and shown | tested == {image.tobytes() for image in images}


def test_data_without_hashes_are_split_as_they_split_themselves() -> None:
    data = blob_dataset()
    del data.hashes
    judge = open_judge(data, quiet=True)
    assert judge.n_held_out == len(data.held_out_index)
    assert judge.name != open_judge(blob_dataset(), quiet=True).name


@pytest.mark.parametrize("n", [1, 3])
def test_a_handful_of_images_is_no_reason_to_fail(n: int) -> None:
    all_drawn = False
    for seed in range(30):  # among these, draws that hold every image out
        images, labels = blobs(100 + seed, n)
        data = open_dataset(images, DataSettings(resolution=16, held_out=0.0), labels=labels)
        all_drawn |= bool(held_out_mask(data.hashes, 0.1, 0).all())
        train, held_out = judge_split(data)
        assert len(train) > 0 and len(train) + len(held_out) == n
    assert all_drawn == (n == 1)


def test_without_held_out_images_it_says_so() -> None:
    data = blob_dataset(0.0)
    del data.hashes
    judge = open_judge(data, quiet=True)
    assert judge.n_held_out == 0
    case = replace(measured([0], [0], "abcd", [0.25] * 4), judge=judge)
    assert any("could not be checked" in warning for warning in estimate_accuracy(case)[0].warnings)


def test_unlabelled_data_has_no_judge() -> None:
    with pytest.raises(MetricError, match="labelled"):
        open_judge(open_dataset(blobs(0, 40)[0], DataSettings(resolution=16)), quiet=True)


@pytest.mark.slow
def test_reads_real_digits() -> None:
    data = open_dataset("mnist", DataSettings(resolution=32, held_out=0.1))
    started = time.process_time()
    judge = open_judge(data, quiet=True)
    print(f"judge: {judge.accuracy:.4f} in {time.process_time() - started:.0f} CPU-seconds")
    assert judge.accuracy >= 0.97
