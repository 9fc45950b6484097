"""ganwright: train, honestly evaluate, compare and choose generative adversarial networks.

    import ganwright as gw

    run = gw.train("dcgan", "photos/")
    run.sample(16).save("samples.png")
    print(gw.evaluate(run))

Everything is loaded on first use, so that importing stays quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ganwright._version import __version__

if TYPE_CHECKING:
    from ganwright import data, metrics, recipes, segmenting
    from ganwright.api import (
        Evaluation,
        TrainedRun,
        describe_data,
        list_recipes,
        load_run,
        resume,
        sample,
        train,
        write_report,
    )
    from ganwright.errors import GanwrightError
    from ganwright.evaluating import evaluate, evaluate_pairs, save_statistics, train_extractor
    from ganwright.exploring import explore
    from ganwright.interop import export_state, import_checkpoint
    from ganwright.restoring import restore, translate

_PLACES = {
    **dict.fromkeys(
        (
            "Evaluation",
            "TrainedRun",
            "describe_data",
            "list_recipes",
            "load_run",
            "resume",
            "sample",
            "train",
            "write_report",
        ),
        "ganwright.api",
    ),
    **dict.fromkeys(("evaluate", "evaluate_pairs", "save_statistics", "train_extractor"), "ganwright.evaluating"),
    "GanwrightError": "ganwright.errors",
    "explore": "ganwright.exploring",
    **dict.fromkeys(("export_state", "import_checkpoint"), "ganwright.interop"),
    **dict.fromkeys(("restore", "translate"), "ganwright.restoring"),
}
_MODULES = ("data", "metrics", "recipes", "segmenting")

__all__ = [
    "Evaluation",
    "GanwrightError",
    "TrainedRun",
    "__version__",
    "data",
    "describe_data",
    "evaluate",
    "evaluate_pairs",
    "explore",
    "export_state",
    "import_checkpoint",
    "list_recipes",
    "load_run",
    "metrics",
    "recipes",
    "restore",
    "resume",
    "sample",
    "save_statistics",
    "segmenting",
    "train",
    "train_extractor",
    "translate",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        value = getattr(importlib.import_module(_PLACES[name]), name)
        globals()[name] = value
        return value
    if name in _MODULES:
        return importlib.import_module(f"ganwright.{name}")
    raise AttributeError(f"module 'ganwright' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
