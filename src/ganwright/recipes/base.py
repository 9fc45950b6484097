"""What a recipe is: one kind of GAN, its networks, its optimisers, and what one training step does.

Nothing about any particular recipe lives here, and nothing about recipes lives in the loop.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ganwright.data.spec import Batch, DataKind, DataSpec
from ganwright.errors import SettingsError
from ganwright.samples import Samples


class StepContext(Protocol):
    """What the loop lends a recipe for one step.

    All randomness comes from here: it is a function of the run's seed and the step, drawn for the global batch and
    shared out among processes, so that a resumed or a distributed run sees the same numbers.
    """

    step: int
    """Steps done before this one, from 0."""
    stage: str
    """Name of the current stage."""
    stage_step: int
    """Steps done in this stage before this one, from 0."""
    stage_steps: int
    """Steps this stage lasts."""
    device: torch.device
    logging: bool
    """True on the steps whose scalars are written to the log; compute costly diagnostics only then."""

    def normal(self, rows: int, *shape: int) -> Tensor:
        """Standard normal numbers (rows, *shape); `rows` counts this process's share of the batch."""

    def uniform(self, rows: int, *shape: int) -> Tensor:
        """Uniform numbers in [0, 1), (rows, *shape)."""

    def integers(self, high: int, rows: int, *shape: int) -> Tensor:
        """int64 numbers in 0..high-1, (rows, *shape)."""

    def next_batch(self) -> Batch:
        """One more batch of real data (a critic that trains several times a step takes a fresh one each time)."""

    def minimise(self, loss: Tensor, optimizer: str) -> None:
        """One update: clear this optimiser's gradients, back-propagate, average over processes, step.

        Args:
            loss: A scalar.
            optimizer: The key in `Recipe.optimizers()`.
        """

    def backward(self, loss: Tensor) -> None:
        """Back-propagate only, for recipes that accumulate; gradients are cleared by `apply`."""

    def apply(self, optimizer: str) -> None:
        """Average this optimiser's gradients over processes, clip, step and clear them."""


@dataclass(frozen=True)
class SampleRequest:
    """What to sample.

    Attributes:
        n: How many samples.
        seed: Equal seeds give equal samples from equal weights, on every device, and the first k of n samples
            are the k samples.
        labels: Class of each sample (n,), or None: classes in turn for a conditional recipe.
        batch_size: How many to make at a time.
        inputs: What a translator or restorer is shown working on, n rows of each tensor on the CPU: a batch of
            `Dataset.held_out_batch` (`inputs` and perhaps `targets`; or `images_a` and `images_b`). None for
            recipes that make images from nothing.
        baselines: Also make the recipe's `baselines` of the inputs; evaluations ask for them.
        options: What one recipe alone understands (truncation, temperature, …).
    """

    n: int = 64
    seed: int = 0
    labels: Sequence[int] | None = None
    batch_size: int = 250
    inputs: Mapping[str, Tensor] | None = None
    baselines: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    def normal(self, *shape: int) -> Tensor:
        """Latents (n, *shape), standard normal, drawn on the CPU: row i depends on the seed and i alone."""
        generator = torch.Generator().manual_seed(self.seed)
        # Rows below 16 numbers would share a block of torch's vectorised sampler and depend on n, so draw wide.
        width = max(1, int(torch.Size(shape).numel()))
        padded = -(-width // 16) * 16
        return torch.randn(self.n, padded, generator=generator)[:, :width].reshape(self.n, *shape)

    def classes(self, num_classes: int) -> Tensor:
        """The class of each sample, int64 (n,): as asked for, or 0, 1, 2, … in turn."""
        if self.labels is not None:
            return torch.as_tensor(list(self.labels), dtype=torch.int64)
        return torch.arange(self.n) % num_classes


@dataclass(frozen=True)
class StyleSpace:
    """The intermediate latents of a style-based generator (Karras et al. 2019, section 2), W and W+.

    Attributes:
        style_dim: Length of w.
        layers: Names of the layers that take a style, coarse to fine: the second axis of w+.
        mapping: z (n, latent_dim) and classes int64 (n,) or None -> w (n, style_dim), not truncated.
        synthesise: w+ (n, len(layers), style_dim) -> float images (n, C, H, W) in about [-1, 1]; per-pixel noise is
            constant, so equal styles give equal images; differentiable.
        features: The same w+ -> (images, one feature map (n, C_i, H_i, W_i) a resolution, coarse to fine).
        mean: The mean of w, (style_dim,): the centre of truncation.
        affines: By layer, the weights (outputs, style_dim) that turn its style into channel scales (for SeFa).
    """

    style_dim: int
    layers: tuple[str, ...]
    mapping: Callable[[Tensor, Tensor | None], Tensor]
    synthesise: Callable[[Tensor], Tensor]
    features: Callable[[Tensor], tuple[Tensor, list[Tensor]]]
    mean: Tensor
    affines: Mapping[str, Tensor]

    def spread(self, w: Tensor) -> Tensor:
        """W (n, style_dim) -> w+ (n, len(layers), style_dim): the same style for every layer."""
        return w.unsqueeze(1).expand(-1, len(self.layers), -1)


@dataclass(frozen=True)
class LatentSpace:
    """A way into a generator for whatever walks through its latent space (path length, exploration, segmentation).

    Attributes:
        latent_dim: Length of a latent vector z, standard normal.
        generate: Latents (n, latent_dim) and classes int64 (n,) or None, on the recipe's device, to float images
            (n, C, H, W) in [-1, 1]. Equal latents give equal images.
        num_classes: Classes it must be given; 0: none.
        first_layer: Weights (outputs, latent_dim) of the layer that z enters, or None (for SeFa).
        styles: The intermediate latents of a style-based generator, or None.
    """

    latent_dim: int
    generate: Callable[[Tensor, Tensor | None], Tensor]
    num_classes: int = 0
    first_layer: Tensor | None = None
    styles: StyleSpace | None = None


@dataclass(frozen=True)
class Stage:
    """A named part of training: `steps` steps under one name (SeqGAN: mle, critic, adversarial)."""

    name: str
    steps: int


class Recipe(nn.Module, ABC):
    """How one kind of GAN trains.

    Submodules are its networks and buffers its other state (image pools, running means), so a checkpoint is its
    `state_dict` plus its optimisers' states. Nothing else may be remembered from step to step.
    """

    Settings: ClassVar[type[Any]]
    """A frozen dataclass: every knob, documented, with a default that works. Its names must not clash with those of
    `TrainSettings`, `DataSettings` and `EvalSettings`, since flags and YAML files are flat."""
    accepts: ClassVar[frozenset[DataKind]]
    """The kinds of data it trains on."""
    ema_networks: ClassVar[tuple[str, ...]] = ("generator",)
    """Names of the submodules of which a moving average is kept; sampling and evaluation use the average."""

    directions: ClassVar[tuple[str, ...]] = ()
    """The ways it turns images into images, of "a2b" and "b2a"; empty for recipes that make them from nothing.
    Where there are any, `sample` is given `SampleRequest.inputs`, and `translate` works."""
    scale: int = 1
    """Height and width of what `translate` returns are this many times the input's."""
    measured_as: ClassVar[str] = ""
    """How its samples are evaluated: "images" (as a distribution), "pairs" or "domains"; "": as the kind of data is.
    A restorer that trains on plain images and damages them itself says "pairs"."""

    sample_options: Mapping[str, str] = {}
    """What `sample` understands in `SampleRequest.options`: name and meaning; anything else is refused before.
    Set on the instance where it depends on the data or the settings."""

    def __init__(self, data: DataSpec, settings: Any) -> None:
        super().__init__()
        self.data = data
        self.settings = settings

    @abstractmethod
    def optimizers(self) -> dict[str, Optimizer]:
        """The optimisers by name; called once, when the networks are on their device."""

    @abstractmethod
    def step(self, batch: Batch, ctx: StepContext) -> dict[str, Tensor]:
        """One training step.

        Args:
            batch: This process's rows of the global batch, on the device.
            ctx: Randomness, further batches and updates.

        Returns:
            Scalars to log, detached. Well-known names, which the doctor and the report understand:
            `loss_<network>`; `d_accuracy` (share of real and fake logits with the right sign), for losses whose
            discriminator is a classifier.
        """

    @abstractmethod
    def sample(self, request: SampleRequest) -> Samples:
        """Samples from the present weights; called in `eval` mode without gradients."""

    def translate(self, images: Tensor, direction: str = "a2b") -> Tensor:
        """Images turned into images, for recipes with `directions`; called in `eval` mode without gradients.

        Args:
            images: Float (N, C, H, W) in [-1, 1], on the recipe's device; any size, unless the recipe says otherwise.
            direction: One of `directions`; "a2b" is from inputs to targets.

        Returns:
            Float (N, C', scale * H, scale * W) in [-1, 1].

        Raises:
            SettingsError: This recipe translates nothing, or not in this direction.
        """
        raise SettingsError("This recipe makes images from nothing; it translates none.", where=direction)

    def baselines(self, inputs: Tensor) -> Mapping[str, Tensor]:
        """What simple methods make of inputs (N, C, H, W) in about [-1, 1], by name ("bicubic", …); none by default.

        They are measured on the same pairs as the recipe's own outputs, (N, C', H', W'), and told beside them.
        """
        return {}

    def stages(self, steps: int) -> Sequence[Stage]:
        """The stages of a run of `steps` steps, in order; their steps add up to `steps`."""
        return (Stage("train", steps),)

    def finished(self) -> str:
        """Why nothing is left to be done before the planned steps are, in a few words; "" while there is.

        Asked after each logged step and when a run is resumed, so what it depends on must be in buffers; the first
        process decides for all.
        """
        return ""

    def latent_space(self) -> LatentSpace | None:
        """The generator's latent space, for recipes that have one; used in `eval` mode without gradients."""
        return None

    def learning_rate_factor(self, done: float) -> float:
        """A schedule of the recipe's own: what the loop multiplies all learning rates by, beside `lr_schedule`.

        Args:
            done: Share of the run's steps done before this one, in [0, 1).
        """
        return 1.0

    def freezable(self) -> Sequence[nn.Module]:
        """The discriminator's blocks from the image on, for fine-tuning with the first ones frozen (Mo et al. 2020)."""
        return ()

    def evaluate(self, seed: int) -> dict[str, float]:
        """Figures only this recipe can give (E-GAN's survivors, a prior's PSNR); logged at each evaluation."""
        return {}

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.parameters()).device


@contextlib.contextmanager
def frozen(*networks: nn.Module) -> Iterator[None]:
    """Weights of these networks need no gradient inside the block (saves a seventh of a generator step)."""
    parameters = [p for network in networks for p in network.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
