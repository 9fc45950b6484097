"""Training speed and peak memory of StyleGAN2 and R3GAN on a GPU, in the unit their authors publish: seconds per 1,000
images.

Each case trains on random images through the loop's own parts (randomness, autocast, gradient scaling, moving average),
without data loading, which the published figures hide behind the GPU. It is measured over whole periods of the lazy
regularisers, so that each is counted as often as it happens. With `compile`, the networks are compiled for the passes
that need no second derivative; regularisers run as they are.

usage: python benchmarks/gpu_synthesis.py [--case NAME ...] [--precision 32 bf16 fp16] [--compile off on] [--periods 4]
       [--save]      (writes benchmarks/results/gpu_synthesis-<GPU>.json)
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import re
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from ganwright.data.spec import Batch, DataKind, DataSpec
from ganwright.recipes.base import Stage
from ganwright.recipes.registry import find_recipe
from ganwright.training.context import LoopContext
from ganwright.training.ema import MovingAverage
from ganwright.training.randomness import StepRandomness
from ganwright.training.settings import resolve

PRECISIONS = {"32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


@dataclass(frozen=True)
class Case:
    """What is trained.

    Attributes:
        recipe: Its name.
        resolution: Of the random images.
        batch_size: Images a step.
        period: Steps after which everything lazy has happened.
        compiled: For each method of the recipe, the networks whose forward pass is compiled in it.
        published: What the authors' programs need, on one GPU.
        settings: Changes to the preset.
    """

    recipe: str
    resolution: int
    batch_size: int
    period: int
    compiled: dict[str, tuple[str, ...]]
    published: dict[str, Any]
    settings: dict[str, Any] = field(default_factory=dict)


_STYLEGAN2 = {
    "_update_generator": ("generator.synthesis", "discriminator"),
    "_update_discriminator": ("generator.synthesis", "discriminator"),
}
_R3GAN = {"_update_generator": ("generator", "discriminator")}  # D's step always has gradient penalties

CASES = {
    "stylegan2-256": Case(
        "stylegan2",
        256,
        16,
        16,
        _STYLEGAN2,
        {
            "stylegan3 repository, cfg stylegan2, 1 GPU, mixed precision": {"V100": 20.84, "A100": 12.53},
            "stylegan2-ada-pytorch, cfg auto, 1 GPU, mixed precision": {"V100": "21.6-24.2"},
            "peak memory (GB), stylegan3 repository": 4.5,
        },
    ),
    "r3gan-32": Case("r3gan-cifar10", 32, 64, 1, _R3GAN, {}),
    "r3gan-256": Case("r3gan-ffhq-256", 256, 16, 1, _R3GAN, {}),
}
"""Published figures: NVlabs/stylegan3 docs/configs.md, NVlabs/stylegan2-ada-pytorch README; R3GAN publishes none."""


class Trained:
    """A recipe with all that the loop gives it."""

    def __init__(self, case: Case, precision: str, *, compiled: bool) -> None:
        fabric = Fabric(accelerator="cuda", devices=1, precision=PRECISIONS[precision])  # type: ignore[arg-type]
        settings = resolve(find_recipe(case.recipe), {"resolution": case.resolution, **case.settings})
        spec = DataSpec(DataKind.IMAGES, "random", 50_000, "0", case.resolution, 3)
        torch.manual_seed(0)
        self.recipe: Any = settings.info.recipe(spec, settings.recipe).to(fabric.device).train()
        self.fabric, self.done = fabric, 0
        shape = (case.batch_size, 3, case.resolution, case.resolution)
        images = torch.rand(shape, device=fabric.device) * 2 - 1
        self.batch: Batch = {"images": images.contiguous(memory_format=torch.channels_last)}
        prepared: Any = {k: fabric.setup_optimizers(v) for k, v in self.recipe.optimizers().items()}
        stages = [Stage("train", 10**6)]
        self.ctx = LoopContext(fabric, prepared, StepRandomness(0, fabric.device), lambda: self.batch, stages)
        self.ema = MovingAverage(self.recipe, self.recipe.ema_networks, 312.5, 0.05)
        if compiled:
            for method, networks in case.compiled.items():
                compile_within(self.recipe, method, [self.recipe.get_submodule(name) for name in networks])

    def step(self) -> None:
        self.ctx.begin_step(self.done, logging=False)
        with self.fabric.autocast():
            self.recipe.step(self.batch, self.ctx)
        self.done += 1
        self.ema.update(self.done)


def compile_within(recipe: Any, method: str, networks: list[nn.Module]) -> None:
    """Let these networks' forward passes be compiled while this method of the recipe runs."""
    plain: Callable[..., Any] = getattr(recipe, method)
    compiled = [torch.compile(network.forward) for network in networks]

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        for network, forward in zip(networks, compiled, strict=True):
            network.forward = forward
        try:
            return plain(*args, **kwargs)
        finally:
            for network in networks:
                del network.forward

    object.__setattr__(recipe, method, wrapped)


def measure(case: Case, precision: str, *, compiled: bool, periods: int) -> dict[str, Any]:
    """Seconds per 1,000 images (median over periods) and peak memory."""
    torch.cuda.empty_cache()
    start = time.perf_counter()
    trained = Trained(case, precision, compiled=compiled)
    steps = max(case.period, 16)
    for _ in range(steps):  # compiles, chooses algorithms
        trained.step()
    torch.cuda.synchronize()
    warm_up = time.perf_counter() - start
    torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(periods):
        start = time.perf_counter()
        for _ in range(steps):
            trained.step()
        torch.cuda.synchronize()
        seconds.append((time.perf_counter() - start) / (steps * case.batch_size) * 1000)
    finite = all(bool(p.isfinite().all()) for p in trained.recipe.parameters())
    return {
        "sec_per_kimg": round(statistics.median(seconds), 3),
        "lowest": round(min(seconds), 3),
        "highest": round(max(seconds), 3),
        "peak_memory_GB": round(torch.cuda.max_memory_allocated() / 1e9, 2),
        "warm_up_seconds": round(warm_up, 1),
        "weights_finite": finite,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--precision", nargs="+", choices=list(PRECISIONS), default=list(PRECISIONS))
    parser.add_argument("--compile", nargs="+", choices=["off", "on"], default=["off", "on"])
    parser.add_argument("--periods", type=int, default=4)
    parser.add_argument("--save", action="store_true")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit(
            "This measures GPUs and finds none: torch.cuda.is_available() is False.\n"
            "On a CPU, benchmarks/stylegan2_step.py compares training steps."
        )
    torch.backends.cudnn.benchmark = True
    name = torch.cuda.get_device_name()
    about = {"device": name, "torch": torch.__version__, "date": datetime.date.today().isoformat()}
    print(about)
    results: dict[str, Any] = {}
    for key in args.case:
        case = CASES[key]
        results[key] = {**about, "batch_size": case.batch_size, "published": case.published, "measured": {}}
        print(f"{key}, batch {case.batch_size}; published sec/kimg: {case.published or 'none'}")
        for precision, compiled in itertools.product(args.precision, args.compile):
            label = f"{precision}, compile {compiled}"
            try:
                row = measure(case, precision, compiled=compiled == "on", periods=args.periods)
            except torch.cuda.OutOfMemoryError:
                row = {"error": "out of memory"}
            results[key]["measured"][label] = row
            print(f"  {label:18} {row}")
    if args.save:
        path = Path(__file__).parent / "results" / f"gpu_synthesis-{re.sub(r'[^A-Za-z0-9]+', '-', name)}.json"
        others = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({**others, **results}, indent=2) + "\n")
        print(path)


if __name__ == "__main__":
    main()
