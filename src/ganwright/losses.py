"""Adversarial losses: each a pair of small functions of the discriminator's outputs, listed in one table.

The relativistic losses stand beside the table, since their generators need the outputs for reals too.

Penalties on gradients or weights live in `penalties.py`; which loss a recipe uses is a name in its settings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from ganwright.networks.blocks import mean_over_processes


@dataclass(frozen=True)
class AdversarialLoss:
    """What the two players minimise, as functions of the discriminator's raw outputs.

    Attributes:
        discriminator: (logits of reals (N,), logits of fakes (M,)) -> scalar. Where `smoothable`, it also
            takes the keyword `real_target`.
        generator: (logits of fakes (M,)) -> scalar.
        threshold: Output above which the discriminator calls an image real; None for a critic, which calls
            nothing.
        smoothable: Whether the target for reals can be softened (one-sided label smoothing).
        source: Paper and equation.
    """

    discriminator: Callable[..., Tensor]
    generator: Callable[[Tensor], Tensor]
    threshold: float | None
    smoothable: bool
    source: str


def cross_entropy_d(real_logits: Tensor, fake_logits: Tensor, real_target: float = 1.0) -> Tensor:
    """-E[log D(x)] - E[log(1 - D(G(z)))] with D = sigmoid(logit) (Goodfellow et al. 2014, eq. 1, negated).

    Args:
        real_logits: Outputs for real images (N,).
        fake_logits: Outputs for generated images (M,).
        real_target: Target t for reals in (0, 1], giving -E[t log D + (1 - t) log(1 - D)]: one-sided label
            smoothing (Salimans et al. 2016, section 3.4).
    """
    real = real_target * F.softplus(-real_logits) + (1 - real_target) * F.softplus(real_logits)
    return real.mean() + F.softplus(fake_logits).mean()


def minimax_g(fake_logits: Tensor) -> Tensor:
    """E[log(1 - D(G(z)))] (Goodfellow et al. 2014, eq. 1): vanishes where D is sure of the fakes."""
    return -F.softplus(fake_logits).mean()


def non_saturating_g(fake_logits: Tensor) -> Tensor:
    """-E[log D(G(z))] (Goodfellow et al. 2014, section 3): same fixed point, strong gradients early."""
    return F.softplus(-fake_logits).mean()


def least_squares_d(real_logits: Tensor, fake_logits: Tensor, real_target: float = 1.0) -> Tensor:
    """½ E[(D(x) - b)²] + ½ E[D(G(z))²], b = `real_target` (Mao et al. 2017, eq. 9: the 0-1 coding)."""
    return 0.5 * (real_logits - real_target).square().mean() + 0.5 * fake_logits.square().mean()


def least_squares_g(fake_logits: Tensor) -> Tensor:
    """½ E[(D(G(z)) - 1)²] (Mao et al. 2017, eq. 9)."""
    return 0.5 * (fake_logits - 1).square().mean()


def wasserstein_d(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """E[D(G(z))] - E[D(x)]: minus the estimated distance, for Lipschitz D (Arjovsky et al. 2017, eq. 3)."""
    return fake_logits.mean() - real_logits.mean()


def wasserstein_g(fake_logits: Tensor) -> Tensor:
    """-E[D(G(z))] (Arjovsky et al. 2017, algorithm 1)."""
    return -fake_logits.mean()


def hinge_d(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """E[max(0, 1 - D(x))] + E[max(0, 1 + D(G(z)))] (Lim & Ye 2017; Miyato et al. 2018, eq. 16)."""
    return F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean()


hinge_g = wasserstein_g
"""-E[D(G(z))] (Miyato et al. 2018, eq. 17)."""


LOSSES: dict[str, AdversarialLoss] = {
    "minimax": AdversarialLoss(cross_entropy_d, minimax_g, 0.0, True, "Goodfellow et al. 2014, eq. 1"),
    "non-saturating": AdversarialLoss(
        cross_entropy_d, non_saturating_g, 0.0, True, "Goodfellow et al. 2014, section 3"
    ),
    "least-squares": AdversarialLoss(least_squares_d, least_squares_g, 0.5, True, "Mao et al. 2017, eq. 9"),
    "wasserstein": AdversarialLoss(wasserstein_d, wasserstein_g, None, False, "Arjovsky et al. 2017, eq. 3"),
    "hinge": AdversarialLoss(hinge_d, hinge_g, 0.0, False, "Lim & Ye 2017; Miyato et al. 2018, eq. 16-17"),
}
"""All losses by the name used in settings."""


# Relativistic pairing. ---------------------------------------------------------------------------------------


def relativistic_d(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """E[log(1 + exp(-(D(x) - D(G(z)))))]: each real should look more real than the fake it is paired with.

    RpGAN (Jolicoeur-Martineau 2019, "The relativistic discriminator"; Huang et al. 2024, section 2, with f the
    softplus); together with R1 and R2 it is R3GAN's objective.

    Args:
        real_logits: Outputs for real images (N,).
        fake_logits: Outputs for as many generated ones, row i paired with row i (of the same class, if any).
    """
    return F.softplus(fake_logits - real_logits).mean()


def relativistic_g(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """E[log(1 + exp(-(D(G(z)) - D(x))))]: `relativistic_d` with the parts exchanged."""
    return relativistic_d(fake_logits, real_logits)


def relativistic_average_d(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """-E[log σ(D(x) - E[D(G)])] - E[log(1 - σ(D(G) - E[D(x)]))]: reals should look more real than the average fake.

    RaGAN (Jolicoeur-Martineau 2019, section 4.2), the loss of ESRGAN (Wang et al. 2018, eq. 1). The averages are over
    the global batch.

    Args:
        real_logits: Outputs for real images (N,).
        fake_logits: Outputs for generated images (M,).
    """
    mean_real, mean_fake = mean_over_processes(real_logits.mean()), mean_over_processes(fake_logits.mean())
    return F.softplus(mean_fake - real_logits).mean() + F.softplus(fake_logits - mean_real).mean()


def relativistic_average_g(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """`relativistic_average_d` with the parts exchanged (Wang et al. 2018, eq. 2)."""
    return relativistic_average_d(fake_logits, real_logits)


def pair_accuracy(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Share of pairs whose real looks more real, in [0, 1]: `d_accuracy` for a loss without a threshold."""
    return (real_logits > fake_logits).float().mean()


def d_accuracy(real_logits: Tensor, fake_logits: Tensor, threshold: float) -> Tensor:
    """Share of outputs on the right side of the threshold, reals and fakes weighing the same, in [0, 1]."""
    right_real = (real_logits > threshold).float().mean()
    right_fake = (fake_logits < threshold).float().mean()
    return 0.5 * (right_real + right_fake)
