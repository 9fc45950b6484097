"""SRGAN and ESRGAN: pictures enlarged two or four times, by pixels first and then against a discriminator.

Ledig et al. 2017, "Photo-realistic single image super-resolution using a generative adversarial network"; Wang et al.
2018, "ESRGAN: enhanced super-resolution generative adversarial networks". Published results are the papers' own, and
none was measured here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from ganwright.data.spec import DataKind, DataSpec
from ganwright.degrade import Draws, downsample, upsample
from ganwright.degrade.superres import whole
from ganwright.errors import SettingsError
from ganwright.networks.rrdb import RRDBNet
from ganwright.networks.srresnet import MSRResNet, SRResNet
from ganwright.recipes.registry import RecipeInfo
from ganwright.recipes.restoration import Damaged, RestorationSettings, Restorer


@dataclass(frozen=True)
class SRGANSettings(RestorationSettings):
    """Every knob of `SRGAN`."""

    upscale: Literal[1, 2, 3, 4, 8] = 4
    """How many times as large pictures become; training images are made as many times smaller, by bicubic filtering."""
    network: Literal["srresnet", "rrdb", "msrresnet"] = "srresnet"
    """G: SRGAN's; ESRGAN's; or SRGAN's without norms, as BasicSR publishes it."""
    width_g: int = 64
    """G's feature maps."""
    blocks: int = 16
    """G's residual blocks (RRDBs)."""
    growth: int = 32
    """rrdb: maps that each dense convolution adds."""
    upsamplings: int = 2
    """rrdb: doublings inside; other than 2 in some old weights only."""
    trunk: Literal["norm", "prelu"] = "norm"
    """srresnet: what follows the blocks; prelu in some published weights."""
    final: Literal["linear", "tanh"] = "linear"
    """srresnet: G's end."""
    input_bits: Literal["none", "8", "16"] = "8"
    """Reduced pictures are clipped and rounded as a file of so many bits would; none: they stay as they are."""


class SRGAN(Restorer):
    """Super-resolution of images; see `SRGANSettings`.

    Args:
        data: Images, whose size is a multiple of the enlargement.
        settings: How to train.

    Raises:
        SettingsError: The settings do not fit the data or each other.
    """

    Settings = SRGANSettings
    accepts: ClassVar[frozenset[DataKind]] = frozenset({DataKind.IMAGES})

    def __init__(self, data: DataSpec, settings: SRGANSettings) -> None:
        if data.resolution % settings.upscale:
            raise SettingsError(
                f"Images of {data.resolution} pixels cannot be made {settings.upscale} times smaller.",
                where="resolution",
                fix=f"choose a multiple of {settings.upscale}",
            )
        super().__init__(data, settings, make_generator(settings, data.channels), data.channels)
        self.settings: SRGANSettings = settings
        self.scale = settings.upscale

    def damaged(self, batch: Mapping[str, Tensor], draws: Draws) -> Damaged:
        """Images and their bicubic reductions; nothing is drawn."""
        bits = 0 if self.settings.input_bits == "none" else int(self.settings.input_bits)
        clean = whole(batch["images"], self.scale)
        return Damaged(downsample(clean, self.scale, bits=bits), clean)

    def restore(self, inputs: Tensor, strength: Tensor | None = None) -> Tensor:
        """Enlarged, not clipped."""
        y: Tensor = self.generator(inputs)
        return y

    def baselines(self, inputs: Tensor) -> Mapping[str, Tensor]:
        """`bicubic` enlargement."""
        return {"bicubic": upsample(inputs, self.scale)}


SCALES = {"srresnet": (2, 4, 8), "msrresnet": (2, 3, 4, 8), "rrdb": (1, 2, 4, 8)}
"""What each network can enlarge; rrdb at 8 has `upsamplings` 3."""


def make_generator(s: SRGANSettings, channels: int) -> nn.Module:
    """G as the settings say.

    Raises:
        SettingsError: The network cannot enlarge so many times.
    """
    if s.upscale not in SCALES[s.network]:
        raise SettingsError(
            f"{s.network} cannot enlarge {s.upscale} times.",
            where="upscale",
            fix="choose " + ", ".join(map(str, SCALES[s.network])),
        )
    if s.network == "srresnet":
        return SRResNet(channels, s.upscale, s.width_g, s.blocks, s.trunk, s.final)
    if s.network == "msrresnet":
        return MSRResNet(channels, s.upscale, s.width_g, s.blocks)
    try:
        return RRDBNet(channels, s.upscale, s.width_g, s.blocks, s.growth, s.upsamplings)
    except ValueError as error:
        raise SettingsError(f"{str(error).capitalize()}.", where="upsamplings", fix="set it to 2") from error


# Ledig et al. 2017, section 3: 16 blocks of 64 maps, Adam (0.9, 0.999), 96x96 crops, batch 16; 10⁶ steps of MSE at
# 1e-4, then 10⁵ at 1e-4 and 10⁵ at 1e-5 against D, with 10⁻³ times its loss. Here the second stage keeps one rate.
# The paper's content loss is the MSE of VGG-19's features alone; EfficientNet-Lite0's, which stand for them, begin at a
# quarter of the size and leave single pixels free, so the pixels' MSE stays in.
# Published (×4, PSNR in dB / SSIM): Set5 SRGAN 29.40 / 0.8472, SRResNet 32.05 / 0.9019, bicubic 28.43 / 0.8211;
# Set14 26.02 / 0.7397, 28.49 / 0.8184, 25.99 / 0.7486; BSD100 25.16 / 0.6688, 27.58 / 0.7620, 25.94 / 0.6935. Mean
# opinion of 26 raters on BSD100: SRGAN 3.56, SRResNet 2.29, bicubic 1.47, original 4.46 (table 2).
SRGAN_PRESET = SRGANSettings(pretrain_share=5 / 6, perceptual_weight=0.1)

# Wang et al. 2018, section 4.1: 23 RRDBs, L1 at 2e-4 for 10⁶ steps, then perceptual + 5·10⁻³ adversarial + 10⁻² L1 at
# 1e-4 for 4·10⁵ steps (both rates are halved on the way; here they stay), Adam (0.9, 0.999), 128x128 crops, batch 16.
# Published: perceptual index 2.040 at RMSE 15.15 in the PIRM-SR challenge 2018 (region 3, first place); of the
# PSNR-trained RRDBNet (×4, Y): Set5 32.73 dB / 0.9011, Set14 28.99 / 0.7917, BSD100 27.85 / 0.7455 (table 2).
ESRGAN_PRESET = SRGANSettings(
    network="rrdb",
    blocks=23,
    pretrain_share=5 / 7,
    pretrain_loss="l1",
    pixel_loss="l1",
    pixel_weight=1e-2,
    perceptual_weight=1.0,
    adversarial_weight=5e-3,
    loss="relativistic-average",
    lr_pretrain=2e-4,
)

_CROPS = {"crop": "random", "batch_size": 16, "eval_samples": 100, "flip": True}

RECIPES = [
    RecipeInfo(
        "srgan",
        SRGAN,
        SRGAN_PRESET,
        "Ledig et al., Photo-Realistic Single Image Super-Resolution Using a GAN, CVPR 2017, arXiv:1609.04802",
        "Enlarge pictures two or four times.",
        {"resolution": 96, "steps": 1_200_000, **_CROPS},
    ),
    RecipeInfo(
        "esrgan",
        SRGAN,
        ESRGAN_PRESET,
        "Wang et al., ESRGAN: Enhanced Super-Resolution GANs, ECCV Workshops 2018, arXiv:1809.00219",
        "Enlarge pictures, with more detail and more computation.",
        {"resolution": 128, "steps": 1_400_000, **_CROPS},
    ),
]
