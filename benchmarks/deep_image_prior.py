"""Deep Image Prior: steps a second against the authors' plain loop, and where early stopping stops.

Seconds are processor time of one thread, so that other work on the machine does not count.

usage: python benchmarks/deep_image_prior.py --official CHECKOUT --sizes 128 256
       python benchmarks/deep_image_prior.py --picture F16_GT.png --size 128 --sigma 25 --steps 2000

CHECKOUT is a clone of github.com/DmitryUlyanov/deep-image-prior.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ganwright.data.single import SingleImageDataset
from ganwright.recipes.deep_image_prior import DeepImagePrior, DeepImagePriorSettings

ROUNDS = 3


class Context:
    """What a step needs of the loop."""

    def __init__(self, recipe: DeepImagePrior) -> None:
        self.optimizers, self.generator = recipe.optimizers(), torch.Generator().manual_seed(0)

    def normal(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=self.generator)

    def minimise(self, loss: torch.Tensor, name: str) -> None:
        self.optimizers[name].zero_grad()
        loss.backward()
        self.optimizers[name].step()


def steps_a_second(step: Callable[[], Any], n: int = 3) -> float:
    """The best of some rounds of `n` steps."""
    step()
    best = 0.0
    for _ in range(ROUNDS):
        started = time.process_time()
        for _ in range(n):
            step()
        best = max(best, n / (time.process_time() - started))
    return best


def speed(checkout: str, sizes: list[int]) -> list[dict[str, Any]]:
    sys.path.insert(0, checkout)
    from models.skip import skip

    found = []
    for size in sizes:
        pixels = np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)
        theirs = skip(32, 3, [128] * 5, [128] * 5, [4] * 5, pad="reflection", upsample_mode="bilinear")
        optimizer = torch.optim.Adam(theirs.parameters(), 0.01)
        code = 0.1 * torch.rand(1, 32, size, size)
        target = torch.from_numpy(pixels / 255).permute(2, 0, 1)[None].float()
        state: dict[str, Any] = {"average": None}

        def plain(network=theirs, optimizer=optimizer, code=code, target=target, state=state) -> None:  # type: ignore[no-untyped-def]
            output = network(code + torch.randn_like(code) / 30)
            average, now = state["average"], output.detach()
            state["average"] = now if average is None else 0.99 * average + 0.01 * now
            optimizer.zero_grad()
            (output - target).square().mean().backward()
            optimizer.step()

        row = {"size": size, "authors": steps_a_second(plain)}
        data = SingleImageDataset(pixels, "noise")
        for network in ("official", "half", "small"):
            recipe = DeepImagePrior(data.spec, DeepImagePriorSettings(network=network)).train()
            context, batch = Context(recipe), data.batch(0, 1, seed=0)
            row[network] = steps_a_second(lambda r=recipe, b=batch, c=context: r.step(b, c))
        found.append(row)
        print(json.dumps({name: round(value, 3) for name, value in row.items()}), flush=True)
    return found


def stopping(path: Path, size: int, sigma: float, steps: int, network: str, seed: int) -> dict[str, Any]:
    """Fit far beyond the best step, and say what would have been kept."""
    truth = np.asarray(Image.open(path).convert("RGB").resize((size, size), Image.Resampling.BICUBIC)) / 255
    noisy = np.clip(truth + np.random.default_rng(seed).normal(0, sigma / 255, truth.shape), 0, 1)
    data = SingleImageDataset(np.rint(255 * noisy).astype(np.uint8), path.stem)
    torch.manual_seed(seed)
    recipe = DeepImagePrior(data.spec, DeepImagePriorSettings(network=network)).train()
    context, batch = Context(recipe), data.batch(0, 1, seed=0)
    target = torch.from_numpy(truth).permute(2, 0, 1)[None].float()

    def psnr(picture: torch.Tensor) -> float:
        return float(-10 * torch.log10((picture.clamp(0, 1) - target).square().mean()))

    best, kept, started = (0.0, 0), None, time.process_time()
    for step in range(1, steps + 1):
        recipe.step(batch, context)
        if step % 25 == 0:
            best = max(best, (psnr(recipe.best.average), step))
            if kept is None and recipe.finished():
                kept = {"psnr": psnr(recipe.restored()), "of_step": int(recipe.best.best_step), "stopped_at": step}
                kept["processor_seconds"] = time.process_time() - started
    return {
        "noisy": psnr(torch.from_numpy(noisy).permute(2, 0, 1)[None].float()),
        "best": best,
        "kept": kept,
        "last": psnr(recipe.best.average),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--official")
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 256])
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--sigma", type=float, default=25)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--network", default="small")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.official:
        speed(asked.official, asked.sizes)
    if asked.picture:
        print(json.dumps(stopping(asked.picture, asked.size, asked.sigma, asked.steps, asked.network, asked.seed)))
