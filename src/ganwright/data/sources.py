"""Where images come from: one small interface over folders, archives, arrays and Hugging Face datasets.

A source lists, reads and decodes single images at native size. It neither resizes, splits nor batches.
"""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ganwright.config import DataSettings
from ganwright.data.decode import EXTENSIONS, Header, Picture, as_uint8
from ganwright.data.labels import (
    Labelling,
    Labels,
    common_folder,
    labels_from_values,
)
from ganwright.errors import DataError
from ganwright.files import hash_bytes
from ganwright.samples import Uint8Array


@dataclass(frozen=True)
class Belonging:
    """What a source knows about which of its images belong together.

    Attributes:
        by: "patient", or "volume" where patients are not known.
        keys: One key an image; equal keys belong together. They may identify people, and are never stored.
        how: How they were found, in words that identify no one.
    """

    by: Literal["patient", "volume"]
    keys: Sequence[str]
    how: str


class ImageSource(ABC):
    """A set of images in a fixed order.

    Attributes:
        name: A short name for people.
        location: Where it is, for error messages.
    """

    name: str
    location: str
    encoded = True
    """Whether images have to be decoded; False where they are arrays already."""
    bits = 8
    """Bits of `Picture.pixels`: 8, or 16 where training should see more than 256 levels."""
    private = False
    """Whether names of its files may identify people, and must not be stored."""
    _given_labels: Labelling | None = None

    @property
    @abstractmethod
    def names(self) -> Sequence[str]:
        """A name for each image, in the set's order (sorted, for files)."""

    @abstractmethod
    def read(self, i: int) -> bytes:
        """The stored bytes of image `i`.

        Raises:
            BrokenImageError: It cannot be read.
        """

    @abstractmethod
    def picture_of(self, raw: bytes, i: int) -> Picture:
        """Decode what `read(i)` gave."""

    @abstractmethod
    def header(self, i: int) -> Header:
        """Size, mode and format of image `i`, without decoding it.

        Raises:
            BrokenImageError: The header cannot be read.
        """

    def __len__(self) -> int:
        return len(self.names)

    def picture(self, i: int) -> Picture:
        """Image `i` with its mode and format.

        Raises:
            BrokenImageError: It cannot be read or decoded.
        """
        return self.picture_of(self.read(i), i)

    def decode(self, i: int) -> Uint8Array:
        """Image `i`: uint8 (H, W, 1 or 3) at native size.

        Raises:
            BrokenImageError: It cannot be read or decoded.
        """
        return as_uint8(self.picture(i).pixels)

    @property
    def files(self) -> Sequence[str]:
        """The file each image comes from: its name, unless one file holds several images."""
        return self.names

    def belonging(self) -> Belonging | None:
        """Which images belong to one patient or volume; None where the source does not know."""
        return None

    def told(self) -> dict[str, Any]:
        """What `ganwright data` says beside the usual figures, by name."""
        return {}

    @property
    def extra(self) -> dict[str, Any]:
        """What `DataSpec.extra` should tell of it, as plain values that identify no one."""
        return {}

    def signature(self) -> str | None:
        """A quick hash that changes when the stored data changes, without reading it; or None."""
        quick = self._quick_signature()
        if quick is None or self._given_labels is None:
            return quick
        return hash_bytes(quick.encode(), self.labels_digest())

    def _quick_signature(self) -> str | None:
        return None

    @property
    def stored_bytes(self) -> int:
        """Size of the stored files, in bytes; 0 where the pixels are already in memory or mapped."""
        return 0

    @property
    def key_names(self) -> list[str]:
        """The names without the folder they all share: equal for a folder and for an archive of it."""
        shared = len(common_folder(self.names))
        return [name[shared:] for name in self.names]

    def _find_labels(self) -> Labelling:
        return Labelling()

    @cached_property
    def labelling(self) -> Labelling:
        """Labels, class names and how they were found."""
        found = self._given_labels if self._given_labels is not None else self._find_labels()
        if found.labels is not None and len(found.labels) != len(self):
            raise DataError(f"There are {len(self)} images but {len(found.labels)} labels.", where=self.location)
        return found

    @property
    def labels(self) -> Labels | None:
        """int64 (N,), or None."""
        return self.labelling.labels

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes; empty where there are no labels."""
        return self.labelling.class_names

    @property
    def labels_from_files(self) -> bool:
        """Whether labels were found, and not given."""
        return self._given_labels is None

    def labels_digest(self) -> bytes:
        """A digest of labels and class names."""
        labels = b"" if self.labels is None else self.labels.tobytes()
        return hash_bytes(labels, "\0".join(self.class_names).encode("utf-8", "surrogateescape")).encode()

    def with_labels(self, values: Sequence[Any] | npt.NDArray[Any] | None) -> ImageSource:
        """This source with these labels, one an image, in place of those it has; None changes nothing."""
        if values is not None:
            self._given_labels = labels_from_values(values)
            self.__dict__.pop("labelling", None)
        return self

    @property
    def notes(self) -> list[str]:
        """What a person should know about how the source was read."""
        return list(self.labelling.notes)

    def close(self) -> None:  # noqa: B027  # most have nothing to close
        """Let go of open files."""


def open_images(
    source: Any,
    *,
    labels: Sequence[Any] | npt.NDArray[Any] | None = None,
    settings: DataSettings | None = None,
) -> ImageSource:
    """Open any set of images: `len()`, `names`, `labels`, `decode(i)`.

    Args:
        source: A folder, a zip, tar or tar.gz archive, an .npz or .npy file, one picture file, an array or
            tensor, `(images, labels)`, a bundled set's name, "hf:NAME", or a source already open.
        labels: One value an image, in place of the labels the source has.
        settings: Window, plane and range of slices, for medical files; None: the defaults.

    Raises:
        DataError: There is no such thing, it cannot be read, or it is unsafe.
        MissingExtraError: "hf:" without the package `datasets`; medical files without nibabel or pydicom.
    """
    # they build on this module
    from ganwright.data import archives, arrays, catalog, filesets, huggingface
    from ganwright.data.medical import source as medical

    if isinstance(source, ImageSource):
        return source.with_labels(labels)
    if isinstance(source, tuple) and len(source) == 2:
        return open_images(source[0], labels=source[1] if labels is None else labels, settings=settings)
    if huggingface.is_dataset(source):
        return huggingface.HuggingFaceSource(source, "dataset").with_labels(labels)
    if isinstance(source, str) and source.startswith(huggingface.PREFIX):
        return huggingface.open_named(source).with_labels(labels)
    if not isinstance(source, str | os.PathLike):
        return arrays.ArraySource(arrays.to_numpy(source)).with_labels(labels)
    path, name = catalog.find(source)
    if medical.recognises(path):
        found: ImageSource = medical.MedicalSource(path, settings or DataSettings())
    elif path.is_dir():
        found = filesets.FolderSource(path)
    elif path.suffix.lower() in EXTENSIONS:
        found = filesets.FolderSource(path.parent, only=[path.name])
    elif path.suffix.lower() in (".npz", ".npy"):
        found = arrays.open_file(path)
    else:
        found = archives.open_archive(path)
    if name:
        found.name = name
    return found.with_labels(labels)


def printable(name: str) -> str:
    """A stranger's file name, safe to show in a terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in name)


def combined_digest(names: Sequence[str], digests: npt.NDArray[np.uint8], labels: bytes) -> str:
    """Content key of a set: its names, a digest (16 bytes) of each file, and its labels."""
    digest = hashlib.blake2b(labels, digest_size=16)
    digest.update("\0".join(names).encode("utf-8", "surrogateescape"))
    digest.update(np.ascontiguousarray(digests).data)
    return digest.hexdigest()
