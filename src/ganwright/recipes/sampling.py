"""What image recipes share when they sample: checked labels, and images in chunks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ganwright.errors import SettingsError
from ganwright.recipes.base import SampleRequest
from ganwright.samples import ImageSamples


def requested_labels(request: SampleRequest, num_classes: int) -> Tensor | None:
    """The class of each sample, int64 (n,) on the CPU; None for a GAN without classes.

    Raises:
        SettingsError: Labels were asked for that the GAN does not have.
    """
    if not num_classes:
        if request.labels is not None:
            raise SettingsError(
                "This GAN was trained without classes, so none can be asked for.",
                where="labels",
                fix="train one with classes (the recipe cgan, say)",
            )
        return None
    labels = request.classes(num_classes)
    if len(labels) != request.n:
        raise SettingsError(
            f"{len(labels)} labels do not fit {request.n} samples.", where="labels", fix=f"give {request.n} labels"
        )
    unknown = labels[(labels < 0) | (labels >= num_classes)]
    if len(unknown):
        raise SettingsError(
            f"There is no class {int(unknown[0])}.", where="labels", fix=f"choose from 0 to {num_classes - 1}"
        )
    return labels


def sample_images(
    generate: Callable[[Tensor, Tensor | None], Tensor],
    request: SampleRequest,
    *,
    latents: Tensor,
    num_classes: int,
    device: torch.device,
) -> ImageSamples:
    """Images from latents; with classes as asked for, or in turn (one column of the grid each).

    Args:
        generate: Latents (n, latent_dim) and classes (n,) or None, on `device`, to images (n, C, H, W) in [-1, 1].
        request: What to sample.
        latents: One row a sample, on the CPU: `request.normal(latent_dim)`, usually.
        num_classes: Classes; 0: none.
        device: Where the generator is.

    Raises:
        SettingsError: Labels were asked for that the GAN does not have.
    """
    labels = requested_labels(request, num_classes)
    parts = []
    for start in range(0, request.n, request.batch_size):
        rows = slice(start, start + request.batch_size)
        of_rows = None if labels is None else labels[rows].to(device)
        parts.append(ImageSamples.from_tensor(generate(latents[rows].to(device), of_rows)).images)
    columns = num_classes if labels is not None and request.labels is None else 0
    return ImageSamples(
        np.concatenate(parts),
        None if labels is None else labels.numpy(),
        columns if 4 <= columns <= 20 else None,
    )
