"""CPU time of a training step of pix2pix and CycleGAN: ganwright against the authors' own PyTorch code.

Both train networks of the same sizes on the same batch in one process and in turn, so that ratios hold while the
machine's speed drifts. Theirs is `optimize_parameters` of their model classes; ours is the recipe's step in the loop's
context. Neither reads data, logs or averages weights.

usage: python benchmarks/translation_step.py CHECKOUT [--recipes pix2pix cyclegan] [--resolution 128] [--rounds 5]
       [--threads 1] [--save]      CHECKOUT: a clone of github.com/junyanz/pytorch-CycleGAN-and-pix2pix
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from lightning_fabric import Fabric

from ganwright.data.spec import Batch, DataKind, DataSpec
from ganwright.recipes.base import Stage
from ganwright.recipes.registry import find_recipe
from ganwright.training.context import LoopContext
from ganwright.training.randomness import StepRandomness

KINDS = {"pix2pix": DataKind.PAIRS, "cyclegan": DataKind.DOMAINS}
NAMES = {"pix2pix": ("inputs", "targets"), "cyclegan": ("images_a", "images_b")}


def ours(name: str, a: torch.Tensor, b: torch.Tensor) -> tuple[Any, Callable[[], Any]]:
    """The recipe with the paper's settings, and one step of it."""
    info = find_recipe(name)
    torch.manual_seed(0)
    recipe: Any = info.recipe(DataSpec(KINDS[name], "random", 9, "0", a.shape[-1], 3), info.settings).train()
    fabric = Fabric(accelerator="cpu", devices=1)
    prepared: Any = {key: fabric.setup_optimizers(value) for key, value in recipe.optimizers().items()}
    ctx = LoopContext(fabric, prepared, StepRandomness(0, fabric.device), dict, [Stage("train", 10**6)])
    ctx.begin_step(0, logging=False)
    # The data's own layout, as the loop hands it over.
    batch: Batch = {
        key: images.contiguous(memory_format=torch.channels_last)
        for key, images in zip(NAMES[name], (a, b), strict=True)
    }
    return recipe, lambda: recipe.step(batch, ctx)


def theirs(name: str, a: torch.Tensor, b: torch.Tensor) -> Callable[[], Any]:
    """Their model with their defaults, and one step of it."""
    large = a.shape[-1] >= 256
    networks = {
        "pix2pix": {"netG": "unet_256" if large else "unet_128", "norm": "batch", "gan_mode": "vanilla"},
        "cyclegan": {
            "netG": "resnet_9blocks" if large else "resnet_6blocks",
            "norm": "instance",
            "gan_mode": "lsgan",
            "lambda_A": 10.0,
            "lambda_B": 10.0,
            "lambda_identity": 0.5,
        },
    }[name]
    common = {
        "gpu_ids": [],
        "isTrain": True,
        "checkpoints_dir": ".",
        "name": "x",
        "preprocess": "none",
        "direction": "AtoB",
        "input_nc": 3,
        "output_nc": 3,
        "ngf": 64,
        "ndf": 64,
        "netD": "basic",
        "n_layers_D": 3,
        "init_type": "normal",
        "init_gain": 0.02,
        "lr": 2e-4,
        "beta1": 0.5,
        "lambda_L1": 100.0,
        "no_dropout": name == "cyclegan",
        "pool_size": 50 if name == "cyclegan" else 0,
    }
    module = importlib.import_module({"pix2pix": "models.pix2pix_model", "cyclegan": "models.cycle_gan_model"}[name])
    made = getattr(module, {"pix2pix": "Pix2PixModel", "cyclegan": "CycleGANModel"}[name])
    model = made(SimpleNamespace(**common, **networks))
    data = {"A": a, "B": b, "A_paths": [], "B_paths": []}

    def step() -> None:
        model.set_input(data)
        model.optimize_parameters()

    return step


def measure(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Median seconds of each side's step, in turn, and the median of their ratios."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(1, 3, args.resolution, args.resolution, generator=generator) * 2 - 1 for _ in range(2))
    recipe, step = ours(name, a, b)
    sides = {"ours": step, "theirs": theirs(name, a, b)}
    for one in sides.values():
        one()
    times: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(args.rounds):
        for side, one in sides.items():
            began = time.process_time()
            one()
            times[side].append(time.process_time() - began)
    ratios = [theirs / ours for ours, theirs in zip(times["ours"], times["theirs"], strict=True)]
    found = {f"{side}_seconds": round(statistics.median(values), 4) for side, values in times.items()}
    return {
        "recipe": name,
        "parameters": sum(p.numel() for p in recipe.parameters()),
        **found,
        "theirs_over_ours": round(statistics.median(ratios), 3),
        "lowest": round(min(ratios), 3),
        "highest": round(max(ratios), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--recipes", nargs="+", choices=sorted(KINDS), default=sorted(KINDS))
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--save", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    sys.path.insert(0, str(args.checkout.resolve()))
    rows = [measure(name, args) for name in args.recipes]
    report = {
        "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {args.threads} thread(s)",
        "resolution": args.resolution,
        "batch_size": 1,
        "rounds": args.rounds,
        "clock": "CPU time of the process",
        "rows": rows,
    }
    print(json.dumps(report, indent=2))
    if args.save:
        path = Path(__file__).parent / "results" / "translation_step-cpu.json"
        path.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
