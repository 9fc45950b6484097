"""Files restored and translated: what is kept, what is refused, and which method is called better."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from scipy.ndimage import uniform_filter

from ganwright.cli import main
from ganwright.data.photo import Photo, read_photo, write_photo
from ganwright.errors import DataError, SettingsError
from ganwright.networks.skip import PLANS, SkipPlan
from ganwright.restoring import PriorOptions, RestoreOptions, load_translator, restore_each, translate_each
from ganwright.restoring import prior as prior_module
from ganwright.run import Run

from .toys import toy_run

ICC = b"a profile that nobody reads" * 8


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder = tmp_path_factory.mktemp("runs")
    made = {does: toy_run(folder / does, does) for does in ("blur", "double", "nothing")}
    return {**made, "grey": toy_run(folder / "grey", "blur", channels=1)}


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plan = SkipPlan(8, down=(16, 32), up=(16, 32), skip=(4, 4), padding="zeros")
    monkeypatch.setitem(PLANS, "tiny", plan)  # type: ignore[arg-type]
    monkeypatch.chdir(tmp_path)


def painting(height: int, width: int, channels: int = 3) -> npt.NDArray[np.float64]:
    y, x = np.mgrid[0:height, 0:width]
    picture = np.stack([0.5 + 0.3 * np.sin(x / 9 + c) * np.cos(y / 7) for c in range(channels)], -1)
    picture[(x > width // 2) & (y > height // 3)] *= 0.5
    return picture


def noisy(picture: npt.NDArray[np.float64], sigma: float = 25) -> npt.NDArray[np.uint8]:
    noise = np.random.default_rng(0).normal(0, sigma / 255, picture.shape)
    return np.rint(255 * np.clip(picture + noise, 0, 1)).astype(np.uint8)


def save(path: Path, values: npt.NDArray[Any]) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    Image.fromarray(values.squeeze()).save(path)
    return path


def options(**given: Any) -> RestoreOptions:
    fit = PriorOptions("tiny", given.pop("steps", 60), settings={"log_every": 20, "sample_every": 10**6})
    return RestoreOptions(**{"prior": fit, **given})


# Trained runs. -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["uint8", "uint16"])
def test_translation_keeps_depth_transparency_profile_and_exif(tmp_path: Path, runs: dict[str, Run], kind: str) -> None:
    values = np.random.default_rng(0).integers(0, np.iinfo(kind).max, (60, 50, 3), kind)
    block = Image.Exif()
    block[0x010E] = "a cat"
    photo = Photo(values, values[..., 0].copy(), ICC, block.tobytes())
    source = write_photo(tmp_path / "p.png", photo)
    by = load_translator(runs["nothing"], tile=32, overlap=8)
    (path,) = translate_each(by, source, out=tmp_path / "out.png")
    made = read_photo(path)
    np.testing.assert_array_equal(made.colour, photo.colour)
    np.testing.assert_array_equal(made.alpha, photo.alpha)
    assert made.icc == ICC and b"a cat" in (made.exif or b"")


def test_directions_and_enlarging(tmp_path: Path, runs: dict[str, Run]) -> None:
    values = np.random.default_rng(0).integers(0, 256, (40, 30, 4), np.uint8)
    source = save(tmp_path / "p.png", values)
    (path,) = translate_each(load_translator(runs["double"], tile=16, overlap=4), source)
    made = read_photo(path)
    np.testing.assert_array_equal(made.colour, values[..., :3].repeat(2, 0).repeat(2, 1))
    assert path.name == "p-translated.png" and made.alpha is not None and made.alpha.shape == (80, 60)
    (back,) = translate_each(load_translator(runs["blur"], direction="b2a"), source, out=tmp_path / "n")
    np.testing.assert_array_equal(read_photo(back).colour, 255 - values[..., :3])


def test_channels_follow_what_the_run_knows(tmp_path: Path, runs: dict[str, Run]) -> None:
    colour, grey = (
        save(tmp_path / "c.png", noisy(painting(24, 24))),
        save(tmp_path / "g.png", noisy(painting(24, 24, 1))),
    )
    (a,) = translate_each(load_translator(runs["grey"]), colour)
    (b,) = translate_each(load_translator(runs["blur"]), grey)
    assert read_photo(a).colour.shape[-1] == 1 and read_photo(b).colour.shape[-1] == 3
    # A restorer gives back what it was given, each channel on its own.
    how = options(classical=False, sheets=False)
    (c,) = restore_each("denoise", colour, by=load_translator(runs["grey"], restoring=True), options=how)
    (g,) = restore_each("denoise", grey, by=load_translator(runs["blur"], restoring=True), options=how)
    blurred = uniform_filter(read_photo(colour).colour.astype(float), (5, 5, 0), mode="nearest")
    assert np.abs(read_photo(c.target).colour - blurred).max() <= 1
    assert read_photo(g.target).colour.shape == (24, 24, 1)


def test_a_folder_is_done_whole_and_broken_pictures_are_named(
    tmp_path: Path, runs: dict[str, Run], capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.png", "sub/b.jpg", "sub/c.tif"):
        save(tmp_path / "in" / name, noisy(painting(20, 20)))
    (tmp_path / "in" / "broken.png").write_bytes(b"no picture")
    assert main(["translate", str(runs["nothing"].path), str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr()
    found = sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.*"))
    assert found == ["a.png", "sub/b.png", "sub/c.tif"]
    assert told.out.splitlines() == [str(tmp_path / "out" / name) for name in found]
    assert "broken.png is left out" in told.err
    before = (tmp_path / "out" / "a.png").stat().st_mtime_ns
    assert main(["translate", str(runs["nothing"].path), str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 1
    assert "--force" in capsys.readouterr().err and (tmp_path / "out" / "a.png").stat().st_mtime_ns == before
    again = ["translate", str(runs["nothing"].path), str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--force"]
    assert main(again) == 0


def test_a_run_is_compared_on_pixels_it_did_not_see(tmp_path: Path, runs: dict[str, Run]) -> None:
    """A restorer that does nothing is found out without the truth: held-out pixels it can only guess."""
    pytest.importorskip("skimage")
    truth = painting(64, 64)
    source = save(tmp_path / "p.png", noisy(truth))
    by = load_translator(runs["nothing"], restoring=True)
    (done,) = restore_each("denoise", source, by=by, options=options())
    (verdict,) = done.verdicts
    assert done.better in ("total variation", "non-local means", "wavelets") and verdict.best == done.better
    assert done.classical and done.classical.exists() and done.sheet and done.sheet.exists()
    original = save(tmp_path / "t.png", np.rint(255 * truth).astype(np.uint8))
    (again,) = restore_each("denoise", source, by=by, options=options(truth=original, force=True))
    told = again.verdicts[-1]
    assert again.better == done.better and "against the original" in told.measure
    kept = read_photo(done.classical).floats() - read_photo(original).floats()
    assert told.decibels[done.better] == pytest.approx(-10 * np.log10((kept.astype(float) ** 2).mean()), abs=1e-3)
    assert told.decibels[done.better] > told.decibels["nothing"] + 4 and set(told.further["SSIM"]) == set(told.decibels)


def test_enlarging_is_compared_on_a_shrunken_copy(tmp_path: Path, runs: dict[str, Run]) -> None:
    source = save(tmp_path / "p.png", np.rint(255 * painting(96, 96)).astype(np.uint8))
    (done,) = restore_each("upscale", source, by=load_translator(runs["double"], restoring=True), options=options())
    assert done.better == "bicubic" and "from a copy shrunk by 2" in str(done.verdicts[0])
    assert read_photo(done.target).size == (192, 192)


# Deep Image Prior. -------------------------------------------------------------------------------------------------


def test_inpainting_leaves_known_pixels_alone_at_full_depth(tmp_path: Path) -> None:
    pytest.importorskip("skimage")
    truth = np.rint(65535 * painting(40, 44)).astype(np.uint16)
    known = np.ones((40, 44), bool)
    known[10:14, 6:30] = False
    damaged = np.where(known[..., None], truth, 0).astype(np.uint16)
    source = write_photo(tmp_path / "p.png", Photo(damaged, None, ICC))
    mask = save(tmp_path / "m.png", np.where(known, 255, 0).astype(np.uint8))
    (done,) = restore_each("inpaint", source, options=options(mask=mask))
    made = read_photo(done.target)
    np.testing.assert_array_equal(made.colour[known], truth[known])
    assert made.icc == ICC and (made.colour[~known] > 0).all()
    assert "known pixels treated as holes" in str(done.verdicts[0]) and done.run and done.run.checkpoints()
    # What is transparent is missing where there is no mask; the result has no holes left.
    alpha = np.where(known, 65535, 0).astype(np.uint16)
    clear = write_photo(tmp_path / "clear.png", Photo(damaged, alpha))
    (again,) = restore_each("inpaint", clear, options=options(classical=False))
    assert read_photo(again.target).alpha is None
    np.testing.assert_array_equal(read_photo(again.target).colour[known], truth[known])


def test_denoising_by_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("skimage")
    truth = painting(32, 40)
    source = save(tmp_path / "p.jpg", noisy(truth))
    original = save(tmp_path / "t.png", np.rint(255 * truth).astype(np.uint8))
    words = ["restore", "denoise", str(source), "--network", "tiny", "--steps", "150", "--truth", str(original)]
    assert main(words) == 0
    told = capsys.readouterr()
    assert told.out == f"{tmp_path / 'p-denoised.png'}\n"
    assert "on held-out pixels: deep image prior" in told.err and "against the original, PSNR" in told.err
    assert (tmp_path / "p-denoised-before-after.png").exists()
    assert main(words) == 1 and "written over" in capsys.readouterr().err


def test_upscaling_and_deblocking_give_the_right_sizes(tmp_path: Path) -> None:
    source = save(tmp_path / "p.jpg", noisy(painting(16, 20), 0))
    (large,) = restore_each("upscale", source, options=options(factor=2))
    assert read_photo(large.target).size == (32, 40) and "too small" in large.verdicts[0].note
    (same,) = restore_each("deblock", source, options=options())
    assert read_photo(same.target).size == (16, 20) and not same.better


@pytest.mark.parametrize("what", ["denoise", "inpaint"])
def test_without_held_out_pixels_nothing_is_claimed(tmp_path: Path, what: str) -> None:
    pytest.importorskip("skimage")
    values = np.dstack([noisy(painting(24, 24)), np.full((24, 24), 255, np.uint8)])
    values[5:7, 5:20, 3] = 0
    fit = PriorOptions("tiny", 20, settings={"stopping": "variance", "log_every": 10})
    (done,) = restore_each(what, save(tmp_path / "p.png", values), options=RestoreOptions(prior=fit))
    assert "No pixels were held out" in str(done.verdicts[0]) and not done.better


def test_an_interrupted_fit_gives_its_best_and_ends_the_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        save(tmp_path / "in" / f"{name}.png", noisy(painting(24, 24)))
    real = prior_module.start_run
    monkeypatch.setattr(prior_module, "start_run", lambda *given: (real(*given)[0], "interrupted"))
    words = ["restore", "denoise", str(tmp_path / "in"), "--network", "tiny", "--steps", "60"]
    assert main(words) == 130
    assert sorted(p.name for p in (tmp_path / "in-denoised").iterdir()) == ["a-before-after.png", "a.png"]
    assert "the best so far is taken" in capsys.readouterr().err


# What people get wrong. --------------------------------------------------------------------------------------------


def test_what_cannot_be_done_is_said(tmp_path: Path, runs: dict[str, Run]) -> None:
    picture = save(tmp_path / "p.png", noisy(painting(24, 24)))
    small = save(tmp_path / "small.png", noisy(painting(8, 8)))
    blur, double = (load_translator(runs[name], restoring=True) for name in ("blur", "double"))
    for error, message, what, given in (
        (SettingsError, "Did you mean 'denoise'", "denose", {}),
        (SettingsError, "does not upscale", "upscale", {"by": blur}),
        (SettingsError, "does not denoise", "denoise", {"by": double}),
        (SettingsError, "not by 4", "upscale", {"by": double, "factor": 4}),
        (SettingsError, "not told which pixels", "inpaint", {"by": blur}),
        (SettingsError, "A mask is for inpainting", "denoise", {"mask": picture}),
        (SettingsError, "enlarges nothing", "upscale", {"factor": 1}),
        (DataError, "there is no mask", "inpaint", {}),
        (DataError, "There is no mask for p.png", "inpaint", {"mask": tmp_path / "masks"}),
        (DataError, "The mask is 8x8", "inpaint", {"mask": small}),
        (DataError, "The original is 8x8", "denoise", {"truth": small}),
        (DataError, "no original for p.png", "denoise", {"truth": tmp_path / "none.png"}),
        (DataError, "no such picture", "denoise", {"source": tmp_path / "q.png"}),
        (DataError, "no pictures in this folder", "denoise", {"source": tmp_path / "empty"}),
        (DataError, "replace the picture it is made of", "denoise", {"out": picture}),
        (SettingsError, "megapixels takes about", "denoise", {"huge": True}),
    ):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.MonkeyPatch.context() as patch, pytest.raises(error, match=message):
            if given.get("huge"):
                patch.setattr(prior_module, "_memory", lambda: 1 << 16)
            rest = {k: v for k, v in given.items() if k not in ("by", "source", "out", "huge")}
            list(
                restore_each(
                    what,
                    given.get("source", picture),  # type: ignore[arg-type]
                    out=given.get("out"),  # type: ignore[arg-type]
                    by=given.get("by"),  # type: ignore[arg-type]
                    options=options(**rest),
                )
            )
    assert not (tmp_path / "runs").exists() and not list(tmp_path.glob("*-denoised*"))


def test_runs_that_cannot_translate_are_refused(tmp_path: Path, runs: dict[str, Run]) -> None:
    import ganwright as gw

    gan = gw.train(
        "dcgan",
        np.zeros((16, 16, 16, 1), np.uint8),
        out=tmp_path / "gan",
        steps=1,
        batch_size=4,
        evaluate_every=-1,
        write_html=False,
    )
    with pytest.raises(SettingsError, match="makes images from nothing"):
        load_translator(gan)
    with pytest.raises(SettingsError, match="does not translate b2c"):
        load_translator(runs["blur"], direction="b2c")


def test_from_python(tmp_path: Path, runs: dict[str, Run]) -> None:
    import ganwright as gw

    picture = save(tmp_path / "p.png", noisy(painting(24, 24)))
    assert gw.translate(runs["blur"], picture, out=tmp_path / "t.png", direction="b2a") == [tmp_path / "t.png"]
    (done,) = gw.restore("denoise", picture, run=runs["blur"].path, classical=False, sheets=False)
    assert done.target == tmp_path / "p-denoised.png" and done.sheet is None
    (fitted,) = gw.restore("denoise", picture, network="tiny", steps=10, out=tmp_path / "f", classical=False)
    assert fitted.run is not None and fitted.target == tmp_path / "f" / "p-denoised.png"
    with pytest.raises(SettingsError, match="Did you mean 'sigma'"):
        gw.restore("denoise", picture, sgma=25)


def test_help_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["restore"]) == 0 and "inpaint PICTURE --mask MASK" in capsys.readouterr().out
    assert main(["restore", "denose", "p.png"]) == 1 and "Did you mean 'denoise'" in capsys.readouterr().err
