"""Images a second of Inception features: ganwright's way from files to features against the plain eager pipeline.

All run in one process, in turn (A B A B …), and ratios are taken round by round, of wall and of process CPU time, so
that they hold while the machine's speed drifts. The plain pipeline is pytorch-fid's in our words: Pillow, batches of
50, bilinear to 299, the network in NCHW with its batch norms. Where pytorch-fid is installed its own code runs as well.
Weights are random: speed does not depend on them, and the features of all are compared.

usage: python benchmarks/metrics.py [--images 32] [--size 256] [--rounds 5] [--threads 2] [--save]
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from ganwright.metrics.extractor_inception import Inception
from ganwright.metrics.processes import ExtractorSpec
from ganwright.metrics.protocols import PROTOCOLS
from ganwright.metrics.sides import SideOpener
from ganwright.networks.inception import InceptionV3

Array = np.ndarray[Any, Any]
Run = Callable[[Path], Array]


def make_images(folder: Path, count: int, size: int) -> None:
    """Smooth colour fields with grain, as JPEG files."""
    random = np.random.default_rng(0)
    for i in range(count):
        soft = Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize((size, size))
        grainy = np.asarray(soft) + random.normal(0, 6, (size, size, 3))
        Image.fromarray(grainy.clip(0, 255).astype(np.uint8)).save(folder / f"{i:05d}.jpg", quality=95)


def make_network() -> InceptionV3:
    """Weights of He's scale, and batch norms that are not the identity."""
    torch.manual_seed(0)
    network = InceptionV3().eval().requires_grad_(False)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
            module.running_var.uniform_(0.7, 1.3)  # type: ignore[union-attr]
            module.weight.uniform_(0.8, 1.2)
    return network


def multiplications(network: InceptionV3) -> int:
    """Of the convolutions, for one image."""
    total = 0

    def count(module: nn.Conv2d, _: Any, out: Tensor) -> None:
        nonlocal total
        total += out[0].numel() * module.weight[0].numel()

    hooks = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, nn.Conv2d)]  # type: ignore[arg-type]
    network(torch.zeros(1, 3, 299, 299))
    for hook in hooks:
        hook.remove()
    return total


def ganwright_way(state: dict[str, Tensor], batch: int) -> Run:
    """As `ganwright evaluate` gets them: open, decode, hash, resize, network, stored; the store is new every time."""
    network = InceptionV3()
    network.load_state_dict(state)
    extractor = Inception(network=network, protocol=PROTOCOLS["pytorch-fid"])
    extractor.batch_size = batch or extractor.batch_size
    opener = SideOpener(extractor, ExtractorSpec("inception", PROTOCOLS["pytorch-fid"]), quiet=True)

    def run(folder: Path) -> Array:
        with tempfile.TemporaryDirectory() as cache:
            os.environ["GANWRIGHT_CACHE"] = cache
            found = opener.open(folder).features
            assert found is not None
            return np.array(found.features)

    return run


def plain_way(network: InceptionV3, batch: int = 50) -> Run:
    """The eager pipeline, written plainly."""

    @torch.no_grad()
    def run(folder: Path) -> Array:
        files, parts = sorted(folder.iterdir()), []
        for start in range(0, len(files), batch):
            images = []
            for file in files[start : start + batch]:
                with Image.open(file) as image:
                    pixels = torch.from_numpy(np.array(image.convert("RGB")))
                images.append(pixels.permute(2, 0, 1).contiguous().float() / 255)
            x = F.interpolate(torch.stack(images), (299, 299), mode="bilinear", align_corners=False)
            parts.append(network(2 * x - 1)[0].numpy())
        return np.concatenate(parts)

    return run


def pytorch_fid_way(state: dict[str, Tensor]) -> Run | None:
    """pytorch-fid's own functions, decoding in this process; None where it is not installed."""
    try:
        from pytorch_fid import fid_score, inception
    except ImportError:
        return None
    inception.load_state_dict_from_url = lambda *_, **__: state
    fid_score.tqdm = lambda batches: batches
    network = inception.InceptionV3([3]).eval()
    return lambda folder: fid_score.get_activations(
        sorted(folder.iterdir()), network, batch_size=50, device="cpu", num_workers=0
    )


def clock(run: Callable[[], Any]) -> tuple[Any, float, float]:
    """(result, wall seconds, process CPU seconds)."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = run()
    return result, time.perf_counter() - wall, time.process_time() - cpu


def peak(side: int = 2048, repeats: int = 4) -> tuple[float, float]:
    """GFLOP a wall second and a CPU second of a square float32 product, by the faster of the two libraries in torch.

    `mm` goes to BLAS, a 1x1 convolution of 16 images or more to oneDNN, as the network's convolutions do.
    """
    a, b = torch.randn(side, side), torch.randn(side, side)
    out = torch.mm(a, b)
    images = a.view(16, 16, side // 256, side).permute(0, 3, 1, 2)  # channels last
    kernel = b[:, :, None, None].contiguous(memory_format=torch.channels_last)
    work, found = repeats * 2 * side**3 / 1e9, []
    F.conv2d(images, kernel)
    for run in (lambda: torch.mm(a, b, out=out), lambda: F.conv2d(images, kernel)):
        _, wall, cpu = clock(lambda run=run: [run() for _ in range(repeats)])  # type: ignore[misc]
        found.append((work / wall, work / cpu))
    return max(f[0] for f in found), max(f[1] for f in found)


def compare(args: argparse.Namespace) -> dict[str, Any]:
    network = make_network()
    gflop = 2 * multiplications(network) / 1e9
    runs: dict[str, Run | None] = {
        "ganwright": ganwright_way(network.state_dict(), args.batch),
        "plain": plain_way(network),
        "pytorch-fid": pytorch_fid_way(network.state_dict()),
    }
    used = {name: run for name, run in runs.items() if run is not None}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in used}
    features: dict[str, Array] = {}
    peaks = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        make_images(folder, args.images, args.size)
        for number in range(args.rounds + 1):
            peaks.append(peak())
            for name, run in used.items():
                features[name], wall, cpu = clock(lambda run=run: run(folder))  # type: ignore[misc]
                if number > 0:  # the first warms up
                    times[name].append((wall, cpu))
    result: dict[str, Any] = {"gflop_per_image": round(gflop, 2)}
    ours = features["ganwright"]
    for name in used:
        entry: dict[str, Any] = {}
        for i, which in enumerate(("wall", "cpu")):
            seconds = statistics.median(t[i] for t in times[name])
            entry[f"{which}_images_per_second"] = round(args.images / seconds, 2)
            entry[f"{which}_share_of_gemm_peak"] = round(gflop * args.images / seconds / max(p[i] for p in peaks), 2)
            if name != "ganwright":
                pairs = zip(times["ganwright"], times[name], strict=True)
                ratios = sorted(theirs[i] / mine[i] for mine, theirs in pairs)
                entry[f"{which}_ratio"] = [round(r, 2) for r in (statistics.median(ratios), ratios[0], ratios[-1])]
        if name != "ganwright":
            difference = np.abs(features[name] - ours).max() / np.abs(features[name]).max()
            entry["features_relative_difference"] = float(f"{difference:.2g}")
        result[name] = entry
    result["gemm_peak_gflop_per_wall_second"] = round(max(p[0] for p in peaks), 1)
    result["gemm_peak_gflop_per_cpu_second"] = round(max(p[1] for p in peaks), 1)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--size", type=int, default=256, help="side of the JPEG files")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=0, help="images at a time in ganwright; 0: the extractor's choice")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/metrics-cpu.json")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
        limits = {f"{library}_NUM_THREADS": str(args.threads) for library in ("OMP", "OPENBLAS", "MKL")}
        if any(os.environ.get(key) != value for key, value in limits.items()):  # read when the libraries are loaded
            os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | limits)
    about = {
        "device": f"{platform.processor() or platform.machine()} CPU",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "date": datetime.date.today().isoformat(),
        "images": args.images,
        "size": args.size,
        "rounds": args.rounds,
        "batch": args.batch or "default",
    }
    print(about)
    results = compare(args)
    for name in ("ganwright", "plain", "pytorch-fid"):
        if name not in results:
            continue
        r = results[name]
        line = f"{name:12} cpu {r['cpu_images_per_second']:6.2f}/s ({r['cpu_share_of_gemm_peak']:.0%} of the peak)"
        line += f"  wall {r['wall_images_per_second']:6.2f}/s"
        if "cpu_ratio" in r:
            line += "  ratio cpu {:.2f} ({:.2f} to {:.2f})".format(*r["cpu_ratio"])
            line += "  wall {:.2f} ({:.2f} to {:.2f})".format(*r["wall_ratio"])
            line += f"  features differ by {r['features_relative_difference']:.1e}"
        print(line)
    if args.save:
        folder = Path(__file__).parent / "results"
        folder.mkdir(exist_ok=True)
        path = folder / "metrics-cpu.json"
        path.write_text(json.dumps({**about, "results": results}, indent=2) + "\n")
        print(path)


if __name__ == "__main__":
    main()
