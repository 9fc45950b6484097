"""Time, memory and agreement of the distribution metrics' numerics against the usual ways of computing them.

Ours and theirs run in one process, in turn (A B A B …), and ratios are taken pair by pair, of wall and of process CPU
time, so that they hold while the machine's speed drifts. On a busy machine use one thread: several wait for each other,
which counts as CPU time. The shares of the matrix multiplication peak are of CPU time; the peak is measured in every
round. Peak memory is measured in a process of its own.

usage: python benchmarks/metrics_numerics.py [--n 10000] [--dim 2048] [--rounds 3] [--threads 2] [--only NAME] [--save]
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.linalg
import torch

from ganwright.metrics.frechet import frechet, frechet_distance
from ganwright.metrics.frechet_infinity import frechet_infinity
from ganwright.metrics.kernel import kernel_distance, whole_and_subsets
from ganwright.metrics.manifold import manifolds

Array = np.ndarray[Any, Any]


def make_features(n: int, d: int, seed: int, scale: float = 1.0) -> Array:
    """Correlated and not negative, as behind a network's last rectifier; float32 (n, d)."""
    mixing = np.random.default_rng(0).normal(size=(64, d)).astype(np.float32)
    rng, features = np.random.default_rng(seed), np.empty((n, d), np.float32)
    for start in range(0, n, 1000):
        rows = slice(start, min(start + 1000, n))
        hidden = rng.normal(size=(rows.stop - start, 64)).astype(np.float32)
        noise = rng.normal(size=(rows.stop - start, d)).astype(np.float32)
        features[rows] = np.maximum(scale * 0.08 * hidden @ mixing + 0.1 * noise + 0.1, 0)
    return features


def frechet_by_sqrtm(x: Array, y: Array) -> float:
    """Covariances in float64 and the general matrix square root."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    s1, s2 = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = scipy.linalg.sqrtm(s1 @ s2)
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(s1 + s2 - 2 * np.real(root)))


def kid_naively(x: Array, y: Array) -> float:
    """Three whole kernel matrices in float64."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    xx, yy, xy = ((a @ b.T / x.shape[1] + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    within = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in (xx, yy)]
    return float(sum(within) - 2 * xy.mean())


def kid_by_subsets(x: Array, y: Array) -> float:
    """The published way: 100 subsets of 1,000, in float32 as the features are."""
    random, values = np.random.RandomState(2020), []
    for _ in range(100):
        a = x[random.choice(len(x), 1000, replace=False)]
        b = y[random.choice(len(y), 1000, replace=False)]
        xx, yy, xy = ((p @ q.T / x.shape[1] + 1) ** 3 for p, q in ((a, a), (b, b), (a, b)))
        within = [(k.sum() - np.trace(k)) / (1000 * 999) for k in (xx, yy)]
        values.append(sum(within) - 2 * xy.mean())
    return float(np.mean(values))


def prdc_naively(x: Array, y: Array) -> list[float]:
    """Whole distance matrices by `torch.cdist`, radii by `kthvalue`."""
    a, b = torch.from_numpy(x), torch.from_numpy(y)
    xx, yy, xy = torch.cdist(a, a), torch.cdist(b, b), torch.cdist(a, b)
    radius_x, radius_y, radius_5 = (d.kthvalue(k).values for d, k in ((xx, 4), (yy, 4), (yy, 6)))
    return [
        float((xy <= radius_y).any(1).float().mean()),
        float((xy <= radius_x[:, None]).any(0).float().mean()),
        float((xy <= radius_5).float().sum(1).mean() / 5),
        float((xy.amin(0) <= radius_5).float().mean()),
    ]


@dataclass(frozen=True)
class Case:
    """What is compared.

    Attributes:
        ours: From two sets of features to a number or numbers.
        theirs: The same in the usual way; None: timed alone.
        rows: Samples on each side.
        flops: Of the matrix products ours cannot do without; 0: no share of the peak is told.
    """

    ours: Callable[[Array, Array], Any]
    theirs: Callable[[Array, Array], Any] | None
    rows: int
    flops: float = 0.0


def make_cases(n: int, d: int) -> dict[str, Case]:
    full, few = max(n // 2, d + d // 4), min(1000, d // 2)
    pairs = 4.0 * n * n * d  # two symmetric halves and one whole matrix, two operations a product
    return {
        "frechet-full-rank": Case(frechet_distance, frechet_by_sqrtm, full),
        "frechet-few": Case(frechet_distance, frechet_by_sqrtm, few),
        "frechet-with-error": Case(lambda x, y: frechet(x, y).distance, frechet_by_sqrtm, full),
        "frechet-infinity": Case(lambda x, y: frechet_infinity(x, y, quiet=True).value, None, full * 2),
        "kid": Case(lambda x, y: kernel_distance(x, y).value, kid_naively, n, pairs),
        "kid-whole-and-subsets": Case(lambda x, y: whole_and_subsets(x, y)[1], kid_by_subsets, n, pairs),
        "prdc": Case(lambda x, y: list(manifolds(x, y).values.values()), prdc_naively, n, pairs),
    }


def clock(run: Callable[[], Any]) -> tuple[Any, float, float]:
    """(result, wall seconds, process CPU seconds)."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = run()
    return result, time.perf_counter() - wall, time.process_time() - cpu


def peak(kind: torch.dtype, side: int = 2048, repeats: int = 4) -> tuple[float, float]:
    """GFLOP a wall second and a CPU second of a square matrix product."""
    a, b = torch.randn(side, side, dtype=kind), torch.randn(side, side, dtype=kind)
    out = torch.mm(a, b)
    _, wall, cpu = clock(lambda: [torch.mm(a, b, out=out) for _ in range(repeats)])
    work = repeats * 2 * side**3 / 1e9
    return work / wall, work / cpu


def compare(case: Case, d: int, rounds: int) -> dict[str, Any]:
    x, y = make_features(case.rows, d, 1, 1.05), make_features(case.rows, d, 2)
    times: dict[str, list[tuple[float, float]]] = {"ours": [], "theirs": []}
    found: dict[str, Any] = {}
    peaks: dict[str, list[tuple[float, float]]] = {"fp32": [], "fp64": []}
    for _ in range(rounds):
        peaks["fp32"].append(peak(torch.float32))
        peaks["fp64"].append(peak(torch.float64))
        for name, run in (("ours", case.ours), ("theirs", case.theirs)):
            if run is not None:
                found[name], wall, cpu = clock(lambda run=run: run(x, y))  # type: ignore[misc]
                times[name].append((wall, cpu))
    result: dict[str, Any] = {"rows": case.rows, "value": found["ours"]}
    for i, which in enumerate(("wall", "cpu")):
        result[f"{which}_seconds_ours"] = round(statistics.median(t[i] for t in times["ours"]), 2)
        if case.theirs is not None:
            ratios = sorted(b[i] / a[i] for a, b in zip(times["ours"], times["theirs"], strict=True))
            result[f"{which}_seconds_theirs"] = round(statistics.median(t[i] for t in times["theirs"]), 2)
            result[f"{which}_ratio"] = [round(r, 2) for r in (statistics.median(ratios), ratios[0], ratios[-1])]
    if case.theirs is not None:
        ours, theirs = np.atleast_1d(found["ours"]), np.atleast_1d(found["theirs"])
        result["relative_difference"] = float(np.max(np.abs(ours - theirs) / np.abs(theirs)))
    for kind, values in peaks.items():
        result[f"peak_{kind}_gflop_per_cpu_second"] = round(max(v[1] for v in values), 1)
    if case.flops:
        best = min(t[1] for t in times["ours"])
        result["share_of_fp32_peak"] = round(case.flops / 1e9 / best / result["peak_fp32_gflop_per_cpu_second"], 2)
    return result


def peak_memory(name: str, side: str, args: argparse.Namespace) -> float:
    """Mebibytes a side takes beyond its features, in a fresh process."""
    command = [sys.executable, __file__, "--peak", name, side, "--n", str(args.n), "--dim", str(args.dim)]
    done = subprocess.run([*command, "--threads", str(args.threads)], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def report_peak(name: str, side: str, n: int, d: int) -> None:
    case = make_cases(n, d)[name]
    x, y = make_features(case.rows, d, 1, 1.05), make_features(case.rows, d, 2)
    run = case.ours if side == "ours" else case.theirs
    assert run is not None
    kid_naively(x[:64], y[:64])  # libraries load and start their threads beforehand
    prdc_naively(x[:64], y[:64])
    frechet_distance(x[:64, :16], y[:64, :16])
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the highest so far counts from here, on Linux
    before = _resident()
    run(x, y)
    print(_highest() - before)


def _status(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith(key))


def _resident() -> float:
    with contextlib.suppress(OSError):
        return _status("VmRSS")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _highest() -> float:
    with contextlib.suppress(OSError):
        return _status("VmHWM")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=10_000, help="samples on each side of kid and prdc; fewer for frechet")
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--only", choices=list(make_cases(10_000, 2048)))
    parser.add_argument("--peak", nargs=2, metavar=("NAME", "SIDE"), help="print the peak memory of one side")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/metrics_numerics-cpu.json")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
        limits = {f"{library}_NUM_THREADS": str(args.threads) for library in ("OMP", "OPENBLAS", "MKL")}
        if any(os.environ.get(key) != value for key, value in limits.items()):  # read when the libraries are loaded
            os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | limits)
    if args.peak:
        report_peak(*args.peak, args.n, args.dim)
        return
    about = {
        "device": f"{platform.processor() or platform.machine()} CPU",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "date": datetime.date.today().isoformat(),
        "dim": args.dim,
    }
    print(about)
    results = {}
    for name, case in make_cases(args.n, args.dim).items():
        if args.only not in (None, name):
            continue
        r = results[name] = compare(case, args.dim, args.rounds)
        r["peak_mib_ours"] = round(peak_memory(name, "ours", args))
        line = f"{name:22} n {r['rows']:6}  cpu {r['cpu_seconds_ours']:7.2f} s  {r['peak_mib_ours']:6} MiB"
        if case.theirs is not None:
            r["peak_mib_theirs"] = round(peak_memory(name, "theirs", args))
            line += f"  theirs {r['cpu_seconds_theirs']:7.2f} s  {r['peak_mib_theirs']:6} MiB"
            line += f"  ratio cpu {r['cpu_ratio'][0]:6.2f}  wall {r['wall_ratio'][0]:6.2f}"
            line += f"  difference {r['relative_difference']:.1e}"
        if "share_of_fp32_peak" in r:
            line += f"  {r['share_of_fp32_peak']:.0%} of the fp32 peak"
        print(line, flush=True)
    if args.save:
        folder = Path(__file__).parent / "results"
        folder.mkdir(exist_ok=True)
        path = folder / "metrics_numerics-cpu.json"
        path.write_text(json.dumps({**about, "results": results}, indent=2) + "\n")
        print(path)


if __name__ == "__main__":
    main()
