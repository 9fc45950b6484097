"""What a trained discriminator has learned: its features of images, for a linear probe or anything else."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from ganwright.errors import MetricError
from ganwright.networks.conditional import Discriminator
from ganwright.recipes.base import Recipe
from ganwright.run import Run
from ganwright.training.restore import load_recipe


def discriminator_features(
    source: Run | Recipe,
    images: npt.NDArray[np.uint8],
    *,
    checkpoint: int | str = "last",
    device: torch.device | str = "cpu",
    batch_size: int = 250,
) -> npt.NDArray[np.float32]:
    """D's pooled features, those its head sees, of images.

    Args:
        source: A run of an image GAN, or its recipe.
        images: uint8 (N, H, W, C), of the resolution it was trained at.
        checkpoint: A step, "last" or "best", of a run.
        device: Where to compute.
        batch_size: Images at a time.

    Returns:
        (N, F).

    Raises:
        MetricError: The recipe has no such discriminator, or it joins labels to its input, or images do not fit.
        CheckpointError: There is no such checkpoint.
    """
    recipe = load_recipe(source, step=checkpoint, device=device) if isinstance(source, Run) else source
    network = getattr(recipe, "discriminator", None)
    if not isinstance(network, Discriminator):
        raise MetricError("This recipe has no discriminator with pooled features.", where=type(recipe).__name__)
    if network.label_maps:
        raise MetricError("This discriminator joins labels to the image, so its features tell the label.")
    plan = network.plan
    if images.dtype != np.uint8 or images.shape[1:] != (plan.resolution, plan.resolution, plan.channels):
        raise MetricError(
            f"Images are {images.dtype} {images.shape}, but the discriminator was trained on "
            f"uint8 (N, {plan.resolution}, {plan.resolution}, {plan.channels})."
        )
    training = network.training
    network.eval()
    parts = []
    with torch.no_grad():
        for start in range(0, len(images), batch_size):
            x = torch.from_numpy(images[start : start + batch_size]).permute(0, 3, 1, 2).float() / 127.5 - 1
            parts.append(network.embed(x.to(recipe.device)).float().cpu())
    network.train(training)
    return torch.cat(parts).numpy()
