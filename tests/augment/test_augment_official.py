"""The same random numbers give the same images as the authors' code (see `fixtures/make_augment_fixtures.py`)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.fixtures.make_augment_fixtures import ADA_CASES, DIFFAUGMENT_CASES, FILE, inputs, noise
from torch import Tensor

from ganwright.augment.ada import AdaptiveAugmenter
from ganwright.augment.diffaugment import NUMBERS, DiffAugmenter
from ganwright.augment.draws import COINS, NORMALS, UNIFORMS
from ganwright.augment.filtering import filter_bank
from ganwright.augment.settings import ADA_POLICIES

OFFICIAL = dict(np.load(FILE, allow_pickle=False))


class Recorded:
    """Gives out the random numbers that the official code drew."""

    def __init__(self, prefix: str, shape: tuple[int, ...]) -> None:
        self.prefix, self.shape = prefix, shape

    def _column(self, name: str, missing: float) -> Tensor:
        found = OFFICIAL.get(f"{self.prefix}/{name}")
        return torch.full((self.shape[0],), missing) if found is None else torch.from_numpy(found).float()

    def uniform(self, rows: int, *shape: int) -> Tensor:
        if shape == (len(NUMBERS),):
            return torch.stack([self._from_integer(name) for name in NUMBERS], 1)
        coins = [self._column(f"coin_{name}", 0.0) for name in COINS]  # a transform left out must not happen
        return torch.stack([*coins, *(self._column(name, 0.3) for name in UNIFORMS)], 1)

    def normal(self, rows: int, *shape: int) -> Tensor:
        if len(shape) == 3:
            return noise((rows, *shape))
        return torch.stack([self._column(name, 1.0) for name in NORMALS], 1)

    def _from_integer(self, name: str) -> Tensor:
        """The uniform number that stands for an official integer."""
        column = self._column(name, 0.3)
        size = self.shape[2 if name.endswith("y") else 3]
        if name.startswith("shift"):
            most = int(size / 8 + 0.5)
            return (most - column + 0.5) / (2 * most + 1)  # the official code counts shifts the other way
        if name.startswith("hole"):
            return (column + 0.5) / (size + 1 - int(size / 2 + 0.5) % 2)
        return column


@pytest.mark.parametrize("case", ADA_CASES)
def test_ada(case: str) -> None:
    policy, shape, p = ADA_CASES[case]
    ours = AdaptiveAugmenter(ADA_POLICIES[policy], p=p)(inputs(shape), Recorded(f"ada/{case}", shape))
    official = torch.from_numpy(OFFICIAL[f"ada/{case}/out"])
    assert (official - inputs(shape)).abs().flatten(1).amax(1).gt(0.01).sum() >= len(official) - 1  # not trivial
    torch.testing.assert_close(ours, official, atol=3e-5, rtol=1e-5)


@pytest.mark.parametrize("case", DIFFAUGMENT_CASES)
def test_diffaugment(case: str) -> None:
    policy, shape = DIFFAUGMENT_CASES[case]
    ours = DiffAugmenter(policy.split(","))(inputs(shape), Recorded(f"diffaugment/{case}", shape))
    torch.testing.assert_close(ours, torch.from_numpy(OFFICIAL[f"diffaugment/{case}/out"]), atol=1e-6, rtol=1e-5)


def test_filter_bank() -> None:
    np.testing.assert_allclose(filter_bank(), OFFICIAL["ada/filter_bank"], atol=1e-7)
