"""StyleGAN3's generator: equal to NVIDIA's (numbers made by their code), equal in both its forms, equivariant."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.signal
import torch
from tests.fixtures.nvidia_files import outputs, trees
from tests.fixtures.nvidia_weights import weight
from torch import Tensor

from ganwright.data.spec import DataKind, DataSpec
from ganwright.errors import SettingsError
from ganwright.networks.stylegan2.plans import MappingPlan
from ganwright.networks.stylegan3 import Generator, StyleGAN3Plan, stylegan3_plan
from ganwright.networks.stylegan3.filters import (
    downsample,
    filtered_leaky_relu,
    low_pass_filter,
    reference_filtered_leaky_relu,
    upsample,
)
from ganwright.recipes.registry import find_recipe
from ganwright.recipes.stylegan3 import StyleGAN3, blurred
from ganwright.recipes.stylegan3_settings import StyleGAN3Settings

SMALL = StyleGAN3Plan(
    16, 3, z_dim=8, w_dim=8, channel_base=64, channel_max=6, layers=6, margin=4, mapping=MappingPlan(layers=1)
)


def official(case: str) -> tuple[StyleGAN3Plan, Generator]:
    """Our generator for a case, with its weights."""

    def thaw(value: object) -> object:
        return {k: thaw(v) for k, v in value["easydict"].items()} if isinstance(value, dict) else value

    plan = stylegan3_plan(thaw(trees()[case]["G_ema"]["attributes"]["_init_kwargs"]))  # type: ignore[arg-type]
    generator = Generator(plan)
    with torch.no_grad():
        for name, tensor in generator.state_dict().items():
            value = weight(name, tuple(tensor.shape))
            if value is not None:
                tensor.copy_(torch.from_numpy(value))
    return plan, generator


@pytest.mark.parametrize("case", ["s3-t", "s3-r", "s3-t-odd"])
def test_images_equal_the_official_ones(case: str) -> None:
    plan, generator = official(case)
    z, image = (torch.from_numpy(outputs()[f"{case}/{name}"]) for name in ("z", "image"))
    labels = torch.tensor([0, plan.c_dim - 1]) if plan.c_dim else None
    with torch.no_grad():
        torch.testing.assert_close(generator(z, labels), image, atol=2e-5, rtol=0)
        reference = Generator(replace(plan, operations="reference"))
        reference.load_state_dict(generator.state_dict())
        torch.testing.assert_close(reference(z, labels), image, atol=2e-5, rtol=0)


@pytest.mark.parametrize("case", ["s3-t", "s3-r", "s3-t-odd"])
def test_filters_equal_the_official_ones(case: str) -> None:
    _, generator = official(case)
    layers = trees()[case]["G_ema"]["modules"]["synthesis"]["modules"]
    for name in generator.synthesis.names:
        layer = getattr(generator.synthesis, name)
        for own in ("up_filter", "down_filter"):
            expected = layers[name]["buffers"][own]
            if expected is None:
                assert getattr(layer, own) is None
            else:
                torch.testing.assert_close(
                    getattr(layer, own), torch.from_numpy(outputs()[expected]), atol=1e-7, rtol=0
                )
        assert list(layer.padding) == layers[name]["attributes"]["padding"]


def test_radial_filters_are_radial_and_pass_low_frequencies_only() -> None:
    f = low_pass_filter(24, cutoff=4, width=4, sampling_rate=32, radial=True)
    assert f is not None
    torch.testing.assert_close(f, f.T)
    torch.testing.assert_close(f, f.flip(0, 1))
    assert f.sum().item() == pytest.approx(1, abs=1e-6)
    response = np.abs(np.fft.fft2(f.numpy(), (256, 256)))
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(256, 1 / 32), np.fft.fftfreq(256, 1 / 32)))
    assert response[frequency < 2].min() > 0.97 and response[frequency > 7].max() < 0.02


def naive_up_down(
    x: np.ndarray, b: np.ndarray, fu: np.ndarray, fd: np.ndarray, up: int, down: int, pad: tuple[int, int, int, int]
) -> np.ndarray:
    """One channel, in float64: the definition by scipy's convolution."""
    spread = np.zeros((x.shape[0] * up, x.shape[1] * up))
    spread[::up, ::up] = x + b
    left, right, above, below = pad
    spread = np.pad(spread, ((max(above, 0), max(below, 0)), (max(left, 0), max(right, 0))))
    rows, columns = spread.shape
    spread = spread[max(-above, 0) : rows - max(-below, 0), max(-left, 0) : columns - max(-right, 0)]
    y = scipy.signal.convolve2d(spread, np.outer(fu, fu) if fu.ndim == 1 else fu, "valid") * up**2
    y = np.clip(np.where(y > 0, y, 0.2 * y) * math.sqrt(2), -1.5, 1.5)
    return scipy.signal.convolve2d(y, np.outer(fd, fd) if fd.ndim == 1 else fd, "valid")[::down, ::down]


@pytest.mark.parametrize("radial", [False, True])
@pytest.mark.parametrize(
    ("up", "down", "padding"),
    [(2, 2, (9, 8, 9, 8)), (4, 2, (3, -2, 5, 1)), (2, 4, (-3, -4, -3, -4)), (2, 1, (12, 0, 3, 11))],
)
def test_filtered_leaky_relu_by_definition(
    up: int, down: int, padding: tuple[int, int, int, int], radial: bool
) -> None:
    rng = np.random.default_rng(up * 10 + down)
    x, b = rng.standard_normal((2, 3, 17, 19)), rng.standard_normal(3)
    fu = rng.standard_normal(4 * up) * 0.4  # not symmetric, so that a missing flip is noticed
    fd = rng.standard_normal((3 * down, 3 * down)) * 0.2 if radial else rng.standard_normal(3 * down) * 0.4
    given = [torch.from_numpy(a) for a in (x, b, fu, fd)]
    expected = np.array([[naive_up_down(x[n, c], b[c], fu, fd, up, down, padding) for c in range(3)] for n in range(2)])
    for form in (filtered_leaky_relu, reference_filtered_leaky_relu):
        y = form(*given, up=up, down=down, padding=padding, gain=math.sqrt(2), slope=0.2, clamp=1.5)
        torch.testing.assert_close(y, torch.from_numpy(expected), atol=1e-10, rtol=0)


def test_resampling_without_a_filter() -> None:
    x = torch.arange(12.0).view(1, 1, 3, 4)
    assert torch.equal(upsample(x, None, 1, (0, 0, 0, 0), 2.0), 2 * x)
    assert torch.equal(downsample(x, None, 2), x[:, :, ::2, ::2])
    with pytest.raises(ValueError, match="filter"):
        upsample(x, None, 2, (0, 0, 0, 0))


def test_gradients_of_fast_and_reference_form_agree() -> None:
    torch.manual_seed(0)
    fast = Generator(SMALL).double()
    slow = Generator(replace(SMALL, operations="reference")).double()
    slow.load_state_dict(fast.state_dict())
    ws = torch.randn(2, SMALL.layers + 2, 8, dtype=torch.float64)
    found = []
    for generator in (fast, slow):
        own = ws.clone().requires_grad_()
        (generator.synthesis(own).square().mean() + generator.synthesis(own).sin().mean()).backward()
        found.append([own.grad, *(p.grad for p in generator.synthesis.parameters())])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-7)


def test_images_move_with_the_input() -> None:
    """The whole point of the paper: shifting the Fourier features by a pixel shifts the image by a pixel."""
    torch.manual_seed(1)
    plan = replace(SMALL, resolution=32, channel_max=8, margin=10)
    generator = Generator(plan).eval()
    z = torch.randn(2, 8)
    with torch.no_grad():
        before = generator(z)
        generator.synthesis.input.transform[0, 2] = 4 / 32  # four pixels, in units of the image
        after = generator(z)
    inside = (slice(None), slice(None), slice(8, 24))
    torch.testing.assert_close(after[*inside, 8:20], before[*inside, 12:24], atol=0.02 * before.std().item(), rtol=0.02)


def test_running_magnitudes_follow_only_when_asked() -> None:
    torch.manual_seed(0)
    generator = Generator(replace(SMALL, magnitude_beta=0.75))
    ws = torch.randn(4, SMALL.layers + 2, 8)
    layer = getattr(generator.synthesis, generator.synthesis.names[0])
    generator.synthesis(ws)
    assert layer.magnitude_ema == 1
    with torch.no_grad(), generator.synthesis.tracking():
        generator.synthesis(ws)
    magnitude = generator.synthesis.input(ws[:, 0]).square().mean()
    torch.testing.assert_close(layer.magnitude_ema, 0.75 + 0.25 * magnitude.detach())
    kept = layer.magnitude_ema.clone()
    generator.synthesis(ws)
    assert torch.equal(layer.magnitude_ema, kept)


def test_features_and_layers() -> None:
    generator = Generator(SMALL)
    image, maps = generator.synthesis.features(torch.randn(2, SMALL.layers + 2, 8))
    sizes = [m.shape[2] for m in maps]
    assert image.shape == (2, 3, 16, 16) and sizes == sorted(sizes) and maps[-1].shape[2:] == (16, 16)
    assert len(generator.synthesis.layers) == generator.synthesis.num_ws == SMALL.layers + 2
    with pytest.raises(ValueError, match="styles must be"):
        generator.synthesis(torch.randn(2, 3, 8))


@pytest.mark.parametrize(("name", "value"), [("resolution", 48), ("resolution", 8), ("critical", 6)])
def test_impossible_plans(name: str, value: int) -> None:
    with pytest.raises(SettingsError):
        replace(SMALL, **{name: value})


# The recipe. -----------------------------------------------------------------------------------------------------

TINY = StyleGAN3Settings(
    z_dim=8, w_dim=8, channel_base=64, channel_max=8, synthesis_layers=4, layer_margin=2, blur_sigma=2.0, blur_steps=3
)


def make(settings: StyleGAN3Settings = TINY, classes: int = 0) -> StyleGAN3:
    kind = DataKind.LABELLED_IMAGES if classes else DataKind.IMAGES
    torch.manual_seed(0)
    return StyleGAN3(DataSpec(kind, "x", 9, "0", 16, 3, tuple(map(str, range(classes)))), settings)


def test_recipe_trains_and_tracks() -> None:
    from tests.recipes.image_gan_fakes import train

    recipe = make(replace(TINY, conditional=True), classes=3)
    before = {name: p.clone() for name, p in recipe.named_parameters()}
    ctx, logs = train(recipe, 3, rows=4)
    assert all(torch.isfinite(value).all() for log in logs for value in log.values())
    unmoved = [name for name, p in recipe.named_parameters() if torch.equal(p, before[name])]
    assert not unmoved
    assert all(getattr(recipe.generator.synthesis, n).magnitude_ema != 1 for n in recipe.generator.synthesis.names)
    assert ctx.updates.count("generator") == 3  # no lazy regulariser of G


def test_optimisers_are_corrected_for_d_only() -> None:
    g, d = (make().optimizers()[name].param_groups[0] for name in ("generator", "discriminator"))
    assert (g["lr"], g["betas"]) == (0.0025, (0.0, 0.99))
    assert d["lr"] == pytest.approx(0.002 * 16 / 17) and d["betas"][1] == pytest.approx(0.99 ** (16 / 17))


def test_blur_by_definition_and_its_end() -> None:
    x = torch.randn(1, 2, 9, 9, dtype=torch.float64)
    taps = np.array([2.0 ** -((i / 1.4) ** 2) for i in range(-4, 5)])
    taps /= taps.sum()
    expected = np.stack([scipy.signal.convolve2d(c, np.outer(taps, taps), "same") for c in x[0].numpy()])
    torch.testing.assert_close(blurred(x, 1.4)[0], torch.from_numpy(expected), atol=1e-7, rtol=0)
    assert blurred(x, 0.3) is x


def test_latent_space_of_the_recipe() -> None:
    recipe = make().eval()
    space = recipe.latent_space()
    assert space.styles is not None
    z = torch.randn(2, 8)
    w = space.styles.mapping(z, None)
    same: Tensor = space.styles.synthesise(space.styles.spread(w))
    torch.testing.assert_close(same, space.generate(z, None))
    assert set(space.styles.affines) == set(space.styles.layers) and len(space.styles.layers) == 6


def test_presets_are_nvidias() -> None:
    t, r = find_recipe("stylegan3").settings, find_recipe("stylegan3-r").settings
    assert (t.conv_kernel, t.radial_filters, t.channel_base) == (3, False, 32768)
    assert (r.conv_kernel, r.radial_filters, r.channel_base, r.channel_max, r.channel_base_d) == (
        1,
        True,
        65536,
        1024,
        32768,
    )


@pytest.mark.parametrize(
    "change",
    [
        {"conv_kernel": 2},
        {"synthesis_layers": 0},
        {"magnitude_beta": 1.0},
        {"blur_sigma": -1.0},
        {"critical_layers": 4},
    ],
)
def test_impossible_settings(change: dict[str, float]) -> None:
    with pytest.raises(SettingsError):
        make(replace(TINY, **change))  # type: ignore[arg-type]
