"""Was it worth it? The same segmenter, trained on the generated pairs and on the handful alone, on real images.

    result.json             both, their difference with its interval, and the verdict
    segmenter.safetensors   trained on the pairs, first seed
    pictures.png            real images, their masks, and what either segmenter says

Both are trained for the same steps with the same augmentation and seeds; nothing is selected on the real images.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ganwright.errors import DataError, SettingsError
from ganwright.files import write_atomic
from ganwright.metrics.estimate import Estimate, Provenance
from ganwright.samples import ImageSamples
from ganwright.segmenting.classes import SegmentClasses
from ganwright.segmenting.iou import (
    Counts,
    bootstrap_mean_iou,
    confusion,
    iou_per_class,
    mean_iou_estimate,
)
from ganwright.segmenting.making import require_finished
from ganwright.segmenting.masks import colourise
from ganwright.segmenting.pairs import Pairs, open_pairs
from ganwright.segmenting.segmenter import SegmenterSettings, SmallUNet, save_segmenter, train_segmenter
from ganwright.training.restore import default_device

_SHOWN = 12


@dataclass(frozen=True)
class Verdict:
    """What the comparison found.

    Attributes:
        generated: Mean IoU of the segmenter trained on the generated pairs.
        handful: Of the same segmenter trained on the handful alone.
        difference: The first less the second.
        low: Lower end of its 95 % interval.
        high: Upper end.
        accepted: Whether the interval lies above 0.
        per_class: IoU of each class by name, (generated, handful), mean over seeds; None where it is not in the truth.
        notes: What a reader must know.
    """

    generated: Estimate
    handful: Estimate
    difference: float
    low: float
    high: float
    accepted: bool
    per_class: dict[str, tuple[float | None, float | None]]
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [
            f"generated pairs   {self.generated}",
            f"handful alone     {self.handful}",
            f"difference        {self.difference:+.4f} [{self.low:+.4f}, {self.high:+.4f}]",
            "accepted: better on real images" if self.accepted else self._refused(),
            *(f"note: {note}" for note in self.notes),
        ]
        return "\n".join(lines)

    def _refused(self) -> str:
        if self.high < 0:
            return "not accepted: WORSE on real images than the handful alone"
        return "not accepted: the interval of the difference includes 0"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "generated": self.generated.to_dict(), "handful": self.handful.to_dict()}


def evaluate_dataset(
    dataset: str | Path,
    handful: str | Path,
    real: str | Path,
    out: str | Path | None = None,
    *,
    settings: SegmenterSettings | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    snap: bool = False,
    device: str | None = None,
    quiet: bool = False,
) -> Verdict:
    """Train the same segmenter on the pairs and on the handful, and compare them on real images.

    Args:
        dataset: A folder of `make_dataset`.
        handful: The annotated pictures.
        real: Labelled real images that the GAN was not trained on.
        out: Where to write result, segmenter and pictures; None: nowhere.
        settings: Of the segmenter.
        seeds: Of its training; each trains two segmenters.
        snap: Take the nearest class colour of each pixel of the masks.
        device: Where to compute; None: a GPU where there is one.
        quiet: Show no progress.

    Raises:
        DataError: The data set is unfinished, or masks are missing or wrong.
    """
    place = Path(dataset)
    require_finished(place)
    classes = SegmentClasses.load(place)
    channels = _channels(place)
    generated = open_pairs(place, classes, channels=channels)
    resolution = int(generated.images.shape[1])
    few = open_pairs(
        handful, _same_classes(Path(handful), classes), resolution=resolution, channels=channels, snap=snap
    )
    own = SegmentClasses.load(Path(real)) if (Path(real) / "classes.yaml").is_file() else classes
    test = open_pairs(real, _check_same(own, classes, real), resolution=resolution, channels=channels, snap=snap)
    verdict, network, sheet = compare(
        generated, few, test, settings=settings, seeds=seeds, device=device or default_device(), quiet=quiet
    )
    if out is not None:
        folder = Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        save_segmenter(network, generated, folder / "segmenter.safetensors")
        sheet.save_overview(folder / "pictures.png")
        about = {**verdict.to_dict(), "settings": asdict(settings or SegmenterSettings()), "seeds": list(seeds)}
        write_atomic(folder / "result.json", json.dumps(about, indent=2, ensure_ascii=False) + "\n")
    return verdict


def compare(
    generated: Pairs,
    few: Pairs,
    test: Pairs,
    *,
    settings: SegmenterSettings | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    device: str = "cpu",
    quiet: bool = False,
) -> tuple[Verdict, SmallUNet, ImageSamples]:
    """The comparison itself; see `evaluate_dataset`.

    Returns:
        The verdict, the segmenter trained on `generated` with the first seed, and a sheet to look at.

    Raises:
        SettingsError: No seed.
    """
    if not seeds or len(test) < 2:
        raise SettingsError("A comparison needs a seed and two real images.", where=f"{len(seeds)}, {len(test)}")
    counts: dict[str, list[Counts]] = {"generated pairs": [], "handful alone": []}
    shown: list[npt.NDArray[np.uint8]] = []
    first: SmallUNet | None = None
    for seed in seeds:
        for what, pairs in (("generated pairs", generated), ("handful alone", few)):
            told = f"segmenter on the {what}, seed {seed}"
            network = train_segmenter(pairs, settings, seed=seed, device=device, description=told, quiet=quiet)
            predicted = network.predict(test.images)
            counts[what].append(_counts(test, predicted))
            if seed == seeds[0]:
                shown.append(predicted)
                first = first or network
    assert first is not None
    a, b = (np.stack(found) for found in counts.values())
    return _judge(a, b, test, len(generated), len(few)), first, _sheet(test, shown)


def _counts(test: Pairs, predicted: npt.NDArray[np.uint8]) -> Counts:
    return np.stack([confusion(t, p, len(test.classes)) for t, p in zip(test.masks, predicted, strict=True)])


def _judge(a: Counts, b: Counts, test: Pairs, n_generated: int, n_few: int) -> Verdict:
    """From confusions (S, N, K, K) of both to a verdict."""
    reference = test.fingerprint
    estimates = [
        mean_iou_estimate(
            counts, f"mIoU, real images (U-Net on {n} {what})", Provenance("small U-Net", "", reference, len(test))
        )
        for counts, n, what in ((a, n_generated, "generated pairs"), (b, n_few, "annotated ones"))
    ]
    low, high = np.nanquantile(bootstrap_mean_iou(a) - bootstrap_mean_iou(b), [0.025, 0.975])
    each = [
        iou_per_class(counts.sum(1)).mean(0) for counts in (a, b)
    ]  # a class is in the truth of all seeds or of none
    per_class = {name: (_number(each[0][k]), _number(each[1][k])) for k, name in enumerate(test.classes.names)}
    difference = estimates[0].value - estimates[1].value
    notes = [*test.notes]
    if len(a) < 3:
        notes.append(f"{len(a)} training seeds only: the interval hardly knows how much training varies")
    return Verdict(
        estimates[0], estimates[1], difference, float(low), float(high), bool(low > 0), per_class, tuple(notes)
    )


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _sheet(test: Pairs, predicted: Sequence[npt.NDArray[np.uint8]]) -> ImageSamples:
    """Columns: image, truth, segmenter on the pairs, segmenter on the handful; twice side by side."""
    n = min(_SHOWN, len(test))
    rgb = np.repeat(test.images[:n], 3, -1) if test.images.shape[-1] == 1 else test.images[:n]
    painted = [colourise(masks[:n], test.classes) for masks in (test.masks, *predicted)]
    return ImageSamples(np.stack([rgb, *painted], 1).reshape(-1, *rgb.shape[1:]), columns=8)


def _channels(dataset: Path) -> int:
    first = next(iter(sorted((dataset / "images").glob("*.png"))), None)
    if first is None:
        raise DataError("There is no image in this data set.", where=dataset)
    with Image.open(first) as image:
        return 1 if image.mode == "L" else 3


def _same_classes(folder: Path, classes: SegmentClasses) -> SegmentClasses:
    return _check_same(SegmentClasses.load(folder), classes, folder)


def _check_same(own: SegmentClasses, classes: SegmentClasses, folder: str | Path) -> SegmentClasses:
    """Colours may differ between folders; names and their order may not."""
    if own.names != classes.names:
        raise DataError(
            "The classes of this folder are not those of the data set.",
            where=f"{folder}: {', '.join(own.names)}; data set: {', '.join(classes.names)}",
            fix="use one classes.yaml for all (and train the head again if it has changed)",
        )
    return own
