"""StyleGAN2's generator: mapping and synthesis."""

from __future__ import annotations

from torch import Tensor, nn

from ganwright.networks.stylegan2.mapping import Mapping
from ganwright.networks.stylegan2.plans import GeneratorPlan
from ganwright.networks.stylegan2.synthesis import Noise, Synthesis


class Generator(nn.Module):
    """From latents and labels to images. Its state dict is that of `G` in NVIDIA's stylegan2-ada-pytorch.

    Args:
        plan: Sizes and choices.
    """

    def __init__(self, plan: GeneratorPlan) -> None:
        super().__init__()
        self.plan = plan
        self.synthesis = Synthesis(plan)
        self.mapping = Mapping(plan.z_dim, plan.c_dim, plan.w_dim, plan.mapping)

    def styles(
        self, z: Tensor | None, labels: Tensor | None = None, *, truncation: float = 1.0, cutoff: int | None = None
    ) -> Tensor:
        """w+ (N, num_ws, w_dim): the same style for every layer, truncated; see `Mapping.truncate`."""
        ws = self.mapping(z, labels).unsqueeze(1).expand(-1, self.synthesis.num_ws, -1)
        return self.mapping.truncate(ws, truncation, cutoff)

    def forward(
        self,
        z: Tensor | None,
        labels: Tensor | None = None,
        *,
        truncation: float = 1.0,
        cutoff: int | None = None,
        noise: Noise = "const",
    ) -> Tensor:
        """Images (N, C, H, W) in about [-1, 1].

        Args:
            z: Standard normal (N, z_dim).
            labels: Classes int64 (N,) or vectors (N, c_dim), for conditional networks.
            truncation: ψ.
            cutoff: Layers that are truncated; None: all.
            noise: See `synthesis.Noise`.
        """
        images: Tensor = self.synthesis(self.styles(z, labels, truncation=truncation, cutoff=cutoff), noise)
        return images
