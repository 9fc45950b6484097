"""A small segmenter for real images: a U-Net, trained from scratch on pairs of image and mask.

It is a yardstick and a start, not the best there is: the pairs are plain files for any other program.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ganwright.console import progress
from ganwright.errors import DataError, SettingsError
from ganwright.files import atomic_path
from ganwright.samples import Uint8Array
from ganwright.segmenting.classes import IGNORE
from ganwright.segmenting.pairs import Pairs

_LEVELS = 3
_GROUPS = 8


@dataclass(frozen=True)
class SegmenterSettings:
    """How the segmenter is trained."""

    width: int = 16
    """Channels at full resolution, a multiple of 8; each of the 3 levels below has twice as many."""
    steps: int = 1000
    """Training steps."""
    batch: int = 16
    """Images a step."""
    lr: float = 2e-3
    """AdamW's learning rate at its height; it rises over the first twentieth and falls to 0 along a cosine."""
    mirror: bool = True
    """Mirror half of the images left to right."""
    zoom: float = 0.5
    """Crop at random and enlarge to the full size: the crop's side is at least this share."""
    colour: float = 0.3
    """Brightness, contrast and saturation change at random by up to this share."""

    def __post_init__(self) -> None:
        if self.width < _GROUPS or self.width % _GROUPS or min(self.steps, self.batch) < 1 or self.lr <= 0:
            raise SettingsError("A setting of the segmenter is impossible.", where=str(self))
        if not 0 < self.zoom <= 1 or not 0 <= self.colour < 1:
            raise SettingsError("zoom is in (0, 1] and colour in [0, 1).", where=f"{self.zoom}, {self.colour}")


class SmallUNet(nn.Module):
    """A U-Net (Ronneberger et al. 2015) of three levels with group norm; (N, C, H, W) in [-1, 1] to (N, K, H, W)."""

    def __init__(self, channels: int, num_classes: int, width: int) -> None:
        super().__init__()
        self.channels, self.num_classes, self.width = channels, num_classes, width
        widths = [width * 2**level for level in range(_LEVELS + 1)]
        self.down = nn.ModuleList(_block(a, b) for a, b in zip([channels, *widths], widths, strict=False))
        self.up = nn.ModuleList(_block(a + b, b) for a, b in zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Class logits; any size (it is padded inside to a multiple of 8)."""
        h, w = images.shape[2:]
        x = F.pad(images, (0, -w % 2**_LEVELS, 0, -h % 2**_LEVELS), mode="replicate")
        skips = []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else F.max_pool2d(x, 2))
            skips.append(x)
        for block, skip in zip(self.up, skips[-2::-1], strict=True):
            x = block(torch.cat([F.interpolate(x, scale_factor=2.0, mode="nearest"), skip], 1))
        logits: Tensor = self.head(x)
        return logits[..., :h, :w]

    @torch.no_grad()
    def predict(self, images: Uint8Array, *, batch_size: int = 32) -> npt.NDArray[np.uint8]:
        """The class of each pixel, uint8 (N, H, W), of uint8 images (N, H, W, C)."""
        device, was_training = self.head.weight.device, self.training
        self.eval()
        found = [
            self(_to_float(torch.from_numpy(images[start : start + batch_size]).to(device))).argmax(1)
            for start in range(0, len(images), batch_size)
        ]
        self.train(was_training)
        masks: npt.NDArray[np.uint8] = torch.cat(found).to(torch.uint8).cpu().numpy()
        return masks


def train_segmenter(
    pairs: Pairs,
    settings: SegmenterSettings | None = None,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    description: str = "segmenter",
    quiet: bool = False,
) -> SmallUNet:
    """Train a segmenter for a fixed number of steps; returned in `eval` mode. Nothing is selected on any data.

    Args:
        pairs: What to train on.
        settings: How.
        seed: Of weights, batches and augmentation.
        device: Where.
        description: For the progress bar.
        quiet: Show no progress.
    """
    s = settings or SegmenterSettings()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = SmallUNet(pairs.images.shape[-1], len(pairs.classes), s.width)
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), s.lr)
    generator = torch.Generator().manual_seed(seed)
    images, masks = torch.from_numpy(pairs.images), torch.from_numpy(pairs.masks)
    with progress(description, s.steps, quiet=quiet) as advance:
        for step in range(s.steps):
            for group in optimizer.param_groups:
                group["lr"] = s.lr * _schedule(step, s.steps)
            rows = torch.randint(len(pairs), (s.batch,), generator=generator)
            x, y = _augment(_to_float(images[rows].to(device)), masks[rows].to(device).long(), s, generator)
            # The sum over counted pixels, so that a batch that is ignored altogether gives 0 and not NaN.
            counted = (y != IGNORE).sum().clamp_min(1)
            loss = F.cross_entropy(network(x), y, ignore_index=IGNORE, reduction="sum") / counted
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            advance()
    return network.eval()


def save_segmenter(network: SmallUNet, pairs: Pairs, path: Path) -> None:
    """Write a segmenter as one .safetensors file with its shape and classes."""
    about = {
        "channels": network.channels,
        "width": network.width,
        "classes": list(pairs.classes.names),
        "resolution": int(pairs.images.shape[1]),
    }
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    with atomic_path(path) as temporary:
        save_file(state, temporary, metadata={"ganwright-segmenter": json.dumps(about)})


def load_segmenter(path: str | Path) -> tuple[SmallUNet, tuple[str, ...]]:
    """A segmenter that `save_segmenter` wrote, in `eval` mode, and the names of its classes.

    Raises:
        DataError: It is none.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads(file.metadata()["ganwright-segmenter"])
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
        network = SmallUNet(about["channels"], len(about["classes"]), about["width"])
        network.load_state_dict(state)
        return network.eval(), tuple(about["classes"])
    except Exception as error:  # safetensors has errors of its own
        raise DataError(f"This is no segmenter ({error}).", where=path) from error


def _block(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in ((inputs, outputs), (outputs, outputs)):
        layers += [nn.Conv2d(a, b, 3, padding=1, bias=False), nn.GroupNorm(_GROUPS, b), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def _schedule(step: int, steps: int) -> float:
    warm = max(1, steps // 20)
    return min(1.0, (step + 1) / warm) * 0.5 * (1 + math.cos(math.pi * step / steps))


def _to_float(images: Tensor) -> Tensor:
    """uint8 (N, H, W, C) to float32 (N, C, H, W) in [-1, 1]."""
    return images.permute(0, 3, 1, 2).float().div(127.5).sub(1)


def _augment(x: Tensor, y: Tensor, s: SegmenterSettings, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mirror, crop and enlarge image and mask alike; change the image's colours."""
    n = len(x)
    u = torch.rand(n, 7, generator=generator).to(x.device)
    side = s.zoom + (1 - s.zoom) * u[:, 0]
    flip = torch.where(u[:, 1] < 0.5, -1.0, 1.0) if s.mirror else torch.ones_like(side)
    theta = torch.zeros(n, 2, 3, device=x.device)
    theta[:, 0, 0], theta[:, 1, 1] = side * flip, side
    theta[:, 0, 2], theta[:, 1, 2] = (1 - side) * (2 * u[:, 2] - 1), (1 - side) * (2 * u[:, 3] - 1)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    x = F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)
    y = F.grid_sample(y[:, None].float(), grid, mode="nearest", padding_mode="border", align_corners=False)[:, 0].long()
    bright, contrast, saturation = (s.colour * (2 * u[:, i, None, None, None] - 1) for i in (4, 5, 6))
    x = x + bright
    x = (x - x.mean((1, 2, 3), keepdim=True)) * (1 + contrast) + x.mean((1, 2, 3), keepdim=True)
    grey = x.mean(1, keepdim=True)
    return (grey + (x - grey) * (1 + saturation)).clamp(-1, 1), y
