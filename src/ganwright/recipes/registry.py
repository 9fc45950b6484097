"""The list of recipes: a name, where it comes from, what it is for, and its preset settings.

Third parties add theirs through the entry-point group `ganwright.recipes`; each entry point names a `RecipeInfo`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from ganwright.console import console
from ganwright.errors import SettingsError, nearest
from ganwright.recipes.base import Recipe

ENTRY_POINT_GROUP = "ganwright.recipes"
_BUILT_IN_MODULES = (
    "ganwright.recipes.presets",
    "ganwright.recipes.e_gan",
    "ganwright.recipes.ss_gan",
    "ganwright.recipes.stylegan2",
    "ganwright.recipes.stylegan3",
    "ganwright.recipes.attribute_gan",
    "ganwright.recipes.infogan",
    "ganwright.recipes.r3gan",
    "ganwright.recipes.pix2pix",
    "ganwright.recipes.cyclegan",
    "ganwright.recipes.srgan",
    "ganwright.recipes.denoise_gan",
    "ganwright.recipes.deep_image_prior",
)
"""Modules with a `RECIPES` list; a new recipe is one new file and one line here."""


@dataclass(frozen=True)
class RecipeInfo:
    """One row of `ganwright recipes`.

    Attributes:
        name: What users type.
        recipe: The class.
        settings: The preset: an instance of `recipe.Settings` with the paper's values.
        paper: Citation.
        purpose: What it is for, in a sentence.
        train_defaults: Defaults of `TrainSettings`, `DataSettings` or `EvalSettings` that suit this recipe
            (batch size, number of steps, …).
    """

    name: str
    recipe: type[Recipe]
    settings: Any
    paper: str
    purpose: str
    train_defaults: Mapping[str, Any] = field(default_factory=dict)


@cache
def recipes() -> dict[str, RecipeInfo]:
    """All recipes by name, the built-in ones first; a broken third-party recipe is reported and left out."""
    found: dict[str, RecipeInfo] = {}
    for module in _BUILT_IN_MODULES:
        for info in importlib.import_module(module).RECIPES:
            found[info.name] = info
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        try:
            info = entry.load()
            if not isinstance(info, RecipeInfo):
                raise TypeError(f"{entry.value} is not a RecipeInfo")
        except Exception as error:  # a stranger's package must not take the command line down
            console.print(f"[yellow]recipe '{entry.name}' could not be loaded and is left out: {error}")
            continue
        if info.name in found:
            console.print(f"[yellow]recipe '{info.name}' of {entry.value} is left out: the name is taken")
            continue
        found[info.name] = info
    return found


def register(info: RecipeInfo) -> RecipeInfo:
    """Make a recipe known by name in this process (a notebook, a script); packages use the entry-point group.

    Raises:
        SettingsError: A built-in or installed recipe has that name.
    """
    if info.name in recipes() and recipes()[info.name].recipe.__module__ != info.recipe.__module__:
        raise SettingsError(f"There is a recipe '{info.name}' already.", where=info.name, fix="choose another name")
    recipes()[info.name] = info
    return info


def find_recipe(name: str) -> RecipeInfo:
    """The recipe of this name.

    Raises:
        SettingsError: There is none; the nearest name is suggested.
    """
    known = recipes()
    if name not in known:
        raise SettingsError(
            f"There is no recipe '{name}'.{nearest(name, known)}",
            fix="`ganwright recipes` lists them: " + ", ".join(known),
        )
    return known[name]
