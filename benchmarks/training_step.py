"""Images a second of ganwright's training step against a plain PyTorch loop of the same networks.

All run in one process, in turn (A B A B …), and ratios are taken round by round, so that they hold while the
machine's speed drifts. The plain loop is written as in PyTorch's DCGAN example and the usual WGAN-GP scripts:
contiguous NCHW, each layer by itself (convolve, then pool; upsample, then convolve), activations in place, Adam as
it comes, a fresh discriminator pass for the generator with its weights not frozen, losses read by `.item()`.
With --variants, ganwright's step is also measured without each of its parts, and the plain loop with some.

usage: python benchmarks/training_step.py [--device cpu] [--rounds 9] [--steps 6] [--threads 2] [--variants] [--save]
       python benchmarks/training_step.py --profile
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor, nn

from ganwright import penalties
from ganwright.data.opening import open_dataset
from ganwright.networks.resnet import PooledConv2d, UpsampledConv2d
from ganwright.recipes import image_gan
from ganwright.recipes.base import Stage
from ganwright.training.context import LoopContext
from ganwright.training.ema import MovingAverage
from ganwright.training.loop import build_recipe
from ganwright.training.randomness import StepRandomness
from ganwright.training.settings import resolve
from ganwright.training.stream import BatchStream

CASES: dict[str, dict[str, Any]] = {
    "dcgan": {"batch_size": 64, "width_g": 64, "width_d": 64, "resolution": 32},
    "wgan-gp": {"batch_size": 32, "width_g": 64, "width_d": 64, "resolution": 32},
}


def make_data(n: int = 2048) -> Any:
    images = np.random.default_rng(0).integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)
    return open_dataset(images)


class ConvolveThenPool(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(super().forward(x), 2)


class UpsampleThenConvolve(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.interpolate(x, scale_factor=2.0, mode="nearest"))


def layer_by_layer(network: nn.Module) -> None:
    """Let pooling and upsampling be layers of their own; weights stay."""
    for module in network.modules():
        if isinstance(module, PooledConv2d):
            module.__class__ = ConvolveThenPool
        elif isinstance(module, UpsampledConv2d):
            module.__class__ = UpsampleThenConvolve


def torchs_own_gradients(critic: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    x = images.detach().requires_grad_(True)
    return torch.autograd.grad(critic(x).sum(), x, create_graph=True)[0].flatten(1)


@contextlib.contextmanager
def not_frozen(network: nn.Module) -> Iterator[None]:
    yield


class Ours:
    """The recipe's step through the loop's own parts, moving average included; `without` leaves a part out."""

    def __init__(self, name: str, changes: dict[str, Any], data: Any, device: str, without: str = "") -> None:
        settings = resolve(name, changes)
        fabric = Fabric(accelerator=device, devices=1)
        self.batch_size, self.without = settings.train.batch_size, without
        self.recipe = build_recipe(settings, data).to(fabric.device).train()
        if without == "channels-last weights":
            self.recipe.to(memory_format=torch.contiguous_format)
        if without == "joined layers":
            layer_by_layer(self.recipe)
        optimizers = self.recipe.optimizers()
        if without == "fused Adam":
            s = settings.recipe
            for key, lr, betas in (("generator", s.lr_g, s.betas_g), ("discriminator", s.lr_d, s.betas_d)):
                optimizers[key] = torch.optim.Adam(getattr(self.recipe, key).parameters(), lr, betas)
        self.stream = BatchStream(data, self.batch_size, seed=0, device=fabric.device)
        prepared: Any = {key: fabric.setup_optimizers(value) for key, value in optimizers.items()}
        randomness = StepRandomness(0, fabric.device)
        self.ctx = LoopContext(fabric, prepared, randomness, self.stream.next, [Stage("train", 10**6)])
        self.ema = MovingAverage(self.recipe, self.recipe.ema_networks, 300.0, 0.05)
        self.done = 0

    def step(self) -> None:
        with contextlib.ExitStack() as patches:
            if self.without == "quick second derivative":
                patches.enter_context(mock.patch.object(penalties, "image_gradients", torchs_own_gradients))
            if self.without == "frozen discriminator":
                patches.enter_context(mock.patch.object(image_gan, "frozen", not_frozen))
            self.ctx.begin_step(self.done, logging=self.done % 50 == 0)
            self.recipe.step(self.stream.next(), self.ctx)
            self.done += 1
            self.ema.update(self.done)


class Plain:
    """What one would write by hand; `having` gives it a part of ganwright's."""

    def __init__(self, name: str, changes: dict[str, Any], data: Any, device: str, having: str = "") -> None:
        settings = resolve(name, changes)
        self.s = settings.recipe
        self.batch_size, self.data, self.device = settings.train.batch_size, data, torch.device(device)
        recipe = build_recipe(settings, data).to(device).train()
        if having != "channels-last weights":
            recipe.to(memory_format=torch.contiguous_format)
        if having != "joined layers":
            layer_by_layer(recipe)
        self.g, self.d = recipe.generator, recipe.discriminator
        self.opt_g = torch.optim.Adam(self.g.parameters(), self.s.lr_g, self.s.betas_g)
        self.opt_d = torch.optim.Adam(self.d.parameters(), self.s.lr_d, self.s.betas_d)
        self.drawn = 0
        self.step: Callable[[], None] = self.gradient_penalty_step if name == "wgan-gp" else self.dcgan_step

    def real(self) -> Tensor:
        batch = self.data.batch(self.drawn, self.batch_size, seed=0)["images"]
        self.drawn += 1
        return batch.contiguous().to(self.device)

    def noise(self) -> Tensor:
        return torch.randn(self.batch_size, self.s.latent_dim, device=self.device)

    def dcgan_step(self) -> None:
        bce, ones = nn.BCEWithLogitsLoss(), torch.ones(self.batch_size, device=self.device)
        self.opt_d.zero_grad()
        out = self.d(self.real(), None).logits.view(-1)
        loss_real = bce(out, ones)
        loss_real.backward()
        d_x = out.mean().item()
        fake = self.g(self.noise(), None)
        out = self.d(fake.detach(), None).logits.view(-1)
        loss_fake = bce(out, ones * 0)
        loss_fake.backward()
        d_g_z1 = out.mean().item()
        self.opt_d.step()
        self.opt_g.zero_grad()
        out = self.d(fake, None).logits.view(-1)
        loss_g = bce(out, ones)
        loss_g.backward()
        self.log = (loss_real.item() + loss_fake.item(), loss_g.item(), d_x, d_g_z1, out.mean().item())
        self.opt_g.step()

    def gradient_penalty_step(self) -> None:
        for _ in range(self.s.d_steps):
            real = self.real()
            self.opt_d.zero_grad()
            fake = self.g(self.noise(), None).detach()
            loss = self.d(fake, None).logits.mean() - self.d(real, None).logits.mean()
            alpha = torch.rand(self.batch_size, 1, 1, 1, device=self.device)
            between = (alpha * real + (1 - alpha) * fake).requires_grad_(True)
            score = self.d(between, None).logits
            grads = torch.autograd.grad(score, between, torch.ones_like(score), create_graph=True, retain_graph=True)[0]
            penalty = ((grads.view(len(grads), -1).norm(2, dim=1) - 1) ** 2).mean() * self.s.penalty_weight
            (loss + penalty).backward()
            self.opt_d.step()
            self.log_d = (loss.item(), penalty.item())
        self.opt_g.zero_grad()
        loss_g = -self.d(self.g(self.noise(), None), None).logits.mean()
        loss_g.backward()
        self.opt_g.step()
        self.log_g = loss_g.item()


def measure(run: Any, steps: int, device: str) -> tuple[float, float]:
    """(wall seconds, process CPU seconds) of some steps."""
    if device == "cuda":
        torch.cuda.synchronize()
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(steps):
        run.step()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - wall, time.process_time() - cpu


def make_runs(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """What is compared, by name."""
    data, changes = make_data(), CASES[name]
    runs: dict[str, Any] = {
        "ganwright": Ours(name, changes, data, args.device),
        "plain": Plain(name, changes, data, args.device),
    }
    if args.variants:
        parts = ["channels-last weights", "frozen discriminator", "fused Adam"]
        if name == "wgan-gp":
            parts += ["joined layers", "quick second derivative"]
        for part in parts:
            runs[f"ganwright without {part}"] = Ours(name, changes, data, args.device, part)
        for part in ["channels-last weights"] + ["joined layers"] * (name == "wgan-gp"):
            runs[f"plain with {part}"] = Plain(name, changes, data, args.device, part)
    return runs


def compare(name: str, args: argparse.Namespace) -> dict[str, Any]:
    runs = make_runs(name, args)
    steps = max(1, args.steps // 3) if name == "wgan-gp" else args.steps
    for run in runs.values():
        measure(run, 2, args.device)
    rounds = [{key: measure(run, steps, args.device) for key, run in runs.items()} for _ in range(args.rounds)]
    result: dict[str, Any] = {"settings": CASES[name], "steps_a_round": steps, "rounds": args.rounds}
    images = steps * CASES[name]["batch_size"]
    for i, clock in enumerate(("wall", "cpu")):
        if i == 1 and args.device != "cpu":
            continue
        result[clock] = {}
        for key in runs:
            ratios = sorted(round_["plain"][i] / round_[key][i] for round_ in rounds)
            result[clock][key] = {
                "images_per_second": round(images / statistics.median(round_[key][i] for round_ in rounds), 1),
                "median_ratio": round(statistics.median(ratios), 3),
                "lowest_ratio": round(ratios[0], 3),
                "highest_ratio": round(ratios[-1], 3),
            }
    return result


def profile(name: str, args: argparse.Namespace) -> None:
    """Print where one step of each spends its time, by operation."""
    for key, run in make_runs(name, args).items():
        measure(run, 2, args.device)
        with torch.profiler.profile() as profiler:
            run.step()
        operations = sorted(profiler.key_averages(), key=lambda op: -op.self_cpu_time_total)
        total = sum(op.self_cpu_time_total for op in operations)
        print(f"{name}, {key}: {total / 1e3:.0f} ms")
        for op in operations[:8]:
            print(f"  {op.self_cpu_time_total / total:6.1%}  {op.key}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--only", choices=list(CASES))
    parser.add_argument("--variants", action="store_true", help="also measure what each part gives")
    parser.add_argument("--profile", action="store_true", help="print where the time goes, and measure nothing")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/training_step-<device>.json")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    name = f"{platform.processor() or platform.machine()} CPU"
    if args.device == "cuda":
        name = torch.cuda.get_device_name()
    about = {
        "device": name,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "date": datetime.date.today().isoformat(),
    }
    print(about)
    if args.profile:
        for case in CASES:
            if args.only in (None, case):
                profile(case, args)
        return
    results = {case: {**about, **compare(case, args)} for case in CASES if args.only in (None, case)}
    for case, result in results.items():
        for clock in ("wall", "cpu"):
            for key, r in result.get(clock, {}).items():
                print(
                    f"{case:8} {clock:4}  {key:44} {r['images_per_second']:8.1f}/s  ratio {r['median_ratio']:.2f} "
                    f"({r['lowest_ratio']:.2f} to {r['highest_ratio']:.2f})"
                )
    if args.save:
        folder = Path(__file__).parent / "results"
        folder.mkdir(exist_ok=True)
        path = folder / f"training_step-{args.device}.json"
        others = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({**others, **results}, indent=2) + "\n")
        print(path)


if __name__ == "__main__":
    main()
