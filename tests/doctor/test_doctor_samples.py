"""The measures behind mode collapse and memorisation, against other libraries and on known truths."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from scipy.spatial.distance import pdist, squareform
from tiny_gan import Images, Spec, digits

from ganwright.metrics.pixels import nearest, small
from ganwright.samples import ImageSamples
from ganwright.training.doctor import Doctor
from ganwright.training.doctor.collapse import Diversity, ModeCollapse
from ganwright.training.doctor.memorisation import Memorisation, _chance


def shown(check: object, images: np.ndarray, data: Images, labels: np.ndarray | None = None) -> list[str]:
    """Show the same grid five times, long after warm-up; what is said, as "severity"."""
    doctor = Doctor(checks=[check])
    samples = ImageSamples(images, labels)
    return [f.severity for k in range(5) for f in doctor.after_samples(1000 + k, samples, data)]


def test_distances_against_scipy() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 3, 8, 6)).astype(np.uint8)
    flat = images.reshape(20, -1).astype(float)
    table = squareform(pdist(flat)) / np.sqrt(flat.shape[1])
    found = Diversity.of(torch.from_numpy(images))
    assert found.spread == pytest.approx(table[np.triu_indices(20, 1)].mean(), rel=1e-5)
    np.fill_diagonal(table, np.inf)
    np.testing.assert_allclose(found.nearest, table.min(1), rtol=1e-5)


def test_nearest_neighbours_across_chunks_with_mirror_images() -> None:
    rng = np.random.default_rng(0)
    train = rng.integers(0, 256, (2500, 1, 6, 6)).astype(np.uint8)
    queries = rng.integers(0, 256, (5, 1, 6, 6)).astype(np.uint8)
    queries[0], queries[1] = train[2400], train[1030][..., ::-1]
    flat, mirrored = (q.reshape(5, 1, -1).astype(float) for q in (queries, queries[..., ::-1]))
    rows = train.reshape(1, 2500, -1)
    table = np.minimum(*(np.sqrt(((q - rows) ** 2).mean(-1)) for q in (flat, mirrored)))
    distances, places = nearest(torch.from_numpy(queries), torch.from_numpy(train), 7)
    np.testing.assert_allclose(distances, np.sort(table, 1)[:, :7], rtol=1e-4, atol=0.05)
    assert places[:, 0].tolist() == table.argmin(1).tolist()
    assert places[:2, 0].tolist() == [2400, 1030]
    own = np.array([3, 1024, 2499])
    distances, places = nearest(torch.from_numpy(train[own]), torch.from_numpy(train), 3, skip_self=own)
    assert not (places == torch.from_numpy(own)[:, None]).any()
    assert distances.min() > 1


@pytest.mark.parametrize("shape", [(40, 64, 3), (64, 64, 1), (16, 24, 3)])
def test_small_images_are_antialiased(shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, *shape)).astype(np.uint8)
    reduced = small(images)
    size = tuple(round(side * min(1.0, 32 / max(shape[:2]))) for side in shape[:2])
    assert tuple(reduced.shape) == (3, shape[2], *size)
    for image, found in zip(images, reduced, strict=True):
        for c in range(shape[2]):  # Pillow's triangle filter is antialiased as well
            plane = Image.fromarray(image[..., c]).resize(size[::-1], Image.Resampling.BILINEAR)
            assert np.abs(np.asarray(plane, int) - found[c].int().numpy()).max() <= 1


def test_chance_by_simulation() -> None:
    rng = np.random.default_rng(0)
    n, m, rank, draws = 200, 64, 2, 40_000
    bound = np.sort(rng.random((draws, n)), 1)[:, rank - 1]
    counts = rng.binomial(m, bound)
    for count in (1, 2, 4):
        assert _chance(count, m, rank, n) == pytest.approx((counts >= count).mean(), rel=0.1)
    assert 0 < _chance(60, m, rank, n) < 1e-30


# Mode collapse ------------------------------------------------------------------------------------------


def unseen(data: Images, n: int, seed: int) -> np.ndarray:
    return data.images[np.random.default_rng(seed).choice(data.held_out_index, n, replace=False)]


def jitter(images: np.ndarray, seed: int, sigma: float = 5) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, sigma, images.shape)
    return np.clip(images + noise, 0, 255).round().astype(np.uint8)


@pytest.mark.parametrize("seed", range(5))
def test_real_images_are_as_diverse_as_real_images(seed: int, data: Images) -> None:
    assert shown("mode-collapse", unseen(data, 64, seed), data) == []


@pytest.mark.parametrize(
    ("pictures", "said"),
    [(1, ["critical"]), (4, ["critical"]), (16, ["critical"])],
    ids=["one", "four", "sixteen"],
)
def test_a_handful_of_pictures(pictures: int, said: list[str], data: Images) -> None:
    few = np.repeat(unseen(data, pictures, 0), 64 // pictures, 0)
    assert shown("mode-collapse", jitter(few, 1), data) == said
    if pictures == 16:  # and the mean distance alone would not show it
        real = unseen(data, 64, 3)
        spread = Diversity.of(small(jitter(few, 1))).spread / Diversity.of(small(real)).spread
        assert spread > 0.8


def test_a_third_of_the_samples_alike(data: Images) -> None:
    images = unseen(data, 64, 0)
    images[:22] = images[0]
    assert shown("mode-collapse", jitter(images, 1), data) == ["warning"]
    images = unseen(data, 64, 0)
    images[:4] = images[0]
    assert shown("mode-collapse", jitter(images, 1), data) == []


def test_samples_of_one_class_are_compared_with_that_class(data: Images) -> None:
    ones = data.held_out_index[data.labels[data.held_out_index] == 1]
    images = data.images[ones[:32]]
    spread = {}
    for labels in (None, np.ones(32, np.int64)):
        doctor = Doctor(checks=["mode-collapse"])
        doctor.after_samples(1000, ImageSamples(images, labels), data)
        spread[labels is None] = doctor.state()["checks"]["mode-collapse"]["best"]["spread"]
    assert spread[False] > 0.9
    assert spread[True] < 0.75


def test_a_fall_counts_although_the_bounds_are_not_reached(data: Images) -> None:
    doctor = Doctor(checks=[ModeCollapse(spread=0.1, nearest=0.1, twins=1.0)])
    images = unseen(data, 64, 0).astype(float)
    faded = (images.mean(0) + 0.4 * (images - images.mean(0))).round().astype(np.uint8)
    assert doctor.after_samples(1000, ImageSamples(faded), data) == []  # never better: no fall
    doctor.after_samples(1100, ImageSamples(images.astype(np.uint8)), data)
    told = [f for k in range(3) for f in doctor.after_samples(1200 + k, ImageSamples(faded), data)]
    assert [(f.step, f.severity) for f in told] == [(1201, "warning")]


def test_first_grids_do_not_count(data: Images) -> None:
    same, real = ImageSamples(np.repeat(data.images[:1], 64, 0)), ImageSamples(unseen(data, 64, 0))
    never, once = Doctor(checks=["mode-collapse"]), Doctor(checks=["mode-collapse"])
    steps = (100, 300, 499, 500, 600, 900, 1000, 1100)
    assert [bool(never.after_samples(s, same, data)) for s in steps] == [False] * 7 + [True]
    once.after_samples(500, real, data)
    assert [bool(once.after_samples(s, same, data)) for s in (600, 700)] == [False, True]


# Memorisation -------------------------------------------------------------------------------------------


def test_unseen_images_are_not_copies(data: Images) -> None:
    check = Memorisation()
    assert [shown(check, unseen(data, 64, seed), data) for seed in range(20)] == [[]] * 20


@pytest.mark.parametrize("mirrored", [False, True])
def test_copies_are_found(mirrored: bool, data: Images) -> None:
    images = unseen(data, 64, 0)
    copies = jitter(data.images[data.train_index[:10]], 1)
    images[:10] = copies[:, :, ::-1] if mirrored else copies
    assert shown("memorisation", images, data) == ["warning"]
    images[:] = jitter(data.images[data.train_index[:64]], 1)
    assert shown("memorisation", images, data) == ["critical"]


def test_copies_are_found_without_held_out_images(data: Images) -> None:
    bare = Images(data.images, data.labels, np.arange(4500), np.arange(0), Spec("bare"))
    doctor = Doctor(checks=["memorisation"])
    fresh = np.load(Path(__file__).parents[2] / "src/ganwright/data/assets/mnist10k.npz")["images"][4500:4756]
    fresh = small(fresh[..., None])  # 28x28: not reduced
    resized = torch.nn.functional.interpolate(fresh.float(), size=16, mode="bilinear", antialias=True)
    new = resized.round().byte().permute(0, 2, 3, 1).numpy()
    assert doctor.after_samples(1, ImageSamples(new), bare) == []
    told = doctor.after_samples(2, ImageSamples(jitter(bare.images[:64], 1)), bare)
    assert [f.severity for f in told] == ["critical"]


def test_smooth_pictures_are_not_copies(real_data: Callable[[str], Path]) -> None:
    """A blurred photo is near to many; the absolute distance alone takes it for a copy."""
    images = []
    with tarfile.open(real_data("cifar10-jpeg-test.tar.gz")) as archive:
        for member in archive:
            if member.isfile():
                with Image.open(io.BytesIO(archive.extractfile(member).read())) as picture:
                    images.append(np.asarray(picture.convert("RGB")))
    photos = np.stack(images)[np.random.default_rng(0).permutation(len(images))]
    data = Images(photos, None, np.arange(8000), np.arange(8000, 9000), Spec("photos"))
    blurred = np.stack([np.asarray(Image.fromarray(p).filter(ImageFilter.GaussianBlur(4))) for p in photos[9000:9256]])
    absolute = Memorisation(p_value=1e-4)
    assert shown(absolute, blurred, data) == []
    yardstick = next(iter(absolute._cache.values()))
    distances, _ = nearest(small(blurred), yardstick.train, 1)
    assert (distances[:, 0] < yardstick.distance).float().mean() > 0.1
    assert shown(absolute, jitter(photos[:64], 1, sigma=10), data) == ["critical"]


def test_other_kinds_of_samples_and_data_are_passed_over(data: Images) -> None:
    doctor = Doctor()
    few, large = data.images[:8], np.zeros((64, 32, 32, 1), np.uint8)
    for images in (few, large):
        assert doctor.after_samples(1000, ImageSamples(images), data) == []
    tiny = digits(5, 2)
    assert doctor.after_samples(1000, ImageSamples(data.images[:64]), tiny) == []
