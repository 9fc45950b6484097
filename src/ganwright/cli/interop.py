"""`ganwright import` and `ganwright export`: other people's checkpoints to runs, and runs to plain state dicts."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import Positional

from ganwright.cli.options import parse, step


@dataclass(frozen=True)
class Import:
    """Make a run of somebody's network file (docs/import.md lists which), without running anything that is in it."""

    file: Positional[Path]
    """A .pkl of NVIDIA's stylegan2-ada-pytorch or stylegan3 repository, or of R3GAN's; a .pth of a generator for
    super-resolution or translation."""
    out: Path | None = None
    """The run folder; by default runs/<file's name>-imported."""
    eval_mode: bool = False
    """Generators of pytorch-CycleGAN-and-pix2pix: use as by its `test.py --eval`, with nothing dropped and batch norm
    by the statistics of training; else as without --eval."""


@dataclass(frozen=True)
class Export:
    """Write the weights of one network of a run as a plain .pt state dict (tensors by name, nothing else)."""

    run: Positional[Path]
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """The .pt file to write."""
    network: str = "generator"
    """Which network."""
    ema: bool = True
    """The averaged weights, where there is an average of this network."""
    checkpoint: str = "last"
    """A step, last or best."""


def import_file(arguments: list[str]) -> None:
    """`ganwright import FILE`."""
    options = parse("import", Import, arguments)
    from ganwright.interop import import_checkpoint

    sys.stdout.write(f"{import_checkpoint(options.file, options.out, eval_mode=options.eval_mode).path}\n")


def export_run(arguments: list[str]) -> None:
    """`ganwright export RUN --out FILE`."""
    options = parse("export", Export, arguments)
    from ganwright.interop import export_state

    found = export_state(
        options.run, options.out, network=options.network, ema=options.ema, step=step(options.checkpoint)
    )
    sys.stdout.write(f"{found}\n")
