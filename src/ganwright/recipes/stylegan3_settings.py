"""Settings of StyleGAN3, and the networks that follow from them. What they do is in `stylegan3.py`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ganwright.data.spec import DataSpec
from ganwright.errors import SettingsError
from ganwright.networks.stylegan2 import DiscriminatorPlan, MappingPlan
from ganwright.networks.stylegan3 import StyleGAN3Plan
from ganwright.recipes.stylegan2_settings import StyleGAN2Settings, network_plans


@dataclass(frozen=True)
class StyleGAN3Settings(StyleGAN2Settings):
    """Every knob of `StyleGAN3`, beside StyleGAN2's; the defaults are configuration T.

    StyleGAN3's generator has no per-pixel noise and no blocks: `use_noise` and `architecture_g` change nothing.
    `channel_base` counts otherwise here: a layer that holds frequencies up to f has `channel_base` / (2·f) maps.
    """

    mapping_layers: int = 2
    """Layers of the mapping network from z to w."""
    synthesis_layers: int = 14
    """Layers between the Fourier features and the one that makes the image."""
    critical_layers: int = 2
    """So many of them, at the end, keep all frequencies that their sampling rate holds."""
    first_cutoff: float = 2.0
    """Highest frequency of the first layer, in cycles per image."""
    first_stopband: float = 2**2.1
    """Frequency from which the first layer has nothing left."""
    last_stopband_rel: float = 2**0.3
    """The same of the last layer, relative to its highest frequency."""
    layer_margin: int = 10
    """Samples around the image that are computed and cut off at the end."""
    output_scale: float = 0.25
    """Factor on the image."""
    conv_kernel: int = 3
    """Side of the convolutions' kernels: 3 in configuration T, 1 in R."""
    filter_size: int = 6
    """Taps of a low-pass filter, for each factor of up- or downsampling."""
    lrelu_upsampling: int = 2
    """How many times as many samples there are at a leaky ReLU."""
    radial_filters: bool = False
    """Circularly symmetric filters, for equivariance to rotation: configuration R."""
    magnitude_beta: float = 0.5 ** (32 / 20_000)
    """Share of the running magnitude of a layer's inputs that a step keeps, in [0, 1); for a batch of B images
    0.5^(B / 20,000)."""
    channel_base_d: int = 0
    """Discriminator: `channel_base`; 0: that of the generator."""
    channel_max_d: int = 0
    """Discriminator: `channel_max`; 0: that of the generator."""
    blur_sigma: float = 0.0
    """Images the discriminator sees are blurred at first by so many pixels (configuration R: 10); 0: not."""
    blur_steps: int = 6250
    """Steps in which the blur fades to nothing."""
    pl_weight: float = 0.0
    """Weight of path length regularisation; StyleGAN3 does without."""
    style_mixing: float = 0.0
    """Probability of style mixing; StyleGAN3 does without."""
    lr_g: float = 0.0025
    """Learning rate of the generator."""
    lr_d: float = 0.002
    """Learning rate of the discriminator, before it is corrected for lazy regularisation."""


def generator_plan(s: StyleGAN3Settings, data: DataSpec) -> StyleGAN3Plan:
    """The generator for this data.

    Raises:
        SettingsError: A resolution that StyleGAN3 does not make, or more critical layers than layers.
    """
    plan, _ = network_plans(s, data)
    return StyleGAN3Plan(
        data.resolution,
        data.channels,
        z_dim=s.z_dim,
        c_dim=plan.c_dim,
        w_dim=s.w_dim,
        channel_base=plan.channel_base,
        channel_max=s.channel_max,
        layers=s.synthesis_layers,
        critical=s.critical_layers,
        first_cutoff=s.first_cutoff,
        first_stopband=s.first_stopband,
        last_stopband_rel=s.last_stopband_rel,
        margin=s.layer_margin,
        output_scale=s.output_scale,
        half_blocks=s.half_blocks,
        kernel=s.conv_kernel,
        filter_size=s.filter_size,
        lrelu_upsampling=s.lrelu_upsampling,
        radial_filters=s.radial_filters,
        conv_clamp=s.conv_clamp or None,
        magnitude_beta=s.magnitude_beta,
        mapping=MappingPlan(layers=s.mapping_layers, w_avg_beta=s.w_avg_beta),
    )


def discriminator_plan(s: StyleGAN3Settings, data: DataSpec) -> DiscriminatorPlan:
    """The discriminator for this data: StyleGAN2's."""
    base, most = s.channel_base_d or s.channel_base, s.channel_max_d or s.channel_max
    return network_plans(replace(s, channel_base=base, channel_max=most), data)[1]


_COUNTS = ("synthesis_layers", "conv_kernel", "filter_size", "lrelu_upsampling", "blur_steps")
_POSITIVE = ("first_cutoff", "first_stopband", "last_stopband_rel", "output_scale")
_NOT_NEGATIVE = ("critical_layers", "layer_margin", "channel_base_d", "channel_max_d", "blur_sigma")


def check_stylegan3(s: StyleGAN3Settings) -> None:
    """Refuse settings that cannot work; those of StyleGAN2 are checked by its own `check`.

    Raises:
        SettingsError: The first one found.
    """
    rules: tuple[tuple[tuple[str, ...], Callable[[float], bool], str], ...] = (
        (_COUNTS, lambda v: v >= 1, "1 or more"),
        (_POSITIVE, lambda v: v > 0, "more than 0"),
        (_NOT_NEGATIVE, lambda v: v >= 0, "0 or more"),
        (("magnitude_beta",), lambda v: 0 <= v < 1, "a number in [0, 1)"),
    )
    for names, allowed, wanted in rules:
        for name in names:
            if not allowed(getattr(s, name)):
                raise SettingsError(f"{name} is {getattr(s, name)}.", where=name, fix=f"give {wanted}")
    if s.conv_kernel % 2 == 0:
        raise SettingsError(f"conv_kernel is {s.conv_kernel}.", where="conv_kernel", fix="give an odd number")
