"""Images with their masks, as folders: `NAME.png` with `NAME.mask.png` beside it, or `images/` and `masks/`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from ganwright.data.decode import EXTENSIONS, decode_picture, fit
from ganwright.errors import DataError
from ganwright.files import hash_bytes, is_temporary
from ganwright.samples import Uint8Array
from ganwright.segmenting.classes import IGNORE, SegmentClasses
from ganwright.segmenting.masks import read_mask

_MASK_MARK = ".mask"
_NAMED = 3


@dataclass(frozen=True)
class Pairs:
    """Images of one size with their masks.

    Attributes:
        images: uint8 (N, H, W, C).
        masks: uint8 (N, H, W): class indices, 255 = ignore.
        names: Of the images, without ending.
        classes: Names and colours.
        notes: What a person should know about how they were read.
    """

    images: Uint8Array
    masks: npt.NDArray[np.uint8]
    names: tuple[str, ...]
    classes: SegmentClasses
    notes: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.images)

    @property
    def fingerprint(self) -> str:
        """Hash of images and masks."""
        return hash_bytes(str(self.images.shape).encode(), self.images.tobytes(), self.masks.tobytes())

    def counts(self) -> npt.NDArray[np.int64]:
        """Pixels of each class, int64 (K,)."""
        return np.bincount(self.masks.ravel(), minlength=256)[: len(self.classes)]


def open_pairs(
    folder: str | Path,
    classes: SegmentClasses,
    *,
    resolution: int = 0,
    channels: int = 3,
    names: Iterable[str] | None = None,
    snap: bool = False,
) -> Pairs:
    """Read a folder of images with masks; images without a mask are left out, with a note.

    Args:
        folder: Where they are.
        classes: Names and colours.
        resolution: Bring them to this size (the central square; masks by nearest neighbour); 0: as they are.
        channels: 1 or 3.
        names: Only these images, in this order; None: all, by name.
        snap: See `read_mask`.

    Raises:
        DataError: There is no mask at all; a mask is wrong (see `read_mask`); images are of several sizes; only one
            class is to be seen.
    """
    place = Path(folder)
    if not place.is_dir():
        raise DataError("There is no such folder of images and masks.", where=place)
    found = find_pairs(place)
    wanted = list(found) if names is None else list(names)
    missing = [name for name in wanted if name not in found or found[name][1] is None]
    images, masks, kept = [], [], []
    for name in wanted:
        image_path, mask_path = found.get(name, (None, None))
        if image_path is None or mask_path is None:
            continue
        pixels = decode_picture(image_path.read_bytes(), str(image_path)).pixels
        mask = read_mask(mask_path, classes, (pixels.shape[0], pixels.shape[1]), snap=snap)
        images.append(fit(pixels, resolution, channels))
        masks.append(fit_mask(mask, resolution))
        kept.append(name)
    if not kept:
        raise DataError(
            f"None of the {len(wanted)} pictures has a mask." if wanted else "There are no pictures in this folder.",
            where=place,
            fix="paint masks and save that of NAME.png as NAME.mask.png beside it, or in masks/ beside images/",
        )
    sizes = {mask.shape for mask in masks}
    if len(sizes) > 1:
        shown = ", ".join(f"{w}x{h}" for h, w in sorted(sizes))
        raise DataError(
            f"The images are of several sizes: {shown}.", where=place, fix="resize them, or give a resolution"
        )
    notes = []
    if missing:
        more = ", …" if len(missing) > _NAMED else ""
        notes.append(f"{len(missing)} pictures without a mask are left out: {', '.join(missing[:_NAMED])}{more}")
    pairs = Pairs(np.stack(images), np.stack(masks), tuple(kept), classes, tuple(notes))
    return _checked(pairs, place)


def _checked(pairs: Pairs, folder: Path) -> Pairs:
    """Refuse masks of one class; note classes that are nowhere."""
    counts = pairs.counts()
    seen = [name for name, count in zip(pairs.classes.names, counts, strict=True) if count]
    if len(seen) < 2:
        what = f"Only one class is painted: {seen[0]}." if seen else "All pixels of all masks are ignored ones."
        raise DataError(what, where=folder, fix="paint at least two; what is not a thing of interest is a class too")
    unseen = [name for name, count in zip(pairs.classes.names, counts, strict=True) if not count]
    notes = [*pairs.notes, *([f"no mask shows: {', '.join(unseen)}"] if unseen else [])]
    return Pairs(pairs.images, pairs.masks, pairs.names, pairs.classes, tuple(notes))


def find_pairs(folder: Path) -> dict[str, tuple[Path, Path | None]]:
    """(image, mask or None) by name; both layouts.

    Raises:
        DataError: Two images, or two masks, share a name.
    """
    split = (folder / "images").is_dir() and (folder / "masks").is_dir()
    images = _by_name(folder / "images" if split else folder, masks=False)
    masks = _by_name(folder / "masks", masks=None) if split else _by_name(folder, masks=True)
    return {name: (path, masks.get(name)) for name, path in sorted(images.items())}


def _by_name(folder: Path, *, masks: bool | None) -> dict[str, Path]:
    """Picture files by name without endings: only masks, only others, or all (None)."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in EXTENSIONS | {".gif"} or is_temporary(path) or path.name.startswith("."):
            continue
        is_mask = path.stem.endswith(_MASK_MARK)
        if masks is not None and is_mask != masks:
            continue
        name = path.stem.removesuffix(_MASK_MARK)
        if name in found:
            raise DataError(
                "Two files share one name, and it is not clear which is meant.",
                where=f"{found[name]} and {path.name}",
                fix="remove one",
            )
        found[name] = path
    return found


def fit_mask(mask: npt.NDArray[np.uint8], resolution: int) -> npt.NDArray[np.uint8]:
    """The central square of a mask (H, W) at (resolution, resolution), by nearest neighbour; 0: as it is."""
    if not resolution or mask.shape == (resolution, resolution):
        return mask
    h, w = mask.shape
    side = min(h, w)
    box = ((w - side) / 2, (h - side) / 2, (w + side) / 2, (h + side) / 2)
    picture = Image.fromarray(mask).resize((resolution, resolution), Image.Resampling.NEAREST, box=box)
    return np.asarray(picture)


def overlay(
    images: Uint8Array, masks: npt.NDArray[np.uint8], classes: SegmentClasses, share: float = 0.5
) -> Uint8Array:
    """Images with their masks' colours laid over them, uint8 (N, H, W, 3); ignored pixels stay as they are."""
    rgb = np.repeat(images, 3, axis=-1) if images.shape[-1] == 1 else images
    colours = classes.palette()[masks].astype(np.float32)
    mixed = (rgb * (1 - share) + colours * share).round().astype(np.uint8)
    return np.where((masks == IGNORE)[..., None], rgb, mixed)
