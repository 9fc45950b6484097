"""Draws the pictures of docs/explore.md with the program itself, from the bundled digits and nothing else.

usage: python docs/pictures/explore.py [--minutes 20] [--run RUN] [--name NAME ...]

Trains a small StyleGAN2 of digits first, unless a style-based run is given.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import ganwright as gw
from ganwright.config import DataSettings
from ganwright.data.opening import open_dataset
from ganwright.exploring import Explorer, Sheet

HERE = Path(__file__).parent
SMALL = {
    "resolution": 16,
    "z_dim": 32,
    "w_dim": 32,
    "channel_base": 512,
    "channel_max": 64,
    "batch_size": 16,
    "conditional": True,
    "r1_gamma": 0.1,
    "pl_weight": 0.0,
    "lr_g": 0.004,
    "lr_d": 0.004,
    "ema_half_life": 60.0,
    "steps": 6000,
    "evaluate_every": -1,
}


def edit(explorer: Explorer) -> Sheet:
    found = explorer.directions("ganspace", k=2)
    return explorer.edit([12, 13, 14, 15], ["ganspace-0=2", "ganspace-0=2@coarse", "ganspace-0=2@fine"], found)


def project(explorer: Explorer) -> Sheet:
    held_out = open_dataset("mnist", DataSettings())
    digit = held_out.images[held_out.held_out_index[3]]
    return explorer.project(digit, steps=300).sheet()


PICTURES: dict[str, Callable[[Explorer], Sheet]] = {
    "truncation": lambda e: e.truncation([2, 3, 4, 5]),
    "mix": lambda e: e.mix([2, 3, 4, 5], [7, 8, 9, 10, 11], "coarse"),
    "interpolate": lambda e: e.interpolate([1, 1, 1], labels=[3, 8, 4]),
    "directions": lambda e: e.show_directions(e.directions("ganspace", k=3), [2, 3]),
    "edit": edit,
    "project": project,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--run", type=Path, default=Path("digits-stylegan2"))
    parser.add_argument("--name", nargs="*", choices=[*PICTURES, "walk"], default=[*PICTURES, "walk"])
    args = parser.parse_args()
    if not args.run.exists():
        gw.train("stylegan2", "mnist", out=args.run, max_minutes=args.minutes, **SMALL)
    explorer = gw.explore(args.run)
    for name in args.name:
        if name == "walk":
            print(explorer.walk(0, walks=3, keyframes=4, seconds=5, fps=12).save(HERE / "explore-walk.webp"))
        else:
            print(PICTURES[name](explorer).save(HERE / f"explore-{name}.png"))


if __name__ == "__main__":
    main()
