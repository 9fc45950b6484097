"""Settings of StyleGAN2, what combinations of them make no sense, and the networks that follow from them.

What the settings do is in `stylegan2.py`, with the papers' values.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ganwright.augment import AugmentSettings
from ganwright.data.spec import DataSpec
from ganwright.errors import SettingsError
from ganwright.networks.stylegan2 import DiscriminatorPlan, GeneratorPlan, MappingPlan
from ganwright.networks.stylegan2.plans import check_resolution


@dataclass(frozen=True)
class StyleGAN2Settings(AugmentSettings):
    """Every knob of `StyleGAN2`."""

    # Networks
    z_dim: int = 512
    """Numbers in a latent vector z, standard normal."""
    w_dim: int = 512
    """Numbers in a style w."""
    mapping_layers: int = 8
    """Layers of the mapping network from z to w."""
    channel_base: int = 0
    """Feature maps at resolution r are this divided by r, at most `channel_max`; 0: 16384 below 512 pixels, 32768
    from there."""
    channel_max: int = 512
    """Feature maps of any layer, at most."""
    architecture_g: Literal["skip", "resnet", "orig"] = "skip"
    """Generator's blocks: images of all resolutions summed up, residual, or plain."""
    architecture_d: Literal["resnet", "skip", "orig"] = "resnet"
    """Discriminator's blocks: residual, seeing the image at all resolutions, or plain."""
    conv_clamp: float = 256.0
    """Outputs of convolutions are kept within ± this, so that half precision does not overflow; 0: not clamped."""
    half_blocks: int = 4
    """With precision fp16 or bf16: the blocks of so many highest resolutions use it, the others full precision."""
    mbstd_group: int = 4
    """Images over which the discriminator compares standard deviations; 0: all images of the process."""
    mbstd_channels: int = 1
    """Feature maps that this adds; 0: none."""
    use_noise: bool = True
    """Per-pixel noise in the generator."""
    w_avg_beta: float = 0.998
    """Share of the running mean of w that a step keeps (for truncation), in [0, 1)."""
    conditional: bool = False
    """Use class labels, in both networks."""

    # Objective
    r1_gamma: float | None = None
    """Weight γ of R1 (the penalty is γ/2 · ‖∇D‖² on reals): the setting to try first for new data. 0: without; None:
    0.0002 · resolution² / batch size."""
    r1_every: int = 16
    """Steps between R1's updates, whose weight is multiplied by as much."""
    pl_weight: float = 2.0
    """Weight of path length regularisation; 0: without."""
    pl_every: int = 4
    """Steps between updates by path length, whose weight is multiplied by as much."""
    pl_decay: float = 0.01
    """Share of the mean path length that is renewed at each of them, in (0, 1]."""
    pl_batch_shrink: int = 2
    """Path lengths are measured on a batch smaller by this."""
    style_mixing: float = 0.9
    """Probability that an image's later layers take the style of another latent, in training."""

    # Optimisation
    lr_g: float = 0.0
    """Learning rate of the generator, before it is corrected for lazy regularisation; 0: 0.0025, and 0.002 from 1024
    pixels."""
    lr_d: float = 0.0
    """Learning rate of the discriminator; 0: the same."""
    betas_g: tuple[float, float] = (0.0, 0.99)
    """Adam's β₁ and β₂ for the generator, before the correction."""
    betas_d: tuple[float, float] = (0.0, 0.99)
    """Adam's β₁ and β₂ for the discriminator, before the correction."""


def gamma(s: StyleGAN2Settings, resolution: int, batch_size: int) -> float:
    """γ of R1: as set, or NVIDIA's heuristic 0.0002 · resolution² / batch size (stylegan2-ada-pytorch, cfg auto)."""
    return 0.0002 * resolution**2 / batch_size if s.r1_gamma is None else s.r1_gamma


def learning_rate(lr: float, resolution: int) -> float:
    """As set, or NVIDIA's choice (cfg auto)."""
    return lr or (0.002 if resolution >= 1024 else 0.0025)


def network_plans(s: StyleGAN2Settings, data: DataSpec) -> tuple[GeneratorPlan, DiscriminatorPlan]:
    """Generator and discriminator for this data."""
    mapping = MappingPlan(layers=s.mapping_layers, w_avg_beta=s.w_avg_beta)
    base = s.channel_base or (32768 if data.resolution >= 512 else 16384)
    clamp, classes = s.conv_clamp or None, data.num_classes if s.conditional else 0
    generator = GeneratorPlan(
        data.resolution,
        data.channels,
        z_dim=s.z_dim,
        c_dim=classes,
        w_dim=s.w_dim,
        architecture=s.architecture_g,
        channel_base=base,
        channel_max=s.channel_max,
        half_blocks=s.half_blocks,
        conv_clamp=clamp,
        use_noise=s.use_noise,
        mapping=mapping,
    )
    discriminator = DiscriminatorPlan(
        data.resolution,
        data.channels,
        c_dim=classes,
        architecture=s.architecture_d,
        channel_base=base,
        channel_max=s.channel_max,
        half_blocks=s.half_blocks,
        conv_clamp=clamp,
        mbstd_group=s.mbstd_group or None,
        mbstd_channels=s.mbstd_channels,
        # NVIDIA's code passes --map-depth to the generator only; D's mapping of labels keeps eight layers.
        mapping=MappingPlan(),
    )
    return generator, discriminator


def check(s: StyleGAN2Settings, data: DataSpec) -> None:
    """Refuse settings that cannot work.

    Raises:
        SettingsError: With what is wrong, which setting it is, and what to set instead; the first one found.
    """
    if data.resolution < 8:
        raise SettingsError(
            f"Images have {data.resolution} pixels.", where="resolution", fix="set resolution to 8 or more"
        )
    check_resolution(data.resolution)
    for what, where, fix in _complaints(s, data):
        raise SettingsError(what, where=where, fix=fix)


_COUNTS = ("z_dim", "w_dim", "mapping_layers", "channel_max", "r1_every", "pl_every", "pl_batch_shrink")
_NOT_NEGATIVE = (
    "channel_base",
    "conv_clamp",
    "half_blocks",
    "mbstd_group",
    "mbstd_channels",
    "pl_weight",
    "lr_g",
    "lr_d",
)
_SHARES = ("w_avg_beta", "style_mixing", "pl_decay")


def _complaints(s: StyleGAN2Settings, data: DataSpec) -> Iterator[tuple[str, str, str]]:
    """(what, where, fix) of each thing wrong."""
    for name in _COUNTS:
        if getattr(s, name) < 1:
            yield f"{name} is {getattr(s, name)}; it counts something.", name, "give 1 or more"
    for name in _NOT_NEGATIVE:
        if not getattr(s, name) >= 0:
            yield f"{name} is {getattr(s, name)}; it cannot be negative.", name, "give 0 or more"
    for name in _SHARES:
        if not 0 <= getattr(s, name) <= 1:
            yield f"{name} is {getattr(s, name)}; it is a share.", name, "give 0 to 1"
    for name in ("betas_g", "betas_d"):
        if len(getattr(s, name)) != 2 or not all(0 <= beta < 1 for beta in getattr(s, name)):
            yield f"{name} is {getattr(s, name)}.", name, "give two numbers in [0, 1), such as 0 0.99"
    if s.r1_gamma is not None and not s.r1_gamma >= 0:
        yield f"r1_gamma is {s.r1_gamma}; it cannot be negative.", "r1_gamma", "give 0 or more, or leave it out"
    if data.channels not in (1, 3):
        yield f"Images have {data.channels} channels.", "channels", "use grey (1) or RGB (3) images"
    if s.conditional and not data.num_classes:
        yield (
            f"conditional is true, but the data '{data.name}' has no class labels.",
            "conditional",
            "put each class in a folder of its own, or set conditional to false",
        )
    base = s.channel_base or 16384
    coarsest = min(base // 4, s.channel_max)
    if s.mbstd_channels and coarsest % s.mbstd_channels:
        yield (
            f"The {coarsest} maps at 4x4 cannot be shared among {s.mbstd_channels} mbstd_channels.",
            "mbstd_channels",
            "set it to 1",
        )
    if base < data.resolution:
        yield (
            f"With channel_base {base} there is no feature map left at {data.resolution} pixels.",
            "channel_base",
            f"give {16 * data.resolution} or more, or 0",
        )
