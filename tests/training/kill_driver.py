"""Trains a tiny GAN again and again, killing it with SIGKILL at random moments, until it is done.

Run as a script in a process of its own: it imports everything once and forks, so that 20 kills take seconds.
usage: kill_driver.py DATA RUN KILLS SEED
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # no thread pool may exist when we fork

import torch

import ganwright as gw
from ganwright.run import Run
from ganwright.training import launch, settings  # noqa: F401  (imported before forking)

SETTINGS = {
    "steps": 800,
    "batch_size": 8,
    "log_every": 3,
    "checkpoint_every": 2,
    "sample_every": 7,
    "evaluate_every": -1,
    "held_out": 0.0,
    "width_g": 4,
    "width_d": 4,
    "latent_dim": 8,
    "dropout_d": 0.2,
    "instance_noise": 0.1,
}


def train(data: str, run: Path) -> None:
    torch.set_num_threads(1)
    if (run / "run.yaml").exists():
        gw.resume(run, write_html=False)
    else:
        gw.train("dcgan", data, out=run, write_html=False, **SETTINGS)


def main(data: str, run: Path, kills: int, seed: int) -> None:
    chance = random.Random(seed)
    killed = 0
    while True:
        child = os.fork()
        if child == 0:
            devnull = os.open(os.devnull, os.O_WRONLY)
            os.dup2(devnull, 2)
            try:
                train(data, run)
            except BaseException as error:
                os.dup2(1, 2)
                print("child failed:", error, flush=True)
                os._exit(1)
            os._exit(0)
        if killed < kills:
            started, before = time.monotonic(), newest(run)
            # Wait until it has got somewhere (a checkpoint further), then a random moment longer.
            while newest(run) == before and time.monotonic() - started < 30 and not finished(child):
                time.sleep(0.001)
            time.sleep(chance.uniform(0, 0.06))
            os.kill(child, signal.SIGKILL)
            killed += 1
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status) and killed < kills:
            print(f"the run ended after {killed} kills: make it longer")
            sys.exit(3)
        if os.WIFEXITED(status):
            print(f"killed {killed} times, exit {os.WEXITSTATUS(status)}")
            sys.exit(os.WEXITSTATUS(status))


def newest(run: Path) -> int:
    return max((step for step, _ in Run(run).checkpoints()), default=0)


def finished(child: int) -> bool:
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
