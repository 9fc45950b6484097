"""The sizes and choices of StyleGAN3's generator, and the frequencies of its layers that follow from them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ganwright.errors import SettingsError
from ganwright.networks.stylegan2.plans import MappingPlan


@dataclass(frozen=True)
class LayerPlan:
    """One layer's signal (Karras et al. 2021, appendix C): frequencies are in cycles per image.

    Attributes:
        channels: Feature maps it gives.
        size: Height and width of them, with margins.
        sampling_rate: s: samples across the image, without margins.
        cutoff: f_c.
        half_width: f_h, half the width of the transition band.
    """

    channels: int
    size: int
    sampling_rate: int
    cutoff: float
    half_width: float


@dataclass(frozen=True)
class StyleGAN3Plan:
    """Mapping and synthesis network.

    Attributes:
        resolution: Height and width of images: a power of two from 16.
        channels: Of images.
        z_dim: Numbers in z.
        c_dim: Numbers in a label, which is one-hot for classes; 0: unconditional.
        w_dim: Numbers in w.
        channel_base: A layer of cutoff f_c has `channel_base` / (2·f_c) feature maps …
        channel_max: … but at most this many.
        layers: Layers between the Fourier features and the last one, which makes the image.
        critical: So many of them, at the end, are sampled critically (their filters cut at half the sampling rate).
        first_cutoff: f_c of the first layer.
        first_stopband: f_t of the first layer.
        last_stopband_rel: f_t of the last layer, relative to its cutoff.
        margin: Samples around the image that are computed and cut off at the end.
        output_scale: Factor on the image.
        half_blocks: Under autocast, layers at the so many highest resolutions are computed in half precision.
        kernel: Side of the convolutions' kernels: 3 in configuration t, 1 in r.
        filter_size: Taps of a filter, for each factor of up- or downsampling.
        lrelu_upsampling: How many times as many samples there are at a leaky ReLU.
        radial_filters: Circularly symmetric filters before downsampling: configuration r.
        conv_clamp: Values are kept within ± this after a leaky ReLU; None: not.
        magnitude_beta: Share of a layer's running input magnitude that is kept at each update.
        mapping: The mapping network.
        operations: "fast" or "reference": how layers are computed, with equal results.
    """

    resolution: int
    channels: int = 3
    z_dim: int = 512
    c_dim: int = 0
    w_dim: int = 512
    channel_base: int = 32768
    channel_max: int = 512
    layers: int = 14
    critical: int = 2
    first_cutoff: float = 2.0
    first_stopband: float = 2**2.1
    last_stopband_rel: float = 2**0.3
    margin: int = 10
    output_scale: float = 0.25
    half_blocks: int = 4
    kernel: int = 3
    filter_size: int = 6
    lrelu_upsampling: int = 2
    radial_filters: bool = False
    conv_clamp: float | None = 256.0
    magnitude_beta: float = 0.999
    mapping: MappingPlan = field(default_factory=lambda: MappingPlan(layers=2, w_avg_beta=0.998))
    operations: str = "fast"

    def __post_init__(self) -> None:
        if self.resolution < 16 or self.resolution & (self.resolution - 1):
            raise SettingsError(
                f"StyleGAN3 cannot make images of {self.resolution} pixels.",
                where="resolution",
                fix="set resolution to a power of two from 16",
            )
        if not 0 <= self.critical < self.layers:
            raise SettingsError(
                f"{self.critical} of {self.layers} layers cannot be sampled critically.",
                where="critical",
                fix="give fewer",
            )

    def signals(self) -> list[LayerPlan]:
        """Of the Fourier features' layer 0 to the image's layer `layers`: cutoffs and stopbands grow geometrically
        (Karras et al. 2021, section 3.2 and figure 4a).
        """
        last_cutoff = self.resolution / 2
        last_stopband = last_cutoff * self.last_stopband_rel
        found = []
        for i in range(self.layers + 1):
            share = min(i / (self.layers - self.critical), 1.0)
            cutoff = self.first_cutoff * (last_cutoff / self.first_cutoff) ** share
            stopband = self.first_stopband * (last_stopband / self.first_stopband) ** share
            rate = 2 ** math.ceil(math.log2(min(2 * stopband, self.resolution)))
            found.append(
                LayerPlan(
                    channels=self.channels
                    if i == self.layers
                    else round(min(self.channel_base / 2 / cutoff, self.channel_max)),
                    size=self.resolution if i >= self.layers - 1 else rate + 2 * self.margin,
                    sampling_rate=rate,
                    cutoff=cutoff,
                    half_width=max(stopband, rate / 2) - cutoff,
                )
            )
        return found


_ARGUMENTS = {
    "img_resolution": "resolution",
    "img_channels": "channels",
    "z_dim": "z_dim",
    "c_dim": "c_dim",
    "w_dim": "w_dim",
    "channel_base": "channel_base",
    "channel_max": "channel_max",
    "num_layers": "layers",
    "num_critical": "critical",
    "first_cutoff": "first_cutoff",
    "first_stopband": "first_stopband",
    "last_stopband_rel": "last_stopband_rel",
    "margin_size": "margin",
    "output_scale": "output_scale",
    "num_fp16_res": "half_blocks",
    "conv_kernel": "kernel",
    "filter_size": "filter_size",
    "lrelu_upsampling": "lrelu_upsampling",
    "use_radial_filters": "radial_filters",
    "conv_clamp": "conv_clamp",
    "magnitude_ema_beta": "magnitude_beta",
}
_MAPPING_ARGUMENTS = {"num_layers": "layers", "lr_multiplier": "lr_multiplier", "w_avg_beta": "w_avg_beta"}


def stylegan3_plan(kwargs: Mapping[str, Any]) -> StyleGAN3Plan:
    """The plan of a `Generator` that NVIDIA's stylegan3 repository built with these arguments.

    Raises:
        SettingsError: An argument that StyleGAN3's generator does not have.
    """
    given = dict(kwargs)
    mapping = {"layers": 2, "w_avg_beta": 0.998, **_renamed(given.pop("mapping_kwargs", {}), _MAPPING_ARGUMENTS)}
    return StyleGAN3Plan(**_renamed(given, _ARGUMENTS), mapping=MappingPlan(**mapping))


def _renamed(given: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    for name in given:
        if name not in names:
            raise SettingsError(f"StyleGAN3 has no construction argument '{name}'.", where=name, fix=", ".join(names))
    return {names[name]: value for name, value in given.items()}
