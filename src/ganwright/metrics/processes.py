"""Extraction shared among processes, by Lightning Fabric: each fills its own shards of one store.

Shards are the same whoever fills them, so the joined result is exactly that of one process.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from ganwright.data.sources import ImageSource, open_images
from ganwright.metrics.extractor_base import Extractor
from ganwright.metrics.extractors import open_extractor
from ganwright.metrics.protocols import Protocol
from ganwright.metrics.store import Extracted, FeatureStore


@dataclass(frozen=True)
class ExtractorSpec:
    """How to open an extractor, for processes that must each open their own.

    Attributes:
        name: As `open_extractor` takes it.
        protocol: How images reach it.
        weights: Its weights file, where it is not found by itself.
        device: Where to compute ("cpu", "cuda", …).
    """

    name: str
    protocol: Protocol
    weights: Path | None = None
    device: str = "cpu"

    def open(self, device: torch.device | str | None = None) -> Extractor:
        """The extractor, on `device` or its own."""
        where = self.device if device is None else device
        return open_extractor(self.name, device=where, weights=self.weights, protocol=self.protocol)


def fill_store(
    store: FeatureStore,
    source: Any,
    images: ImageSource,
    spec: ExtractorSpec,
    extractor: Extractor,
    *,
    devices: int = 1,
    note: str,
    quiet: bool = False,
) -> Extracted:
    """What is in the store, after extracting what is not.

    Args:
        store: Where to.
        source: What `images` was opened from; other processes open it again.
        images: The set.
        spec: How to open the extractor.
        extractor: The extractor, open.
        devices: Processes; under torchrun its own count.
        note: What is being done, for the progress bar.
        quiet: Show no progress.
    """
    found = store.read()
    torchrun = {"RANK", "WORLD_SIZE"} <= os.environ.keys()
    if found is not None and not torchrun:
        return found
    if torchrun:
        fabric = Fabric(accelerator=spec.device, devices=int(os.environ.get("LOCAL_WORLD_SIZE", "1")), strategy="ddp")
        if not torch.distributed.is_initialized():
            fabric.launch()
        rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
        if found is None:
            # By number, not by place in the list: the others may have filled some of theirs already.
            mine = [number for number in store.missing() if number % world == rank]
            store.extract(extractor, images, mine, note=note, quiet=quiet or rank > 0)
        torch.distributed.barrier()
        if rank == 0 and found is None:
            store.assemble()
        torch.distributed.barrier()
        again = store.read()
        assert again is not None
        return again
    missing = store.missing()
    if devices > 1 and len(missing) > 1 and not isinstance(source, ImageSource):
        fabric = Fabric(accelerator=spec.device, devices=min(devices, len(missing)), strategy="ddp_spawn")
        job = partial(_worker, store=store, source=source, spec=spec, missing=tuple(missing), note=note, quiet=quiet)
        fabric.launch(job)
    elif missing:
        store.extract(extractor, images, missing, note=note, quiet=quiet)
    return store.assemble()


def _worker(
    fabric: Fabric,
    *,
    store: FeatureStore,
    source: Any,
    spec: ExtractorSpec,
    missing: tuple[int, ...],
    note: str,
    quiet: bool,
) -> None:
    rank, world = fabric.global_rank, fabric.world_size
    if fabric.device.type == "cpu":
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // world))
    with contextlib.closing(open_images(source)) as images:
        extractor = spec.open(fabric.device)
        told = f"{note} (process 1 of {world})"
        store.extract(extractor, images, missing[rank::world], note=told, quiet=quiet or rank > 0)
    fabric.barrier()
