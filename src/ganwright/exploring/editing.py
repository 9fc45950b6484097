"""Edits: steps along directions, in all layers or some."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ganwright.errors import SettingsError
from ganwright.exploring.directions import Directions
from ganwright.exploring.latents import Latents, joined
from ganwright.exploring.layers import describe_layers, parse_layers
from ganwright.exploring.sheet import Sheet
from ganwright.exploring.space import Space
from ganwright.exploring.truncation import captions_of

STRENGTHS = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)


@dataclass(frozen=True)
class Edit:
    """One step.

    Attributes:
        direction: Its name.
        strength: How far, in standard deviations of latents along it.
        layers: Which layers, see `parse_layers`; None: those the direction is for.
    """

    direction: str
    strength: float
    layers: str | None = None

    @classmethod
    def parse(cls, text: str) -> Edit:
        """From "NAME=STRENGTH" or "NAME=STRENGTH@LAYERS", such as "sefa-2=-1.5@fine".

        Raises:
            SettingsError: It is written otherwise.
        """
        match = re.fullmatch(r"([^=@ ]+)=([-+]?[0-9.]+(?:e[-+]?\d+)?)(?:@(.+))?", text.strip())
        try:
            if match:
                return cls(match[1], float(match[2]), match[3])
        except ValueError:
            pass
        raise SettingsError(
            f"'{text}' is no edit.", fix="write NAME=STRENGTH or NAME=STRENGTH@LAYERS, such as ganspace-2=-1.5@fine"
        )

    def __str__(self) -> str:
        return f"{self.direction}={self.strength:g}" + (f"@{self.layers}" if self.layers else "")


def edited(space: Space, latents: Latents, edits: Sequence[Edit], directions: Directions) -> Latents:
    """Latents after all edits; noise that was found with them stays.

    Raises:
        SettingsError: No such direction or layer, or directions of another kind than the latents.
    """
    if directions.kind != latents.kind:
        raise SettingsError(
            f"These directions are in {directions.kind} and these latents in {latents.kind}.",
            fix="find directions of this run: ganwright explore RUN directions",
        )
    values = latents.values.clone()
    for edit in edits:
        i = directions.find(edit.direction)
        step = edit.strength * directions.scales[i] * directions.vectors[i]
        if latents.kind == "z":
            if edit.layers is not None:
                space.need_styles("Editing some layers")
            values += step
            continue
        chosen = _layers(space, edit, directions)
        values[:, list(chosen)] += step
    return latents.with_values(values)


def edit_sheet(space: Space, latents: Latents, edits: Sequence[Edit], directions: Directions) -> Sheet:
    """Each image before, after each edit alone where there are several, and after all.

    Raises:
        SettingsError: See `edited`; or no edits.
    """
    if not edits:
        raise SettingsError("No edits were given.", fix="give NAME=STRENGTH, such as ganspace-0=2")
    together = [[], *([edit] for edit in edits), *([list(edits)] if len(edits) > 1 else [])]
    images = [space.images(edited(space, latents, some, directions)) for some in together]
    captions = [f"{e.direction}\n{e.strength:+g} sd{f', {e.layers}' if e.layers else ''}" for e in edits]
    columns = ["before", *captions, *(["all"] if len(edits) > 1 else [])]
    notes = ["strengths in standard deviations of latents along the direction"]
    if space.styles is not None:
        names = space.styles.layers
        notes += [f"{edit}: {describe_layers(_layers(space, edit, directions), names)}" for edit in edits]
    return Sheet(np.stack(images, axis=1), captions_of(latents), columns, f"edit: {space.name}", notes)


def directions_sheet(
    space: Space,
    latents: Latents,
    directions: Directions,
    *,
    strengths: Sequence[float] = STRENGTHS,
    layers: str | None = None,
) -> Sheet:
    """A block of rows for each direction: what it does to each latent at each strength.

    Raises:
        SettingsError: No strengths, or no such layer.
    """
    if not strengths:
        raise SettingsError("No strengths were given.", where="strengths")
    moved, captions = [], []
    for name, value in zip(directions.names, directions.values.tolist(), strict=True):
        moved += [edited(space, latents, [Edit(name, s, layers)], directions) for s in strengths]
        told = f"{100 * value:.1f} %" if directions.method == "ganspace" else f"{value:.3g}"
        captions += [f"{name} ({told})\n{one}" for one in captions_of(latents)]
    images = space.images(joined(moved))
    k, s, n = len(directions), len(strengths), len(latents)
    arranged = images.reshape(k, s, n, *images.shape[1:]).swapaxes(1, 2).reshape(k * n, s, *images.shape[1:])
    value_of = "share of variance" if directions.method == "ganspace" else "eigenvalue"
    notes = [f"strengths in standard deviations (sd) of latents along the direction; in brackets: {value_of}"]
    if space.styles is not None:
        chosen = _layers(space, Edit(directions.names[0], 0, layers), directions)
        notes.append(f"applied to {describe_layers(chosen, space.styles.layers)}")
    title = f"directions by {directions.method}: {space.name}"
    columns = [f"{x:+g} sd" if x else "as it is" for x in strengths]
    return Sheet(arranged, captions, columns, title, notes, spaced_rows=n if n > 1 else 0)


def _layers(space: Space, edit: Edit, directions: Directions) -> tuple[int, ...]:
    names = space.need_styles("Editing layers").layers
    if edit.layers is None:
        return directions.layers
    return parse_layers(edit.layers, names)
