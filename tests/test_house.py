"""The house keeps its order: floors, sizes, a quick import, nothing executed on load."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import ROOT

SOURCE = ROOT / "src" / "ganwright"
FLOORS = {
    **dict.fromkeys(("errors", "files", "console", "_version"), 0),
    **dict.fromkeys(("samples", "config", "run", "losses", "penalties", "augment", "networks", "data", "degrade"), 1),
    **dict.fromkeys(("metrics", "recipes"), 2),
    "training": 3,
    **dict.fromkeys(("exploring", "interop", "medical", "report", "restoring", "segmenting"), 4),
    "evaluating": 5,
    "api": 6,
    **dict.fromkeys(("cli", "__init__"), 7),
    "__main__": 8,
}
FILES = sorted(SOURCE.rglob("*.py"))


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("ganwright"):
            parts = node.module.split(".")
            names |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("ganwright.")}
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_go_down_only(path: Path) -> None:
    unit = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    for other in imported(path):
        assert other in FLOORS, f"{other} has no floor"
        assert other == unit or FLOORS[other] < FLOORS[unit] or FLOORS[unit] <= 1 >= FLOORS[other], f"{unit} -> {other}"


def test_files_stay_small() -> None:
    long = {str(p.relative_to(SOURCE)): n for p in FILES if (n := len(p.read_text().splitlines())) > 400}
    assert not long


def test_importing_is_quick_and_does_not_load_torch() -> None:
    program = (
        "import time, sys; t = time.process_time(); import ganwright; "
        "print(time.process_time() - t); assert 'torch' not in sys.modules; ganwright.train"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 0.2


def test_nothing_is_unpickled() -> None:
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert not {alias.name for alias in node.names} & {"pickle", "dill", "cloudpickle"}, path
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "np.load"):
                given = {k.arg: ast.unparse(k.value) for k in node.keywords}
                wanted = ("weights_only", "True") if "torch" in ast.unparse(node.func) else ("allow_pickle", "False")
                assert given.get(wanted[0]) == wanted[1], path
