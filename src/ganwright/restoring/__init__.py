"""Pictures restored and translated, of any size: by Deep Image Prior or trained runs, beside classical methods."""

from ganwright.restoring.batch import DONE, Restored, RestoreOptions, restore_each, translate_each
from ganwright.restoring.calls import restore, translate
from ganwright.restoring.measuring import Verdict
from ganwright.restoring.prior import PriorOptions
from ganwright.restoring.tile import Tiling, tiled
from ganwright.restoring.translator import Translator, load_translator, open_run

__all__ = [
    "DONE",
    "PriorOptions",
    "RestoreOptions",
    "Restored",
    "Tiling",
    "Translator",
    "Verdict",
    "load_translator",
    "open_run",
    "restore",
    "restore_each",
    "tiled",
    "translate",
    "translate_each",
]
