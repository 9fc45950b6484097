"""Results of slow computations, kept on disk under the hash of everything they depend on.

A second evaluation of the same pixels in the same way is read, not computed. The hash covers this package's source too,
so that no number outlives the code that made it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from ganwright.files import cache_folder, hash_bytes, write_atomic


@cache
def _code() -> str:
    """Hash of the source of all metrics."""
    return hash_bytes(*(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))))


def result_key(*parts: object) -> str:
    """The hash of everything a result depends on: anything whose `repr` says all of it."""
    return hash_bytes(_code().encode(), *(f"{part!r}/".encode() for part in parts))


def remembered(key: str, what: str, compute: Callable[[], Any]) -> Any:
    """The result of `compute`, plain values for JSON, from the cache where it is known.

    Args:
        key: Of `result_key`; "": compute, and remember nothing.
        what: Which result of those with this key.
        compute: Makes it.
    """
    if not key:
        return compute()
    path = cache_folder() / "results" / f"{hash_bytes(key.encode(), what.encode())}.json"
    with contextlib.suppress(OSError, ValueError):
        return json.loads(path.read_text(encoding="utf-8"))
    found = compute()
    with contextlib.suppress(OSError):  # a full or read-only cache costs time, not the result
        write_atomic(path, json.dumps(found))
    return found
