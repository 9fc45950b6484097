"""Groups that a person names: a table of files, a level of folders, or a pattern in file names."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path

from ganwright.config import DataSettings
from ganwright.data.labels import common_folder
from ganwright.errors import DataError, SettingsError

_FILE_COLUMNS = ("file", "filename", "file_name", "path", "image", "image_id", "name")
_GROUP_COLUMNS = ("group", "patient", "patient_id", "patientid", "subject", "subject_id", "participant_id", "case")


def named_groups(files: Sequence[str], settings: DataSettings) -> tuple[list[str], str] | None:
    """The group of each file as `settings.groups` says, or by its folder; None where neither says anything.

    Args:
        files: Names with forward slashes, in the set's order.
        settings: `groups`: a CSV file, `folder:N` or `name:REGEX`; empty with `split_by="patient"`: the folders.

    Returns:
        One key a file, and how they were found.

    Raises:
        SettingsError: `groups` is none of these.
        DataError: Files are without a group, or the folders can be read in several ways.
    """
    rule = settings.groups
    if rule.startswith("folder:"):
        return _by_folder(files, rule)
    if rule.startswith("name:"):
        return _by_pattern(files, rule)
    if rule:
        return _by_table(files, Path(rule).expanduser()), "as the table of groups says"
    return _by_only_folder(files) if settings.split_by == "patient" else None


def _folders(files: Sequence[str]) -> list[list[str]]:
    """The folders of each file below the one all lie in, from the outside."""
    shared = len(common_folder(files))
    return [name[shared:].split("/")[:-1] for name in files]


def _by_folder(files: Sequence[str], rule: str) -> tuple[list[str], str]:
    level = rule.removeprefix("folder:")
    folders = _folders(files)
    if not level.isdecimal() or int(level) < 1:
        raise SettingsError(f"'{rule}' names no folder level.", where="groups", fix="write folder:1, folder:2, …")
    short = sum(len(parts) < int(level) for parts in folders)
    if short:
        raise DataError(
            f"{short} of {len(files)} files do not lie {level} folders deep.",
            where=f"groups {rule}",
            fix="choose another level (folder:1 is the outermost that differs), or give a CSV file",
        )
    return [parts[int(level) - 1] for parts in folders], f"one for each folder of level {level}"


def _by_pattern(files: Sequence[str], rule: str) -> tuple[list[str], str]:
    fix = r"for sub-01_slice-003.png write name:sub-(\d+)"
    try:
        pattern = re.compile(rule.removeprefix("name:"))
    except re.error as error:
        raise SettingsError(f"The pattern cannot be read: {error}.", where=f"groups {rule}", fix=fix) from error
    if pattern.groups != 1:
        raise SettingsError("The pattern needs exactly one group in brackets.", where=f"groups {rule}", fix=fix)
    matches = [pattern.search(name) for name in files]
    missing = [name for name, match in zip(files, matches, strict=True) if match is None or match[1] is None]
    if missing:
        raise DataError(
            f"The pattern fits {len(files) - len(missing)} of {len(files)} file names; not {missing[0]!r}, for one.",
            where=f"groups {rule}",
            fix=fix,
        )
    return [str(match[1]) for match in matches if match], "as the file names say"


def _by_only_folder(files: Sequence[str]) -> tuple[list[str], str]:
    """One patient a folder, where there is but one level of folders."""
    folders = _folders(files)
    depths = {len(parts) for parts in folders}
    if depths == {1}:
        return [parts[0] for parts in folders], "one for each folder"
    if depths == {0}:
        raise DataError(
            "Nothing tells which image is of which patient.",
            where="split_by patient",
            fix=r"give --groups TABLE.csv or --groups name:sub-(\d+), or choose --split-by group",
        )
    levels = {n: len({parts[n - 1] for parts in folders if len(parts) >= n}) for n in range(1, max(depths) + 1)}
    told = ", ".join(f"folder:{n} makes {count} groups" for n, count in levels.items())
    raise DataError(
        "There are several levels of folders, and nothing tells which one is the patient.",
        where=f"split_by patient: {told}",
        fix="say which: --groups folder:1 or --groups folder:2",
    )


def _by_table(files: Sequence[str], path: Path) -> list[str]:
    table = _read_table(path)
    shared = len(common_folder(files))
    bare = [name.rsplit("/", 1)[-1] for name in files]
    unique = len(set(bare)) == len(set(files))  # base names may stand in the table only where they are unambiguous
    keys, missing = [], []
    for name, base in zip(files, bare, strict=True):
        key = table.get(name, table.get(name[shared:]))
        key = table.get(base) if key is None and unique else key
        if not key:
            missing.append(name)
        keys.append(key or "")
    if missing:
        raise DataError(
            f"The table gives no group for {len(missing)} of {len(files)} files, such as {missing[0]!r}.",
            where=path,
            fix="it needs one line a file: file,group with the path inside the set",
        )
    return keys


def _read_table(path: Path) -> dict[str, str]:
    """A CSV or TSV file of files and groups: columns by name, or the first two."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            "The table of groups cannot be read.",
            where=path,
            fix=r"give a UTF-8 CSV file with the columns file,group; or folder:N; or name:REGEX",
        ) from error
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    rows = [row for row in csv.reader(text.splitlines(), delimiter=delimiter) if any(row)]
    heads = [cell.strip().lower() for cell in rows[0]] if rows else []
    file_at = next((heads.index(name) for name in _FILE_COLUMNS if name in heads), None)
    group_at = next((heads.index(name) for name in _GROUP_COLUMNS if name in heads), None)
    if file_at is None or group_at is None:
        file_at, group_at = 0, 1
    else:
        rows = rows[1:]
    if not rows or any(len(row) <= max(file_at, group_at) for row in rows):
        raise DataError("The table of groups needs two columns.", where=path, fix="write lines of the form file,group")
    return {row[file_at].strip().replace("\\", "/").removeprefix("./"): row[group_at].strip() for row in rows}
