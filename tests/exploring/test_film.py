"""Films: frames, times, and files that are whole or not there."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ganwright.errors import MissingExtraError, SettingsError
from ganwright.exploring import Clip, Explorer
from ganwright.exploring.video import durations

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None or shutil.which("ffprobe") is None, reason="no ffmpeg")


def probed(path: Path) -> dict[str, str]:
    command = ["ffprobe", "-v", "error", "-count_frames", "-show_streams", "-of", "json", str(path)]
    found = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    stream: dict[str, str] = found["streams"][0]
    return stream


def test_a_walk_has_the_frames_asked_for_and_begins_at_its_seeds(style: Explorer, plain: Explorer) -> None:
    for explorer in (style, plain):
        clip = explorer.walk(5, keyframes=4, seconds=2, fps=10)
        frames = list(clip.render())
        assert len(frames) == clip.count == 20
        keys = explorer.images([5, 6, 7, 8]).images.astype(int)
        for k in range(4):
            assert np.abs(frames[5 * k] - keys[k]).max() <= 1


def test_several_walks_are_a_grid_with_a_class_each(conditional: Explorer) -> None:
    clip = conditional.walk(0, walks=3, keyframes=2, seconds=1, fps=4)
    frames = list(clip.render())
    assert frames[0].shape == (2 * 18 + 2, 2 * 18 + 2, 3)
    for i, left in enumerate((2, 20)):
        alone = conditional.images([2 * i], labels=i).images[0].astype(int)
        assert np.abs(frames[0][2:18, left : left + 16] - alone).max() <= 1


def test_a_film_of_an_interpolation_goes_there_and_back(style: Explorer) -> None:
    clip = style.interpolation_film([1, 2, 3], seconds=1, fps=20)
    frames = list(clip.render())
    assert len(frames) == clip.count == 20
    assert np.abs(frames[5].astype(int) - style.images(2).images[0]).max() <= 1
    assert np.abs(frames[10].astype(int) - style.images(3).images[0]).max() <= 1
    for i in range(1, 10):
        assert np.array_equal(frames[i], frames[20 - i])


@pytest.mark.parametrize("ending", ["gif", "webp", "png", "apng"])
def test_pillow_reads_what_was_written(style: Explorer, tmp_path: Path, ending: str) -> None:
    clip = style.walk(0, keyframes=2, seconds=0.5, fps=20)
    path = clip.save(tmp_path / f"walk.{ending}", quiet=True)
    with Image.open(path) as film:
        assert (film.n_frames, film.size) == (10, (256, 256))
        assert film.info["loop"] == 0
        expected = list(clip.frames())
        film.seek(7)
        shown = np.asarray(film.convert("RGB")).astype(int)
    exact = ending in ("png", "apng")
    assert np.abs(shown - expected[7]).mean() < (1e-9 if exact else 12)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_grey_gifs_are_exact(tmp_path: Path) -> None:
    frames = [np.random.default_rng(i).integers(0, 256, (256, 256, 1), np.uint8) for i in range(3)]
    path = Clip(lambda: iter(frames), 3, 10).save(tmp_path / "grey.gif", quiet=True)
    with Image.open(path) as film:
        for i, frame in enumerate(frames):
            film.seek(i)
            assert np.array_equal(np.asarray(film.convert("L")), frame[..., 0])


@needs_ffmpeg
def test_ffmpeg_reads_what_was_written(style: Explorer, tmp_path: Path) -> None:
    path = style.walk(0, walks=3, keyframes=2, seconds=1, fps=24).save(tmp_path / "walk.mp4", quiet=True)
    stream = probed(path)
    assert (stream["nb_read_frames"], stream["r_frame_rate"], stream["pix_fmt"]) == ("24", "24/1", "yuv420p")
    assert int(stream["width"]) % 2 == int(stream["height"]) % 2 == 0
    assert float(stream["duration"]) == pytest.approx(1.0, abs=0.05)
    pixels = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], capture_output=True
    ).stdout
    film = np.frombuffer(pixels, np.uint8).reshape(24, int(stream["height"]), int(stream["width"]), 3)
    first = next(iter(style.walk(0, walks=3, keyframes=2, seconds=1, fps=24).frames()))
    assert np.abs(film[0, : first.shape[0], : first.shape[1]].astype(int) - first).mean() < 8


@pytest.mark.parametrize("ending", ["mp4", "gif", "apng"])
def test_ctrl_c_leaves_no_half_written_file_and_keeps_an_old_one(tmp_path: Path, ending: str) -> None:
    if ending == "mp4" and shutil.which("ffmpeg") is None:
        pytest.skip("no ffmpeg")

    def render() -> Iterator[np.ndarray]:
        yield from (np.full((32, 32, 3), 40 * i, np.uint8) for i in range(4))
        raise KeyboardInterrupt

    (tmp_path / f"old.{ending}").write_text("old")
    for name in ("old", "new"):
        with pytest.raises(KeyboardInterrupt):
            Clip(render, 9, 10).save(tmp_path / f"{name}.{ending}", quiet=True)
    assert [p.name for p in tmp_path.iterdir()] == [f"old.{ending}"]
    assert (tmp_path / f"old.{ending}").read_text() == "old"


def test_without_ffmpeg_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(__import__("sys").modules, "imageio_ffmpeg", None)
    with pytest.raises(MissingExtraError, match=r"ganwright\[video\]"):
        Clip(lambda: iter([np.zeros((8, 8, 3), np.uint8)]), 1, 10).save(tmp_path / "a.mp4", quiet=True)
    assert not list(tmp_path.iterdir())


@needs_ffmpeg
def test_ffmpegs_own_failure_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ganwright.exploring.video._encoder", lambda program: "nonsense")
    with pytest.raises(SettingsError, match="ffmpeg failed"):
        Clip(lambda: iter([np.zeros((300, 300, 3), np.uint8)] * 40), 40, 10).save(tmp_path / "a.mp4", quiet=True)
    assert not list(tmp_path.iterdir())


def test_an_unknown_ending(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"Did you mean '.mp4'"):
        Clip(lambda: iter([]), 1, 10).save(tmp_path / "a.mp3")


@pytest.mark.parametrize("wrong", [{"seconds": 0}, {"fps": 0}, {"fps": 1000}, {"seconds": float("inf")}, {"walks": 0}])
def test_impossible_films(style: Explorer, wrong: dict[str, float]) -> None:
    with pytest.raises(SettingsError):
        style.walk(0, **wrong)


def test_times_do_not_drift() -> None:
    assert sum(durations(90, 30, unit=10)) == 3000
    assert set(durations(90, 30, unit=10)) == {30, 40}
    assert durations(3, 25, unit=1) == [40, 40, 40]
