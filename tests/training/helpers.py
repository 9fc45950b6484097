"""Small data and runs for the tests of training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors.numpy import load_file

TINY: dict[str, Any] = {
    "steps": 12,
    "batch_size": 8,
    "log_every": 2,
    "checkpoint_every": 3,
    "sample_every": 6,
    "evaluate_every": -1,
    "held_out": 0.0,
}
SMALL_NETWORKS: dict[str, Any] = {"width_g": 4, "width_d": 4, "latent_dim": 8}


def write_arrays(path: Path, n: int = 48, side: int = 16, classes: int = 0, channels: int = 1) -> Path:
    """An .npz of smooth random images."""
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (n, 4, 4, channels), dtype=np.uint8)
    images = coarse.repeat(side // 4, axis=1).repeat(side // 4, axis=2)
    labels = {"labels": np.arange(n) % classes} if classes else {}
    np.savez(path, images=images, **labels)
    return path


def write_pictures(folder: Path, n: int, side: int = 16, seed: int = 0) -> Path:
    """A folder of PNGs."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(seed)
    for i in range(n):
        Image.fromarray(generator.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(folder / f"{i:03d}.png")
    return folder


def weights(run: Path, step: int) -> dict[str, dict[str, np.ndarray]]:
    """All tensors of a checkpoint."""
    folder = run / "checkpoints" / f"step-{step:06d}"
    return {name: load_file(folder / f"{name}.safetensors") for name in ("networks", "ema", "optimizers")}


def assert_identical(a: Path, b: Path, step: int) -> None:
    """Bit-identical checkpoints."""
    mine, theirs = weights(a, step), weights(b, step)
    for group in mine:
        assert mine[group].keys() == theirs[group].keys()
        assert mine[group], f"{group} is empty"
        for name in mine[group]:
            assert mine[group][name].tobytes() == theirs[group][name].tobytes(), f"{group}/{name} differs"


def without_times(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Log records without what a clock says."""
    return [{k: v for k, v in r.items() if k not in ("seconds", "images_per_second")} for r in records]
