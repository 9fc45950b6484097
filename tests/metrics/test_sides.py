"""What can stand on either side of a comparison, and how features of large sets are stored."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from image_sets import Pool, pictures, quarters, write
from PIL import Image

from ganwright import evaluating
from ganwright.errors import DataError, MetricError, ProvenanceError, SettingsError
from ganwright.files import cache_folder
from ganwright.metrics import store as store_module
from ganwright.metrics.frechet import frechet_distance
from ganwright.metrics.moments import Moments
from ganwright.metrics.protocols import choose_protocol
from ganwright.metrics.sets import compare_sets, evaluate_images
from ganwright.metrics.statistics_file import is_statistics, read_statistics


def test_a_generator_is_asked_for_as_many_as_are_wanted(pool: str) -> None:
    images, asked = pictures(0, 200), []

    def generate(k: int) -> np.ndarray:
        start = sum(asked)
        asked.append(k)
        return images[start : start + k]

    found = evaluate_images(generate, pictures(1, 50), extractor=pool, n=150, quiet=True, metrics=("fd", "kid"))
    assert sum(asked) == found["fd"].n == 150
    same = evaluate_images(images[:150], pictures(1, 50), extractor=pool, quiet=True, metrics=("fd",))
    assert found["fd"].value == pytest.approx(same["fd"].value, rel=1e-6)
    with pytest.raises(MetricError, match="does not say how many"):
        evaluate_images(generate, images, extractor=pool, quiet=True)
    with pytest.raises(DataError, match="no images"):
        evaluate_images(lambda k: images[:0], images, extractor=pool, n=10, quiet=True)


def test_generators_may_return_tensors_in_minus_one_to_one(pool: str) -> None:
    images = pictures(2, 64)
    scaled = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    found = evaluate_images(lambda k: scaled[:k], images, extractor=pool, n=64, quiet=True, metrics=("fd",))
    assert found["fd"].value == pytest.approx(0, abs=1e-8)
    bright = scaled.clone()
    bright[32:] = bright[32:].abs()  # the second batch could be taken for [0, 1]
    halves = iter((bright[:32], bright[32:]))
    at_once = evaluate_images(lambda k: bright[:k], images, extractor=pool, n=64, quiet=True, metrics=("fd",))
    in_two = evaluate_images(lambda k: next(halves), images, extractor=pool, n=64, quiet=True, metrics=("fd",))
    assert in_two["fd"].value == pytest.approx(at_once["fd"].value, rel=1e-6)
    other = iter((bright[32:], bright[:32]))
    with pytest.raises(MetricError, match="range is unclear"):
        evaluate_images(lambda k: next(other), images, extractor=pool, n=64, quiet=True)


def test_torch_data_sets(pool: str) -> None:
    images = pictures(3, 40)

    class Items(torch.utils.data.Dataset):  # type: ignore[type-arg]
        def __len__(self) -> int:
            return len(images)

        def __getitem__(self, i: int) -> tuple[Image.Image, int]:
            return Image.fromarray(images[i]), i % 3

    found = evaluate_images(Items(), images, extractor=pool, quiet=True, metrics=("fd",))["fd"]
    assert found.n == 40 and found.value == pytest.approx(0, abs=1e-8)


def test_statistics_go_both_ways(pool: str, tmp_path: Path) -> None:
    x, y = pictures(4, 60), pictures(5, 80) // 2
    path = evaluating.save_statistics(write(tmp_path / "y", y), tmp_path / "y-stats", extractor=pool, quiet=True)
    assert path.name == "y-stats.npz" and is_statistics(path)
    with np.load(path, allow_pickle=False) as file:  # as pytorch-fid reads it
        assert np.allclose(file["mu"], quarters(y).mean(0), atol=1e-6)
        assert np.allclose(file["sigma"], np.cov(quarters(y), rowvar=False), atol=1e-6)
    direct = evaluate_images(x, tmp_path / "y", extractor=pool, quiet=True)
    stored = evaluate_images(x, path, extractor=pool, quiet=True)
    assert stored == direct  # values, intervals and provenance
    small = evaluating.save_statistics(y, tmp_path / "small.npz", extractor=pool, with_features=False, quiet=True)
    fd_only = evaluate_images(x, small, extractor=pool, quiet=True)
    assert set(fd_only) == {"fd"}
    assert fd_only["fd"].value == pytest.approx(direct["fd"].value, rel=1e-6)
    assert not fd_only["fd"].better_than(fd_only["fd"])
    assert any("takes for exact" in warning for warning in fd_only["fd"].warnings)


def test_foreign_statistics_are_taken_as_named_and_said_so(pool: str, tmp_path: Path) -> None:
    x, y = pictures(6, 60), quarters(pictures(7, 90))
    np.savez(tmp_path / "theirs.npz", mu=y.mean(0), sigma=np.cov(y, rowvar=False))
    found = evaluate_images(x, tmp_path / "theirs.npz", extractor=pool, quiet=True)["fd"]
    assert found.value == pytest.approx(frechet_distance(quarters(x), y), rel=1e-4)
    assert any("does not say" in warning for warning in found.warnings)
    np.savez(tmp_path / "wide.npz", mu=np.zeros(5), sigma=np.eye(5))
    with pytest.raises(MetricError, match="5 dimensions"):
        evaluate_images(x, tmp_path / "wide.npz", extractor=pool, quiet=True)
    np.savez(tmp_path / "nan.npz", mu=np.full(12, np.nan), sigma=np.eye(12))
    with pytest.raises(MetricError, match="not finite"):
        evaluate_images(x, tmp_path / "nan.npz", extractor=pool, quiet=True)
    np.savez(tmp_path / "objects.npz", mu=np.array([{}]), sigma=np.eye(1))
    with pytest.raises(DataError, match=r"never unpickled|objects|no array"):
        evaluate_images(x, tmp_path / "objects.npz", extractor=pool, quiet=True)


def test_features_of_another_extractor_are_refused(pool: str, tmp_path: Path) -> None:
    x = pictures(8, 30)
    other = tmp_path / "other.pt"
    torch.jit.script(torch.nn.Sequential(Pool(), torch.nn.Linear(12, 12))).save(str(other))
    path = evaluating.save_statistics(x, tmp_path / "a.npz", extractor=f"{other}@8", quiet=True)
    with pytest.raises(ProvenanceError, match="another extractor"):
        evaluate_images(x, path, extractor=pool, quiet=True)


def test_features_alone_are_enough(pool: str, tmp_path: Path) -> None:
    features = quarters(pictures(9, 70)).astype(np.float32)
    np.save(tmp_path / "features.npy", features)
    np.savez(tmp_path / "features.npz", features=features)
    x = pictures(10, 50)
    direct = evaluate_images(x, pictures(9, 70), extractor=pool, quiet=True, metrics=("fd", "kid"))
    for name in ("features.npy", "features.npz"):
        assert is_statistics(tmp_path / name)
        found = evaluate_images(x, tmp_path / name, extractor=pool, quiet=True, metrics=("fd", "kid"))
        assert found["kid"].value == pytest.approx(direct["kid"].value, rel=1e-3)
    np.save(tmp_path / "bad.npy", np.full((5, 12), np.inf, np.float32))
    with pytest.raises(MetricError, match="not finite"):
        read_statistics(tmp_path / "bad.npy")


def test_copies_of_the_reference_are_told(pool: str) -> None:
    x, y = pictures(11, 40), pictures(12, 40)
    found = evaluate_images(np.concatenate([x, y[:7]]), y, extractor=pool, quiet=True)["fd"]
    assert any("7 of 47 samples are images of the reference" in warning for warning in found.warnings)
    clean = evaluate_images(x, y, extractor=pool, quiet=True)["fd"]
    assert not any("to the pixel" in warning for warning in clean.warnings)


def test_classes_of_folders_are_matched_by_name(pool: str, tmp_path: Path) -> None:
    for side, names in (("a", ("cat", "dog")), ("b", ("ant", "cat", "dog"))):
        (tmp_path / side).mkdir()
        for k, name in enumerate(names):
            write(tmp_path / side / name, pictures(20 + k, 10))
    found = compare_sets(tmp_path / "a", tmp_path / "b", extractor=pool, quiet=True)
    assert found.measured.sample_classes is not None
    assert sorted(set(found.measured.sample_classes.tolist())) == [1, 2]
    assert found.measured.class_names == ("ant", "cat", "dog")


def test_extraction_goes_on_where_it_was_stopped(pool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "SHARD", 16)
    folder = write(tmp_path / "many", pictures(13, 70))
    whole = evaluate_images(folder, pictures(14, 40), extractor=pool, quiet=True)
    for path in (cache_folder() / "features").glob("*"):
        path.rename(tmp_path / path.name)  # forget
    done: list[int] = []
    extract_shard = store_module._extract_shard

    def interrupted(*arguments: object) -> object:
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(1)
        return extract_shard(*arguments)

    monkeypatch.setattr(store_module, "_extract_shard", interrupted)
    with pytest.raises(KeyboardInterrupt):
        evaluate_images(folder, pictures(14, 40), extractor=pool, quiet=True)
    calls: list[int] = []

    def counted(extractor: object, images: object, positions: np.ndarray, advance: object) -> object:
        calls.append(len(positions))
        return extract_shard(extractor, images, positions, advance)

    monkeypatch.setattr(store_module, "_extract_shard", counted)
    again = evaluate_images(folder, pictures(14, 40), extractor=pool, quiet=True)
    assert again == whole
    assert calls == [16, 6, 16, 16, 8]  # the two missing shards of five, then the other side's


def test_two_processes_give_exactly_what_one_gives(pool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spawned workers import the package anew, so shards keep their size there: enough images for three."""
    images = pictures(15, 1200, side=4)
    np.save(tmp_path / "x.npy", images)
    found = []
    for devices in (1, 2):
        monkeypatch.setenv("GANWRIGHT_CACHE", str(tmp_path / f"cache{devices}"))
        found.append(
            evaluate_images(
                str(tmp_path / "x.npy"),
                pictures(16, 40, side=4),
                extractor=pool,
                devices=devices,
                quiet=True,
                metrics=("fd", "kid"),
            )
        )
    assert found[0] == found[1]


def test_under_torchrun_processes_share_the_work(pool: str, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", pictures(22, 1200, side=4))
    np.save(tmp_path / "y.npy", pictures(23, 60, side=4))
    command = ["evaluate", "x.npy", "--reference", "y.npy", "--extractor", pool, "--metrics", "fd", "kid", "--json"]
    printed = []
    for k, launcher in enumerate(([], ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"])):
        environment = {**os.environ, "GANWRIGHT_CACHE": str(tmp_path / f"cache-{k}"), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, *launcher, "-m", "ganwright.cli", *command],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment,
        )
        assert done.returncode == 0, done.stderr
        printed.append(json.loads(done.stdout))
    assert printed[0] == printed[1]  # one process spoke, and said the same


@pytest.mark.slow
def test_a_killed_evaluation_goes_on(tmp_path: Path) -> None:
    """kill -9 in the middle of extraction: a second call ends with what an undisturbed one gives."""
    slow = tmp_path / "slow.pt"
    torch.jit.script(torch.nn.Sequential(*[torch.nn.Conv2d(3, 3, 9, padding=4) for _ in range(4)], Pool())).save(
        str(slow)
    )
    np.save(tmp_path / "x.npy", pictures(17, 4000))
    np.save(tmp_path / "y.npy", pictures(18, 600))
    program = textwrap.dedent(f"""
        import json
        from ganwright.metrics.sets import evaluate_images
        found = evaluate_images({str(tmp_path / "x.npy")!r}, {str(tmp_path / "y.npy")!r}, extractor={f"{slow}@64"!r},
                                metrics=("fd", "kid"), quiet=True)
        print(json.dumps(found.to_dict()))
    """)

    def start(cache: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "GANWRIGHT_CACHE": str(tmp_path / cache)}
        return subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment)

    undisturbed = json.loads(start("one").communicate()[0])
    killed = start("two")
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list((tmp_path / "two").rglob("shard-*.npz")):
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert list((tmp_path / "two").rglob("shard-*.npz")), "killed too late to show anything"
    assert json.loads(start("two").communicate()[0]) == undisturbed


def test_protocols_are_kept_apart(pool: str) -> None:
    x = pictures(19, 30)
    found = evaluate_images(x, x, extractor=pool, quiet=True, metrics=("fd",))["fd"]
    assert found.provenance.protocol == "custom"
    from dataclasses import replace

    other = replace(found, provenance=replace(found.provenance, protocol="clean-fid"))
    with pytest.raises(ProvenanceError, match="protocols 'custom' and 'clean-fid'"):
        found.better_than(other)
    assert choose_protocol("", "inception")[0].name == "clean-fid"
    assert choose_protocol("stylegan", "")[1] == "inception"
    with pytest.raises(SettingsError, match="Did you mean 'clean-fid'"):
        choose_protocol("cleanfid")
    with pytest.raises(SettingsError, match="over the extractor 'inception'"):
        choose_protocol("pytorch-fid", "efficientnet-lite0")
    with pytest.raises(SettingsError, match="needs an extractor"):
        choose_protocol("custom")


def test_a_protocols_covariance_is_followed() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 6)), rng.normal(size=(50, 6)) + 0.3
    for ddof in (0, 1):
        sigmas = [np.cov(z, rowvar=False, ddof=ddof) for z in (x, y)]
        root = np.sqrt(np.linalg.eigvals(sigmas[0] @ sigmas[1]).real.clip(0)).sum()
        expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(sigmas[0]) + np.trace(sigmas[1]) - 2 * root
        assert frechet_distance(x, y, ddof=ddof) == pytest.approx(expected, rel=1e-9)
        assert np.allclose(Moments.of_features(x[:5], ddof=ddof).covariance, np.cov(x[:5], rowvar=False, ddof=ddof))


def test_bad_numbers_are_refused(pool: str) -> None:
    x = pictures(21, 10)
    with pytest.raises(SettingsError, match="processes"):
        evaluate_images(x, x, extractor=pool, devices=0, quiet=True)
    with pytest.raises(MetricError, match="nothing to compare"):
        evaluating.evaluate(x)
