"""What networks that turn images into images share: norms, dropout at test time, and sizes that must divide.

The networks themselves are `unet.py`, `translator.py` and `patchgan.py`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganwright.networks.blocks import Dropout, InstanceNorm, NoNorm, SyncedBatchNorm, lent_randomness

NormName = Literal["batch", "instance", "none"]


class OwnStatisticsBatchNorm(SyncedBatchNorm):
    """Batch norm that at test time normalises each image by its own mean and variance, not by running ones.

    So pix2pix is meant to be used (Isola et al. 2017, section 3.3: "using the statistics of the test batch", of one
    image). In `train` mode it is `SyncedBatchNorm`, with the same names of parameters and buffers.
    """

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Normalise x (N, C, H, W); `labels` are ignored."""
        if self.training:
            return super().forward(x)
        return F.instance_norm(x, None, None, self.weight, self.bias, True, 0.0, self.eps)


def norm_maker(name: NormName, *, own_statistics: bool = False) -> Callable[[int], nn.Module]:
    """Channels to a norm layer, as the papers of translation have them.

    Args:
        name: "batch" with gain and bias, "instance" without, or "none".
        own_statistics: Batch norm at test time uses each image's own statistics.
    """
    if name == "batch":
        return OwnStatisticsBatchNorm if own_statistics else SyncedBatchNorm
    return InstanceNorm if name == "instance" else lambda channels: NoNorm()


def norm_takes_bias(name: NormName) -> bool:
    """Whether a convolution before this norm needs a bias; batch norm brings its own.

    Before an instance norm without a bias of its own it has none that matters either, but released checkpoints have it.
    """
    return name != "batch"


@contextlib.contextmanager
def dropout_at_test(network: nn.Module, seed: int, first_row: int = 0) -> Iterator[None]:
    """Dropout layers drop inside the block though the network is in `eval` mode (Isola et al. 2017, section 3.3).

    What is dropped is a function of the seed and of a row's number alone, however rows are put into batches.

    Args:
        network: Called once or several times in the block, always on the same rows.
        seed: Equal seeds drop equal units.
        first_row: Number of the batch's first row.
    """
    layers = [module for module in network.modules() if isinstance(module, Dropout)]
    modes = [layer.training for layer in layers]
    device = next(network.parameters()).device
    generators: dict[int, torch.Generator] = {}

    def uniform(rows: int, *shape: int) -> Tensor:
        drawn = []
        for row in range(first_row, first_row + rows):
            if row not in generators:
                generators[row] = torch.Generator().manual_seed(_mixed(seed, row))
            drawn.append(torch.rand(shape, generator=generators[row]))
        return torch.stack(drawn).to(device)

    try:
        for layer in layers:
            layer.training = True
        with lent_randomness(network, uniform):
            yield
    finally:
        for layer, mode in zip(layers, modes, strict=True):
            layer.training = mode


def _mixed(seed: int, row: int) -> int:
    """A seed for a row; neighbouring rows and seeds get unlike ones (the constants are SplitMix64's)."""
    x = (seed * 0x9E3779B97F4A7C15 + (row + 1) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
    x = ((x ^ (x >> 30)) * 0x94D049BB133111EB) & (2**64 - 1)
    return (x ^ (x >> 31)) >> 1


def on_padded(network: Callable[[Tensor], Tensor], images: Tensor, multiple: int, least: int = 1) -> Tensor:
    """Apply a network that needs sides divisible by `multiple` to images of any size.

    The images are continued on the right and at the bottom by their mirror image, and the result is cut to size.

    Args:
        network: (N, C, H, W) to (N, C', H, W).
        images: (N, C, h, w).
        multiple: What H and W must be divisible by.
        least: What H and W must be at least, a multiple of it.
    """
    h, w = images.shape[-2:]
    down, right = max(-h % multiple, least - h), max(-w % multiple, least - w)
    while down or right:  # a mirror image is one pixel shorter than the image: small ones need several
        step_down, step_right = min(down, images.shape[-2] - 1), min(right, images.shape[-1] - 1)
        if (down and not step_down) or (right and not step_right):  # one pixel has no mirror image
            images, down, right = F.pad(images, (0, right, 0, down), mode="replicate"), 0, 0
        else:
            images = F.pad(images, (0, step_right, 0, step_down), mode="reflect")
            down, right = down - step_down, right - step_right
    return network(images)[..., :h, :w]
