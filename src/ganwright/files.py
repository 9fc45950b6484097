"""Files written whole or not at all, JSON lines, hashes and the cache folder.

This is the one place that writes files: everything goes to a temporary name beside the target and is renamed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

_TEMPORARY_MARK = ".tmp-"


def temporary_beside(path: Path) -> Path:
    """A hidden name beside `path` that no reader takes for a finished file."""
    return path.parent / f".{path.name}{_TEMPORARY_MARK}{os.getpid()}"


def is_temporary(path: Path) -> bool:
    """Whether `path` is the leftover of an interrupted write."""
    return path.name.startswith(".") and _TEMPORARY_MARK in path.name


def fsync(path: Path) -> None:
    """Force a file or a folder's entries to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some file systems refuse to sync folders
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path; on success it is synced and renamed to `path`, on failure removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        yield temporary
        fsync(temporary)
        temporary.replace(path)
        fsync(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a whole file under a temporary name, then rename it."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def write_folder_atomic(path: Path, fill: Callable[[Path], None]) -> None:
    """Let `fill` write into a temporary folder, sync what it wrote, and rename the folder to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir()
        fill(temporary)
        for file in temporary.rglob("*"):
            fsync(file)
        fsync(temporary)
        replaced = temporary.with_name(temporary.name + "-old")
        if path.exists():
            path.rename(replaced)
        temporary.rename(path)
        fsync(path.parent)
        shutil.rmtree(replaced, ignore_errors=True)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def remove_temporaries(folder: Path) -> None:
    """Remove what interrupted writes left in `folder`."""
    for entry in folder.iterdir() if folder.is_dir() else ():
        if is_temporary(entry):
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink(missing_ok=True)


def append_jsonl(path: Path, record: Mapping[str, Any]) -> None:
    """Append one JSON line in a single write."""
    line = json.dumps(record, allow_nan=True, ensure_ascii=False) + "\n"
    with path.open("a", encoding="utf-8") as file:
        file.write(line)


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read JSON lines; a torn last line (the writer was killed) is left out."""
    if not path.exists():
        return []
    records = []
    # Not splitlines: U+2028 and its like may stand in a text.
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        with contextlib.suppress(json.JSONDecodeError):
            record = json.loads(line)
            if isinstance(record, dict):
                records.append(record)
    return records


def truncate_jsonl(path: Path, keep: Callable[[dict[str, Any]], bool]) -> None:
    """Keep only the records for which `keep` is true (used when a run is resumed)."""
    if path.exists():
        kept = [record for record in read_jsonl(path) if keep(record)]
        write_atomic(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in kept))


def hash_bytes(*parts: bytes) -> str:
    """BLAKE2b-128 of the parts, in hex."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def hash_file(path: Path) -> str:
    """BLAKE2b-128 of a file's content, in hex, read in chunks."""
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def cache_folder() -> Path:
    """Where packed data, extractor weights and reference statistics are cached.

    `GANWRIGHT_CACHE` names it; otherwise `$XDG_CACHE_HOME/ganwright` or `~/.cache/ganwright`.
    """
    named = os.environ.get("GANWRIGHT_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(named) if named else Path(base) / "ganwright"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
