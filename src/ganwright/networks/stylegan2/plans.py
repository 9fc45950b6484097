"""The sizes and choices of StyleGAN2's two networks, and how they follow from what NVIDIA's constructors were given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ganwright.errors import SettingsError, nearest
from ganwright.networks.stylegan2.resample import Taps

Repository = Literal["stylegan2-ada-pytorch", "stylegan3"]
"""Whose defaults apply: NVIDIA's two PyTorch releases of the same networks."""

GENERATORS = ("skip", "resnet", "orig")
"""How a generator's blocks join (Karras et al. 2020, figure 7): images summed up over resolutions, residual, plain."""
DISCRIMINATORS = ("resnet", "skip", "orig")
"""The same for discriminators."""


@dataclass(frozen=True)
class MappingPlan:
    """The network from z (and a class) to w.

    Attributes:
        layers: Number of fully connected layers.
        embed_features: Numbers of a class embedding; None: as many as w has.
        layer_features: Units of hidden layers; None: as many as w has.
        activation: A key of `layers.ACTIVATIONS`.
        lr_multiplier: Its weights learn by this factor more slowly.
        w_avg_beta: Share of the running mean of w that is kept at each update; None: no mean is kept.
    """

    layers: int = 8
    embed_features: int | None = None
    layer_features: int | None = None
    activation: str = "lrelu"
    lr_multiplier: float = 0.01
    w_avg_beta: float | None = 0.995


@dataclass(frozen=True)
class GeneratorPlan:
    """Mapping and synthesis network.

    Attributes:
        resolution: Height and width of images: a power of two from 4.
        channels: Of images.
        z_dim: Numbers in z; 0: none (w follows from the class alone).
        c_dim: Numbers in a label, which is one-hot for classes; 0: unconditional.
        w_dim: Numbers in w.
        architecture: One of `GENERATORS`.
        channel_base: Feature maps at resolution r are `channel_base` / r …
        channel_max: … but at most this many.
        half_blocks: Under autocast, the blocks of so many highest resolutions are computed in half precision.
        resample_filter: Low-pass filter of all resampling.
        conv_clamp: Outputs of convolutions are kept within ± this; None: not.
        kernel: Side of the kernels.
        use_noise: Whether there is per-pixel noise.
        activation: A key of `layers.ACTIVATIONS`.
        mapping: The mapping network.
        operations: "fast" or "reference": how layers are computed, with equal results.
    """

    resolution: int
    channels: int = 3
    z_dim: int = 512
    c_dim: int = 0
    w_dim: int = 512
    architecture: str = "skip"
    channel_base: int = 32768
    channel_max: int = 512
    half_blocks: int = 0
    resample_filter: Taps = (1, 3, 3, 1)
    conv_clamp: float | None = None
    kernel: int = 3
    use_noise: bool = True
    activation: str = "lrelu"
    mapping: MappingPlan = MappingPlan()
    operations: str = "fast"

    def __post_init__(self) -> None:
        check_resolution(self.resolution)
        check_name(self.architecture, GENERATORS, "architecture")

    def maps(self, resolution: int) -> int:
        """Feature maps at a resolution."""
        return min(self.channel_base // resolution, self.channel_max)

    @property
    def resolutions(self) -> list[int]:
        """Of the blocks, coarse to fine."""
        return [2**i for i in range(2, self.resolution.bit_length())]


@dataclass(frozen=True)
class DiscriminatorPlan:
    """The discriminator; attributes of the same name are those of `GeneratorPlan`.

    Attributes:
        architecture: One of `DISCRIMINATORS`.
        cmap_dim: Numbers a label is mapped to for the projection; None: as many as there are maps at 4x4.
        mbstd_group: Images over which minibatch standard deviation is taken; None: all.
        mbstd_channels: Maps it adds; 0: none.
        epilogue_activation: Activation of the last layers.
        mapping: The network that maps labels.
    """

    resolution: int
    channels: int = 3
    c_dim: int = 0
    architecture: str = "resnet"
    channel_base: int = 32768
    channel_max: int = 512
    half_blocks: int = 0
    resample_filter: Taps = (1, 3, 3, 1)
    conv_clamp: float | None = None
    cmap_dim: int | None = None
    activation: str = "lrelu"
    mbstd_group: int | None = 4
    mbstd_channels: int = 1
    epilogue_activation: str = "lrelu"
    mapping: MappingPlan = MappingPlan()
    operations: str = "fast"

    def __post_init__(self) -> None:
        check_resolution(self.resolution)
        check_name(self.architecture, DISCRIMINATORS, "architecture")

    def maps(self, resolution: int) -> int:
        """Feature maps at a resolution."""
        return min(self.channel_base // resolution, self.channel_max)

    @property
    def resolutions(self) -> list[int]:
        """Of the blocks before the last, fine to coarse."""
        return [2**i for i in range(self.resolution.bit_length() - 1, 2, -1)]


def check_resolution(resolution: int) -> None:
    """Refuse what is no power of two.

    Raises:
        SettingsError: With the nearest that are.
    """
    if resolution >= 4 and resolution & (resolution - 1) == 0:
        return
    below = 1 << max(2, resolution.bit_length() - 1)
    raise SettingsError(
        f"The network doubles its resolution from 4 pixels and cannot make images of {resolution}.",
        where="resolution",
        fix=f"set resolution to {below} or {2 * below} (a power of two)",
    )


def check_name(name: str, known: tuple[str, ...], where: str) -> None:
    """Refuse an unknown name.

    Raises:
        SettingsError: With the nearest known one.
    """
    if name not in known:
        raise SettingsError(f"There is no {where} '{name}'.{nearest(name, known)}", where=where, fix=", ".join(known))


# From NVIDIA's constructor arguments. -----------------------------------------------------------------------

_COMMON = {
    "img_resolution": "resolution",
    "img_channels": "channels",
    "c_dim": "c_dim",
    "architecture": "architecture",
    "channel_base": "channel_base",
    "channel_max": "channel_max",
    "num_fp16_res": "half_blocks",
    "resample_filter": "resample_filter",
    "conv_clamp": "conv_clamp",
    "activation": "activation",
}
_GENERATOR = {**_COMMON, "z_dim": "z_dim", "w_dim": "w_dim", "kernel_size": "kernel", "use_noise": "use_noise"}
_DISCRIMINATOR = {**_COMMON, "cmap_dim": "cmap_dim"}
_EPILOGUE = {
    "mbstd_group_size": "mbstd_group",
    "mbstd_num_channels": "mbstd_channels",
    "activation": "epilogue_activation",
}
_MAPPING = {
    "num_layers": "layers",
    "embed_features": "embed_features",
    "layer_features": "layer_features",
    "activation": "activation",
    "lr_multiplier": "lr_multiplier",
    "w_avg_beta": "w_avg_beta",
}
_WITHOUT_EFFECT = {"fp16_channels_last", "channels_last", "fused_modconv_default", "freeze_layers", "use_fp16"}
"""How NVIDIA's code computes or trains; weights and results are the same."""

_DEFAULTS: dict[str, dict[str, Any]] = {
    "stylegan2-ada-pytorch": {"mapping": {}},
    "stylegan3": {"conv_clamp": 256, "half_blocks": 4, "mapping": {"w_avg_beta": 0.998}},
}


def generator_plan(kwargs: Mapping[str, Any], repository: Repository) -> GeneratorPlan:
    """The plan of a `Generator` that one of NVIDIA's repositories built with these arguments.

    Args:
        kwargs: Constructor arguments, `mapping_kwargs` and `synthesis_kwargs` (stylegan2-ada-pytorch) nested.
        repository: Whose defaults stand for what is not given.

    Raises:
        SettingsError: An argument that StyleGAN2's generator does not have.
    """
    given = dict(kwargs)
    mapping = given.pop("mapping_kwargs", {})
    given.update(given.pop("synthesis_kwargs", {}))
    defaults = _DEFAULTS[repository]
    plan = MappingPlan(**{**defaults["mapping"], **_renamed(mapping, _MAPPING)})
    return GeneratorPlan(**{**defaults, **_renamed(given, _GENERATOR), "mapping": plan})


def discriminator_plan(kwargs: Mapping[str, Any], repository: Repository) -> DiscriminatorPlan:
    """The plan of a `Discriminator`; arguments are those of `generator_plan`.

    Raises:
        SettingsError: An argument that StyleGAN2's discriminator does not have.
    """
    given = dict(kwargs)
    mapping = MappingPlan(**_renamed(given.pop("mapping_kwargs", {}), _MAPPING))
    epilogue = _renamed(given.pop("epilogue_kwargs", {}), _EPILOGUE)
    given.update(given.pop("block_kwargs", {}))
    defaults = {k: v for k, v in _DEFAULTS[repository].items() if k != "mapping"}
    return DiscriminatorPlan(**{**defaults, **_renamed(given, _DISCRIMINATOR), **epilogue, "mapping": mapping})


def _renamed(given: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in given.items():
        if name in _WITHOUT_EFFECT:
            continue
        if name not in names:
            raise SettingsError(f"StyleGAN2 has no construction argument '{name}'.", where=name, fix=", ".join(names))
        found[names[name]] = tuple(value) if isinstance(value, list) else value
    return found
