"""Deep Image Prior (Ulyanov, Vedaldi & Lempitsky 2018, arXiv:1711.10925): a network is fitted to one damaged picture,
from a fixed code of noise, and its structure alone prefers the picture to the damage. No data set is needed.

    minimise over theta   | A f_theta(z + noise) - x0 |²   over the pixels that are known

A shrinks (upscale) or is the identity. When to stop is found in `early_stopping.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ganwright.data.spec import Batch, DataKind, DataSpec
from ganwright.errors import SettingsError, nearest
from ganwright.networks.blocks import mean_over_processes
from ganwright.networks.downsample import FILTERS, Downsample
from ganwright.networks.skip import PLANS, SkipNetwork, scales_for
from ganwright.recipes.base import Recipe, SampleRequest, StepContext
from ganwright.recipes.early_stopping import BestSoFar, MovingVariance, held_out_pixels, hole_size
from ganwright.recipes.registry import RecipeInfo
from ganwright.samples import ImageSamples

CODE_SCALE = 0.1
"""The code is uniform in [0, 0.1)."""
SMALLEST_SIDE = 8


@dataclass(frozen=True)
class DeepImagePriorSettings:
    """What is to be restored, by which network, and when it stops."""

    task: Literal["denoise", "inpaint", "upscale", "deblock"] = "denoise"
    """denoise; inpaint (fill in what --mask leaves out); upscale by --factor; deblock (JPEG artefacts)."""
    factor: int = 4
    """upscale: how many times larger, a whole number from 2."""
    downsampler: str = "lanczos2"
    """upscale: how the small picture is said to come from the large one: lanczos2, lanczos3, bicubic."""
    network: str = "official"
    """official (2.2 million weights), half, small (for CPUs), wide-skip, hourglass (large holes)."""
    code_noise: float = 1 / 30
    """Standard deviation of the noise added to the code at each step (the code itself: uniform in [0, 0.1))."""
    lr: float = 0.01
    """Learning rate of Adam."""
    averaging: float = 0.99
    """Share of the averaged output that stays at each step, in [0, 1)."""
    stopping: Literal["held-out", "variance", "none"] = "held-out"
    """held-out: by the error on pixels that are not fitted; variance: by the output's moving variance (Wang et al.
    2021); none: at the last step."""
    held_out_pixels: float = 0.03
    """held-out: share of the known pixels, in (0, 0.5]."""
    held_out_side: int = 0
    """held-out: they are squares of so many pixels; 0: 1 to denoise and to upscale, 4 to deblock (half a block: what
    JPEG does to a pixel can be told from its neighbours), as wide as the holes to inpaint."""
    patience: int = 400
    """Steps without progress after which it stops; 0: never before the last step."""
    patience_share: float = 0.4
    """…and at least this share of the steps after which the last progress was made."""


class DeepImagePrior(Recipe):
    """Fits a skip network to one picture; samples are the best restoration so far.

    Everything in here is in [0, 1], as in the paper. Of a batch only the first row is used: all are the same picture.
    """

    Settings: ClassVar[type[Any]] = DeepImagePriorSettings
    accepts: ClassVar[frozenset[DataKind]] = frozenset({DataKind.SINGLE_IMAGE})
    ema_networks: ClassVar[tuple[str, ...]] = ()

    seed: Tensor
    x0: Tensor
    known: Tensor

    def __init__(self, data: DataSpec, settings: DeepImagePriorSettings) -> None:
        super().__init__(data, settings)
        _check(settings, data)
        self.factor = settings.factor if settings.task == "upscale" else 1
        h, w = data.extra["height"] * self.factor, data.extra["width"] * self.factor
        plan = replace(PLANS[settings.network], channels_out=data.channels).at_most(scales_for(h, w))
        self.network = SkipNetwork(plan)
        self.downsample = Downsample(self.factor, settings.downsampler)
        shape = (data.channels, h, w)
        self.best = BestSoFar(shape, settings.averaging, settings.patience, settings.patience_share)
        self.variance = MovingVariance(shape) if settings.stopping == "variance" else None
        if settings.task == "inpaint":
            self.register_buffer("x0", torch.zeros(1, *shape))
            self.register_buffer("known", torch.zeros(1, 1, h, w, dtype=torch.bool))
        # Code and held-out pixels follow from this number, so that checkpoints need not hold them.
        self.register_buffer("seed", torch.randint(1 << 62, ()))
        self._fixed: tuple[int, Tensor, Tensor] | None = None

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Adam with PyTorch's betas."""
        return {"network": torch.optim.Adam(self.network.parameters(), lr=self.settings.lr)}

    def step(self, batch: Batch, ctx: StepContext) -> dict[str, Tensor]:
        """One step of the fit.

        Returns:
            `loss_fit` (mean squared error on fitted pixels), `held_out` (on held-out ones, of the averaged output) or
            `variance`, and `best_step`.
        """
        s = self.settings
        x0, known = picture_and_known(batch)
        code, held_out = self._code_and_held_out(known)
        z = code + s.code_noise * ctx.normal(*code.shape) if s.code_noise > 0 else code
        output = self.network(z.contiguous(memory_format=torch.channels_last)).float()
        loss = masked_error(self.downsample(output), x0, known & ~held_out)
        ctx.minimise(loss, "network")

        output = mean_over_processes(output.detach())
        average = self.best.add(output)
        if s.task == "inpaint":
            self.x0.copy_(x0)
            self.known.copy_(known)
        log = {"loss_fit": loss.detach()}
        if s.stopping == "held-out":
            log["held_out"] = masked_error(self.downsample(average), x0, held_out)
            self.best.judge(log["held_out"], average)
        elif self.variance is not None:
            log["variance"] = self.variance.add(output)
            self.best.judge(log["variance"], average)
        else:
            self.best.keep(average)
        return {**log, "best_step": self.best.best_step.float()}

    def finished(self) -> str:
        """Patience is at an end."""
        waited = self.best.waited()
        what = "the error on held-out pixels" if self.settings.stopping == "held-out" else "the output's variance"
        return f"{what} was lowest at step {int(self.best.best_step)}, {waited} steps ago" if waited else ""

    def estimate(self) -> Tensor:
        """The network's best averaged output so far, float32 (1, C, H, W) in [0, 1]."""
        return self.best.best if int(self.best.best_step) else self.best.average

    def restored(self) -> Tensor:
        """The best so far, float32 (1, C, H, W) in [0, 1]: the estimate; of a masked picture only in the holes."""
        estimate = self.estimate()
        return torch.where(self.known, self.x0, estimate) if self.settings.task == "inpaint" else estimate

    def sample(self, request: SampleRequest) -> ImageSamples:
        """The best restoration so far; there is only one, whatever n is."""
        return ImageSamples.from_tensor(self.restored() * 2 - 1)

    def evaluate(self, seed: int) -> dict[str, float]:
        """The step that was best, and the PSNR on held-out pixels then (the damage is part of it)."""
        found = {"best_step": float(self.best.best_step)}
        if self.settings.stopping == "held-out" and found["best_step"]:
            found["held_out_psnr"] = float(-10 * torch.log10(self.best.best_value))
        return found

    def held_out(self, known: Tensor) -> Tensor:
        """The pixels that are not fitted, bool (1, 1, h, w), of a picture of which those of `known` are known."""
        return self._code_and_held_out(known)[1]

    def _code_and_held_out(self, known: Tensor) -> tuple[Tensor, Tensor]:
        """The code z (1, D, H, W) and the held-out pixels (1, 1, h, w), made once."""
        seed = int(self.seed)
        if self._fixed is None or self._fixed[0] != seed:
            s = self.settings
            generator = torch.Generator().manual_seed(seed)
            h, w = known.shape[2] * self.factor, known.shape[3] * self.factor
            code = CODE_SCALE * torch.rand(1, self.network.plan.channels_in, h, w, generator=generator)
            mask = known[0, 0].cpu()
            if s.stopping == "held-out":
                side = s.held_out_side or {"deblock": 4, "inpaint": hole_size(mask)}.get(s.task, 1)
                held_out = held_out_pixels(
                    mask, s.held_out_pixels, side, lambda shape: torch.rand(shape, generator=generator)
                )
            else:
                held_out = torch.zeros_like(mask)
            self._fixed = (seed, code.to(self.device), held_out.to(self.device)[None, None])
        return self._fixed[1], self._fixed[2]


def picture_and_known(batch: Batch) -> tuple[Tensor, Tensor]:
    """From a batch of one picture: it, (1, C, h, w) in [0, 1], and what of it is known, bool (1, 1, h, w)."""
    x0 = (batch["images"][:1].float() + 1) / 2
    known = batch["known"][:1] > 0.5 if "known" in batch else torch.ones_like(x0[:, :1], dtype=torch.bool)
    return x0, known


def masked_error(a: Tensor, b: Tensor, mask: Tensor) -> Tensor:
    """Mean squared difference of (1, C, h, w) over the pixels of a mask (1, 1, h, w) and all channels."""
    return ((a - b).square() * mask).sum() / (mask.sum() * a.shape[1])


_WITHIN: dict[str, tuple[float, float]] = {
    "factor": (2, 16),
    "averaging": (0, 0.9999),
    "held_out_pixels": (1e-4, 0.5),
    "held_out_side": (0, 256),
    "code_noise": (0, 10),
    "patience": (0, 10**9),
    "patience_share": (0, 100),
}


def _check(s: DeepImagePriorSettings, data: DataSpec) -> None:
    for name, value, table in (("network", s.network, PLANS), ("downsampler", s.downsampler, FILTERS)):
        if value not in table:
            raise SettingsError(
                f"There is no {name} '{value}'.{nearest(value, table)}", where=name, fix="choose " + ", ".join(table)
            )
    for name, (low, high) in _WITHIN.items():
        if not low <= getattr(s, name) <= high:
            raise SettingsError(f"'{name}' must be between {low} and {high}, not {getattr(s, name)}.", where=name)
    if s.task == "inpaint" and not data.extra.get("masked"):
        raise SettingsError(
            "To inpaint it must be told which pixels are missing.",
            where="mask",
            fix="--mask FILE (white is known, black is missing), or --mask alpha for what is transparent",
        )
    side = min(data.extra["height"], data.extra["width"])
    if side < SMALLEST_SIDE:
        raise SettingsError(f"The picture's shorter side is {side} pixels; it needs {SMALLEST_SIDE}.", where=data.name)


RECIPES = [
    RecipeInfo(
        "deep-image-prior",
        DeepImagePrior,
        # Nine colour pictures, Gaussian noise of sigma 25 (section 4): 29.22 dB after 1,800 steps, 30.43 with the
        # outputs averaged, 31.00 with two runs averaged; CBM3D 31.42, non-local means 30.26. Values: the authors'
        # "denoising.ipynb". Inpainting of text (kate) there: wide-skip, code_noise 0.03, 6,000 steps.
        DeepImagePriorSettings(),
        paper="Ulyanov et al. 2018, arXiv:1711.10925",
        purpose="restores one picture without any data: noise, holes, low resolution, JPEG artefacts",
        train_defaults={
            "steps": 6000,
            "batch_size": 1,
            "sample_every": 250,
            "checkpoint_every": 250,
            "keep_last": 1,
            "evaluate_every": -1,
            "log_every": 25,
        },
    )
]
