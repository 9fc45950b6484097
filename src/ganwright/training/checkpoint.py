"""Checkpoints: safetensors and JSON in a folder that appears whole or not at all.

    checkpoints/step-000500/
      networks.safetensors     the recipe's state (weights and buffers)
      ema.safetensors          the moving averages
      optimizers.safetensors   the optimisers' tensors
      state.json               step, position in the data, schedules, doctor, and what is no tensor of the above

Random generators need no entry: every step's randomness is derived from the seed and the step.
"""

from __future__ import annotations

import contextlib
import errno
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from ganwright.errors import CheckpointError, RunError
from ganwright.files import remove_temporaries, write_folder_atomic
from ganwright.run import Run
from ganwright.training.ema import MovingAverage

FORMAT_VERSION = 1
_TENSOR = "__tensor__"
_TUPLE = "__tuple__"
_INT_KEYS = "__int_keys__"


@dataclass
class TrainingParts:
    """The live objects a checkpoint holds.

    Attributes:
        recipe: Networks and buffers.
        optimizers: By name.
        ema: Moving averages.
    """

    recipe: nn.Module
    optimizers: dict[str, Optimizer]
    ema: MovingAverage


def pack(value: Any, tensors: dict[str, Tensor], path: str = "") -> Any:
    """Turn nested containers into JSON, moving each tensor to `tensors` under its path."""
    if isinstance(value, Tensor):
        # clone(): safetensors refuses tensors that share memory and wants them contiguous
        tensors[path] = value.detach().clone(memory_format=torch.contiguous_format).cpu()
        return {_TENSOR: path}
    if isinstance(value, dict):
        if any(isinstance(key, int) for key in value):
            return {_INT_KEYS: [[k, pack(v, tensors, f"{path}/{k}")] for k, v in value.items()]}
        return {str(k): pack(v, tensors, f"{path}/{k}") for k, v in value.items()}
    if isinstance(value, list | tuple):
        packed = [pack(v, tensors, f"{path}/{i}") for i, v in enumerate(value)]
        return {_TUPLE: packed} if isinstance(value, tuple) else packed
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise CheckpointError(
        f"A {type(value).__name__} cannot be saved in a checkpoint.",
        where=path,
        fix="keep the state of a recipe in tensors, numbers, strings, lists and dictionaries",
    )


def unpack(value: Any, tensors: dict[str, Tensor]) -> Any:
    """The inverse of `pack`."""
    if isinstance(value, dict):
        if _TENSOR in value:
            return tensors[value[_TENSOR]]
        if _INT_KEYS in value:
            return {int(k): unpack(v, tensors) for k, v in value[_INT_KEYS]}
        if _TUPLE in value:
            return tuple(unpack(v, tensors) for v in value[_TUPLE])
        return {k: unpack(v, tensors) for k, v in value.items()}
    if isinstance(value, list):
        return [unpack(v, tensors) for v in value]
    return value


def save_checkpoint(run: Run, parts: TrainingParts, state: dict[str, Any]) -> Path:
    """Write the checkpoint of `state["step"]`; one that is there already is kept (the same step is the same).

    Raises:
        CheckpointError: The disk is full or the folder cannot be written; earlier checkpoints are untouched.
    """
    path = run.path / "checkpoints" / f"step-{state['step']:06d}"
    if path.is_dir() and _readable(path):
        return path
    groups: dict[str, dict[str, Tensor]] = {"networks": {}, "optimizers": {}, "ema": {}}
    description = {
        "format": FORMAT_VERSION,
        **state,
        "networks": pack(dict(parts.recipe.state_dict()), groups["networks"]),
        "optimizers": pack(
            {name: dict(optimizer.state_dict()) for name, optimizer in parts.optimizers.items()},
            groups["optimizers"],
        ),
        "ema": pack(parts.ema.state_dict(), groups["ema"]),
    }

    def fill(folder: Path) -> None:
        for name, tensors in groups.items():
            save_file({key.lstrip("/"): tensor for key, tensor in tensors.items()}, folder / f"{name}.safetensors")
        (folder / "state.json").write_text(json.dumps(description), encoding="utf-8")

    try:
        write_folder_atomic(path, fill)
    except Exception as error:
        if not _is_disk_trouble(error):
            raise
        raise CheckpointError(
            f"The checkpoint of step {state['step']} could not be written ({error}); {_kept(run)}.",
            where=path,
            fix=_make_room(run),
        ) from error
    return path


@contextlib.contextmanager
def writing_to(run: Run) -> Iterator[None]:
    """Turn trouble with the disk, while the block writes into the run folder, into an error for people.

    Raises:
        RunError: The disk is full or the folder cannot be written; checkpoints are untouched.
    """
    try:
        yield
    except OSError as error:
        if not _is_disk_trouble(error):
            raise
        raise RunError(
            f"The run folder could not be written ({error}); {_kept(run)}.", where=run.path, fix=_make_room(run)
        ) from error


def _kept(run: Run) -> str:
    last = run.checkpoints()
    return f"the last good checkpoint is of step {last[-1][0]}" if last else "there is no checkpoint yet"


def _make_room(run: Run) -> str:
    return f"make room or make the folder writable, then: ganwright resume {run.path}"


_DISK_TROUBLE = (
    errno.ENOSPC,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EDQUOT,
    errno.EIO,
    errno.ENOENT,
    errno.ENOTDIR,
)


def _is_disk_trouble(error: BaseException) -> bool:
    # safetensors raises an exception of its own that only tells in its text what the system said
    text = str(error).lower()
    words = ("no space left", "read-only", "permission denied", "i/o error", "quota", "os error")
    return (isinstance(error, OSError) and error.errno in _DISK_TROUBLE) or any(word in text for word in words)


def _readable(path: Path) -> bool:
    try:
        read_checkpoint(path)
    except CheckpointError:
        return False
    return True


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint folder: `state.json` with its tensors in place.

    Raises:
        CheckpointError: A file is missing or damaged.
    """
    try:
        description = json.loads((path / "state.json").read_text(encoding="utf-8"))
        if not isinstance(description, dict) or description.get("format", 0) > FORMAT_VERSION:
            raise CheckpointError("The checkpoint is of another version of ganwright.", where=path)
        for name in ("networks", "optimizers", "ema"):
            loaded = load_file(path / f"{name}.safetensors")
            description[name] = unpack(description[name], {f"/{key}": t for key, t in loaded.items()})
        return description
    except CheckpointError:
        raise
    except Exception as error:  # damaged JSON, header or data: all say the same to the user
        raise CheckpointError(f"The checkpoint is damaged: {error}.", where=path) from error


def last_good_checkpoint(run: Run) -> tuple[int, dict[str, Any], list[Path]]:
    """(step, content, damaged folders that were passed over) of the newest readable checkpoint; step 0 if none."""
    damaged: list[Path] = []
    for step, path in reversed(run.checkpoints()):
        try:
            return step, read_checkpoint(path), damaged
        except CheckpointError:
            damaged.append(path)
    return 0, {}, damaged


def restore(parts: TrainingParts, content: dict[str, Any]) -> None:
    """Put a checkpoint's content into the live objects, each tensor in the memory layout it had."""
    load_networks(parts.recipe, content["networks"], "networks")
    parts.ema.load_state_dict(content["ema"])
    for name, optimizer in parts.optimizers.items():
        _restore_optimizer(optimizer, content["optimizers"][name])


def load_networks(recipe: nn.Module, state: dict[str, Tensor], where: object) -> None:
    """Load a recipe's state.

    Raises:
        CheckpointError: It does not fit the recipe.
    """
    try:
        recipe.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(f"The checkpoint does not fit the recipe: {error}", where=where) from error


def _restore_optimizer(optimizer: Optimizer, state: dict[str, Any]) -> None:
    optimizer.load_state_dict(state)
    # Loaded tensors are contiguous; fused optimisers walk a weight and its moments in the same memory order.
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            own = optimizer.state.get(parameter, {})
            for key, value in own.items():
                if isinstance(value, Tensor) and value.shape == parameter.shape and value.dim() > 0:
                    laid_out = torch.empty_like(parameter, dtype=value.dtype)
                    own[key] = laid_out.copy_(value)


def prune(run: Run, keep_last: int, best_step: int | None) -> None:
    """Remove all but the newest `keep_last` checkpoints and the best one."""
    steps = run.checkpoints()
    for step, path in steps[: max(0, len(steps) - max(1, keep_last))]:
        if step != best_step:
            shutil.rmtree(path, ignore_errors=True)


def clean_up(run: Run) -> None:
    """Remove what interrupted writes left."""
    for folder in (run.path, run.path / "checkpoints", run.path / "samples"):
        remove_temporaries(folder)


def remove(folders: list[Path]) -> None:
    """Remove damaged checkpoints that were passed over."""
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
