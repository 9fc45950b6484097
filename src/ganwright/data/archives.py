"""Images read in place from zip and tar archives; nothing is ever extracted to a path an archive names."""

from __future__ import annotations

import gzip
import re
import stat
import tarfile
import tempfile
import threading
import zipfile
import zlib
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, cast

from ganwright.data.filesets import (
    EXPANSION_FLOOR,
    MAX_EXPANSION,
    Entry,
    FileSource,
    Listing,
    quick_file_stamp,
)
from ganwright.errors import DataError
from ganwright.files import cache_folder

ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz")
_GZIP_MAGIC = b"\x1f\x8b"


def open_archive(path: Path) -> FileSource:
    """Open a zip, tar or tar.gz archive by its content, whatever its name.

    Raises:
        DataError: It is none of these.
    """
    name = path.name
    for ending in sorted(ENDINGS, key=len, reverse=True):
        if name.lower().endswith(ending):
            name = name[: -len(ending)]
            break
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise DataError(f"The file cannot be read: {error.strerror}.", where=path) from error
    if head.startswith(b"PK"):
        return ZipSource(path, name)
    if head.startswith(_GZIP_MAGIC) or head[257:262] == b"ustar" or name != path.name:
        return TarSource(path, name)
    raise DataError(
        "This file is no set of images.",
        where=path,
        fix="give a folder of images, a .zip, .tar or .tar.gz archive, an .npz or .npy file",
    )


def safe_member(name: str, archive: Path) -> str:
    """An archive member's name with forward slashes and without `./`.

    Raises:
        DataError: The name is absolute or climbs out of the archive.
    """
    slashed = name.replace("\\", "/")
    parts = slashed.split("/")
    if slashed.startswith("/") or re.match(r"[A-Za-z]:", slashed) or ".." in parts:
        raise _unsafe(archive, name, "a path outside the archive")
    return "/".join(part for part in parts if part not in ("", "."))


def _unsafe(archive: Path, member: str, what: str) -> DataError:
    return DataError(
        f"The archive holds {what}: it is unsafe and was not read.",
        where=f"{archive}: {member!r}",
        fix="make the archive again from plain files with relative names",
    )


def _bomb(archive: Path, member: str = "") -> DataError:
    return DataError(
        f"The archive expands to more than {MAX_EXPANSION} times its size (decompression bomb).",
        where=f"{archive}: {member!r}" if member else archive,
        fix="unpack it yourself if you trust it, and give the folder",
    )


class ZipSource(FileSource):
    """A zip archive of picture files."""

    def _list(self) -> Listing:
        try:
            self._zip = zipfile.ZipFile(self.path)
        except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError) as error:
            raise DataError(
                f"The zip archive cannot be read ({error}).", where=self.path, fix="download or make it again"
            ) from error
        listing, expanded = Listing(), 0
        for member in self._zip.infolist():
            name = safe_member(member.orig_filename, self.path)
            if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _unsafe(self.path, member.filename, "a link or a device")
            if member.is_dir():
                continue
            if member.flag_bits & 1:
                raise DataError("The zip archive is encrypted.", where=self.path, fix="unpack it first")
            expanded += member.file_size
            if member.file_size > max(EXPANSION_FLOOR, MAX_EXPANSION * member.compress_size):
                raise _bomb(self.path, member.filename)
            listing.add(Entry(name, member.file_size, member))
        if expanded > max(EXPANSION_FLOOR, MAX_EXPANSION * self.path.stat().st_size):
            raise _bomb(self.path)
        return listing

    def _open(self, entry: Entry) -> BinaryIO:
        return cast(BinaryIO, self._zip.open(entry.key))

    def _quick_signature(self) -> str:
        return quick_file_stamp(self.path)

    def close(self) -> None:
        """Close the archive."""
        if "_listing" in self.__dict__:
            self._zip.close()


class TarSource(FileSource):
    """A tar archive of picture files, plain or gzipped.

    A gzipped one cannot be read at random: it is unpacked once, whole, into a nameless temporary file, which
    is gone when the process ends.
    """

    _file: BinaryIO | None = None

    def _list(self) -> Listing:
        self._lock = threading.Lock()
        listing = Listing()
        try:
            self._file = self._unpacked()
            with tarfile.open(fileobj=self._file, mode="r:") as tar:
                while (member := tar.next()) is not None:
                    name = safe_member(member.name, self.path)
                    if not member.isdir():
                        if not member.isreg() or member.issparse():
                            raise _unsafe(self.path, member.name, "a link, a device or a sparse file")
                        listing.add(Entry(name, member.size, member.offset_data))
                    # tarfile keeps every header otherwise, 1 kB each
                    tar.members.clear()  # type: ignore[attr-defined]
        except (tarfile.TarError, OSError, EOFError, zlib.error, ValueError) as error:
            raise DataError(
                f"The tar archive cannot be read ({error}).", where=self.path, fix="download or make it again"
            ) from error
        return listing

    def _unpacked(self) -> BinaryIO:
        raw = self.path.open("rb")
        if raw.read(2) != _GZIP_MAGIC:
            raw.seek(0)
            return raw
        raw.seek(0)
        limit = max(EXPANSION_FLOOR, MAX_EXPANSION * self.path.stat().st_size)
        # In the cache folder: the system's temporary folder is often in memory.
        spool = cast(BinaryIO, tempfile.TemporaryFile(dir=cache_folder()))  # noqa: SIM115  # kept open
        with raw, gzip.GzipFile(fileobj=raw) as unzipped:
            while chunk := unzipped.read(1 << 20):
                spool.write(chunk)
                if spool.tell() > limit:
                    spool.close()
                    raise _bomb(self.path)
        spool.seek(0)
        return spool

    def _open(self, entry: Entry) -> BinaryIO:
        assert self._file is not None
        with self._lock:
            self._file.seek(entry.key)
            content = self._file.read(entry.size)
        if len(content) < entry.size:
            raise OSError("the archive ends before this file does")
        return BytesIO(content)

    def _quick_signature(self) -> str:
        return quick_file_stamp(self.path)

    def close(self) -> None:
        """Close the archive and drop what was unpacked."""
        if self._file is not None:
            self._file.close()
