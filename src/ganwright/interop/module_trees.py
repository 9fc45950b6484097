"""Networks as trees of inert stand-ins: their modules and tensors, and whether their numbers can be weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ganwright.interop.restricted import CheckpointImportError, ImportRefusedError, Inert

MAX_MODULES = 5_000
MAX_DEPTH = 32
MAX_ENTRIES = 1_000
"""Of one module: parameters, or modules in it."""
MAX_TENSORS = 20_000
MAX_NAME = 100
_SLACK = 1 << 20
"""Numbers that tensors may have in common without suspicion."""


def walk(tree: Inert) -> Iterator[tuple[str, Inert]]:
    """(dotted name, module) of a network and everything in it.

    Raises:
        ImportRefusedError: It is nested without end, or has no modules where it should.
    """
    queue: list[tuple[str, Inert, int]] = [("", tree, 0)]
    count = 0
    while queue:
        name, module, depth = queue.pop()
        count += 1
        if count > MAX_MODULES or depth > MAX_DEPTH:
            raise ImportRefusedError("A network in the file has parts within parts without end.")
        yield name, module
        for child, part in entries(module, "_modules"):
            if isinstance(part, Inert):
                queue.append((f"{name}.{child}" if name else child, part, depth + 1))


def tensors(modules: Mapping[str, Inert]) -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) of all parameters and buffers, as a state dict has them."""
    for name, module in modules.items():
        for kind in ("_parameters", "_buffers"):
            for own, tensor in entries(module, kind):
                if isinstance(tensor, Tensor):
                    yield f"{name}.{own}" if name else own, tensor


def entries(module: Inert, kind: str) -> list[tuple[str, Any]]:
    """(name, value) of what a module has of a kind, such as "_parameters".

    Raises:
        ImportRefusedError: It is no dictionary of names, or one larger than any layer has.
    """
    found = module.state.get(kind, {})
    if type(found) is not dict:
        raise ImportRefusedError(f"A network's {kind} is no dictionary.")
    if len(found) > MAX_ENTRIES or not all(type(key) is str and len(key) <= MAX_NAME for key in found):
        raise ImportRefusedError(f"A network's {kind} are too many, or their names are too long.")
    return list(found.items())


def check_state(key: str, state: Mapping[str, Tensor]) -> None:
    """Refuse tensors that cannot be weights, or that would take more memory than the file has numbers.

    Args:
        key: Whose they are, for people.
        state: Tensors by name.

    Raises:
        ImportRefusedError: They are too many, or share their numbers.
        CheckpointImportError: One is empty, of a type that no weight has, or has numbers that are not finite.
    """
    if len(state) > MAX_TENSORS:
        raise ImportRefusedError(f"{key} has {len(state)} tensors, which no network has.")
    for name, tensor in state.items():
        counter = name.endswith("num_batches_tracked") and tensor.dtype == torch.int64
        if not tensor.is_floating_point() and not counter:
            raise CheckpointImportError(f"{key}: {name} is of type {tensor.dtype}, which no weight has.")
        if tensor.numel() == 0:
            raise CheckpointImportError(f"{key}: {name} is empty, of size {tuple(tensor.shape)}.")
    there = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() // t.element_size() for t in state.values()}
    if sum(tensor.numel() for tensor in state.values()) > sum(there.values()) + _SLACK:
        raise ImportRefusedError(f"{key}: its tensors share their numbers, and would swell when they are copied.")
    for name, tensor in state.items():
        if not bool(tensor.float().isfinite().all()):
            raise CheckpointImportError(
                f"{key}: {name} holds numbers that are not finite.",
                fix="the training that made this file has diverged; take an earlier one of its files",
            )
