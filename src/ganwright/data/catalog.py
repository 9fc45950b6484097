"""Names of the sets that come with the package, and the search for what a user named."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ganwright.errors import DataError, nearest

_ASSETS = Path(__file__).parent / "assets"


@dataclass(frozen=True)
class BundledSet:
    """A set that comes with the package.

    Attributes:
        name: What users type.
        file: File in `assets/`.
        description: What it holds.
        credit: Whose it is, and under which licence.
    """

    name: str
    file: str
    description: str
    credit: str

    @property
    def path(self) -> Path:
        """Where it lies."""
        return _ASSETS / self.file


CATALOG = {
    "mnist": BundledSet(
        "mnist",
        "mnist10k.npz",
        "10,000 handwritten digits, 28x28 grey, ten classes",
        "MNIST: Y. LeCun, C. Cortes, C. J. C. Burges; CC BY-SA 3.0",
    )
}
"""Bundled sets by name."""
ALIASES = {"digits": "mnist"}
"""Other names for them."""


def names() -> list[str]:
    """All names that can stand for data."""
    return [*CATALOG, *ALIASES]


def find(source: str | os.PathLike[str]) -> tuple[Path, str]:
    """The path of a file, a folder or a bundled set; what exists as a path comes first.

    Returns:
        The path, and the bundled set's name (empty for a path).

    Raises:
        DataError: There is neither; the nearest name is suggested.
    """
    path = Path(source).expanduser()
    try:
        if path.exists():
            return path, ""
    except (OSError, ValueError):  # longer than a name may be, or with a zero byte
        pass
    name = ALIASES.get(str(source), str(source))
    if name in CATALOG:
        return CATALOG[name].path, name
    siblings = [str(entry) for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    raise DataError(
        f"There is no such data.{nearest(str(source), [*names(), *siblings])}",
        where=source,
        fix=f"give a path, hf:NAME for a Hugging Face dataset, or a bundled set: {', '.join(CATALOG)}",
    )
