"""stub"""

from pathlib import Path
from typing import Any


def recognises(path: Path) -> bool:
    return False


def MedicalSource(path: Path, settings: Any) -> Any:
    raise NotImplementedError
