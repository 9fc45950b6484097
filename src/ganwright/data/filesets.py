"""Sets of picture files: what folders and archives share, and folders."""

from __future__ import annotations

import hashlib
import os
from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from ganwright.data.decode import EXTENSIONS, BrokenImageError, Header, Picture, decode_picture, read_header
from ganwright.data.labels import Labelling, labels_from_dataset_json, labels_from_folders
from ganwright.data.sources import ImageSource
from ganwright.errors import DataError
from ganwright.files import hash_bytes

MAX_FILE_BYTES = 1 << 30
"""Larger picture files are taken for broken."""
MAX_EXPANSION, EXPANSION_FLOOR = 200, 1 << 30
"""An archive that expands to more than so many times its size, and to more than the floor, is a bomb."""


@dataclass(frozen=True)
class Entry:
    """One picture file: its place in the set, and what is needed to read it and to notice that it changed."""

    name: str
    size: int
    key: Any
    """What the source needs to find it: a path, a zip member, an offset."""
    stamp: tuple[int, ...] = ()


class Listing:
    """Collects the files of a folder or an archive: pictures, `dataset.json`, and a count of the rest."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.dataset_json: Entry | None = None
        self.others: Counter[str] = Counter()

    def add(self, entry: Entry) -> None:
        """Take a file for what it is; hidden files and macOS's leftovers are passed over."""
        parts = entry.name.split("/")
        if any(part.startswith(".") or part == "__MACOSX" for part in parts):
            return
        suffix = os.path.splitext(parts[-1])[1].lower()  # noqa: PTH122  # 60,000 Path objects cost half a second
        if suffix in EXTENSIONS:
            self.entries[entry.name] = entry
        elif parts[-1] == "dataset.json":
            if self.dataset_json is None or entry.name.count("/") < self.dataset_json.name.count("/"):
                self.dataset_json = entry
        else:
            self.others[suffix or parts[-1]] += 1

    def sorted_entries(self) -> list[Entry]:
        """Pictures in the set's order."""
        return [self.entries[name] for name in sorted(self.entries)]


class FileSource(ImageSource):
    """Picture files somewhere: what folders and archives share."""

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name, self.location = path, name, str(path)

    @abstractmethod
    def _list(self) -> Listing:
        """List the files, reading none."""

    @abstractmethod
    def _open(self, entry: Entry) -> BinaryIO:
        """Open one file for reading."""

    @cached_property
    def _listing(self) -> Listing:
        return self._list()

    @cached_property
    def _entries(self) -> list[Entry]:
        return self._listing.sorted_entries()

    @cached_property
    def names(self) -> Sequence[str]:
        """Relative paths with forward slashes, sorted."""
        return [entry.name for entry in self._entries]

    @property
    def stored_bytes(self) -> int:
        """Size of all picture files, in bytes."""
        return sum(entry.size for entry in self._entries)

    def read(self, i: int) -> bytes:
        """The content of file `i`."""
        return self._read(self._entries[i])

    def _read(self, entry: Entry) -> bytes:
        if entry.size > MAX_FILE_BYTES:
            raise BrokenImageError("The file is larger than 1 GiB.", where=entry.name)
        try:
            with self._open(entry) as file:
                return file.read(entry.size + 1)  # not 1 GiB: Python reserves what is asked for
        except DataError:
            raise
        except Exception as error:  # zlib, zipfile and the system each have their own
            raise BrokenImageError(f"It cannot be read ({error}).", where=entry.name) from error

    def picture_of(self, raw: bytes, i: int) -> Picture:
        """Decode the content of file `i`."""
        return decode_picture(raw, self._entries[i].name)

    def header(self, i: int) -> Header:
        """Read the header of file `i` only."""
        entry = self._entries[i]
        try:
            with self._open(entry) as file:
                return read_header(file, entry.name)
        except DataError:
            raise
        except Exception as error:
            raise BrokenImageError(f"It cannot be read ({error}).", where=entry.name) from error

    def _find_labels(self) -> Labelling:
        given = self._listing.dataset_json
        if given is not None:
            folder = given.name[: -len("dataset.json")]
            return labels_from_dataset_json(self._read(given), folder, self.names)
        return labels_from_folders(self.names)

    @property
    def notes(self) -> list[str]:
        """How labels were found, and what was passed over."""
        notes = super().notes
        others = self._listing.others
        if others:
            kinds = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(4))
            notes.append(f"{sum(others.values())} other files passed over ({kinds})")
        return notes


class FolderSource(FileSource):
    """A folder of picture files, with all its sub-folders (links are followed, each folder once).

    Args:
        path: The folder.
        only: Single files in it instead of all.
    """

    def __init__(self, path: Path, only: Sequence[str] | None = None) -> None:
        super().__init__(path, path.resolve().name)
        self._only = only
        if only is not None and len(only) == 1:
            self.location = str(path / only[0])

    def _list(self) -> Listing:
        listing = Listing()
        if self._only is not None:
            for name in self._only:
                self._add(listing, name, self.path / name)
            return listing
        seen: set[tuple[int, int]] = set()
        pending = [("", str(self.path))]
        while pending:
            prefix, folder = pending.pop()
            status = Path(folder).stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            try:
                with os.scandir(folder) as found:
                    for item in found:
                        if item.is_dir():
                            if not item.name.startswith("."):
                                pending.append((f"{prefix}{item.name}/", item.path))
                        elif item.is_file():  # no sockets, pipes, devices or dangling links
                            self._add(listing, prefix + item.name, item)
            except OSError as error:
                raise DataError(
                    f"The folder cannot be read: {error.strerror}.", where=folder, fix="check its permissions"
                ) from error
        return listing

    @staticmethod
    def _add(listing: Listing, name: str, file: os.DirEntry[str] | Path) -> None:
        status = file.stat()
        # ctime too: it shows a change even where the modification time was put back.
        stamp = (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        listing.add(Entry(name, status.st_size, os.fspath(file), stamp))

    def _open(self, entry: Entry) -> BinaryIO:
        return open(entry.key, "rb")  # noqa: PTH123  # called for every file

    def _quick_signature(self) -> str:
        digest = hashlib.blake2b(str(self.path.resolve()).encode("utf-8", "surrogateescape"), digest_size=16)
        labels = self._listing.dataset_json
        for entry in [*self._entries, *([labels] if labels else [])]:
            digest.update(f"{entry.name}\0{entry.stamp}\0".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()


def quick_file_stamp(path: Path) -> str:
    """A quick hash of a file's path, size and times."""
    status = path.stat()
    times = f"{path.resolve()}\0{status.st_size}\0{status.st_mtime_ns}\0{status.st_ctime_ns}"
    return hash_bytes(times.encode("utf-8", "surrogateescape"))
