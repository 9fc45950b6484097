"""Makes a data set of images and masks with a label head; a killed call goes on where it was.

    dataset.yaml       head, run, settings; `finished` once it is whole
    manifest.jsonl     one line a candidate: index, uncertainty, kept or dropped
    images/000000.png  named by candidate, so that there are gaps where one was dropped
    masks/000000.png   palette PNG: index = class
    classes.yaml       names and colours
    overview.png       pairs from the most certain to the least

Candidate i is a function of head, seed and i; whether it is kept depends on the manifest alone.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from ganwright.console import console, progress
from ganwright.errors import DataError, SettingsError
from ganwright.files import append_jsonl, hash_file, read_jsonl, remove_temporaries, write_atomic
from ganwright.run import Run
from ganwright.samples import ImageSamples, save_png
from ganwright.segmenting.classes import SegmentClasses
from ganwright.segmenting.generator import DATASET, StyleGenerator
from ganwright.segmenting.head import LabelHead
from ganwright.segmenting.masks import write_mask
from ganwright.segmenting.pairs import overlay

DROP = 0.1
"""Share of the most uncertain candidates that is dropped (Zhang et al. 2021, section 3.2)."""
_SHOWN = 32
_FORMAT = 1


def make_dataset(
    head: str | Path,
    out: str | Path,
    *,
    n: int = 1000,
    seed: int = 0,
    drop: float = DROP,
    truncation: float | None = None,
    run: str | Path | Run | None = None,
    batch_size: int = 16,
    device: str | None = None,
    quiet: bool = False,
) -> Path:
    """Make n pairs of image and mask; what an earlier call with the same arguments finished is kept.

    Args:
        head: The label head's folder.
        out: The data set's folder.
        n: Pairs wanted, after dropping.
        seed: Of the latents.
        drop: Share of the most uncertain candidates that is made and dropped, in [0, 1).
        truncation: Psi, in (0, 1]; None: that of the annotated pictures.
        run: Where the run is, if it has moved.
        batch_size: Candidates made at a time.
        device: Where to compute; None: a GPU where there is one.
        quiet: Show no progress.

    Returns:
        The folder.

    Raises:
        SettingsError: An impossible number.
        DataError: The head is damaged, or the folder holds another data set or cannot be written.
        RunError: See `LabelHead.generator`.
    """
    if n < 1 or not 0 <= drop < 1 or batch_size < 1:
        raise SettingsError("A number of pairs is at least 1, a share to drop in [0, 1).", where=f"n={n}, drop={drop}")
    folder, opened = Path(out), LabelHead.load(head)
    truncation = opened.truncation if truncation is None else truncation
    about: dict[str, Any] = {
        "format": _FORMAT,
        "head": str(Path(head).resolve()),
        "head_fingerprint": hash_file(Path(head) / "head.safetensors"),
        "run": opened.run,
        "checkpoint": opened.step,
        "generator_fingerprint": opened.fingerprint,
        "n": n,
        "candidates": math.ceil(n / (1 - drop) - 1e-9),
        "drop": drop,
        "seed": seed,
        "truncation": truncation,
        "batch_size": batch_size,
    }
    if _begin(folder, about, opened.classes):
        return folder
    generator = opened.generator(run, device)
    try:
        _make(folder, opened, generator, about, quiet)
        _finish(folder, opened.classes, about)
    except OSError as error:
        raise DataError(
            f"The data set cannot be written: {error.strerror}.",
            where=folder,
            fix="make room on the disk and call again: what is there is kept",
        ) from error
    return folder


def read_manifest(folder: str | Path) -> list[dict[str, Any]]:
    """One record a candidate: `index`, `uncertainty` (nats), and `kept` once the data set is whole."""
    return read_jsonl(Path(folder) / "manifest.jsonl")


def require_finished(folder: Path) -> dict[str, Any]:
    """What `dataset.yaml` says.

    Raises:
        DataError: The folder is no data set, or an unfinished one.
    """
    about = _read_about(folder)
    if about is None:
        raise DataError(
            "This is no data set of pairs: it has no dataset.yaml.",
            where=folder,
            fix="give the folder that `ganwright segment make` wrote",
        )
    if not about.get("finished"):
        raise DataError(
            "This data set is not finished.",
            where=folder,
            fix="call the same `ganwright segment make` again: it goes on",
        )
    return about


def _read_about(folder: Path) -> dict[str, Any] | None:
    path = folder / "dataset.yaml"
    if not path.is_file():
        return None
    try:
        about = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise DataError("dataset.yaml is not valid YAML.", where=path) from error
    if not isinstance(about, dict):
        raise DataError("dataset.yaml is empty or not a mapping.", where=path)
    return about


def _begin(folder: Path, about: dict[str, Any], classes: SegmentClasses) -> bool:
    """Claim the folder, or find what an earlier call left in it; True if the data set is whole already."""
    earlier = _read_about(folder)
    if earlier is not None:
        moved = ("head", "run")  # folders may move: fingerprints say what they are
        different = [
            f"{key}: {earlier.get(key)!r}, asked {value!r}"
            for key, value in about.items()
            if key not in moved and earlier.get(key) != value
        ]
        if different:
            raise DataError(
                "This folder holds another data set.",
                where=f"{folder}: " + "; ".join(different),
                fix="choose another --out, or repeat the options it was begun with to go on",
            )
        return bool(earlier.get("finished"))
    if folder.exists() and any(folder.iterdir()):
        raise DataError("This folder holds something else.", where=folder, fix="choose another --out")
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    classes.save(folder)
    _write_about(folder, {**about, "finished": False})
    return False


def _write_about(folder: Path, about: dict[str, Any]) -> None:
    write_atomic(folder / "dataset.yaml", yaml.safe_dump(about, sort_keys=False))


def _make(folder: Path, head: LabelHead, generator: StyleGenerator, about: dict[str, Any], quiet: bool) -> None:
    """Make the candidates that are missing. Batches begin where they always do, so that sums round alike."""
    total, size = about["candidates"], about["batch_size"]
    for part in ("images", "masks"):
        remove_temporaries(folder / part)
    done = 0
    for record in read_manifest(folder):
        done += record.get("index") == done
    done -= done % size if done < total else 0
    _keep_first(folder, done)
    if done and done < total and not quiet:
        console.print(f"going on after {done} of {total} candidates")
    with progress("pairs", total, done=done, quiet=quiet) as advance:
        for start in range(done, total, size):
            rows = range(start, min(start + size, total))
            w, _ = generator.draw(rows, seed=about["seed"], stream=DATASET, truncation=about["truncation"])
            images, maps = generator.features(w)
            records = []
            for i, index in enumerate(rows):
                mask, uncertainty = head.label([m[i] for m in maps], (images.shape[1], images.shape[2]))
                save_png(folder / "images" / f"{index:06d}.png", images[i])
                write_mask(folder / "masks" / f"{index:06d}.png", mask, head.classes)
                records.append({"index": index, "uncertainty": uncertainty})
            for record in records:
                append_jsonl(folder / "manifest.jsonl", record)
            advance(len(rows), note=f"uncertainty {records[-1]['uncertainty']:.3f}")


def _keep_first(folder: Path, count: int) -> None:
    """Cut the manifest to its first records: what came after is made again."""
    records = read_manifest(folder)[:count]
    write_atomic(folder / "manifest.jsonl", "".join(json.dumps(record) + "\n" for record in records))


def _finish(folder: Path, classes: SegmentClasses, about: dict[str, Any]) -> None:
    """Drop the most uncertain candidates, draw the overview and mark the data set whole; may be repeated."""
    records = read_manifest(folder)
    order = sorted(records, key=lambda record: (record["uncertainty"], record["index"]))
    kept = {record["index"] for record in order[: about["n"]]}
    lines = [json.dumps({**record, "kept": record["index"] in kept}) + "\n" for record in records]
    write_atomic(folder / "manifest.jsonl", "".join(lines))
    for record in records:
        if record["index"] not in kept:
            for part in ("images", "masks"):
                (folder / part / f"{record['index']:06d}.png").unlink(missing_ok=True)
    _overview(folder, classes, [record["index"] for record in order[: about["n"]]])
    values = np.array([record["uncertainty"] for record in order])
    _write_about(
        folder,
        {
            **about,
            "finished": True,
            "uncertainty": {"median": float(np.median(values)), "largest_kept": float(values[about["n"] - 1])},
        },
    )


def _overview(folder: Path, classes: SegmentClasses, by_certainty: list[int]) -> None:
    """Pairs from the most certain to the least: the image, and its mask laid over it."""
    places = np.linspace(0, len(by_certainty) - 1, min(_SHOWN, len(by_certainty))).round().astype(int)
    tiles = []
    for place in places:
        name = f"{by_certainty[place]:06d}.png"
        image = np.asarray(Image.open(folder / "images" / name).convert("RGB"))[None]
        mask = np.asarray(Image.open(folder / "masks" / name))[None]
        tiles += [image[0], overlay(image, mask, classes)[0]]
    ImageSamples(np.stack(tiles), columns=8).save_overview(folder / "overview.png")
