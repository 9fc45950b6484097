"""CPU time of StyleGAN2's training step: ganwright against stylegan2-ada-pytorch with its reference operations.

Both train the same networks from the same weights on the same batch size in one process, phase by phase and in turn, so
that ratios hold while the machine's speed drifts. Theirs is their own code: networks, losses and the phases of their
training loop; compiled operations are for GPUs only, so on a CPU it computes with those it calls reference. A step is
G + D, a quarter of path length regularisation and a sixteenth of R1 (lazy regularisation), and the moving average.

usage: python benchmarks/stylegan2_step.py CHECKOUT [--resolution 64] [--batch-size 8] [--channel-base 4096]
       [--rounds 3] [--threads 1] [--save]      CHECKOUT: a clone of github.com/NVlabs/stylegan2-ada-pytorch
"""

from __future__ import annotations

import argparse
import copy
import datetime
import json
import platform
import statistics
import sys
import time
import types
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric

from ganwright.data.opening import open_dataset
from ganwright.recipes.base import Stage
from ganwright.recipes.registry import find_recipe
from ganwright.training.context import LoopContext
from ganwright.training.ema import MovingAverage
from ganwright.training.randomness import StepRandomness

SHARE = {"G": 1.0, "path length": 1 / 4, "D": 1.0, "R1": 1 / 16, "average": 1.0}
"""How often each phase happens in a step."""


class Ours:
    """The recipe's own phases, through the loop's context."""

    def __init__(self, args: argparse.Namespace) -> None:
        shape = (64, args.resolution, args.resolution, 3)
        spec = open_dataset(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)).spec
        info = find_recipe("stylegan2")
        settings = replace(info.settings, channel_base=args.channel_base, conv_clamp=256.0)
        torch.manual_seed(0)
        self.recipe: Any = info.recipe(spec, settings).train()
        fabric = Fabric(accelerator="cpu", devices=1)
        prepared: Any = {k: fabric.setup_optimizers(v) for k, v in self.recipe.optimizers().items()}
        randomness = StepRandomness(0, fabric.device)
        self.ctx = LoopContext(fabric, prepared, randomness, dict, [Stage("train", 10**6)])
        self.ctx.begin_step(0, logging=False)
        self.ema, self.rows = MovingAverage(self.recipe, ("generator",), 312.5, 0.05), args.batch_size
        self.real = torch.rand(args.batch_size, 3, args.resolution, args.resolution) * 2 - 1
        self.real = self.real.contiguous(memory_format=torch.channels_last)

    def phases(self) -> dict[str, Callable[[], Any]]:
        r, ctx, rows, real = self.recipe, self.ctx, self.rows, self.real
        return {
            "G": lambda: r._update_generator(rows, None, ctx),
            "path length": lambda: r._regularise_path_length(rows, None, ctx),
            "D": lambda: r._update_discriminator(real, None, ctx),
            "R1": lambda: r._regularise_gradients(real, None, ctx),
            "average": lambda: self.ema.update(1000),
        }


class Theirs:
    """NVIDIA's networks and losses, and the phases of their training loop (training/training_loop.py)."""

    def __init__(self, args: argparse.Namespace, ours: Ours) -> None:
        sys.path.insert(0, str(args.checkout))
        if "requests" not in sys.modules:  # it downloads; nothing is downloaded here
            sys.modules["requests"] = types.ModuleType("requests")
        from training.loss import StyleGAN2Loss  # type: ignore[import-not-found]
        from training.networks import Discriminator, Generator  # type: ignore[import-not-found]

        size = {"c_dim": 0, "img_resolution": args.resolution, "img_channels": 3}
        maps = {"channel_base": args.channel_base, "channel_max": 512, "conv_clamp": 256}
        self.g = Generator(
            z_dim=512, w_dim=512, **size, mapping_kwargs={"num_layers": 2}, synthesis_kwargs=maps
        ).train()
        self.d = Discriminator(**size, **maps, epilogue_kwargs={"mbstd_group_size": 4}).train()
        self.g.load_state_dict(ours.recipe.generator.state_dict())
        self.d.load_state_dict(ours.recipe.discriminator.state_dict())
        self.g_ema = copy.deepcopy(self.g).eval()
        gamma = 0.0002 * args.resolution**2 / args.batch_size
        device = torch.device("cpu")
        self.loss = StyleGAN2Loss(device, self.g.mapping, self.g.synthesis, self.d, r1_gamma=gamma)
        self.optimizers = {}
        for name, module, every in (("G", self.g, 4), ("D", self.d, 16)):
            c = every / (every + 1)
            self.optimizers[name] = torch.optim.Adam(module.parameters(), 0.0025 * c, (0.0, 0.99**c), eps=1e-8)
            module.requires_grad_(False)
        self.rows, self.real = args.batch_size, ours.real.contiguous()

    def phase(self, name: str, gain: int) -> None:
        module, optimizer = (self.g, self.optimizers["G"]) if name[0] == "G" else (self.d, self.optimizers["D"])
        z, c = torch.randn(self.rows, 512), torch.zeros(self.rows, 0)
        optimizer.zero_grad(set_to_none=True)
        module.requires_grad_(True)
        self.loss.accumulate_gradients(phase=name, real_img=self.real, real_c=c, gen_z=z, gen_c=c, sync=True, gain=gain)
        module.requires_grad_(False)
        for parameter in module.parameters():
            if parameter.grad is not None:
                torch.nan_to_num(parameter.grad, nan=0, posinf=1e5, neginf=-1e5, out=parameter.grad)
        optimizer.step()

    @torch.no_grad()
    def average(self) -> None:
        for mean, value in zip(self.g_ema.parameters(), self.g.parameters(), strict=True):
            mean.copy_(value.lerp(mean, 0.998))
        for mean, value in zip(self.g_ema.buffers(), self.g.buffers(), strict=True):
            mean.copy_(value)

    def phases(self) -> dict[str, Callable[[], Any]]:
        return {
            "G": lambda: self.phase("Gmain", 1),
            "path length": lambda: self.phase("Greg", 4),
            "D": lambda: self.phase("Dmain", 1),
            "R1": lambda: self.phase("Dreg", 16),
            "average": self.average,
        }


@torch.no_grad()
def check_equal(ours: Ours, theirs: Theirs) -> float:
    """Largest difference of images and logits before training."""
    z = torch.randn(4, 512)
    images = theirs.g.eval()(z, None, noise_mode="const")
    logits = theirs.d(images, None).squeeze(1)
    theirs.g.train()
    image_error = (ours.recipe.generator(z) - images).abs().max()
    return max(image_error.item(), (ours.recipe.discriminator(images) - logits).abs().max().item())


def measure(phase: Callable[[], Any]) -> float:
    start = time.process_time()
    phase()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--channel-base", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/stylegan2_step-cpu.json")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore", module="torch_utils|training")
    ours = Ours(args)
    theirs = Theirs(args, ours)
    difference = check_equal(ours, theirs)
    assert difference < 1e-4, f"the networks differ by {difference}"
    phases = {"ganwright": ours.phases(), "official": theirs.phases()}
    for name in SHARE:
        for own in phases.values():
            own[name]()
    rounds = [
        {name: {key: measure(own[name]) for key, own in phases.items()} for name in SHARE} for _ in range(args.rounds)
    ]
    for seconds in rounds:
        seconds["step"] = {key: sum(SHARE[name] * seconds[name][key] for name in SHARE) for key in phases}
    result: dict[str, Any] = {
        "device": f"{platform.processor() or platform.machine()} CPU",
        "threads": args.threads,
        "torch": torch.__version__,
        "date": datetime.date.today().isoformat(),
        "resolution": args.resolution,
        "batch_size": args.batch_size,
        "channel_base": args.channel_base,
        "rounds": args.rounds,
        "largest_difference": difference,
        "phases": {},
    }
    for name in (*SHARE, "step"):
        ratios = sorted(seconds[name]["official"] / seconds[name]["ganwright"] for seconds in rounds)
        row = {key: round(statistics.median(s[name][key] for s in rounds), 3) for key in phases}
        spread = {"median_ratio": statistics.median(ratios), "lowest_ratio": ratios[0], "highest_ratio": ratios[-1]}
        result["phases"][name] = {**row, **{key: round(value, 3) for key, value in spread.items()}}
        print(f"{name:12} {row}  ratio {spread['median_ratio']:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")
    if args.save:
        path = Path(__file__).parent / "results" / "stylegan2_step-cpu.json"
        path.write_text(json.dumps(result, indent=2) + "\n")
        print(path)


if __name__ == "__main__":
    main()
