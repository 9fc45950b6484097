"""Each transform does what its formula says, as often as p says."""

from __future__ import annotations

import math

import pytest
import torch
from augment_fakes import Chosen, Repeated, Seeded, draws
from torch import Tensor

from ganwright.augment.ada import AdaptiveAugmenter
from ganwright.augment.colour import colour_matrix
from ganwright.augment.diffaugment import DiffAugmenter
from ganwright.augment.filtering import EXPECTED_POWER, band_gains, filter_bands, filter_bank
from ganwright.augment.geometry import SYM6, inverse_transform
from ganwright.augment.settings import ADA_POLICIES, ADA_TRANSFORMS, BLIT, COLOR, GEOM

N = 20_000


def _images(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64) * 2 - 1


def _ada(*transforms: str, p: float = 0.5) -> AdaptiveAugmenter:
    return AdaptiveAugmenter(transforms, p=p)


# How often. ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ADA_POLICIES)
def test_p_0_changes_nothing(policy: str) -> None:
    images = _images(5, 3, 12, 12).float()
    assert torch.equal(AdaptiveAugmenter(ADA_POLICIES[policy], p=0.0)(images, Seeded()), images)


@pytest.mark.parametrize("policy", ["blit", "bgc", "bgcfnc"])
def test_images_to_which_nothing_happens_stay_exactly_as_they_are(policy: str) -> None:
    images = _images(400, 3, 8, 8).float()
    p = 0.05
    out = AdaptiveAugmenter(ADA_POLICIES[policy], p=p)(images, Seeded())
    shares = {"xflip": p / 2, "rotate90": 3 * p / 4, "lumaflip": p / 2, "imgfilter": 1 - (1 - p) ** 4}
    left_alone = math.prod(1 - shares.get(name, p) for name in ADA_POLICIES[policy])
    found = (out == images).flatten(1).all(1).float().mean().item()
    # A little more may stay the same: translations by 0 pixels, for instance.
    assert left_alone - 4 * math.sqrt(left_alone / 400) < found < left_alone + 4 * math.sqrt(left_alone / 400) + 0.02


@pytest.mark.parametrize("p", [0.15, 0.6, 1.0])
def test_how_often_geometry_happens(p: float) -> None:
    eye = torch.eye(3, dtype=torch.float64)
    expected = {"xflip": p / 2, "rotate90": 3 * p / 4, **dict.fromkeys(GEOM, p)}
    expected["xint"] = p * (1 - 1 / 8**2)  # |t·32| < 4: rounds to 0 with probability 1/8 on each axis
    for name, share in expected.items():
        g_inv = inverse_transform((name,), draws(N, p), 32, 32)
        found = (g_inv != eye).flatten(1).any(1).double().mean().item()
        assert found == pytest.approx(share, abs=4 * math.sqrt(max(share * (1 - share), 1e-9) / N) + 1e-9), name


def test_no_orientation_is_more_frequent_than_the_true_one() -> None:
    """With p < 1 the augmentation does not leak (Karras et al. 2020, section 2.2): orientations are told apart."""
    for p, true_share in ((0.4, 0.7), (0.8, 0.4), (1.0, 0.25)):
        g_inv = inverse_transform(("rotate90",), draws(N, p), 32, 32)
        quarter = (torch.atan2(g_inv[:, 1, 0], g_inv[:, 0, 0]) / (math.pi / 2)).round().long() % 4
        shares = torch.bincount(quarter, minlength=4) / N
        assert shares[0].item() == pytest.approx(true_share, abs=0.014)
        assert torch.allclose(shares[1:], torch.tensor((1 - true_share) / 3), atol=0.014)


@pytest.mark.parametrize("p", [0.3, 1.0])
def test_distribution_of_geometry(p: float) -> None:
    eye = torch.eye(3, dtype=torch.float64)

    def happened(name: str) -> Tensor:
        g_inv = inverse_transform((name,), draws(N, p), 32, 48)
        return g_inv[(g_inv != eye).flatten(1).any(1)]

    scales = -happened("scale")[:, 0, 0].log2()
    assert scales.mean().item() == pytest.approx(0, abs=0.012) and scales.std().item() == pytest.approx(0.2, rel=0.04)
    squeezed = happened("aniso")
    assert torch.allclose(squeezed[:, 0, 0] * squeezed[:, 1, 1], torch.ones((), dtype=torch.float64))
    assert squeezed[:, 0, 0].log2().std().item() == pytest.approx(0.2, rel=0.04)
    moved = happened("xfrac")[:, :2, 2] / torch.tensor([48, 32])
    assert torch.allclose(moved.std(0), torch.tensor(0.125, dtype=torch.float64), rtol=0.04)
    moved = happened("xint")[:, :2, 2]
    assert torch.equal(moved, moved.round()) and moved.abs().amax(0).tolist() == [6, 4]
    turned = happened("rotate")
    angles = torch.atan2(turned[:, 1, 0], turned[:, 0, 0])
    counts = torch.histc(angles, 8, -math.pi, math.pi)
    assert (counts / counts.sum() - 1 / 8).abs().max() < 0.02  # all directions alike


@pytest.mark.parametrize("p", [0.3, 1.0])
def test_distribution_of_colour(p: float) -> None:
    eye = torch.eye(3, 4, dtype=torch.float64)

    def happened(name: str, share: float) -> Tensor:
        c = colour_matrix((name,), draws(N, p), 3)
        changed = (c != eye).flatten(1).any(1)
        assert changed.double().mean().item() == pytest.approx(share, abs=4 * math.sqrt(share / N) + 1e-9)
        return c[changed]

    assert happened("brightness", p)[:, 0, 3].std().item() == pytest.approx(0.2, rel=0.04)
    assert happened("contrast", p)[:, 1, 1].log2().std().item() == pytest.approx(0.5, rel=0.04)
    happened("lumaflip", p / 2)
    # A pure chroma direction is scaled by the saturation.
    chroma = torch.tensor([1.0, -1.0, 0.0], dtype=torch.float64)
    saturated = happened("saturation", p)[:, :, :3] @ chroma
    assert (saturated[:, 0]).log2().std().item() == pytest.approx(1.0, rel=0.04)
    turned = happened("hue", p)[:, :, :3] @ chroma
    assert torch.allclose(turned.norm(dim=1), chroma.norm()) and turned.sum(1).abs().max() < 1e-12
    assert turned.mean(0).abs().max() < 0.04  # all hues alike


# What. --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [7, 16, 28])
def test_blitting_moves_whole_pixels(size: int) -> None:
    noise = _images(2, 3, size, size)
    most = round(size / 8 * 0.98)
    moved = _ada(*BLIT)(noise, Chosen("xint", xint_x=0.99, xint_y=0.01))  # right and up
    padded = torch.nn.functional.pad(noise, (most, 0, 0, most), mode="reflect")
    torch.testing.assert_close(moved, padded[:, :, most:, :size], atol=1e-6, rtol=0)

    # The filter is only nearly symmetric, so what is mirrored or turned is exact for smooth images only.
    place = torch.linspace(0, math.pi, size, dtype=torch.float64)
    waves = [torch.cos(i * place) * torch.cos(j * place)[:, None] for i, j in ((1, 0), (1, 1), (0, 1))]
    images = torch.stack([torch.stack(waves), torch.stack(waves[::-1]) + 0.3])
    flipped = _ada(*BLIT)(images, Chosen("xflip", xflip=0.6))
    torch.testing.assert_close(flipped, images.flip(3), atol=0.05, rtol=0)
    for quarter in range(4):
        turned = _ada(*BLIT)(images, Chosen("rotate90", rotate90=quarter / 4 + 0.1))
        torch.testing.assert_close(turned, images.rot90(quarter, (2, 3)), atol=0.05, rtol=0)


@pytest.mark.parametrize(
    ("happening", "numbers"),
    [
        ("rotate", {"rotate": 0.56}),
        ("rotate_after", {"rotate_after": 0.4}),
        ("scale", {"scale": 1.0}),
        ("aniso", {"aniso": -1.0}),
        ("xfrac", {"xfrac_x": 0.3, "xfrac_y": -0.2}),
    ],
)
def test_a_smooth_image_is_sampled_where_the_transform_says(happening: str, numbers: dict[str, float]) -> None:
    size = 32
    place = torch.arange(size, dtype=torch.float64) - (size - 1) / 2

    def wave(x: Tensor, y: Tensor) -> Tensor:
        return torch.cos(0.31 * x + 0.47 * y + 0.3)

    images = wave(place, place[:, None])[None, None]
    ctx = Chosen(happening, **numbers)
    found = _ada(*GEOM)(images, ctx)[0, 0]

    # The output pixel shows the input at the place the inverse transform gives; angles are clockwise on screen.
    angle = (2 * numbers.get("rotate", numbers.get("rotate_after", 0.5)) - 1) * math.pi
    s, a = 2 ** (0.2 * numbers.get("scale", 0)), 2 ** (0.2 * numbers.get("aniso", 0))
    tx, ty = (0.125 * size * numbers.get(f"xfrac_{axis}", 0) for axis in "xy")
    x, y = torch.meshgrid(place, place, indexing="xy")
    x, y = x - tx, y - ty
    x, y = math.cos(angle) * x - math.sin(angle) * y, math.sin(angle) * x + math.cos(angle) * y
    x, y = x / (s * a), y * a / s
    inside = (x.abs() < size / 2 - 4) & (y.abs() < size / 2 - 4)
    assert inside.sum() > 300
    assert (found - wave(x, y))[inside].abs().max() < 0.02  # half a pixel would be 0.25


def test_resampling_filter_is_an_orthogonal_wavelet() -> None:
    h = torch.tensor(SYM6, dtype=torch.float64)
    assert h.sum().item() == pytest.approx(math.sqrt(2))
    for shift in range(6):
        assert (h[2 * shift :] * h[: len(h) - 2 * shift]).sum().item() == pytest.approx(float(shift == 0), abs=1e-9)
    sign = (-1.0) ** torch.arange(12)
    for moment in range(6):  # the high-pass filter sees no polynomial of degree 5
        assert (sign * h.flip(0) * torch.arange(12.0).double() ** moment).sum().abs() < 1e-5


def test_colours() -> None:
    images = _images(3, 3, 4, 4)
    third = _ada("hue")(images, Chosen("hue", hue=0.5 + 1 / 3))  # a third of the circle: red, green, blue move on
    torch.testing.assert_close(third, images.roll(1, 1), atol=1e-6, rtol=0)
    grey = images.mean(1, keepdim=True)
    torch.testing.assert_close(_ada("lumaflip")(images, Chosen("lumaflip", lumaflip=0.7)), images - 2 * grey)
    torch.testing.assert_close(_ada("brightness")(images, Chosen("brightness", brightness=1.5)), images + 0.3)
    torch.testing.assert_close(_ada("contrast")(images, Chosen("contrast", contrast=2.0)), images * 2)
    saturated = _ada("saturation")(images, Chosen("saturation", saturation=-1.0))
    torch.testing.assert_close(saturated, grey + (images - grey) / 2)


@pytest.mark.parametrize("size", [16, 23])
def test_a_grey_image_is_one_of_three_equal_channels(size: int) -> None:
    grey = _images(20, 1, size, size)
    augmenter = AdaptiveAugmenter(set(ADA_TRANSFORMS) - {"noise", "hue", "saturation"}, p=0.7)
    as_one, as_three = augmenter(grey, Repeated()), augmenter(grey.expand(-1, 3, -1, -1), Repeated())
    torch.testing.assert_close(as_one.expand(-1, 3, -1, -1), as_three)
    everything = AdaptiveAugmenter(ADA_TRANSFORMS, p=0.7)(grey, Repeated())
    assert everything.shape == grey.shape and everything.isfinite().all()


def test_filter_bank_takes_an_image_apart() -> None:
    bank = torch.from_numpy(filter_bank())
    delta = torch.zeros(43, dtype=torch.float64)
    delta[21] = 1
    torch.testing.assert_close(bank.sum(0), delta, atol=1e-9, rtol=0)
    # The share of a wave in each band, from the closed form of |H|²/2 for two vanishing moments.
    size = 128

    def low(w: float) -> float:
        return math.cos(w / 2) ** 4 * (1 + 2 * math.sin(w / 2) ** 2)

    for w in (0.02, 0.3, 0.55, 1.13, 2.0, 2.9):
        half, quarter = low(w), low(w) * low(2 * w)
        shares = [quarter * low(4 * w), quarter * (1 - low(4 * w)), half * (1 - low(2 * w)), 1 - half]
        wave = torch.cos(w * torch.arange(size, dtype=torch.float64)).expand(1, 1, size, size)
        for band in range(4):
            gains = torch.ones(1, 4, dtype=torch.float64)
            gains[0, band] = 3
            gain = (1 + 2 * shares[band]) * (3 if band == 0 else 1)  # along the other axis the wave is constant
            found = filter_bands(wave, gains)[0, 0, 64, 22:-22]
            torch.testing.assert_close(found, gain * wave[0, 0, 64, 22:-22], atol=1e-6, rtol=0)


def test_filter_gains_keep_the_expected_power() -> None:
    g = band_gains(draws(N, 1.0))
    # With all coins at 1 the product of four normalised vectors; with one band it is the paper's formula.
    single = band_gains(draws(N, 0.2))
    only_first = (single[:, 1] == single[:, 2]) & (single[:, 2] == single[:, 3]) & (single[:, 0] != single[:, 1])
    power = (single.square() * torch.tensor(EXPECTED_POWER)).sum(1)
    torch.testing.assert_close(power[only_first], torch.ones_like(power[only_first]))
    assert g.isfinite().all() and g.log2().std() > 0.5


def test_corruptions() -> None:
    images = _images(6, 3, 20, 16)
    noisy = _ada("noise")(images, Chosen("noise", noise=-2.0))
    torch.testing.assert_close(noisy, images + 0.2)  # |z| · 0.1 times normal numbers that are all 1 here
    cut = _ada("cutout")(images, Chosen("cutout", cutout_x=0.5, cutout_y=0.5))
    expected = images.clone()
    expected[:, :, 5:15, 4:12] = 0
    assert torch.equal(cut, expected)
    corner = _ada("cutout")(images, Chosen("cutout", cutout_x=0.0, cutout_y=0.0))
    assert torch.equal(corner == 0, (torch.arange(20)[:, None] < 5) & (torch.arange(16) < 4).expand(6, 3, 20, 16))


# DiffAugment. -------------------------------------------------------------------------------------------------


def test_diffaugment_ranges() -> None:
    ones = torch.ones(N, 3, 8, 8)
    brightness = DiffAugmenter(["color"])(ones, Seeded())[:, 0, 0, 0] - 1
    assert brightness.min() >= -0.5 and brightness.max() <= 0.5
    assert brightness.std().item() == pytest.approx(math.sqrt(1 / 12), rel=0.02)

    moved = DiffAugmenter(["translation"])(ones, Seeded())
    kept = moved[:, 0].mean((1, 2))  # (8 - |dy|)(8 - |dx|) / 64, shifts -1, 0, 1
    shares = [(kept == value).float().mean().item() for value in (1, 7 / 8, 49 / 64)]
    assert shares == pytest.approx([1 / 9, 4 / 9, 4 / 9], abs=0.015)

    holes = (DiffAugmenter(["cutout"])(ones, Seeded())[:, 0] == 0).float()
    # The centre is anywhere in 0..8 (a hole of 4 pixels), so rows are hit 2, 3, 4, 4, 4, … times of 9.
    rows = holes.amax(2).mean(0)
    assert rows.tolist() == pytest.approx([3 / 9, 4 / 9, 4 / 9, 4 / 9, 4 / 9, 4 / 9, 4 / 9, 3 / 9], abs=0.02)


@pytest.mark.parametrize("shape", [(3, 1, 28, 28), (3, 3, 7, 7), (2, 3, 20, 12), (2, 3, 4, 4)])
def test_any_size(shape: tuple[int, ...]) -> None:
    images = _images(*shape).float().contiguous(memory_format=torch.channels_last)
    for augmenter in (AdaptiveAugmenter(ADA_TRANSFORMS, p=1.0), DiffAugmenter()):
        out = augmenter(images, Seeded())
        assert out.shape == images.shape and out.dtype == images.dtype and out.isfinite().all()


def test_no_images() -> None:
    for augmenter in (AdaptiveAugmenter(ADA_TRANSFORMS, p=1.0), DiffAugmenter()):
        assert augmenter(torch.zeros(0, 3, 8, 8), Seeded()).shape == (0, 3, 8, 8)


def test_each_group_has_its_transforms() -> None:
    assert set(BLIT + GEOM + COLOR) == set(ADA_POLICIES["bgc"])
