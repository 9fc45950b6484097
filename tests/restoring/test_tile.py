"""Tiles: exact for local operators, without seams for others, in bounded memory."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ganwright.errors import SettingsError
from ganwright.restoring import Tiling, tiled


def local_operator(radius: int, scale: int):  # type: ignore[no-untyped-def]
    """The largest value within `radius` pixels, squared: looks no further, and rounds the same in every tile."""

    def work(x: Tensor) -> Tensor:
        larger = x.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
        return F.max_pool2d(larger, 2 * radius * scale + 1, 1, radius * scale).square() - 0.5

    return work


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 150),
    st.integers(1, 150),
    st.integers(16, 60),
    st.floats(0, 0.5),
    st.sampled_from([1, 2, 3]),
    st.sampled_from([1, 3]),
)
def test_a_local_operator_is_reproduced_bit_by_bit(
    height: int, width: int, tile: int, share: float, scale: int, channels: int
) -> None:
    tiling = Tiling(tile, int(tile * share), scale)
    picture = np.random.default_rng(0).random((height, width, channels), np.float32)
    work = local_operator(tiling.overlap // 4, scale)
    calls = []
    made = tiled(work, picture, tiling, advance=lambda: calls.append(1))
    whole = tiled(work, picture, Tiling(0, 0, scale))
    assert made.dtype == np.float32 and made.shape == (height * scale, width * scale, channels)
    np.testing.assert_array_equal(made, whole)
    assert len(calls) == tiling.count(height, width)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 5000), st.integers(16, 700), st.floats(0, 0.5))
def test_tiles_cover_everything_and_share_enough(length: int, tile: int, share: float) -> None:
    tiling = Tiling(tile, int(tile * share))
    starts, side = tiling.starts(length), tiling.side(length)
    assert starts[0] == 0 and starts[-1] + side == length
    gaps = np.diff(starts)
    assert (gaps > 0).all() and (side - gaps >= tiling.overlap).all()
    assert len(starts) <= 2 + (length - tiling.overlap) // (tile - tiling.overlap)


@pytest.mark.parametrize("kind", ["uint8", "uint16"])
def test_stored_pictures_survive_the_identity(kind: str) -> None:
    picture = np.random.default_rng(0).integers(0, np.iinfo(kind).max, (70, 90, 3), kind, endpoint=True)
    np.testing.assert_array_equal(tiled(lambda x: x, picture, Tiling(32, 8)), picture)
    assert tiled(lambda x: 2 * x, picture, Tiling(32, 8)).max() == np.iinfo(kind).max  # clipped, not wrapped


def test_there_are_no_seams_where_tiles_disagree() -> None:
    """Each tile becomes its own mean, as with an instance normalisation; no edge may be steeper than a fade."""
    ramp = np.linspace(0, 1, 300, dtype=np.float32)
    picture = (ramp[:, None] * ramp[None])[..., None]
    tiling = Tiling(100, 40)
    made = tiled(lambda x: x.mean((2, 3), keepdim=True).expand_as(x), picture, tiling)[..., 0]
    means = [float(picture[a : a + 100, b : b + 100].mean()) for a in tiling.starts(300) for b in tiling.starts(300)]
    largest = max(means) - min(means)
    for axis in (0, 1):
        steps = np.abs(np.diff(made, axis=axis))
        assert steps.max() <= largest / 20 + 1e-6  # a fade is 20 pixels wide
        assert steps.max() > 0


def test_a_network_that_sees_further_is_nearly_reproduced() -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        *[layer for _ in range(4) for layer in (torch.nn.Conv2d(3, 3, 5, padding=2), torch.nn.Tanh())]
    )  # sees 8 pixels far
    picture = np.random.default_rng(0).random((130, 170, 3), np.float32)
    whole = tiled(network, picture, Tiling(0))
    np.testing.assert_allclose(tiled(network, picture, Tiling(64, 32)), whole, atol=1e-5)  # context of 8
    assert np.abs(tiled(network, picture, Tiling(64, 0)) - whole).max() > 1e-3


def test_impossible_tiles_and_wrong_sizes_are_refused() -> None:
    for tile, overlap in ((8, 0), (64, 40), (64, -1)):
        with pytest.raises(SettingsError, match="cannot overlap by"):
            Tiling(tile, overlap)
    with pytest.raises(ValueError, match="not 2 times as large"):
        tiled(lambda x: x, np.zeros((20, 20, 1), np.uint8), Tiling(0, 0, 2))


@pytest.mark.slow
def test_a_photograph_of_12_megapixels_takes_bounded_memory() -> None:
    program = """
import resource, numpy as np, torch
from ganwright.restoring import Tiling, tiled
torch.set_num_threads(1)
net = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(16, 3, 3, padding=1))
picture = np.random.default_rng(0).integers(0, 256, (3000, 4000, 3), np.uint8)
tiled(net, picture[:600, :600], Tiling())
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
made = tiled(net, picture, Tiling())
assert made.shape == picture.shape
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    # The result is 34 MiB, two rows of tiles in floats 47 MiB; one layer of the whole picture would be 732 MiB.
    assert float(done.stdout) < 250
