"""Realistic run folders for the tests: real digits, damaged less and less as training goes on."""

from __future__ import annotations

import math
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from ganwright.metrics.estimate import Estimate, Provenance
from ganwright.metrics.neighbours import NeighbourSheet
from ganwright.run import Run
from ganwright.samples import ImageSamples


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Images (10000, 28, 28) uint8 and labels (10000,)."""
    with np.load(str(files("ganwright.data") / "assets" / "mnist10k.npz"), allow_pickle=False) as archive:
        return archive["images"], archive["labels"]


def config(**changes: Any) -> dict[str, Any]:
    """The content of run.yaml."""
    settings = {
        "steps": 4000,
        "batch_size": 64,
        "seed": 0,
        "log_every": 50,
        "lr_schedule": "constant",
        "loss": "non-saturating",
        "conditioning": "projection",
        "lr_generator": 2e-4,
        "lr_discriminator": 2e-4,
        "betas": [0.5, 0.999],
        "spectral_norm": False,
        "best_by": "fd",
        "extractor": "efficientnet-lite0",
        "eval_samples": 1000,
        "loggers": [],
    }
    return {
        "recipe": "cgan",
        "paper": "Mirza & Osindero 2014 (arXiv:1411.1784)",
        "purpose": "images of a class you ask for",
        "settings": settings,
        "settings_changed": {"steps": 4000, "conditioning": "projection"},
        "data": {
            "kind": "labelled images", "name": "mnist", "count": 9000,
            "fingerprint": "8f14e45fceea167a5a36dedd4bea2543",
            "resolution": 28, "channels": 1, "class_names": list("0123456789"), "extra": {"held_out": 1000},
        },
        "data_source": "mnist",
        "versions": {"ganwright": "0.1.0", "python": "3.11.2", "torch": "2.13.0"},
        "device": "cpu, 2 threads",
        "created": "2026-03-02T10:15:00+00:00",
        "command": "ganwright train cgan mnist --steps 4000",
        **changes,
    }  # fmt: skip


def estimate(name: str, value: float, half: float, *, n: int = 1000, extractor: str = "efficientnet-lite0") -> Estimate:
    """An estimate with a symmetric interval."""
    labels = {
        "fd": f"FD ({extractor})",
        "kid": f"KID ({extractor})",
        "is": "IS (digit classifier)",
        "class-accuracy": "class accuracy",
    }
    provenance = Provenance(extractor, "bicubic 224", "8f14e45f", 1000)
    better = name in ("is", "class-accuracy")
    return Estimate(name, labels[name], value, value - half, value + half, n, provenance, "95 %, bootstrap", better)


def digit_sheet(progress: float, count: int = 80, seed: int = 7) -> ImageSamples:
    """Digits by class, 10 columns; `progress` 0 is noise, 1 clean."""
    images, labels = digits()
    rng = np.random.default_rng(seed)
    chosen = np.array([rng.choice(np.flatnonzero(labels == i % 10)) for i in range(count)])
    noise = rng.normal(128, 60, (count, 28, 28))
    blend = progress * images[chosen] + (1 - progress) * noise
    return ImageSamples(np.clip(blend, 0, 255).astype(np.uint8)[..., None], labels[chosen].astype(np.int64), 10)


def log_line(step: int, rng: np.random.Generator) -> dict[str, Any]:
    """A plausible line of the log."""
    return {
        "step": step, "stage": "train", "images_seen": step * 64,
        "loss_discriminator": 0.55 + 0.6 * math.exp(-step / 500) + float(rng.normal(0, 0.06)),
        "loss_generator": 1.9 - 0.9 * math.exp(-step / 900) + float(rng.normal(0, 0.16)),
        "d_accuracy": min(1.0, 0.82 + float(rng.normal(0, 0.03))),
        "grad_norm_discriminator": float(np.exp(rng.normal(-0.3, 0.4))),
        "grad_norm_generator": float(np.exp(rng.normal(-1.0, 0.5))),
        "lr_generator": 2e-4 * (1 - max(0, step - 2000) / 2500), "lr_discriminator": 2e-4,
        "images_per_second": 610 + float(rng.normal(0, 25)), "seconds": round(step * 0.0825, 2),
    }  # fmt: skip


def make_run(path: Path, *, steps: int = 4000, log_every: int = 25, stages: int = 16, **changes: Any) -> Run:
    """A finished run with everything a report shows."""
    run = Run.create(path, config(**changes))
    rng = np.random.default_rng(0)
    real = digit_sheet(1.0, 64, seed=3)
    ImageSamples(real.images, columns=8).save(run.path / "samples" / "real.png")
    for step in range(log_every, steps + 1, log_every):
        run.log(log_line(step, rng))
        if step == steps // 2:
            run.log(
                {
                    "step": step,
                    "event": "finding",
                    "check": "discriminator-saturation",
                    "severity": "warning",
                    "seen": "d_accuracy was 0.99 on average over the last 10 log lines (threshold 0.98).",
                    "why": "A discriminator that never errs has next to no gradient left to teach with.",
                    "try": "a lower lr_discriminator; label smoothing; the recipe `wgan-gp`",
                }
            )
    for i in range(stages):
        step = round(steps * i / (stages - 1))
        digit_sheet(1 - math.exp(-3.5 * i / (stages - 1))).save(run.sample_path(step, "png"))
    values = (
        (0.25, 142.0, 0.31, 0.52),
        (0.5, 61.5, 0.12, 0.83),
        (0.75, 34.2, 0.05, 0.94),
        (1.0, 36.9, 0.06, 0.95),
    )
    for share, fd, kid, accuracy in values:
        found = [
            estimate("kid", kid, 0.012),
            estimate("fd", fd, 0.04 * fd),
            estimate("class-accuracy", accuracy, 0.015),
        ]
        estimates = {e.name: e.to_dict() for e in found}
        run.log_metrics(
            {
                "step": round(steps * share),
                "estimates": estimates,
                "scalars": {"survivors": share * 3},
                "seconds": 12.3,
            }
        )
    run.log({"step": steps, "event": "finished", "reason": "finished", "seconds": 331.4})
    return run


def neighbour_sheet(pairs: int = 12) -> NeighbourSheet:
    """Pairs of digits of the same class; the first is an exact copy."""
    images, labels = digits()
    rng = np.random.default_rng(1)
    nearest = np.array([rng.choice(np.flatnonzero(labels == i % 10)) for i in range(pairs)])
    noise = rng.normal(0, 1, (pairs, 28, 28)) * np.linspace(0, 40, pairs)[:, None, None]
    samples = np.clip(images[nearest] + noise, 0, 255).astype(np.uint8)
    distances = np.sqrt(((samples.astype(float) - images[nearest]) ** 2).mean((1, 2)))
    return NeighbourSheet(
        samples[..., None], images[nearest][..., None], distances, nearest.astype(np.int64),
        rng.normal(45, 8, 500).clip(5), 20.0, 0.012,
        "1.2% of 1000 samples lie closer to a training image than all but 1 % of 500 real images do.",
    )  # fmt: skip
