"""Shared typed settings: what to do with the data, how to train, how to evaluate.

Each recipe adds its own settings; all of them together are flat (no name occurs twice), so that a flag, a YAML key
and a keyword argument are the same word.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class DataSettings:
    """What is done to the data before training."""

    resolution: int = 0
    """Height and width images are resized and centre-cropped to, in pixels; 0: chosen from the images (at most 64)."""
    channels: Literal["auto", "1", "3"] = "auto"
    """1: grey, 3: RGB, auto: as found (a mixture is an error)."""
    crop: Literal["centre", "random"] = "centre"
    """centre: images are resized, and their central square is taken; random: a random square of `resolution` pixels is
    cut from the picture at native size each time it is drawn (super-resolution, denoising)."""
    flip: bool = False
    """Mirror half of the training images left to right."""
    jitter: float = 1.0
    """Training images are enlarged by this factor, and a random square of `resolution` pixels is cut out, the same of
    both images of a pair (pix2pix and CycleGAN: 286 / 256); 1: they are used whole."""
    pair_direction: Literal["a2b", "b2a"] = "a2b"
    """Pairs: a2b turns A (the left half, the first folder) into B, b2a turns B into A."""
    channels_in: Literal["auto", "1", "2", "3", "4"] = "auto"
    """Pairs and domains: channels of inputs (of domain A), 4 being RGB and alpha or four bands; auto: as found."""
    channels_out: Literal["auto", "1", "2", "3", "4"] = "auto"
    """Pairs and domains: channels of targets (of domain B)."""
    held_out: float = 0.1
    """Share of the samples kept out of training, chosen by a hash of their content and the seed, in [0, 0.9]."""
    mask: str = ""
    """One picture: which of its pixels are known. A picture of its size, white where it is known and black where it
    is to be filled in; or "alpha": what is transparent is to be filled in."""
    split_by: Literal["auto", "image", "group", "patient"] = "auto"
    """What the held-out split never parts: image (exact copies), group (near-duplicates too, found by what they look
    like), patient (DICOM's patient, a volume, a folder, or what `groups` names); auto: by `groups` or by patient
    where they are known, by group for other medical images, else by image."""
    groups: str = ""
    """Which images belong together: a CSV file of file,group; folder:N (the folder at level N); name:REGEX."""
    window: str = "auto"
    """Medical images: which values are kept, spread over 16 bits. brain, lung, bone, …; CENTRE/WIDTH such as 40/80;
    LOW:HIGH; 1%:99% of each image's values; file (the file's own; file:2 is its second); auto: all of CT,
    0.5%:99.5% of others."""
    slice_axis: Literal["auto", "axial", "coronal", "sagittal"] = "auto"
    """Volumes: the plane slices are taken in; auto: the plane with the finest pixels (axial, where they are equal)."""
    slice_range: tuple[float, float] = (0.0, 1.0)
    """Volumes: the part of the axis slices are taken from, as shares of its length."""
    skip_empty: float = 0.05
    """Volumes: slices with a smaller share of foreground are left out; 0: none is."""


@dataclass(frozen=True)
class TrainSettings:
    """How the loop trains, whatever the recipe."""

    steps: int = 20_000
    """Training steps (one generator update each, for most recipes)."""
    batch_size: int = 64
    """Samples a step, over all processes together."""
    seed: int = 0
    """Seed of everything random: weights, data order, split, latents."""
    init_from: str = ""
    """Fine-tune: a run (trained or imported) whose weights this one begins with, where names and shapes fit."""
    freeze_d: int = 0
    """Blocks of the discriminator, from the image on, that keep their weights (FreezeD, Mo et al. 2020)."""
    max_minutes: float = 0.0
    """Stop cleanly after this many minutes of training; 0: no bound."""
    lr_schedule: Literal["constant", "linear", "cosine", "plateau"] = "constant"
    """How learning rates change; `plateau` reduces them when `plateau_metric` stops improving."""
    lr_decay_from: float = 0.5
    """`linear`: share of the steps after which the decay to 0 begins, in [0, 1)."""
    plateau_metric: str = "fd"
    """`plateau`: the evaluated metric that is watched."""
    plateau_factor: float = 0.5
    """`plateau`: learning rates are multiplied by this, in (0, 1)."""
    plateau_patience: int = 3
    """`plateau`: evaluations without improvement before a reduction."""
    ema_half_life: float = 0.0
    """Half-life of the generator's moving average, in steps; 0: chosen from the number of steps."""
    ema_ramp_up: float = 0.05
    """The half-life grows with the steps done, to at most this share of them (so the average never lags early)."""
    clip_grad_norm: float = 0.0
    """Largest gradient norm of each optimiser; 0: no clipping."""
    log_every: int = 50
    """Steps between lines of the log."""
    sample_every: int = 0
    """Steps between grids of fixed-seed samples; 0: twenty over the run."""
    checkpoint_every: int = 0
    """Steps between checkpoints; 0: twenty over the run."""
    keep_last: int = 2
    """Checkpoints kept, beside the best one; at least 1."""
    loggers: tuple[str, ...] = ()
    """Further loggers by name, where installed: tensorboard, wandb, mlflow."""
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to train."""
    devices: int = 1
    """Processes (one per GPU); `torchrun` sets its own."""
    precision: Literal["32", "bf16", "fp16"] = "32"
    """Arithmetic of the networks; bf16 and fp16 need a GPU that has them."""


@dataclass(frozen=True)
class EvalSettings:
    """How a run is evaluated while it trains, and by `evaluate`."""

    evaluate_every: int = 0
    """Steps between evaluations; 0: four over the run; -1: never."""
    metrics: tuple[str, ...] = ("fd", "kid", "is", "class-accuracy", "class-coverage")
    """Metrics by name; those that do not fit the data are left out."""
    protocol: str = ""
    """Named protocol: offline, clean-fid, pytorch-fid, torch-fidelity, stylegan, custom; by default the extractor's."""
    extractor: str = ""
    """Feature extractor: efficientnet-lite0 (the default), inception, or a file; by default the protocol's."""
    eval_samples: int = 1000
    """Generated samples an evaluation uses; as many real ones but at least 2,000, or all where there are fewer."""
    best_by: str = "fd"
    """The metric that chooses the best checkpoint."""
