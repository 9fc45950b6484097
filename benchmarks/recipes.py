"""Recipes against each other at equal compute: several seeds an arm, metrics and differences with intervals.

Each study trains its arms on the same images, with as many steps as cost the same CPU time: the cost of a step is
measured first, arms in turn in one process. Runs are ordinary run folders under --out; a call that was stopped goes on
where it was. The difference of two arms is of means over seeds; its 95 % interval is Welch's over seeds (few seeds:
wide, and honest).

usage: python benchmarks/recipes.py STUDY --data FOLDER --out FOLDER [--minutes 6] [--seeds 3] [--workers 2] [--save]
       studies: synthesis-cifar, synthesis-facades, ss-gan, ada, e-gan, attribute-gan
       FOLDER of data holds cifar10-jpeg-train.tar.gz and facades-pairs.zip
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

SMALL = {"width_g": 32, "width_d": 32}
RESNET = {"width_g": 16, "width_d": 16, "d_steps": 1}
"""Networks and steps that a CPU core trains for a thousand steps or more within minutes."""
STYLE = {"channel_base": 1024, "channel_max": 64}


@dataclass(frozen=True)
class Study:
    """Arms by name (recipe and settings), the data, and the first arm's rivals: all are compared with `base`."""

    data: str
    arms: dict[str, tuple[str, dict[str, Any]]]
    base: str = ""
    common: dict[str, Any] = field(default_factory=dict)
    images: int = 0
    """Train on so many images, chosen by a fixed seed; 0: all. The reference is always all."""


SYNTHESIS: dict[str, tuple[str, dict[str, Any]]] = {
    "dcgan": ("dcgan", SMALL),
    "sngan": ("sngan", RESNET),
    "ss-gan": ("ss-gan", RESNET),
    "attribute-gan": ("attribute-gan", SMALL),
    "infogan": ("infogan", SMALL),
    "e-gan": ("e-gan", SMALL),
    "stylegan2": ("stylegan2", STYLE),
    "r3gan": ("r3gan", {}),
}
STUDIES: dict[str, Study] = {
    "synthesis-cifar": Study("cifar", SYNTHESIS, common={"resolution": 32, "batch_size": 32}),
    "synthesis-facades": Study("facades", SYNTHESIS, common={"resolution": 64, "batch_size": 16, "flip": True}),
    "ss-gan": Study(
        "cifar",
        {"sngan": ("sngan", RESNET), "ss-gan": ("ss-gan", RESNET)},
        base="sngan",
        common={"resolution": 32, "batch_size": 32},
    ),
    "ada": Study(
        "cifar",
        {
            "none": ("stylegan2", STYLE),
            "ada": ("stylegan2", {**STYLE, "augment": "ada", "ada_kimg": 50}),
            "diffaugment": ("stylegan2", {**STYLE, "augment": "diffaugment"}),
        },
        base="none",
        common={"resolution": 32, "batch_size": 32},
        images=1000,
    ),
    "e-gan": Study(
        "cifar",
        {
            "e-gan": ("e-gan", SMALL),
            **{name: ("e-gan", {**SMALL, "mutations": (name,)}) for name in ("minimax", "heuristic", "least-squares")},
        },
        base="e-gan",
        common={"resolution": 32, "batch_size": 32},
    ),
    "attribute-gan": Study(
        "cifar",
        {"dcgan": ("dcgan", SMALL), "attribute-gan": ("attribute-gan", SMALL)},
        base="dcgan",
        common={"resolution": 32, "batch_size": 32},
    ),
}


def cifar(source: Path, folder: Path, images: int) -> tuple[str, str]:
    """(training data, reference): all images, or an array of some of them."""
    whole = str(source / "cifar10-jpeg-train.tar.gz")
    if not images:
        return whole, whole
    from ganwright.data.opening import open_dataset

    part = folder / f"cifar-{images}.npz"
    if not part.exists():
        from ganwright.config import DataSettings

        everything = open_dataset(whole, DataSettings(resolution=32, held_out=0.0))
        index = np.sort(np.random.default_rng(0).permutation(len(everything.images))[:images])
        np.savez(part, images=np.stack([everything.images[i] for i in index]))
    return str(part), whole


def facades(source: Path, folder: Path, images: int) -> tuple[str, str]:
    """The photographs: left halves of the pairs, 128 pixels."""
    from PIL import Image

    out = folder / "facades-photos"
    if not out.exists():
        out.mkdir(parents=True)
        with zipfile.ZipFile(source / "facades-pairs.zip") as archive:
            names = [name for name in archive.namelist() if name.lower().endswith((".jpg", ".jpeg", ".png"))]
            for number, name in enumerate(sorted(names)):
                with Image.open(io.BytesIO(archive.read(name))) as pair:
                    photo = pair.convert("RGB").crop((0, 0, pair.width // 2, pair.height))
                    photo.resize((128, 128), Image.Resampling.LANCZOS).save(out / f"{number:04d}.png")
    return str(out), str(out)


SOURCES = {"cifar": cifar, "facades": facades}


def seconds_a_step(study: Study, data: str, folder: Path, steps: int = 24) -> dict[str, float]:
    """CPU seconds of one step of each arm, measured in turn: training twice as long minus training once, halved."""
    import ganwright as gw

    quiet = {"write_html": False, "evaluate_every": -1, "sample_every": 10**9, "checkpoint_every": 10**9}
    found: dict[str, list[float]] = {name: [] for name in study.arms}
    for round_ in range(2):
        for name, (recipe, settings) in study.arms.items():
            taken = []
            for n in (2, steps, 3 * steps):  # the first is not counted: it opens the data and loads what is lazy
                options = {**study.common, **settings, **quiet, "steps": n, "seed": round_, "held_out": 0.0}
                place = folder / f"cost-{name}-{round_}-{n}"
                shutil.rmtree(place, ignore_errors=True)  # of a call that was stopped
                started = time.process_time()
                gw.train(recipe, data, out=place, **options)
                taken.append(time.process_time() - started)
            found[name].append((taken[2] - taken[1]) / (2 * steps))
    return {name: statistics.mean(values) for name, values in found.items()}


METRICS = ("fd", "kid", "precision", "recall", "density", "coverage")


def train_one(study: Study, arm: str, seed: int, steps: int, samples: int, sources: tuple[str, str], out: Path) -> None:
    """Train and evaluate one run; what is there already is kept."""
    import ganwright as gw

    (recipe, settings), (data, reference) = study.arms[arm], sources
    result = out / "result.json"
    if result.exists():
        return
    if (out / "run.yaml").exists():
        run = gw.resume(out, write_html=False)
    else:
        options = {**study.common, **settings, "steps": steps, "seed": seed, "held_out": 0.0, "eval_samples": 1000}
        options |= {"metrics": ("fd", "kid"), "evaluate_every": max(1, steps // 2), "write_html": False}
        run = gw.train(recipe, data, out=out, **options)
    found = gw.evaluate(
        run, reference=reference, n=samples, metrics=METRICS[: 1 if samples < 5000 else None], quiet=True
    )
    log = run.log_records()[-1]
    content = {
        "steps": steps,
        "seconds": log["seconds"],
        "images_seen": log["images_seen"],
        "on_the_way": [
            {"step": r["step"], **{k: e["value"] for k, e in r["estimates"].items()}} for r in run.metric_records()
        ],
        "scalars": run.metric_records()[-1].get("scalars", {}) if run.metric_records() else {},
        "estimates": found.to_dict(),
    }
    result.write_text(json.dumps(content))


def welch(a: list[float], b: list[float]) -> tuple[float, float, float]:
    """Mean of b minus mean of a, and its 95 % interval."""
    from scipy.stats import t

    va, vb = np.var(a, ddof=1) / len(a), np.var(b, ddof=1) / len(b)
    difference = float(np.mean(b) - np.mean(a))
    if va + vb == 0:
        return difference, difference, difference
    freedom = (va + vb) ** 2 / (va**2 / (len(a) - 1) + vb**2 / (len(b) - 1))
    half = float(t.ppf(0.975, freedom) * np.sqrt(va + vb))
    return difference, difference - half, difference + half


def summary(study: Study, out: Path, cost: dict[str, float], minutes: float) -> dict[str, Any]:
    """All runs that are there, and differences from the base arm."""
    arms: dict[str, Any] = {}
    for arm, (recipe, settings) in study.arms.items():
        runs = [json.loads(path.read_text()) for path in sorted(out.glob(f"{arm}-seed*/result.json"))]
        if runs:
            arms[arm] = {
                "recipe": recipe,
                "settings": settings,
                "cpu_seconds_a_step": round(cost[arm], 4),
                "runs": runs,
            }
    differences: dict[str, Any] = {}
    for arm in arms:
        if not study.base or arm == study.base or study.base not in arms:
            continue
        for metric in ("fd", "kid", "precision", "recall"):
            both = [[r["estimates"] for r in arms[name]["runs"]] for name in (study.base, arm)]
            a, b = ([e[metric]["value"] for e in found if metric in e] for found in both)
            if min(len(a), len(b)) > 1:
                value, low, high = welch(a, b)
                differences[f"{arm} - {study.base}: {metric}"] = {"value": value, "low": low, "high": high}
    return {
        "device": f"{platform.machine()} CPU, one thread a run",
        "date": date.today().isoformat(),
        "cpu_minutes_a_run": minutes,
        "common": study.common,
        "images": study.images or "all",
        "arms": arms,
        "differences": differences,
    }


def show(found: dict[str, Any]) -> None:
    """A table to read."""
    for arm, about in found["arms"].items():
        for number, run in enumerate(about["runs"]):
            fd = run["estimates"]["fd"]
            way = " > ".join(f"{point['fd']:.0f}" for point in run["on_the_way"] if "fd" in point)
            print(
                f"{arm:14} #{number} {run['steps']:6} steps {run['seconds']:6.0f} s  FD {fd['value']:7.2f} "
                f"[{fd['low']:.2f}, {fd['high']:.2f}]  on the way: {way}"
            )
    for name, d in found["differences"].items():
        print(f"{name:40} {d['value']:+.4g} [{d['low']:+.4g}, {d['high']:+.4g}]")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=6.0, help="CPU minutes of training a run")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=5000, help="images measured at the end; fewer: only the FD")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--arms", nargs="*", help="only these")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/recipes-STUDY-cpu.json")
    parser.add_argument("--one", nargs=3, metavar=("ARM", "SEED", "STEPS"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    study, out = STUDIES[args.study], args.out / args.study
    out.mkdir(parents=True, exist_ok=True)
    data, reference = SOURCES[study.data](args.data, args.out, study.images)
    if args.one:
        arm, seed, steps = args.one[0], int(args.one[1]), int(args.one[2])
        train_one(study, arm, seed, steps, args.samples, (data, reference), out / f"{arm}-seed{seed}")
        return
    costs = out / "cost.json"
    if not costs.exists():
        import torch

        torch.set_num_threads(1)
        costs.write_text(json.dumps(seconds_a_step(study, data, out)))
    cost = json.loads(costs.read_text())
    waiting = [
        [arm, str(seed), str(max(8, int(args.minutes * 60 / cost[arm])))]
        for seed in range(args.seeds)
        for arm in (args.arms or study.arms)
        if not (out / f"{arm}-seed{seed}" / "result.json").exists()
    ]
    again = [sys.executable, __file__, args.study, "--data", str(args.data), "--out", str(args.out)]
    again += ["--samples", str(args.samples), "--one"]
    working: list[tuple[list[str], subprocess.Popen[bytes]]] = []
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    try:
        while waiting or working:
            while waiting and len(working) < args.workers:
                job = waiting.pop(0)
                with (out / f"{job[0]}-seed{job[1]}.log").open("ab") as log:
                    working.append((job, subprocess.Popen([*again, *job], stdout=log, stderr=log, env=environment)))
            time.sleep(1)
            for job, process in [entry for entry in working if entry[1].poll() is not None]:
                working.remove((job, process))
                print(f"{' '.join(job)}: {'done' if process.returncode == 0 else 'FAILED, see its log'}", flush=True)
    except KeyboardInterrupt:
        for _, process in working:
            process.send_signal(2)
        for _, process in working:
            process.wait()
    found = summary(study, out, cost, args.minutes)
    show(found)
    if args.save:
        path = Path(__file__).parent / "results" / f"recipes-{args.study}-cpu.json"
        path.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
