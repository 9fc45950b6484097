"""The label head: an ensemble bound to one checkpoint of one run, which labels what that generator makes.

    head.yaml          run, checkpoint, classes' number, settings, how good it is
    head.safetensors   the ensemble
    classes.yaml       names and colours
    check.png          annotated pictures, their masks, and the masks of networks that did not see them

The run itself is not copied: `head.yaml` says where it is and what its weights must be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor

from ganwright.console import console
from ganwright.errors import DataError, RunError
from ganwright.files import write_atomic, write_folder_atomic
from ganwright.metrics.estimate import Estimate, Provenance
from ganwright.run import Run
from ganwright.samples import ImageSamples
from ganwright.segmenting.classes import SegmentClasses
from ganwright.segmenting.ensemble import PixelEnsemble
from ganwright.segmenting.fitting import HeadSettings, fit_ensemble, leave_one_out, tabulate
from ganwright.segmenting.generator import StyleGenerator, open_generator
from ganwright.segmenting.iou import confusion, iou_per_class, mean_iou_estimate
from ganwright.segmenting.masks import colourise
from ganwright.segmenting.pairs import Pairs, open_pairs
from ganwright.segmenting.pictures import read_record
from ganwright.segmenting.uncertainty import image_uncertainty, js_divergence
from ganwright.training.restore import default_device

_FORMAT = 1


@dataclass(frozen=True)
class LabelHead:
    """A trained label head.

    Attributes:
        ensemble: Its networks, in `eval` mode.
        classes: Names and colours.
        run: The run's folder.
        step: The run's checkpoint.
        fingerprint: Of the generator's weights.
        truncation: Psi of the pictures it learnt from.
        estimate: Leave-one-image-out mean IoU.
        per_class: IoU of each class in that test, by name; None where it is in no mask.
        fitted_with: Settings and seed.
    """

    ensemble: PixelEnsemble
    classes: SegmentClasses
    run: str
    step: int
    fingerprint: str
    truncation: float
    estimate: Estimate
    per_class: dict[str, float | None]
    fitted_with: dict[str, Any]

    def generator(self, run: str | Path | Run | None = None, device: str | None = None) -> StyleGenerator:
        """The generator it belongs to.

        Args:
            run: Where the run is now; None: where it was.
            device: Where to put generator and head.

        Raises:
            RunError: The run has gone, or its checkpoint is another.
        """
        if run is None and not (Path(self.run) / "run.yaml").is_file():
            raise RunError(
                "The run this label head belongs to is not there.", where=self.run, fix="say where: --run RUN"
            )
        place = self.run if run is None else run
        opened = open_generator(
            place, checkpoint=self.step, fingerprint=self.fingerprint, device=device or default_device()
        )
        self.ensemble.to(opened.device)
        return opened

    @torch.no_grad()
    def label(self, maps: Sequence[Tensor], size: tuple[int, int]) -> tuple[npt.NDArray[np.uint8], float]:
        """Label one image.

        Args:
            maps: Its feature maps, (C_i, H_i, W_i) each.
            size: Its (height, width).

        Returns:
            The most probable class of each pixel, uint8 (H, W), and the image's uncertainty in nats.
        """
        masks, divergences = [], []
        for band in self.ensemble.bands(size):
            probabilities = self.ensemble.probabilities(maps, size, band)
            masks.append(probabilities.mean(0).argmax(0).to(torch.uint8))
            divergences.append(js_divergence(probabilities))
        return torch.cat(masks).cpu().numpy(), image_uncertainty(torch.cat(divergences))

    def save(self, folder: Path, check: ImageSamples | None = None) -> Path:
        """Write the folder, whole or not at all.

        Raises:
            DataError: There is something else in it.
        """
        if folder.exists() and any(folder.iterdir()) and not (folder / "head.yaml").is_file():
            raise DataError("This folder holds something else.", where=folder, fix="choose another --out")
        about: dict[str, Any] = {
            "format": _FORMAT,
            "run": self.run,
            "checkpoint": self.step,
            "fingerprint": self.fingerprint,
            "truncation": self.truncation,
            "networks": {
                "members": self.ensemble.members,
                "widths": list(self.ensemble.widths),
                "hidden": list(self.ensemble.hidden),
                "classes": self.ensemble.num_classes,
            },
            "leave_one_image_out": self.estimate.to_dict(),
            "iou": self.per_class,
            "fitted_with": self.fitted_with,
        }

        def fill(place: Path) -> None:
            state = {name: tensor.detach().cpu().contiguous() for name, tensor in self.ensemble.state_dict().items()}
            save_file(state, place / "head.safetensors")
            write_atomic(place / "head.yaml", yaml.safe_dump(about, sort_keys=False, allow_unicode=True))
            self.classes.save(place)
            if check is not None:
                check.save_overview(place / "check.png")

        write_folder_atomic(folder, fill)
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> LabelHead:
        """Read a head's folder.

        Raises:
            DataError: It is none, or damaged.
        """
        place = Path(folder)
        if not (place / "head.yaml").is_file():
            raise DataError(
                "This is no label head: it has no head.yaml.",
                where=place,
                fix="give the folder that `ganwright segment train` wrote",
            )
        classes = SegmentClasses.load(place)
        try:
            about = yaml.safe_load((place / "head.yaml").read_text(encoding="utf-8"))
            shape = about["networks"]
            ensemble = PixelEnsemble(
                shape["members"], shape["widths"], shape["classes"], hidden=(shape["hidden"][0], shape["hidden"][1])
            )
            ensemble.load_state_dict(load_file(place / "head.safetensors"))
            if len(classes) != ensemble.num_classes:
                raise ValueError(f"{len(classes)} classes are named and {ensemble.num_classes} were learnt")
            return cls(
                ensemble.eval(),
                classes,
                about["run"],
                int(about["checkpoint"]),
                about["fingerprint"],
                float(about["truncation"]),
                Estimate.from_dict(about["leave_one_image_out"]),
                about["iou"],
                about["fitted_with"],
            )
        except Exception as error:  # YAML, keys, shapes, safetensors: each has its own errors
            raise DataError(f"The label head is damaged ({error}).", where=place, fix="train it again") from error


def train_head(
    run: str | Path | Run,
    pictures: str | Path,
    out: str | Path,
    *,
    settings: HeadSettings | None = None,
    seed: int = 0,
    snap: bool = False,
    device: str | None = None,
    quiet: bool = False,
) -> LabelHead:
    """Train a label head on annotated pictures of a run, test it, and save it.

    Args:
        run: The run whose pictures they are.
        pictures: The folder of `make_pictures`, with masks.
        out: The head's folder.
        settings: How to train it.
        seed: Of weights, batches and the choice of pixels.
        snap: Take the nearest class colour of each pixel of the masks.
        device: Where to compute; None: a GPU where there is one.
        quiet: Show no progress.

    Raises:
        DataError: Masks are missing or wrong; says which.
        RunError: The run is not the pictures' one.
    """
    folder, settings = Path(pictures), settings or HeadSettings()
    record, classes = read_record(folder), SegmentClasses.load(folder)
    generator = open_generator(
        run, checkpoint=record.step, fingerprint=record.fingerprint, device=device or default_device()
    )
    channels = int(generator.features(record.w[:1])[0].shape[-1])
    pairs = open_pairs(folder, classes, channels=channels, names=record.names, snap=snap)
    if len(pairs) < 2:
        raise DataError("One annotated picture is too few: the head is tested on pictures left out.", where=folder)
    for note in () if quiet else pairs.notes:
        console.print(f"[yellow]{note}", soft_wrap=True)
    w = record.w[[record.names.index(name) for name in pairs.names]]
    table = tabulate(generator, w, pairs, settings, seed=seed, quiet=quiet)
    predicted = leave_one_out(generator, w, table, pairs, settings, seed=seed, quiet=quiet)
    ensemble = fit_ensemble(table, len(classes), settings, seed=seed, quiet=quiet)
    estimate, per_class = _score(pairs, predicted)
    head = LabelHead(
        ensemble,
        classes,
        str(generator.run.path.resolve()),
        generator.step,
        generator.fingerprint,
        record.truncation,
        estimate,
        per_class,
        {**asdict(settings), "hidden": list(settings.hidden), "seed": seed, "pictures": len(pairs)},
    )
    head.save(Path(out), _check_sheet(pairs, predicted))
    return head


def _score(pairs: Pairs, predicted: npt.NDArray[np.uint8]) -> tuple[Estimate, dict[str, float | None]]:
    counts = np.stack([confusion(t, p, len(pairs.classes)) for t, p in zip(pairs.masks, predicted, strict=True)])
    warnings = () if len(pairs) >= 10 else (f"of {len(pairs)} images only: the interval itself is uncertain",)
    estimate = mean_iou_estimate(
        counts[None],
        "mIoU, leave one image out",
        Provenance("one network of the label head", "none", pairs.fingerprint, len(pairs)),
        warnings,
    )
    each = iou_per_class(counts.sum(0))
    names = pairs.classes.names
    return estimate, {n: float(v) if np.isfinite(v) else None for n, v in zip(names, each, strict=True)}


def _check_sheet(pairs: Pairs, predicted: npt.NDArray[np.uint8]) -> ImageSamples:
    """Columns: pictures, masks as painted, masks as predicted by networks that did not see them."""
    rgb = np.repeat(pairs.images, 3, -1) if pairs.images.shape[-1] == 1 else pairs.images
    rows = np.stack([rgb, colourise(pairs.masks, pairs.classes), colourise(predicted, pairs.classes)], 1)
    return ImageSamples(rows.reshape(-1, *rgb.shape[1:]), columns=6)
