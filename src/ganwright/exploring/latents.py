"""Points in a generator's latent space, and the safetensors files that keep them.

A file says which run it was made with, so that a w of one generator is never shown by another by mistake.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ganwright.errors import DataError, SettingsError
from ganwright.files import atomic_path

Kind = Literal["z", "w+"]


@dataclass(frozen=True)
class Origin:
    """The generator a file belongs to.

    Attributes:
        run: Name of the run's folder.
        created: When the run was begun: it stays when the folder is renamed.
        step: The checkpoint's step.
        latent_dim: Numbers in z.
        style_dim: Numbers in w; 0: it has none.
        layers: Names of the layers that take a style.
    """

    run: str
    created: str
    step: int
    latent_dim: int
    style_dim: int = 0
    layers: tuple[str, ...] = ()

    def same_run(self, other: Origin) -> bool:
        """Whether both come from one run, at whatever step."""
        return (self.created, self.run)[not self.created] == (other.created, other.run)[not self.created]

    def same_space(self, other: Origin) -> bool:
        """Whether latents of the one have the right shape for the other."""
        mine, theirs = (self.latent_dim, self.style_dim, self.layers), (other.latent_dim, other.style_dim, other.layers)
        return mine == theirs


@dataclass(frozen=True)
class Latents:
    """n points.

    Attributes:
        values: float32 on the CPU: z (n, latent_dim), or w+ (n, layers, style_dim).
        kind: "z" or "w+".
        names: What pictures call each of them.
        labels: Class of each, int64 (n,), where z needs one; None: w+ has it inside, or there are no classes.
        noise: Per-pixel noise found together with the (one) point by projection, by name of the generator's buffer.
    """

    values: Tensor
    kind: Kind
    names: tuple[str, ...]
    labels: Tensor | None = None
    noise: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: slice | Sequence[int]) -> Latents:
        """Some of them, without noise."""
        picked = range(len(self))[rows] if isinstance(rows, slice) else rows
        index = torch.tensor(list(picked), dtype=torch.int64)
        labels = None if self.labels is None else self.labels[index]
        return Latents(self.values[index], self.kind, tuple(self.names[i] for i in picked), labels)

    def with_values(self, values: Tensor) -> Latents:
        """The same points moved elsewhere."""
        return replace(self, values=values)


def joined(parts: Sequence[Latents]) -> Latents:
    """All points of several sets, without noise.

    Raises:
        SettingsError: Some are z and some are w+.
    """
    if len({part.kind for part in parts}) > 1:
        raise SettingsError("Latents in z and in W cannot be joined.", fix="use files of one kind")
    labels = [part.labels for part in parts if part.labels is not None]
    return Latents(
        torch.cat([part.values for part in parts]),
        parts[0].kind,
        sum((part.names for part in parts), ()),
        torch.cat(labels) if len(labels) == len(parts) else None,
    )


# Files. ------------------------------------------------------------------------------------------------------------


def write_tensors(path: Path, key: str, tensors: Mapping[str, Tensor], described: Mapping[str, Any]) -> None:
    """Write a safetensors file with a description as JSON under one key of its metadata, whole or not at all."""
    kept = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        save_file(kept, temporary, {key: json.dumps(described, sort_keys=True)})


def read_tensors(path: Path, key: str, what: str, fix: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and description of such a file; nothing in it is executed.

    Raises:
        DataError: There is none, or it is something else or damaged.
    """
    if not path.is_file():
        raise DataError(f"There is no such file of {what}.", where=path, fix=fix)
    try:
        with safe_open(path, "pt") as file:
            described = json.loads((file.metadata() or {})[key])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        if not isinstance(described, dict):
            raise ValueError("no description")
    except Exception as error:  # safetensors has errors of its own
        raise DataError(f"This is no file of {what}, or it is damaged.", where=path, fix=fix) from error
    if not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
        raise DataError(f"This file of {what} has numbers that are not finite.", where=path, fix=fix)
    return tensors, described


def origin_to_dict(origin: Origin) -> dict[str, Any]:
    """For a file's description."""
    return {**vars(origin), "layers": list(origin.layers)}


def origin_from_dict(values: Any, path: Path, what: str) -> Origin:
    """The inverse of `origin_to_dict`.

    Raises:
        DataError: It is not one.
    """
    try:
        return Origin(**{**values, "layers": tuple(map(str, values["layers"]))})
    except (TypeError, KeyError) as error:
        raise DataError(f"This file of {what} does not say which run it belongs to.", where=path) from error


def check_origin(found: Origin, here: Origin, path: Path, *, other_run: bool = False) -> str:
    """Whether what a file holds can be used with this run.

    Args:
        found: Of the file.
        here: Of the run.
        path: The file.
        other_run: A file of another run is welcome where it fits (fine-tuned from that one, say).

    Returns:
        A note for people, or an empty string.

    Raises:
        DataError: Shapes differ, or it is another run's and `other_run` is not set.
    """
    if not found.same_space(here):
        raise DataError(
            f"This file is of the run {found.run}, whose latent space differs: {_shape(found)} there, {_shape(here)} "
            f"in {here.run}.",
            where=path,
            fix=f"make one with this run, or use the run {found.run}",
        )
    if not found.same_run(here):
        if not other_run:
            raise DataError(
                f"This file was made with another run, {found.run}: in {here.run} its numbers mean something else.",
                where=path,
                fix=f"make one with this run; or, where {here.run} was fine-tuned from it, add --other-run",
            )
        return f"{path.name} was made with another run, {found.run}"
    if found.step != here.step:
        return f"{path.name} was made at step {found.step}; the checkpoint shown is of step {here.step}"
    return ""


def _shape(origin: Origin) -> str:
    z = f"z of {origin.latent_dim} numbers"
    return f"{z}, w of {origin.style_dim} for {len(origin.layers)} layers" if origin.style_dim else f"{z}, no W"


_LATENTS_KEY = "ganwright-latents"
_LATENTS_FIX = "make one with `ganwright explore RUN project IMAGE`"
_NOISE = "noise."


def save_latents(path: str | Path, latents: Latents, origin: Origin) -> Path:
    """Write latents to a safetensors file: `values`, `labels` where there are, `noise.*` where there is."""
    tensors = {"values": latents.values, **{_NOISE + name: t for name, t in latents.noise.items()}}
    if latents.labels is not None:
        tensors["labels"] = latents.labels
    described = {"kind": latents.kind, "names": list(latents.names), "origin": origin_to_dict(origin)}
    write_tensors(Path(path), _LATENTS_KEY, tensors, described)
    return Path(path)


def load_latents(path: str | Path, here: Origin, *, other_run: bool = False) -> tuple[Latents, str]:
    """Latents of a file, and a note for people (or an empty string); see `check_origin`.

    Raises:
        DataError: It is no such file, or another run's.
    """
    path = Path(path)
    tensors, described = read_tensors(path, _LATENTS_KEY, "latents", _LATENTS_FIX)
    origin = origin_from_dict(described.get("origin"), path, "latents")
    note = check_origin(origin, here, path, other_run=other_run)
    values, kind, names = tensors.get("values"), described.get("kind"), described.get("names")
    shape = (here.latent_dim,) if kind == "z" else (len(here.layers), here.style_dim)
    if (
        values is None
        or kind not in ("z", "w+")
        or tuple(values.shape[1:]) != shape
        or not isinstance(names, list)
        or len(names) != len(values)
    ):
        raise DataError("This file of latents is damaged.", where=path, fix=_LATENTS_FIX)
    noise = {name.removeprefix(_NOISE): t for name, t in tensors.items() if name.startswith(_NOISE)}
    return Latents(values.float(), cast(Kind, kind), tuple(map(str, names)), tensors.get("labels"), noise), note
