"""Images in arrays: numpy and torch, `.npy` and `.npz` files, with their layouts and value ranges.

Nothing is unpickled, and a header that promises more than its file holds is refused before memory is used.
"""

from __future__ import annotations

import math
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt
import torch

from ganwright.data.decode import Header, Picture, on_white, scale_uint16
from ganwright.data.filesets import EXPANSION_FLOOR, MAX_EXPANSION, quick_file_stamp
from ganwright.data.sources import ImageSource
from ganwright.errors import DataError
from ganwright.files import cache_folder
from ganwright.samples import Uint8Array

Array = npt.NDArray[Any]

IMAGE_KEYS = (
    "images",
    "image",
    "imgs",
    "x",
    "data",
    "x_train",
    "train_x",
    "train_images",
    "train_data",
    "arr_0",
)
LABEL_KEYS = (
    "labels",
    "label",
    "y",
    "targets",
    "y_train",
    "train_y",
    "train_labels",
    "train_targets",
    "arr_1",
)
IN_MEMORY_BYTES = 256 << 20
"""Larger arrays in `.npz` files are mapped from a temporary file instead of being held in memory."""


@dataclass(frozen=True)
class Rows:
    """An array read as images.

    Attributes:
        array: (N, H, W), (N, H, W, C) or (N, C, H, W).
        channels_first: Whether it is (N, C, H, W).
        scale: Float values are multiplied by this …
        shift: … after this was added.
        bands: Keep a fourth channel (and allow a second) instead of laying the image on white by it.
    """

    array: Array
    channels_first: bool
    scale: float = 1.0
    shift: float = 0.0
    bands: bool = False

    @property
    def height(self) -> int:
        """Height of the images, in pixels."""
        return int(self.array.shape[2 if self.channels_first else 1])

    @property
    def width(self) -> int:
        """Width of the images, in pixels."""
        return int(self.array.shape[3 if self.channels_first else 2])

    @property
    def mode(self) -> str:
        """What Pillow would call the images."""
        c = 1 if self.array.ndim == 3 else self.array.shape[1 if self.channels_first else 3]
        return {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[c]

    def row(self, i: int) -> Array:
        """Image `i` as stored."""
        return np.asarray(self.array[i])

    def decode(self, raw: bytes) -> Uint8Array:
        """Stored bytes of one image to uint8 (H, W, 1 or 3), or up to 4 with `bands`."""
        image: Array = np.frombuffer(raw, self.array.dtype).reshape(self.array.shape[1:])
        if image.ndim == 2:
            image = image[..., None]
        elif self.channels_first:
            image = image.transpose(1, 2, 0)
        if image.dtype == bool:
            image = image.astype(np.uint8) * np.uint8(255)
        elif image.dtype.kind == "u" and image.dtype.itemsize == 2:
            image = scale_uint16(image)
        elif image.dtype.kind == "f":
            image = np.round((image.astype(np.float64) + self.shift) * self.scale).astype(np.uint8)
        return np.ascontiguousarray(on_white(image) if image.shape[-1] == 4 and not self.bands else image)


def as_images(array: Array, location: str, *, bands: bool = False) -> Rows:
    """Recognise the layout and the range of values.

    Raises:
        DataError: Shape, type or range fit no known form.
    """
    known = (1, 2, 3, 4) if bands else (1, 3, 4)
    fix = "give uint8 (N, H, W, C), or float (N, C, H, W) in [-1, 1] or [0, 1]; C is " + ", ".join(map(str, known))
    if array.ndim not in (3, 4) or 0 in array.shape:
        raise DataError(f"An array of shape {array.shape} holds no images.", where=location, fix=fix)
    last, first = (
        array.ndim == 3 or array.shape[3] in known,
        array.ndim == 4 and array.shape[1] in known,
    )
    if not (last or first):
        raise DataError(f"An array of shape {array.shape} has no channel axis.", where=location, fix=fix)
    floating = array.dtype.kind == "f"
    channels_first = first and (floating or not last)
    if array.dtype == np.uint8 or array.dtype == np.uint16 or array.dtype == bool:
        return Rows(array, channels_first, bands=bands)
    if not floating:
        raise DataError(f"Images of type {array.dtype} have no agreed range.", where=location, fix=fix)
    low, high = math.inf, -math.inf
    for start in range(0, len(array), 1024):  # in blocks: it may be larger than memory
        block = array[start : start + 1024]
        low, high = min(low, float(block.min())), max(high, float(block.max()))
        if not (math.isfinite(low) and math.isfinite(high)):
            raise DataError("The array holds NaN or infinite values.", where=location, fix=fix)
    if low >= 0 and high <= 1:
        return Rows(array, channels_first, 255.0, bands=bands)
    if low >= -1 and high <= 1:
        return Rows(array, channels_first, 127.5, 1.0, bands)
    raise DataError(f"Float images must lie in [-1, 1] or [0, 1], not {low:g} … {high:g}.", where=location, fix=fix)


class ArraySource(ImageSource):
    """Images in one array, in memory or memory-mapped.

    Args:
        array: uint8 or uint16 (N, H, W) or (N, H, W, C); (N, C, H, W) is recognised too. Float arrays in
            [0, 1] or [-1, 1], (N, C, H, W) or (N, H, W, C). C = 1, 3, or 4 (with alpha).
        name: A short name.
        location: Where it came from.
        format: What the inspection calls it.
        stamp: A quick hash of the file it is mapped from.
        bands: Four channels (and two, which are allowed then) stay as they are, for recipes that take so many.

    Raises:
        DataError: The array holds no images in one of these forms.
    """

    encoded = False

    def __init__(
        self,
        array: npt.NDArray[Any],
        *,
        name: str = "array",
        location: str = "array",
        format: str = "array",
        stamp: str | None = None,
        bands: bool = False,
    ) -> None:
        self._rows = as_images(array, location, bands=bands)
        self.name, self.location, self._format, self._stamp = name, location, format, stamp
        self._names = [f"{i:06d}" for i in range(len(array))]
        self._extra_notes: list[str] = []

    @property
    def bands(self) -> int:
        """Channels of the array's images."""
        return len(self._rows.mode)

    @property
    def names(self) -> Sequence[str]:
        """Positions: 000000, 000001, …."""
        return self._names

    def read(self, i: int) -> bytes:
        """The pixels of image `i` as stored."""
        return self._rows.row(i).tobytes()

    def picture_of(self, raw: bytes, i: int) -> Picture:
        """The pixels of image `i` as uint8 (H, W, 1 or 3), or up to 4 with `bands`."""
        return Picture(self._rows.decode(raw), self._rows.mode, self._format)

    def header(self, i: int) -> Header:
        """Size and mode, the same for all."""
        return Header(self._rows.width, self._rows.height, self._rows.mode, self._format)

    def _quick_signature(self) -> str | None:
        return self._stamp

    @property
    def notes(self) -> list[str]:
        """How labels and images were found."""
        return [*super().notes, *self._extra_notes]


def to_numpy(source: Any) -> Array:
    """A numpy array from an array, a tensor or a list of arrays.

    Raises:
        DataError: It is none of these.
    """
    if isinstance(source, torch.Tensor):
        tensor = source.detach().cpu()
        halves = (torch.bfloat16, torch.float16)
        return (tensor.float() if tensor.dtype in halves else tensor).numpy()
    if isinstance(source, np.ndarray):
        return source
    if isinstance(source, list) and source and all(isinstance(item, np.ndarray) for item in source):
        if len({item.shape for item in source}) == 1:
            return np.stack(source)
        raise DataError("Arrays of different shapes cannot be one set.", fix="resize them, or save them as files")
    raise DataError(
        f"A {type(source).__name__} is no set of images.",
        fix="give a folder, an archive, a numpy array, a torch tensor or (images, labels)",
    )


def open_file(path: Path) -> ArraySource:
    """Open an `.npy` or `.npz` file of images.

    Raises:
        DataError: It is broken, holds objects, promises more than it holds, or has no array of images.
    """
    try:
        return _open_npy(path) if path.suffix.lower() == ".npy" else _open_npz(path)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, KeyError, NotImplementedError) as error:
        raise DataError(f"The file cannot be read ({error}).", where=path, fix="make it again with numpy") from error


def _open_npy(path: Path) -> ArraySource:
    with path.open("rb") as file:
        check_header(file, path.stat().st_size, f"{path}")
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    return ArraySource(array, name=path.stem, location=str(path), format="npy", stamp=quick_file_stamp(path))


def _open_npz(path: Path) -> ArraySource:
    with zipfile.ZipFile(path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        image_key, label_key = _find_key(members, IMAGE_KEYS), _find_key(members, LABEL_KEYS)
        if image_key is None:
            raise DataError(
                f"No array of images in this file; it holds {', '.join(map(repr, members)) or 'nothing'}.",
                where=path,
                fix="save it as np.savez(path, images=…, labels=…)",
            )
        images = _load_member(archive, members[image_key], path)
        labels = None if label_key is None else _load_member(archive, members[label_key], path)
    source = ArraySource(
        images, name=path.stem, location=f"{path}: {image_key}", format="npz", stamp=quick_file_stamp(path)
    )
    if labels is not None and len(labels) != len(images):
        raise DataError(
            f"There are {len(images)} images ({image_key!r}) but {len(labels)} labels ({label_key!r}).",
            where=path,
        )
    unused = [key for key in members if key not in (image_key, label_key)]
    source.with_labels(labels)
    if unused:
        source._extra_notes.append(f"used {image_key!r}; not used: {', '.join(unused)}")
    return source


def array_names(path: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the arrays in an `.npz` file, or of the one ("array") in an `.npy` file.

    Raises:
        DataError: It is broken, or holds objects.
    """
    try:
        if path.suffix.lower() == ".npy":
            with path.open("rb") as file:
                return {"array": check_header(file, path.stat().st_size, f"{path}")}
        shapes = {}
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                with archive.open(info) as member:
                    where = f"{path}: {info.filename}"
                    name = info.filename.removesuffix(".npy")
                    shapes[name] = check_header(cast(BinaryIO, member), info.file_size, where)
        return shapes
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, KeyError, NotImplementedError) as error:
        raise DataError(f"The file cannot be read ({error}).", where=path, fix="make it again with numpy") from error


def read_arrays(path: Path, wanted: Sequence[str]) -> dict[str, Array]:
    """Those of the wanted arrays that an `.npz` file holds, or the one ("array") of an `.npy` file, mapped.

    Raises:
        DataError: It is broken, holds objects, or promises more than it holds.
    """
    array_names(path)  # refuses forged headers first
    try:
        if path.suffix.lower() == ".npy":
            return {"array": np.load(path, mmap_mode="r", allow_pickle=False)}
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            return {key: _load_member(archive, members[key], path) for key in wanted if key in members}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, KeyError, NotImplementedError) as error:
        raise DataError(f"The file cannot be read ({error}).", where=path, fix="make it again with numpy") from error


def _find_key(members: dict[str, zipfile.ZipInfo], wanted: tuple[str, ...]) -> str | None:
    lowered = {name.lower(): name for name in members}
    return next((lowered[key] for key in wanted if key in lowered), None)


def _load_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> Array:
    where = f"{path}: {member.filename}"
    if member.file_size > max(EXPANSION_FLOOR, MAX_EXPANSION * member.compress_size):
        raise DataError("The array expands absurdly (decompression bomb).", where=where)
    with archive.open(member) as file:
        check_header(cast(BinaryIO, file), member.file_size, where)
    with archive.open(member) as file:
        if member.file_size <= IN_MEMORY_BYTES:
            return np.lib.format.read_array(file, allow_pickle=False)
        spool = tempfile.NamedTemporaryFile(dir=cache_folder(), suffix=".npy")  # noqa: SIM115  # closed below
        shutil.copyfileobj(file, spool, 1 << 20)
    spool.flush()
    mapped: Array = np.load(spool.name, mmap_mode="r", allow_pickle=False)
    spool.close()  # the name goes; the mapping keeps the content until it is dropped
    return mapped


def check_header(file: BinaryIO, size: int, where: str) -> tuple[int, ...]:
    """Read an `.npy` header and compare it with the file's size; returns the shape.

    Raises:
        DataError: It holds Python objects, or promises another amount of data than there is.
        ValueError: It is no `.npy` file.
    """
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    else:
        raise ValueError(f"unsupported .npy version {version}")
    if dtype.hasobject:
        raise DataError(
            "The array holds Python objects, which are never unpickled.",
            where=where,
            fix="save plain numbers: np.savez(path, images=images.astype('uint8'))",
        )
    promised, held = math.prod(shape) * dtype.itemsize, size - file.tell()
    if promised != held or min(shape, default=1) < 0:
        raise DataError(
            f"The header promises {promised} bytes of shape {shape}, but there are {held}.",
            where=where,
            fix="the file is truncated or forged; make it again",
        )
    return tuple(int(n) for n in shape)
