"""A history of generated images from which a discriminator is shown some, instead of the newest alone."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ganwright.networks.blocks import world_size
from ganwright.recipes.base import StepContext


class ImagePool(nn.Module):
    """The last images in some sense: each new one is shown at once or, half of the time, swapped for an earlier one.

    Shrivastava et al. 2017, section 2.3, as Zhu et al. 2017 use it (section 4, "Training details"): until the pool is
    full new images enter it and are shown; from then on a new image is shown with probability ½, and else it takes the
    place of one of the pool, drawn uniformly, which is shown in its stead.

    What it holds are buffers, so a resumed run goes on exactly. Several processes hold one and the same pool, which
    all their images pass through in order: they train as one does.

    Args:
        size: Images it holds; 0: each image is shown as it is.
        channels: C.
        resolution: Height and width.
    """

    def __init__(self, size: int, channels: int, resolution: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("images", torch.zeros(size, channels, resolution, resolution))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.images: Tensor
        self.count: Tensor

    @torch.no_grad()
    def exchange(self, images: Tensor, ctx: StepContext) -> Tensor:
        """Put new images in and take as many out to show.

        Args:
            images: Generated images (N, C, H, W), of this process.
            ctx: Randomness: two draws an image.

        Returns:
            (N, C, H, W), detached.
        """
        if self.size == 0:
            return images.detach()
        swap, place = ctx.uniform(len(images)), ctx.integers(self.size, len(images))
        all_images, all_swap, all_place = (_of_all_processes(x) for x in (images.float(), swap, place))
        shown = []
        for image, swapped, k in zip(all_images, (all_swap >= 0.5).tolist(), all_place.tolist(), strict=True):
            held = int(self.count)
            if held < self.size:
                self.images[held] = image
                self.count += 1
                shown.append(image)
            elif swapped:
                shown.append(self.images[k].clone())
                self.images[k] = image
            else:
                shown.append(image)
        start = dist.get_rank() * len(images) if world_size() > 1 else 0
        return torch.stack(shown[start : start + len(images)]).to(images.dtype)


def _of_all_processes(x: Tensor) -> Tensor:
    """The rows of all processes, in order."""
    if world_size() == 1:
        return x.detach()
    parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(world_size())]
    dist.all_gather(parts, x.detach().contiguous())
    return torch.cat(parts)
