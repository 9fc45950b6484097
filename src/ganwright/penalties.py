"""What keeps a discriminator smooth: penalties on its gradient with respect to images, and weight clipping.

Spectral normalisation is a property of a network and lives in `networks.blocks`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ganwright.networks.second_derivatives import QuickSecondDerivatives

Critic = Callable[[Tensor], Tensor]
"""Images (N, C, H, W) -> outputs (N,); each output may depend on its own image only (no batch norm)."""


def outputs_and_gradients(critic: Critic, images: Tensor) -> tuple[Tensor, Tensor]:
    """D(x) and ∇ₓD(x) of each image in one pass, both differentiable with respect to the critic's weights.

    Args:
        critic: The critic.
        images: (N, C, H, W).

    Returns:
        Outputs (N,) and gradients (N, C·H·W).
    """
    x = images.detach().requires_grad_(True)
    with QuickSecondDerivatives(x) as layers:
        outputs = critic(x)
        layers.only_images = True
        # One backward pass gives every image's own gradient, since D(x_i) depends on x_i alone. Autocast is for forward
        # passes: inside it the products of this one would be rounded again.
        with torch.autocast(x.device.type, enabled=False):
            (gradients,) = torch.autograd.grad(outputs.sum(), x, create_graph=True)
        layers.only_images = False
    return outputs, gradients.flatten(1)


def image_gradients(critic: Critic, images: Tensor) -> Tensor:
    """∇ₓD(x) of each image, (N, C·H·W), differentiable with respect to the critic's weights."""
    return outputs_and_gradients(critic, images)[1]


def gradient_penalty(critic: Critic, real: Tensor, fake: Tensor, u: Tensor) -> Tensor:
    """E[(‖∇D(x̂)‖₂ - 1)²] at x̂ = u·x + (1 - u)·G(z) (Gulrajani et al. 2017, eq. 3, without λ).

    Args:
        critic: The critic.
        real: Real images (N, C, H, W).
        fake: As many generated ones.
        u: Uniform numbers in [0, 1), (N, 1, 1, 1).
    """
    x_hat = u * real + (1 - u) * fake
    # The gradient of a norm is undefined at 0; the addend moves no norm that matters.
    norms = (image_gradients(critic, x_hat).square().sum(1) + 1e-16).sqrt()
    return (norms - 1).square().mean()


def r1_penalty(critic: Critic, real: Tensor) -> Tensor:
    """½ E[‖∇D(x)‖²] on real images (Mescheder et al. 2018, eq. 9, without γ)."""
    return 0.5 * image_gradients(critic, real).square().sum(1).mean()


def r2_penalty(critic: Critic, fake: Tensor) -> Tensor:
    """½ E[‖∇D(G(z))‖²] on generated images (Mescheder et al. 2018, eq. 10, without γ)."""
    return r1_penalty(critic, fake)


@dataclass(frozen=True)
class Penalty:
    """A gradient penalty.

    Attributes:
        value: (critic, reals, fakes, u) -> unweighted scalar.
        needs_u: Whether it uses the uniform numbers u.
        source: Paper and equation.
    """

    value: Callable[[Critic, Tensor, Tensor, Tensor], Tensor]
    needs_u: bool
    source: str


PENALTIES: dict[str, Penalty] = {
    "gradient": Penalty(gradient_penalty, True, "Gulrajani et al. 2017, eq. 3"),
    "r1": Penalty(lambda critic, real, fake, u: r1_penalty(critic, real), False, "Mescheder et al. 2018, eq. 9"),
    "r2": Penalty(lambda critic, real, fake, u: r2_penalty(critic, fake), False, "Mescheder et al. 2018, eq. 10"),
}
"""All gradient penalties by the name used in settings."""


@torch.no_grad()
def clip_weights(network: nn.Module, bound: float) -> None:
    """Clip every parameter to [-bound, bound] in place (Arjovsky et al. 2017, algorithm 1, line 7)."""
    for parameter in network.parameters():
        parameter.clamp_(-bound, bound)
