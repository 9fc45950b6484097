"""Batches, order and split of image data."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from picture_sets import noise

from ganwright.config import DataSettings
from ganwright.data.images import ImageDataset
from ganwright.data.opening import open_dataset
from ganwright.data.spec import DataKind
from ganwright.data.split import held_out_mask, shuffled
from ganwright.errors import DataError, SettingsError

N = 50
IMAGES = np.stack([noise(i, 8, 8) for i in range(N)])
LABELS = np.arange(N) % 3


def opened(*, flip: bool = False, held_out: float = 0.0, seed: int = 0) -> ImageDataset:
    chosen = DataSettings(resolution=8, flip=flip, held_out=held_out)
    dataset = open_dataset((IMAGES, LABELS), chosen, seed=seed)
    assert isinstance(dataset, ImageDataset)
    return dataset


def rows_of(batch: torch.Tensor) -> list[int]:
    """Which image each row is, from its first pixels."""
    index = {IMAGES[i].tobytes(): i for i in range(N)}
    pixels = ((batch + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
    return [index[row.tobytes()] for row in pixels]


def test_values_layout_and_labels() -> None:
    batch = opened().batch(0, 16, seed=1)
    images, labels = batch["images"], batch["labels"]
    assert images.shape == (16, 3, 8, 8) and images.dtype == torch.float32
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert labels.dtype == torch.int64
    rows = rows_of(images)
    np.testing.assert_allclose(images.permute(0, 2, 3, 1), IMAGES[rows] / 127.5 - 1, atol=1e-6)
    assert labels.tolist() == LABELS[rows].tolist()
    assert images.min() >= -1 and images.max() <= 1


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 130), st.integers(0, 2**40))
def test_every_image_once_an_epoch_whatever_the_batch_size(size: int, seed: int) -> None:
    dataset = opened()
    seen: list[int] = []
    index = 0
    while len(seen) < 3 * N:
        seen += rows_of(dataset.batch(index, size, seed=seed)["images"])
        index += 1
    epochs = [seen[k * N : (k + 1) * N] for k in range(3)]
    assert all(sorted(epoch) == list(range(N)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_batches_are_a_pure_function() -> None:
    one, two = opened(flip=True), opened(flip=True)
    forward = [one.batch(i, 7, seed=3) for i in range(40)]
    for i in reversed(range(40)):
        two.batch(i * 13 % 40, 7, seed=4)
        again = two.batch(i, 7, seed=3)
        assert torch.equal(again["images"], forward[i]["images"])
        assert torch.equal(again["labels"], forward[i]["labels"])
    assert not torch.equal(one.batch(0, 7, seed=5)["images"], forward[0]["images"])
    forward[0]["images"].zero_()  # a recipe may write into its batch
    assert torch.equal(one.batch(1, 7, seed=3)["images"], forward[1]["images"])
    assert one.batch(0, 7, seed=3)["images"].abs().sum() > 0


def test_half_of_the_images_are_mirrored_and_nothing_else_changes() -> None:
    plain, mirrored = opened(), opened(flip=True)
    flips = 0
    for i in range(40):
        a, b = plain.batch(i, 50, seed=2)["images"], mirrored.batch(i, 50, seed=2)["images"]
        for x, y in zip(a, b, strict=True):
            assert torch.equal(x, y) or torch.equal(x.flip(-1), y)
            flips += not torch.equal(x, y)
    assert abs(flips - 1000) < 4.5 * np.sqrt(2000 / 4)


def test_real_samples() -> None:
    dataset = opened(held_out=0.4)
    train, held = dataset.real_samples(10**6, seed=0), dataset.real_samples(10**6, seed=0, held_out=True)
    assert len(train) == dataset.spec.count and len(train) + len(held) == N
    both = {image.tobytes() for image in (*train.images, *held.images)}
    assert both == {image.tobytes() for image in IMAGES}  # without replacement, and nothing twice
    few = dataset.real_samples(5, seed=0)
    assert len(few) == 5 and (few.images == train.images[:5]).all() and (few.labels == train.labels[:5]).all()
    assert not (dataset.real_samples(5, seed=1).images == few.images).all()
    assert opened().real_samples(3, seed=0, held_out=True) is None


def test_without_labels() -> None:
    labelled = opened()
    plain = open_dataset((IMAGES, LABELS), DataSettings(resolution=8, held_out=0), accepts=frozenset({DataKind.IMAGES}))
    assert plain.spec.kind == DataKind.IMAGES and plain.spec.class_names == () and plain.labels is None
    assert set(plain.batch(0, 4, seed=0)) == {"images"}
    assert plain.spec.fingerprint == labelled.spec.fingerprint
    assert labelled.spec.kind == DataKind.LABELLED_IMAGES
    assert open_dataset(labelled, accepts=frozenset({DataKind.IMAGES})).labels is None
    assert labelled.labels is not None


def test_too_few_images() -> None:
    with pytest.raises(DataError, match=r"(?s)50 training samples, fewer than the 64.*--batch-size"):
        open_dataset(IMAGES, DataSettings(resolution=8, held_out=0), min_count=64)
    open_dataset(IMAGES, DataSettings(resolution=8, held_out=0), min_count=50)


hashes = st.lists(st.binary(min_size=16, max_size=16), min_size=1, max_size=40)


def mask(rows: list[bytes], share: float, seed: int) -> list[bool]:
    return held_out_mask(np.frombuffer(b"".join(rows), np.uint8).reshape(-1, 16), share, seed).tolist()


@given(hashes, hashes, st.floats(0, 0.9), st.integers(0, 2**63))
def test_split_depends_on_content_and_seed_alone(a: list[bytes], b: list[bytes], share: float, seed: int) -> None:
    alone = dict(zip(a, mask(a, share, seed), strict=True))
    together = dict(zip(b + a, mask(b + a, share, seed), strict=True))
    assert all(together[row] == side for row, side in alone.items())
    assert mask(a + a, share, seed) == 2 * mask(a, share, seed)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_split_has_the_expected_share_and_follows_the_seed(share: float) -> None:
    rows = np.random.default_rng(0).integers(0, 256, (20_000, 16), dtype=np.uint8)
    one, two = held_out_mask(rows, share, 1), held_out_mask(rows, share, 2)
    spread = np.sqrt(share * (1 - share) * 20_000)
    assert abs(one.sum() - share * 20_000) <= 4.5 * spread
    both = share**2
    assert abs((one & two).sum() - both * 20_000) <= 4.5 * np.sqrt(both * (1 - both) * 20_000)


@pytest.mark.parametrize("share", [-0.1, 0.95, 1.0, float("nan")])
def test_impossible_shares(share: float) -> None:
    with pytest.raises(SettingsError, match="held-out share"):
        opened(held_out=share)


def test_duplicates_stay_on_one_side() -> None:
    doubled = np.concatenate([IMAGES, IMAGES])
    dataset = open_dataset(doubled, DataSettings(resolution=8, held_out=0.5))
    assert dataset.duplicates == N
    assert set(dataset.held_out_index[dataset.held_out_index < N] + N) == set(
        dataset.held_out_index[dataset.held_out_index >= N]
    )


def test_shuffles_are_uniform() -> None:
    counts = np.zeros((4, 4))
    for seed in range(4000):
        counts[np.arange(4), shuffled(4, seed, 0)] += 1
    assert ((counts - 1000) ** 2 / 1000).sum() < 30  # chi-squared, 9 degrees of freedom: p < 0.0005


@pytest.mark.parametrize("resolution", [-1, 5000])
def test_impossible_resolutions(resolution: int) -> None:
    with pytest.raises(SettingsError, match="resolution"):
        open_dataset(IMAGES, DataSettings(resolution=resolution))
