"""Settings of the image GAN family, and what combinations of them make no sense.

What the settings do is in `image_gan.py`; the papers' values are in `presets.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

from ganwright.augment import AugmentSettings
from ganwright.data.spec import DataSpec
from ganwright.errors import SettingsError, nearest
from ganwright.losses import LOSSES
from ganwright.networks.conditional import RESOLUTIONS

T = TypeVar("T")


@dataclass(frozen=True)
class ImageGANSettings(AugmentSettings):
    """Every knob of `ImageGAN`. Architecture, loss, penalty, conditioning and norms combine freely."""

    # Networks
    architecture: Literal["mlp", "dcgan", "resnet"] = "dcgan"
    """Kind of both networks: fully connected, convolutional, or residual."""
    latent_dim: int = 100
    """Numbers in a latent vector, standard normal."""
    width_g: int = 64
    """Generator: feature maps at half the image's resolution (dcgan), at full resolution (resnet), or units
    of a hidden layer (mlp)."""
    width_d: int = 64
    """Discriminator: the same, seen from the image."""
    growth: int = 8
    """Feature maps double with each halving of the resolution, to this many times the width at most."""
    depth: int = 1
    """Convolutions (dcgan) or residual blocks (resnet) a resolution; hidden layers (mlp). At least 1."""
    pooling: Literal["sum", "mean"] = "sum"
    """How a resnet discriminator pools over positions."""
    norm_g: Literal["none", "batch", "instance"] = "batch"
    """Norm in the generator."""
    norm_d: Literal["none", "batch", "instance"] = "batch"
    """Norm in the discriminator; `none` with any gradient penalty."""
    spectral_g: bool = False
    """Spectral norm on the generator's weights, beside `norm_g`."""
    spectral_d: bool = False
    """Spectral norm on the discriminator's weights."""
    init: Literal["normal", "xavier", "he", "orthogonal", "torch"] = "normal"
    """How weights are drawn: N(0, 0.02²), Xavier uniform, He uniform, orthogonal, or torch's own way."""

    # Objective
    loss: Literal["minimax", "non-saturating", "least-squares", "wasserstein", "hinge"] = "non-saturating"
    """Adversarial loss."""
    penalty: Literal["none", "clip", "gradient", "r1", "r2"] = "none"
    """What keeps the discriminator smooth: weight clipping, WGAN-GP's gradient penalty, or a zero-centred
    penalty on real (r1) or generated (r2) images."""
    penalty_weight: float = 10.0
    """Weight of the penalty: λ of `gradient`, γ of `r1` and `r2`."""
    penalty_every: int = 1
    """Discriminator steps between penalties, whose weight is multiplied by as much (lazy regularisation)."""
    clip: float = 0.01
    """`penalty clip`: weights are kept in [-clip, clip]."""

    # Classes
    conditioning: Literal["none", "concat", "projection", "auxiliary"] = "none"
    """How the discriminator uses labels: not at all, as extra input, by projection, or it must name them."""
    conditioning_g: Literal["latent", "norm"] = "latent"
    """How the generator does, if `conditioning` is not none: an embedding joined to the latent vector, or
    gains and biases of its norms."""
    class_embedding: int = 32
    """`conditioning_g latent`: numbers in a class embedding."""
    auxiliary_weight: float = 1.0
    """`conditioning auxiliary`: weight of the classification loss."""

    # Regularisation
    label_smoothing: float = 0.0
    """One-sided label smoothing: reals' target is 1 minus this, in [0, 0.5]."""
    instance_noise: float = 0.0
    """Standard deviation of normal noise added to all images D sees, falling linearly to 0 over the run
    (images are in [-1, 1])."""
    dropout_d: float = 0.0
    """Share of units dropped after each activation of the discriminator, in [0, 1)."""

    # Optimisation
    optimizer: Literal["adam", "rmsprop"] = "adam"
    """Optimiser of both networks."""
    lr_g: float = 2e-4
    """Learning rate of the generator."""
    lr_d: float = 2e-4
    """Learning rate of the discriminator."""
    betas_g: tuple[float, float] = (0.5, 0.999)
    """Adam's β₁ and β₂ for the generator."""
    betas_d: tuple[float, float] = (0.5, 0.999)
    """Adam's β₁ and β₂ for the discriminator."""
    d_steps: int = 1
    """Discriminator steps a generator step, each on a fresh batch."""
    share_fakes: bool = False
    """The generator's step uses the images of the last discriminator step instead of new ones: faster by one
    generator pass (DCGAN's released code does so)."""

    @property
    def conditional(self) -> bool:
        """Whether labels are used."""
        return self.conditioning != "none"

    @property
    def gradient_penalty(self) -> bool:
        """Whether there is a penalty on D's gradient with respect to images."""
        return self.penalty in ("gradient", "r1", "r2")


def check(s: ImageGANSettings, data: DataSpec) -> None:
    """Refuse settings that cannot work.

    Raises:
        SettingsError: With what is wrong, which setting it is, and what to set instead; the first one found.
    """
    for what, where, fix in _complaints(s, data):
        raise SettingsError(what, where=where, fix=fix)


def choose(table: Mapping[str, T], name: str, setting: str) -> T:
    """The entry of a table that a setting names.

    Raises:
        SettingsError: There is no such name; the nearest one is suggested.
    """
    if name not in table:
        raise SettingsError(
            f"There is no {setting} '{name}'.{nearest(name, table)}",
            where=setting,
            fix="one of " + ", ".join(table),
        )
    return table[name]


def nearest_resolutions(resolution: int) -> tuple[int, ...]:
    """The possible resolutions just below and just above."""
    below = [r for r in RESOLUTIONS if r < resolution][-1:]
    above = [r for r in RESOLUTIONS if r > resolution][:1]
    return (*below, *above)


def _complaints(s: ImageGANSettings, data: DataSpec) -> Iterator[tuple[str, str, str]]:
    """(what, where, fix) of each thing wrong."""
    for name in ("latent_dim", "width_g", "width_d", "growth", "depth", "d_steps", "penalty_every"):
        if getattr(s, name) < 1:
            yield f"{name} is {getattr(s, name)}; it counts something.", name, "give 1 or more"
    for name in ("lr_g", "lr_d", "clip", "penalty_weight", "instance_noise", "auxiliary_weight"):
        if not getattr(s, name) >= 0:
            yield f"{name} is {getattr(s, name)}; it cannot be negative.", name, "give 0 or more"
    for name in ("betas_g", "betas_d"):
        if len(getattr(s, name)) != 2 or not all(0 <= beta < 1 for beta in getattr(s, name)):
            yield f"{name} is {getattr(s, name)}.", name, "give two numbers in [0, 1), such as 0.5 0.999"
    if not 0 <= s.dropout_d < 1:
        yield f"dropout_d is {s.dropout_d}.", "dropout_d", "give a share in [0, 1)"
    if not 0 <= s.label_smoothing <= 0.5:
        yield f"label_smoothing is {s.label_smoothing}.", "label_smoothing", "give 0 to 0.5; 0.1 is usual"

    if data.channels not in (1, 3):
        yield f"Images have {data.channels} channels.", "channels", "use grey (1) or RGB (3) images"
    if s.architecture != "mlp" and data.resolution not in RESOLUTIONS:
        possible = " or ".join(map(str, nearest_resolutions(data.resolution)))
        yield (
            f"A {s.architecture} network cannot make images of {data.resolution} pixels.",
            "resolution",
            f"set resolution to {possible} (possible: 16 to 256, as 4, 5, 6 or 7 times a power of two), "
            "or architecture to mlp",
        )
    if s.conditional and not data.num_classes:
        yield (
            f"conditioning is '{s.conditioning}', but the data '{data.name}' has no class labels.",
            "conditioning",
            "put each class in a folder of its own, or set conditioning to none (or use the recipe dcgan)",
        )

    if s.label_smoothing and s.loss in LOSSES and not LOSSES[s.loss].smoothable:
        smoothable = ", ".join(name for name, loss in LOSSES.items() if loss.smoothable)
        yield (
            f"Label smoothing is not defined for the {s.loss} loss, which has no target.",
            "label_smoothing",
            f"set it to 0, or loss to one of {smoothable}",
        )
    if s.augment == "ada" and s.ada_target and s.loss in LOSSES and LOSSES[s.loss].threshold is None:
        yield (
            f"ADA adapts by the sign of the discriminator's output, and with the {s.loss} loss only differences count.",
            "ada_target",
            "set ada_target to 0 and augment_p to a fixed probability, such as 0.3, or augment to diffaugment",
        )
    if s.gradient_penalty and s.norm_d == "batch":
        yield (
            f"The penalty '{s.penalty}' is on each image's own gradient; with batch norm in the "
            "discriminator, outputs depend on the other images too (Gulrajani et al. 2017, section 4).",
            "norm_d",
            "set norm_d to none or instance",
        )
    if s.spectral_d and s.norm_d == "batch":
        yield (
            "Batch norm divides by the standard deviation and so undoes the bound that spectral norm sets.",
            "norm_d",
            "set norm_d to none, or spectral_d to false",
        )
    if s.spectral_d and s.penalty == "clip":
        yield (
            "Clipping weights that spectral norm rescales afterwards has no effect on the discriminator.",
            "penalty",
            "set penalty to none, or spectral_d to false",
        )
    if s.architecture == "mlp" and "instance" in (s.norm_g, s.norm_d):
        yield (
            "An mlp has no positions to take instance norm over.",
            "norm_g, norm_d",
            "set them to batch or none",
        )
    if s.conditional and s.conditioning_g == "norm" and s.norm_g == "none":
        yield (
            "The classes are to enter the generator through its norms, and it has none.",
            "conditioning_g",
            "set norm_g to batch or instance, or conditioning_g to latent",
        )
    if s.conditional and s.conditioning_g == "latent" and s.class_embedding < 1:
        yield f"class_embedding is {s.class_embedding}.", "class_embedding", "give 1 or more; 32 is usual"
