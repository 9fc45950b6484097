"""The held-out split: a function of each sample's content and the seed, and of nothing else."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from ganwright.errors import SettingsError

MAX_HELD_OUT = 0.9
ORDER, SHOW = 1, 3
"""Streams of random numbers: data order, samples to look at."""


def held_out_mask(hashes: npt.NDArray[np.uint8], share: float, seed: int) -> npt.NDArray[np.bool_]:
    """Which samples are held out.

    Identical samples fall on the same side, and a sample keeps its side when others are added or removed.

    Args:
        hashes: uint8 (N, 16): hash of each sample's content.
        share: Expected share that is held out, in [0, 0.9].
        seed: Another seed gives another split.

    Returns:
        bool (N,).

    Raises:
        SettingsError: The share is out of range.
    """
    if not 0 <= share <= MAX_HELD_OUT:
        raise SettingsError(
            f"A held-out share of {share} is impossible.", where="held_out", fix=f"choose 0 to {MAX_HELD_OUT}"
        )
    return draws(hashes, seed) < share


def draws(hashes: npt.NDArray[np.uint8], seed: int) -> npt.NDArray[np.float64]:
    """A number in [0, 1) for each sample (N,), a function of its hash (N, 16) and the seed alone."""
    key = hashlib.blake2b(str(seed).encode(), digest_size=32).digest()
    drawn = [hashlib.blake2b(row.tobytes(), digest_size=8, key=key).digest() for row in hashes]
    return np.frombuffer(b"".join(drawn), ">u8") / 2.0**64


def duplicates(hashes: npt.NDArray[np.uint8]) -> int:
    """How many samples are exact copies of an earlier one."""
    return len(hashes) - len({row.tobytes() for row in hashes})


def shuffled(n: int, *key: int) -> npt.NDArray[np.int64]:
    """A permutation of 0..n-1 that is a function of `key` alone.

    It sorts a bit generator's raw output, whose stream numpy guarantees; `Generator.permutation` may change.
    """
    raw = np.random.Philox(np.random.SeedSequence([abs(k) for k in key])).random_raw(n)
    return np.argsort(raw, kind="stable")


class EpochOrder:
    """The stream of training samples: every one once an epoch, reshuffled, as a function of seed and position alone.

    Args:
        pool: Positions of the training samples.
    """

    def __init__(self, pool: npt.NDArray[np.int64]) -> None:
        self.pool = pool
        self._known: dict[tuple[int, int], npt.NDArray[np.int64]] = {}

    def batch(self, index: int, size: int, seed: int) -> npt.NDArray[np.int64]:
        """Positions (size,) of the samples of batch `index`."""
        n = len(self.pool)
        places = np.arange(index * size, (index + 1) * size)
        epochs = places // n
        picked = np.empty(size, np.int64)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            picked[here] = self._epoch(seed, int(epoch))[places[here] - epoch * n]
        return picked

    def _epoch(self, seed: int, epoch: int) -> npt.NDArray[np.int64]:
        key = (seed, epoch)
        if key not in self._known:
            while len(self._known) >= 2:  # this epoch and the last: a batch may span both
                self._known.pop(next(iter(self._known)))
            self._known[key] = self.pool[shuffled(len(self.pool), seed, epoch, ORDER)]
        return self._known[key]
