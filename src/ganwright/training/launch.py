"""From settings to processes: devices, precision and launch by Lightning Fabric; start and resumption of a run."""

from __future__ import annotations

import gc
import logging
import os
import secrets
import shlex
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch.multiprocessing.spawn import ProcessRaisedException

from ganwright.config import TrainSettings
from ganwright.data.opening import open_dataset
from ganwright.data.spec import Dataset
from ganwright.errors import DataError, RunError, SettingsError, TrainingError
from ganwright.run import Run
from ganwright.training.checkpoint import writing_to
from ganwright.training.description import run_config
from ganwright.training.loop import Training, build_recipe
from ganwright.training.settings import RunSettings, resolve

_PRECISIONS: dict[str, Any] = {"32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def start_run(settings: RunSettings, source: Any, out: str | Path | None = None) -> tuple[Run, str]:
    """Create a run folder and train in it.

    Args:
        settings: All settings.
        source: What `open_dataset` takes.
        out: The run folder; None: `runs/<data>-<recipe>-<4 hex digits>`.

    Returns:
        The run and why it ended ("finished", "time", "interrupted", "terminated").

    Raises:
        GanwrightError: Data, settings or folder are at fault; see the errors of each.
    """
    fabric = make_fabric(settings.train)  # refuses an impossible device before anything is read or written
    if under_torchrun():
        fabric.launch()
    dataset = open_data(settings, source)
    build_recipe(settings, dataset)  # settings that do not fit the data are refused before a folder is made
    run: Run | None = None
    if fabric.global_rank == 0:
        name = f"{dataset.spec.name}-{settings.info.name}-{secrets.token_hex(2)}"
        run = Run.create(Path(out) if out else Path("runs") / name, describe(settings, dataset, source, fabric))
    if under_torchrun():
        run = fabric.broadcast(run)
    assert run is not None
    return run, _launch(fabric, settings, run, source, dataset)


def resume_run(run: Run, *, source: Any = None, changes: dict[str, Any] | None = None) -> str:
    """Train on from the last good checkpoint; returns why it ended.

    Args:
        run: Any run, finished or not.
        source: The data, where it was an array in memory or has moved; None: as recorded.
        changes: Settings of the loop to change, such as `steps`.

    Raises:
        DataError: The data has changed since, or an array must be given again.
        RunError: The run was imported, so that there is nothing to resume.
    """
    config = run.config
    if "imported" in config:
        raise RunError(
            "This run was imported: it has weights, but no optimisers and no data to go on with.",
            where=run.path,
            fix=f"fine-tune it in a new run: ganwright train --from-run {run.path} --init-from {run.path} DATA",
        )
    settings = resolve(config["recipe"], config["settings"], changes or {}, where=f"{run.path}/run.yaml")
    fabric = make_fabric(settings.train)
    if under_torchrun():
        fabric.launch()
    source = config.get("data_source") if source is None else source
    if source is None:
        raise DataError(
            "This run was trained on an array in memory, or on files whose path names a patient; neither is stored.",
            where=run.path,
            fix="give the same data again: --data PATH, or gw.resume(run, data=array)",
        )
    dataset = open_data(settings, source)
    if dataset.spec.fingerprint != config["data"]["fingerprint"]:
        raise DataError(
            "The data has changed since this run began; to go on with it would not be the same run.",
            where=f"{source}: fingerprint {dataset.spec.fingerprint}, was {config['data']['fingerprint']}",
            fix="restore the data, or start a new run: ganwright train --from-run "
            f"{run.path} {shlex.quote(str(source))}",
        )
    _check_split(run, config["data"], dataset)
    if changes and fabric.global_rank == 0:
        with writing_to(run):
            run.write_config({**config, "settings": settings.flat(), "settings_changed": settings.changed()})
    return _launch(fabric, settings, run, source, dataset)


def _check_split(run: Run, recorded: dict[str, Any], dataset: Dataset) -> None:
    """Refuse to go on where other images would be held out than when the run began (older runs do not say)."""
    before, now = (extra.get("split", {}).get("hash") for extra in (recorded.get("extra", {}), dataset.spec.extra))
    if before is not None and before != now:
        raise DataError(
            "Other images would be held out than when this run began: what was held out would be trained on.",
            where=f"{run.path}: split {now}, was {before}",
            fix="restore the table of groups it was split by, or start a new run",
        )


def open_data(settings: RunSettings, source: Any) -> Dataset:
    """The dataset a run trains on."""
    return open_dataset(
        source,
        settings.data,
        accepts=settings.info.recipe.accepts,
        seed=settings.train.seed,
        min_count=settings.train.batch_size,
    )


def _launch(fabric: Fabric, settings: RunSettings, run: Run, source: Any, dataset: Dataset) -> str:
    if settings.train.devices == 1 or under_torchrun():
        return _train(fabric, settings, run, dataset)
    # Spawned processes open the data themselves: a dataset may be larger than what can be sent.
    try:
        # partial(): Fabric walks into plain arguments, and refuses frozen dataclasses
        return str(fabric.launch(partial(_train_spawned, settings=settings, run=run, source=source)))
    except ProcessRaisedException as error:
        told = [line for line in str(error).splitlines() if line.startswith("ganwright.errors.")]
        if not told:
            raise
        raise TrainingError(told[-1].partition(": ")[2], where=run.path) from error


def _train_spawned(fabric: Fabric, *, settings: RunSettings, run: Run, source: Any) -> str:
    if fabric.device.type == "cpu":
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // fabric.world_size))
    reason = _train(fabric, settings, run, open_data(settings, source))
    # gloo sometimes aborts at exit if tensors of a collective are freed after the process group.
    gc.collect()
    fabric.barrier()
    return reason


def _train(fabric: Fabric, settings: RunSettings, run: Run, dataset: Dataset) -> str:
    training = Training(fabric, run, build_recipe(settings, dataset), dataset, settings)
    training.restore()
    return training.fit()


def under_torchrun() -> bool:
    """Whether this process was started by torchrun or the like, which sets rank and world size."""
    return {"LOCAL_RANK", "RANK", "WORLD_SIZE"} <= os.environ.keys()


def make_fabric(settings: TrainSettings) -> Fabric:
    """Devices, precision and processes.

    Raises:
        SettingsError: The accelerator is not there, or cannot do the precision asked for.
    """
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # one voice: ours
    accelerator = settings.accelerator
    if accelerator == "auto":
        mps = torch.backends.mps.is_available()
        accelerator = "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    if accelerator == "cuda" and not torch.cuda.is_available():
        raise SettingsError(
            "There is no CUDA GPU that this PyTorch can use.",
            where="accelerator",
            fix="use --accelerator cpu, or install a CUDA build of PyTorch",
        )
    if accelerator == "mps" and not torch.backends.mps.is_available():
        raise SettingsError("There is no Apple GPU here.", where="accelerator", fix="use --accelerator cpu")
    _check_precision(settings.precision, accelerator)
    devices, nodes = settings.devices, 1
    strategy = "auto" if devices == 1 else "ddp_spawn"
    if under_torchrun():
        world = int(os.environ["WORLD_SIZE"])
        devices = int(os.environ.get("LOCAL_WORLD_SIZE", world))
        nodes, strategy = world // devices, "ddp" if world > 1 else "auto"
        if settings.batch_size % world:
            raise SettingsError(
                f"A batch of {settings.batch_size} cannot be shared among {world} processes.",
                where="batch_size",
            )
    if accelerator == "cuda" and devices > torch.cuda.device_count():
        raise SettingsError(
            f"{devices} devices were asked for, and there are {torch.cuda.device_count()} GPUs.",
            where="devices",
        )
    if accelerator == "mps" and devices > 1:
        raise SettingsError("Apple GPUs train in one process only.", where="devices", fix="use --devices 1")
    return Fabric(
        accelerator=accelerator,
        devices=devices,
        num_nodes=nodes,
        strategy=strategy,
        precision=_PRECISIONS[settings.precision],
    )


def _check_precision(precision: str, accelerator: str) -> None:
    if precision == "32":
        return
    if accelerator == "cuda" and (precision == "fp16" or torch.cuda.is_bf16_supported(including_emulation=False)):
        return
    what = {"cpu": "a CPU (there it is slower than 32 and was measured unusable)", "mps": "an Apple GPU"}.get(
        accelerator, f"this GPU ({torch.cuda.get_device_name()})" if accelerator == "cuda" else accelerator
    )
    raise SettingsError(
        f"{precision} arithmetic is not supported on {what}.", where="precision", fix="use --precision 32"
    )


def describe(settings: RunSettings, dataset: Dataset, source: Any, fabric: Fabric) -> dict[str, Any]:
    """What `run.yaml` says of a new run."""
    named = isinstance(source, str | os.PathLike)
    place, words = str(source), [Path(sys.argv[0]).name, *sys.argv[1:]]
    if named and Path(place).exists():
        place = str(Path(place).resolve())
    if dataset.spec.extra.get("path_names_patient"):
        named, words = False, ["DATA" if str(source) in word else word for word in words]
    return run_config(settings, dataset.spec, place if named else None, _device_name(fabric.device), shlex.join(words))


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads"
