"""Draws the pictures of docs/which-number.md, from the bundled digits and nothing else.

usage: python docs/pictures/which_number.py [--minutes 2]     (needs matplotlib; about ten minutes on two cores)
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import gaussian_filter

import ganwright as gw
from ganwright.config import DataSettings
from ganwright.data.opening import open_dataset
from ganwright.metrics.estimate import Estimate, Evaluation
from ganwright.metrics.resizing import RESIZES

HERE = Path(__file__).parent
COLUMNS = {
    "fd": "FD",
    "fd-infinity": "FD∞",
    "kid": "KD",
    "is": "IS",
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
    "vendi": "Vendi",
    "nn-ratio": "nn-ratio",
    "authenticity": "authenticity",
    "duplicates": "duplicates",
}
Images = npt.NDArray[np.uint8]


def faults(samples: Images, no_sevens: Images, training: Images) -> dict[str, Images]:
    """Sets of images with one thing wrong with each."""
    rng = np.random.default_rng(0)
    n = len(samples)
    noisy = np.clip(samples + rng.normal(0, 40, samples.shape), 0, 255).astype(np.uint8)
    blurred = np.stack([gaussian_filter(image.astype(float), (1.2, 1.2, 0)) for image in samples]).astype(np.uint8)
    few = samples[rng.integers(0, 40, n)]
    slightly = np.clip(few.astype(int) + rng.integers(-3, 4, few.shape), 0, 255).astype(np.uint8)
    half = samples.copy()
    half[: n // 2] = training[: n // 2]
    return {
        "nothing: other real digits": samples,
        "noise": noisy,
        "blur": blurred,
        "no sevens": no_sevens[:n],
        "collapse: 40 digits over and over": slightly,
        "half are copies of training digits": half,
        "all are copies of training digits": training[:n],
    }


def verdict(found: Estimate, healthy: Estimate) -> int:
    """-1, 0, 1: clearly worse than the healthy row, not distinguishable, clearly better."""
    if found.low > healthy.high:
        return 1 if found.higher_is_better else -1
    if found.high < healthy.low:
        return -1 if found.higher_is_better else 1
    return 0


def draw_faults(rows: dict[str, Evaluation], path: Path) -> None:
    healthy = next(iter(rows.values()))
    names = [name for name in COLUMNS if name in healthy]
    colours = {-1: "#f2b8b0", 0: "#eeeeee", 1: "#b7ddc0"}
    fig, axes = plt.subplots(figsize=(1.15 * len(names) + 3.0, 0.55 * len(rows) + 1.3))
    axes.set_xlim(0, len(names))
    axes.set_ylim(len(rows), 0)
    for y, (fault, found) in enumerate(rows.items()):
        for x, name in enumerate(names):
            if name not in found:
                continue
            colour = "#ffffff" if y == 0 else colours[verdict(found[name], healthy[name])]
            axes.add_patch(plt.Rectangle((x, y), 1, 1, facecolor=colour, edgecolor="white", linewidth=2))
            axes.text(x + 0.5, y + 0.5, f"{found[name].value:.3g}", ha="center", va="center", fontsize=10)
        axes.text(-0.1, y + 0.5, fault, ha="right", va="center", fontsize=10)
    for x, name in enumerate(names):
        arrow = "↑" if healthy[name].higher_is_better else "↓"
        axes.text(x + 0.5, -0.15, f"{COLUMNS[name]} {arrow}", ha="center", va="bottom", fontsize=10)
    axes.axis("off")
    told = "red: clearly worse than other real digits; green: clearly better; grey: intervals overlap"
    fig.text(0.5, 0.01, told, ha="center", fontsize=9, color="#555555")
    fig.savefig(path, dpi=110, bbox_inches="tight")
    plt.close(fig)


def draw_bias(real: Images, reference: Images, extractor: str, path: Path) -> None:
    sizes = [600, 900, 1300, 2000, 3000, 4000]
    sizes = [n for n in sizes if n <= min(len(real), len(reference))]
    metrics = {"fd": "FD", "fd-infinity": "FD∞", "kid": "KD"}
    found = [
        gw.evaluate(real[:n], reference=reference[:n], metrics=tuple(metrics), extractor=extractor, quiet=True)
        for n in sizes
    ]
    fig, axes = plt.subplots(1, len(metrics), figsize=(11, 3.6), constrained_layout=True)
    for axis, (name, label) in zip(axes, metrics.items(), strict=True):
        shown = [(n, e[name]) for n, e in zip(sizes, found, strict=True) if name in e]
        x = [n for n, _ in shown]
        axis.fill_between(x, [e.low for _, e in shown], [e.high for _, e in shown], alpha=0.25, color="#3366aa")
        axis.plot(x, [e.value for _, e in shown], marker="o", color="#3366aa")
        axis.axhline(0, color="black", linewidth=0.8)
        axis.set_title(label)
        axis.set_xlabel("images on each side")
        axis.set_ylim(*(-0.1 * max(e.high for _, e in shown), None) if name != "kid" else (None, None))
    fig.suptitle("real digits against other real digits: the truth is 0")
    fig.savefig(path, dpi=110)
    plt.close(fig)


def draw_resizing(digit: Images, path: Path) -> None:
    x = torch.from_numpy(digit).permute(2, 0, 1)[None].float()
    fig, axes = plt.subplots(2, 4, figsize=(10, 5.8), constrained_layout=True)
    axes[0, 0].imshow(digit[..., 0], cmap="gray", vmin=0, vmax=255)
    axes[0, 0].set_title("the digit, 28 × 28", fontsize=10)
    small = {name: resize(x, 14)[0, 0].numpy() for name, (resize, _) in RESIZES.items()}
    large = {name: resize(x, 299)[0, 0].numpy() for name, (resize, _) in RESIZES.items()}
    titles = {"clean": "clean-fid", "bilinear": "pytorch-fid", "tf1-bilinear": "torch-fidelity, StyleGAN"}
    for k, name in enumerate(RESIZES):
        axes[0, k + 1].imshow(large[name], cmap="gray", vmin=0, vmax=255)
        axes[0, k + 1].set_title(f"{titles[name]}:\nto 299 × 299", fontsize=10)
        axes[1, k + 1].imshow(small[name], cmap="gray", vmin=0, vmax=255)
        apart = np.abs(small[name] - small["clean"]).mean()
        told = f", mean difference\nfrom clean-fid {apart:.0f} grey levels" if k else ""
        axes[1, k + 1].set_title(f"to 14 × 14{told}", fontsize=10)
    for axis in axes.flat:
        axis.axis("off")
    fig.savefig(path, dpi=90)
    plt.close(fig)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=2.0)
    args = parser.parse_args()
    data = open_dataset("mnist", DataSettings(held_out=0.1))
    order = np.random.default_rng(1).permutation(data.train_index)
    reference, others = data.images[order[:4000]], order[4000:8000]
    unseen = data.images[data.held_out_index]
    weights = Path("digits.safetensors")
    if not weights.exists():
        print(gw.train_extractor("mnist", out=weights, max_minutes=args.minutes))
    samples, no_sevens = data.images[others[:2500]], data.images[others[data.labels[others] != 7]]
    rows = {
        fault: gw.evaluate(
            images, reference=reference, held_out=unseen, metrics=tuple(COLUMNS), extractor=str(weights), quiet=True
        )
        for fault, images in faults(samples, no_sevens, reference).items()
    }
    draw_faults(rows, HERE / "faults.png")
    draw_bias(data.images[others], reference, str(weights), HERE / "bias.png")
    draw_resizing(data.images[order[3]], HERE / "resizing.png")
    for fault, found in rows.items():
        print(fault, {name: f"{e.value:.4g} [{e.low:.4g}, {e.high:.4g}]" for name, e in found.items()})


if __name__ == "__main__":
    main()
