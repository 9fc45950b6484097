"""What `run.yaml` says of a run, trained here or imported."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ganwright._version import __version__
from ganwright.data.spec import DataSpec
from ganwright.training.settings import RunSettings


def run_config(settings: RunSettings, data: DataSpec, source: str | None, device: str, command: str) -> dict[str, Any]:
    """The content of `run.yaml`, but for its format.

    Args:
        settings: All settings.
        data: What is known of the data.
        source: Where the data is; None: in memory, unknown, or not to be recorded.
        device: For people.
        command: For people.
    """
    return {
        "recipe": settings.info.name,
        "paper": settings.info.paper,
        "purpose": settings.info.purpose,
        "settings": settings.flat(),
        "settings_changed": settings.changed(),
        "data": data.to_dict(),
        "data_source": source,
        "versions": {"ganwright": __version__, "python": sys.version.split()[0], **_versions()},
        "device": device,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in ("torch", "lightning-fabric", "numpy", "pillow"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found
