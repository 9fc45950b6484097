"""From a run to a verdict, on a toy whose parts are known."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

import ganwright as gw
from ganwright.cli import main
from ganwright.errors import DataError, GanwrightError, RunError, SettingsError
from ganwright.segmenting import HeadSettings, LabelHead, SegmenterSettings, make_dataset, make_pictures, train_head
from ganwright.segmenting.comparing import compare
from ganwright.segmenting.generator import CANDIDATES, DATASET, open_generator
from ganwright.segmenting.making import read_manifest
from ganwright.segmenting.pairs import open_pairs
from ganwright.segmenting.pictures import read_record

from ..conftest import ROOT
from . import toy

TINY = SegmenterSettings(width=8, steps=40, batch=8)


def content(folder: Path) -> dict[str, bytes]:
    """All files by name; paths in dataset.yaml are not the content's."""
    found = {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
    about = yaml.safe_load(found.pop("dataset.yaml"))
    return {**found, "about": repr({k: v for k, v in about.items() if k != "head"}).encode()}


# Pictures. ----------------------------------------------------------------------------------------------------------


def test_pictures_can_be_made_again_from_their_record(run: Path, pictures: Path) -> None:
    record = read_record(pictures)
    assert len(record.names) == 6 and record.truncation == 0.7
    images, _ = open_generator(run, device="cpu").features(record.w)
    for name, image in zip(record.names, images, strict=True):
        assert (np.asarray(Image.open(pictures / f"{name}.png")) == image).all()
    assert (pictures / "classes.yaml").exists() and (pictures / "overview.png").exists()


def test_pictures_repeat_and_do_not_overwrite(run: Path, pictures: Path, tmp_path: Path) -> None:
    make_pictures(run, tmp_path / "again", n=6, device="cpu", quiet=True)
    assert torch.equal(read_record(tmp_path / "again").w, read_record(pictures).w)
    with pytest.raises(DataError, match="already"):
        make_pictures(run, pictures, n=6, device="cpu")
    with pytest.raises(SettingsError, match="cannot be chosen"):
        make_pictures(run, tmp_path / "few", n=6, candidates=3, device="cpu")


def test_a_latent_depends_on_seed_stream_and_index_alone(run: Path) -> None:
    generator = open_generator(run, device="cpu")
    w, _ = generator.draw([3, 7], seed=1, stream=DATASET, truncation=1.0)
    torch.testing.assert_close(w[1:], generator.draw([7], seed=1, stream=DATASET, truncation=1.0)[0])
    torch.testing.assert_close(generator.draw([3, 7], seed=1, stream=DATASET, truncation=0.5)[0], 0.5 * w)
    for other in ({"seed": 2, "stream": DATASET}, {"seed": 1, "stream": CANDIDATES}):
        assert not torch.allclose(generator.draw([3, 7], truncation=1.0, **other)[0], w)
    with pytest.raises(SettingsError, match="Truncation"):
        generator.draw([0], seed=0, stream=DATASET, truncation=0.0)


def test_a_recipe_without_styles_is_refused(tmp_path: Path) -> None:
    run = toy.trained(tmp_path / "run", "toy-styleless")
    with pytest.raises(RunError, match="has no styles") as caught:
        make_pictures(run, tmp_path / "pictures", device="cpu")
    assert "stylegan2" in str(caught.value.fix)


# The label head. ----------------------------------------------------------------------------------------------------


def test_the_head_knows_the_parts_of_new_images(run: Path, head: Path) -> None:
    opened = LabelHead.load(head)
    generator = opened.generator(device="cpu")
    w, _ = generator.draw(range(20), seed=5, stream=DATASET, truncation=0.7)
    images, maps = generator.features(w)
    found = np.stack([opened.label([m[i] for m in maps], images.shape[1:3])[0] for i in range(20)])
    assert (found == toy.truth(w)).mean() > 0.95
    assert opened.estimate.value > 0.75 and opened.estimate.low < opened.estimate.value < opened.estimate.high
    assert set(opened.per_class) == {"ground", "disc", "bar"}
    assert (head / "check.png").exists()


def test_training_is_repeatable_and_seeds_matter(run: Path, pictures: Path, tmp_path: Path) -> None:
    few = HeadSettings(members=2, steps=20, pixels=16)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train_head(run, pictures, tmp_path / name, settings=few, seed=seed, device="cpu", quiet=True)
    a, b, c = (load_file(tmp_path / name / "head.safetensors") for name in "abc")
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert not torch.equal(a["first.weight"], c["first.weight"])
    assert not torch.equal(a["first.weight"][0], a["first.weight"][1])
    assert LabelHead.load(tmp_path / "a").estimate == LabelHead.load(tmp_path / "b").estimate


def test_a_table_that_does_not_fit_is_thinned(run: Path, pictures: Path) -> None:
    from ganwright.segmenting.fitting import tabulate

    record = read_record(pictures)
    pairs = open_pairs(pictures, toy.CLASSES, names=record.names)
    generator = open_generator(run, device="cpu")
    whole = tabulate(generator, record.w, pairs, HeadSettings(), seed=0, quiet=True)
    assert len(whole.classes) == 6 * toy.SIDE**2 and whole.widths == (12, 10, 6)
    pairs.masks[0, :, :8] = 255
    assert (tabulate(generator, record.w, pairs, HeadSettings(), seed=0, quiet=True).image == 0).sum() == 128


def test_masks_are_checked(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "p"
    make_pictures(run, folder, n=3, candidates=6, device="cpu", quiet=True)
    with pytest.raises(DataError, match="None of the 3 pictures has a mask"):
        train_head(run, folder, tmp_path / "h", device="cpu", quiet=True)
    toy.paint(folder, only=1)
    with pytest.raises(DataError, match="One annotated picture is too few"):
        train_head(run, folder, tmp_path / "h", device="cpu", quiet=True)
    toy.paint(folder)
    Image.new("L", (5, 5)).save(folder / "000001.mask.png")
    with pytest.raises(DataError, match="5x5 pixels and its picture 16x16") as caught:
        train_head(run, folder, tmp_path / "h", device="cpu", quiet=True)
    assert "000001.mask.png" in str(caught.value.where)
    with pytest.raises(DataError, match="not made by"):
        train_head(run, tmp_path, tmp_path / "h", device="cpu", quiet=True)


def test_another_runs_pictures_are_refused(pictures: Path, tmp_path: Path) -> None:
    other = toy.trained(tmp_path / "other")
    checkpoint = next((other / "checkpoints").glob("step-*"))
    state = load_file(checkpoint / "ema.safetensors")
    save_file({key: value + 1 for key, value in state.items()}, checkpoint / "ema.safetensors")
    with pytest.raises(RunError, match="not the one that made these pictures"):
        train_head(other, pictures, tmp_path / "h", device="cpu", quiet=True)


def test_a_moved_run_and_a_damaged_head(run: Path, head: Path, tmp_path: Path) -> None:
    moved = tmp_path / "head"
    shutil.copytree(head, moved)
    text = (moved / "head.yaml").read_text().replace(str(run.resolve()), str(tmp_path / "gone"))
    (moved / "head.yaml").write_text(text)
    with pytest.raises(RunError, match="not there") as caught:
        make_dataset(moved, tmp_path / "d", n=4, device="cpu", quiet=True)
    assert "--run" in str(caught.value.fix)
    make_dataset(moved, tmp_path / "d", n=4, run=run, device="cpu", quiet=True)
    (moved / "head.safetensors").write_bytes(b"broken")
    with pytest.raises(DataError, match="damaged"):
        LabelHead.load(moved)
    with pytest.raises(DataError, match="no label head"):
        LabelHead.load(run)


# The data set. ------------------------------------------------------------------------------------------------------


def test_the_most_uncertain_are_dropped(head: Path, tmp_path: Path) -> None:
    folder = make_dataset(head, tmp_path / "d", n=18, drop=0.1, batch_size=7, device="cpu", quiet=True)
    manifest = read_manifest(folder)
    assert [r["index"] for r in manifest] == list(range(20))
    kept = {r["index"]: r["uncertainty"] for r in manifest if r["kept"]}
    assert len(kept) == 18
    assert max(kept.values()) <= min(r["uncertainty"] for r in manifest if not r["kept"])
    for part in ("images", "masks"):
        assert sorted(int(p.stem) for p in (folder / part).iterdir()) == sorted(kept)
    about = yaml.safe_load((folder / "dataset.yaml").read_text())
    assert about["finished"] and about["uncertainty"]["largest_kept"] == max(kept.values())
    pairs = open_pairs(folder, toy.CLASSES)
    generator = open_generator(about["run"], device="cpu")
    w, _ = generator.draw(sorted(kept), seed=0, stream=DATASET, truncation=0.7)
    assert (pairs.images == generator.features(w)[0]).all()
    assert (pairs.masks == toy.truth(w)).mean() > 0.95


def test_uncertainty_finds_what_the_head_has_not_learnt(head: Path) -> None:
    """Untruncated pictures lie further from what was annotated than strongly truncated ones."""
    opened = LabelHead.load(head)
    generator = opened.generator(device="cpu")
    means = []
    for psi in (0.3, 1.0):
        w, _ = generator.draw(range(40), seed=3, stream=DATASET, truncation=psi)
        images, maps = generator.features(3 * w if psi == 1.0 else w)
        means.append(np.mean([opened.label([m[i] for m in maps], images.shape[1:3])[1] for i in range(40)]))
    assert means[1] > means[0]


def test_a_killed_call_goes_on(head: Path, tmp_path: Path) -> None:
    """SIGKILL at two moments; in the end each file is what it would have been."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    killed = 0
    for pause in (1, 14):
        command = [sys.executable, "-m", "tests.segmenting.toy", str(head), str(tmp_path / "killed"), "60"]
        process = subprocess.Popen(command, cwd=ROOT, env=environment)
        deadline = time.monotonic() + 60
        while process.poll() is None and len(read_manifest(tmp_path / "killed")) < pause:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
    assert killed, "the data set was made before it could be killed"
    assert not yaml.safe_load((tmp_path / "killed" / "dataset.yaml").read_text())["finished"]
    with pytest.raises(DataError, match="not finished"):
        gw.segmenting.evaluate_dataset(tmp_path / "killed", head, head)
    torch.set_num_threads(1)
    for name in ("killed", "whole"):
        make_dataset(head, tmp_path / name, n=60, batch_size=4, device="cpu", quiet=True)
    assert content(tmp_path / "killed") == content(tmp_path / "whole")


def test_interrupted_while_dropping(head: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ganwright.segmenting import making

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(making, "_overview", stop)
        with pytest.raises(KeyboardInterrupt):
            make_dataset(head, tmp_path / "a", n=12, device="cpu", quiet=True)
    for name in ("a", "b"):
        make_dataset(head, tmp_path / name, n=12, device="cpu", quiet=True)
    assert content(tmp_path / "a") == content(tmp_path / "b")


def test_another_data_set_is_not_overwritten(head: Path, tmp_path: Path) -> None:
    make_dataset(head, tmp_path / "d", n=4, device="cpu", quiet=True)
    before = content(tmp_path / "d")
    make_dataset(head, tmp_path / "d", n=4, device="cpu", quiet=True)
    assert content(tmp_path / "d") == before
    with pytest.raises(DataError, match="another data set") as caught:
        make_dataset(head, tmp_path / "d", n=4, seed=1, device="cpu", quiet=True)
    assert "seed: 0, asked 1" in str(caught.value.where)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("mine")
    with pytest.raises(DataError, match="something else"):
        make_dataset(head, tmp_path / "other", n=4, device="cpu", quiet=True)
    with pytest.raises(SettingsError, match="share to drop"):
        make_dataset(head, tmp_path / "e", n=4, drop=1.0, device="cpu")


# The verdict. -------------------------------------------------------------------------------------------------------


def test_the_same_data_twice_is_not_accepted(head: Path, tmp_path: Path) -> None:
    pairs = open_pairs(toy.write_real(tmp_path / "r", 12), toy.CLASSES)
    verdict, _, sheet = compare(pairs, pairs, pairs, settings=TINY, seeds=(0, 1), quiet=True)
    assert verdict.difference == verdict.low == verdict.high == 0 and not verdict.accepted
    assert "not accepted" in str(verdict) and sheet.columns == 8


def test_better_labels_are_accepted_and_worse_are_not(tmp_path: Path) -> None:
    good = open_pairs(toy.write_real(tmp_path / "a", 24, seed=1), toy.CLASSES)
    test = open_pairs(toy.write_real(tmp_path / "b", 24, seed=2), toy.CLASSES)
    random = np.random.default_rng(0).permuted(good.masks, axis=0)
    bad = gw.segmenting.Pairs(good.images, random, good.names, good.classes)
    verdict, _, _ = compare(good, bad, test, settings=TINY, seeds=(0, 1), quiet=True)
    assert verdict.accepted and verdict.low > 0 and verdict.generated.value > verdict.handful.value
    turned, _, _ = compare(bad, good, test, settings=TINY, seeds=(0,), quiet=True)
    assert not turned.accepted and "WORSE" in str(turned)


def test_from_the_command_line(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures, head, dataset = (str(tmp_path / name) for name in ("pictures", "head", "pairs"))
    assert main(["segment", "pictures", str(run), "-n", "6", "--out", pictures]) == 0
    toy.paint(Path(pictures))
    quick = ["--members", "3", "--steps", "200", "--lr", "0.005"]
    assert main(["segment", "train", str(run), pictures, "--out", head, *quick]) == 0
    assert main(["segment", "make", head, "-n", "30", "--out", dataset]) == 0
    assert capsys.readouterr().out.split() == [pictures, head, dataset]
    real = toy.write_real(tmp_path / "real", 10)
    arguments = ["--handful", pictures, "--real", str(real), "--out", str(tmp_path / "verdict"), "--seeds", "2"]
    arguments += ["--width", "8", "--steps", "60", "--batch", "8"]
    assert main(["segment", "evaluate", dataset, *arguments]) == 0
    told = capsys.readouterr().out
    assert "accepted" in told and "difference" in told and "2 training seeds only" in told
    result = json.loads((tmp_path / "verdict" / "result.json").read_text())
    assert result["generated"]["n"] == 10 and result["low"] <= result["difference"] <= result["high"]
    network, names = gw.segmenting.load_segmenter(tmp_path / "verdict" / "segmenter.safetensors")
    assert names == ("ground", "disc", "bar")
    test = open_pairs(real, toy.CLASSES)
    assert (network.predict(test.images) == test.masks).mean() > 0.5
    assert (tmp_path / "verdict" / "pictures.png").exists()


def test_errors_of_the_command_line(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["segment"]) == 0
    assert "evaluate DATASET" in capsys.readouterr().out
    assert main(["segment", "picture", str(run)]) == 1
    assert "Did you mean 'pictures'" in capsys.readouterr().err
    assert main(["segment", "train", str(run), str(tmp_path), "--out", str(tmp_path / "h")]) == 1
    assert "pictures.yaml" in capsys.readouterr().err


def test_folders_of_other_classes_are_refused(head: Path, pictures: Path, tmp_path: Path) -> None:
    dataset = make_dataset(head, tmp_path / "d", n=4, device="cpu", quiet=True)
    real = toy.write_real(tmp_path / "real", 4)
    (real / "classes.yaml").write_text("classes: {ground: '#000000', bar: '#e6194b', disc: '#3cb44b'}")
    with pytest.raises(GanwrightError, match="not those of the data set"):
        gw.segmenting.evaluate_dataset(dataset, pictures, real, settings=TINY, device="cpu", quiet=True)
