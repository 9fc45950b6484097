"""Kernel distance: unbiased squared MMD with the cubic kernel (x·y/D + 1)³ (Bińkowski et al. 2018, "KID").

The sums over all pairs that it and the Gaussian kernel of `rbf_mmd.py` need are here too: in tiles, each pair once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ganwright.console import progress
from ganwright.errors import MetricError
from ganwright.metrics.estimate import Estimate
from ganwright.metrics.moments import check_features, check_same_width

if TYPE_CHECKING:
    from ganwright.metrics.measured import Measured

Array = npt.NDArray[np.float64]
FloatArray = npt.NDArray[np.floating]
Index = npt.NDArray[np.int64]

TILE = 2048
"""Side of a tile: the rows, the columns and the tile itself then take 16 MB each at D = 2,048."""
_EXACT = 1 << 26
"""Up to so many multiplications (pairs times D) everything is in float64: it costs nothing there."""
_LONG = 1 << 40
"""From so many on progress is shown."""


class KernelDistance(NamedTuple):
    """The unbiased estimate (it may be below 0) and its standard error."""

    value: float
    standard_error: float


class PairSums(NamedTuple):
    """Sums of a kernel over pairs; those of a set with itself leave out the pair of a sample with itself.

    Attributes:
        rows: (n,) of each sample of the first set, over the second.
        columns: (m,) of each of the second, over the first.
        subsets: (S,) over the pairs that lie in both sides' subset s.
    """

    rows: Array
    columns: Array
    subsets: Array


def product_type(x: FloatArray, y: FloatArray) -> torch.dtype:
    """float64 where an input is, or where there is little to do; else float32."""
    small = len(x) * len(y) * x.shape[1] <= _EXACT
    return torch.float64 if small or np.float64 in (x.dtype, y.dtype) else torch.float32


def block(x: FloatArray, rows: slice, kind: torch.dtype, shift: Array | None = None) -> Tensor:
    """Some rows as a tensor; less `shift`, where one is given."""
    part = np.asarray(x[rows], np.float32 if kind == torch.float32 and shift is None else None)
    if shift is not None:
        return torch.from_numpy((part - shift).astype(np.float64 if kind == torch.float64 else np.float32))
    if not (part.flags.writeable and part.flags.c_contiguous):
        part = part.copy()  # a tensor over read-only memory would warn
    return torch.from_numpy(part).to(kind)


def tiles(
    x: FloatArray,
    y: FloatArray | None,
    *,
    shift: Array | None = None,
    tile: int = TILE,
    kind: torch.dtype | None = None,
) -> Iterator[tuple[slice, slice, Tensor]]:
    """The products x·y of all pairs, tile by tile: (rows, columns, products), the products in a buffer used again.

    Args:
        x: (n, D).
        y: (m, D), or None: x itself; then only the tiles on and above the diagonal, since the rest mirrors them.
        shift: (D,) taken from both first. Distances stay, and are more precise near the middle of the data.
        tile: Side of a tile.
        kind: Precision; None: see `product_type`.
    """
    other = x if y is None else y
    kind = kind or product_type(x, other)
    buffer = torch.empty(min(tile, len(x)) * min(tile, len(other)), dtype=kind)

    for top in range(0, len(x), tile):
        rows = slice(top, min(top + tile, len(x)))
        a = block(x, rows, kind, shift)
        for left in range(top if y is None else 0, len(other), tile):
            columns = slice(left, min(left + tile, len(other)))
            b = a if y is None and left == top else block(other, columns, kind, shift)
            products = buffer[: len(a) * len(b)].view(len(a), len(b))
            yield rows, columns, torch.mm(a, b.T, out=products)


def pair_sums(
    x: FloatArray,
    y: FloatArray | None,
    kernel: Callable[[Tensor, slice, slice], Tensor],
    *,
    shift: Array | None = None,
    members: tuple[Tensor, Tensor] | None = None,
    tile: int = TILE,
    note: str = "kernel distance",
) -> PairSums:
    """Sums of k(x, y) over all pairs.

    Sums within a tile keep the tile's precision, sums of tiles are float64.

    Args:
        x: (n, D).
        y: (m, D), or None: x with itself, each pair computed once.
        kernel: From a tile of products x·y, its rows and its columns to the kernel; may work in place.
        shift: See `tiles`.
        members: Which samples (n, S) and (m, S) are in each of S subsets, as 0 and 1.
        tile: Side of a tile.
        note: What progress calls it.
    """
    n, m = len(x), len(x if y is None else y)
    rows_sum, columns_sum = torch.zeros(n, dtype=torch.float64), torch.zeros(m, dtype=torch.float64)
    subsets = torch.zeros(members[0].shape[1] if members else 0, dtype=torch.float64)
    total = n * (n + min(tile, n)) // 2 if y is None else n * m
    with progress(note, total, quiet=total * x.shape[1] < _LONG) as advance:
        for rows, columns, products in tiles(x, y, shift=shift, tile=tile):
            k = kernel(products, rows, columns)
            diagonal = y is None and rows == columns
            if diagonal:
                k.fill_diagonal_(0)
            rows_sum[rows] += k.sum(1).double()
            if not diagonal:
                columns_sum[columns] += k.sum(0).double()
            if members is not None:
                within = (members[0][rows].to(k) * (k @ members[1][columns].to(k))).sum(0, dtype=torch.float64)
                subsets += within * (2 if y is None and not diagonal else 1)
            advance(k.numel())
    if y is None:
        rows_sum += columns_sum
        columns_sum = rows_sum
    return PairSums(rows_sum.numpy(), columns_sum.numpy(), subsets.numpy())


def unbiased(xx: PairSums, yy: PairSums, xy: PairSums) -> KernelDistance:
    """Unbiased MMD² (Gretton et al. 2012, eq. 3) and its standard error, from the sums over all pairs.

    The error is that of the first-order influences of each side's samples, 2 (mean k(xᵢ, x) - mean k(xᵢ, y)).
    """
    n, m = len(xx.rows), len(yy.rows)
    within_x, within_y = xx.rows / (n - 1), yy.rows / (m - 1)
    value = float(within_x.mean() + within_y.mean() - 2 * xy.rows.mean() / m)
    variance = (2 * (within_x - xy.rows / m)).var(ddof=1) / n + (2 * (within_y - xy.columns / n)).var(ddof=1) / m
    return KernelDistance(value, math.sqrt(variance))


def kernel_distance(x: FloatArray, y: FloatArray, *, chunk: int = TILE) -> KernelDistance:
    """Unbiased MMD² of the cubic kernel between all rows.

    float32 features are multiplied in float32 and summed in float64. Against float64 throughout that moved the value by
    1e-9 of the kernel's mean at n = 4,000 and by 2e-10 at n = 10,000 (D = 2,048; 1e-5 of the standard error).

    Args:
        x: Features (n, D).
        y: Features (m, D).
        chunk: Side of a tile of the kernel matrix.

    Raises:
        MetricError: Fewer than two rows, values that are not finite, or different dimensions.
    """
    return _distances(x, y, None, chunk)[0]


def subset_kernel_distance(
    x: FloatArray, y: FloatArray, *, subsets: int = 100, size: int = 1000, seed: int = 2020
) -> tuple[float, float]:
    """Mean and standard deviation over random subsets, as KID is usually published.

    One `RandomState(seed)` draws, for each subset, first from x and then from y, without replacement: the order in
    which torch-fidelity draws.

    Raises:
        MetricError: A side has fewer samples than a subset.
    """
    values = [unbiased(*_cubic_sums(x[i], y[j], None, TILE)).value for i, j in _draw(x, y, subsets, size, seed)]
    return float(np.mean(values)), float(np.std(values))


def whole_and_subsets(
    x: FloatArray, y: FloatArray, *, subsets: int = 100, size: int = 1000, seed: int = 2020
) -> tuple[KernelDistance, float, float]:
    """`kernel_distance` and `subset_kernel_distance` in one pass, for little more than the first alone.

    The sum of a tile K over the pairs of a subset with indicator s is s'Ks: a product with a thin matrix.

    Raises:
        MetricError: As those two.
    """
    members = torch.zeros(len(x), subsets), torch.zeros(len(y), subsets)
    for s, drawn in enumerate(_draw(x, y, subsets, size, seed)):
        for member, index in zip(members, drawn, strict=True):
            member[torch.from_numpy(index), s] = 1
    whole, values = _distances(x, y, members, TILE)
    values = values / (size * (size - 1))
    return whole, float(values.mean()), float(values.std())


def _draw(x: FloatArray, y: FloatArray, subsets: int, size: int, seed: int) -> Iterator[tuple[Index, Index]]:
    if min(len(x), len(y)) < size:
        raise MetricError(f"Subsets of {size} need as many samples; there are {min(len(x), len(y))}.")
    random = np.random.RandomState(seed)
    for _ in range(subsets):
        yield random.choice(len(x), size, replace=False), random.choice(len(y), size, replace=False)


def _distances(
    x: FloatArray, y: FloatArray, members: tuple[Tensor, Tensor] | None, tile: int
) -> tuple[KernelDistance, Array]:
    """The distance, and for each subset of size b its estimate times b (b - 1)."""
    for side, what in ((x, "the samples"), (y, "the reference")):
        if len(side) < 2:
            raise MetricError(f"A kernel distance needs at least 2 samples on each side, not {len(side)}.")
        check_features(side, what)
    check_same_width(x.shape[1], y.shape[1])
    xx, yy, xy = _cubic_sums(x, y, members, tile)
    sizes = members[0].sum(0).double().numpy() if members else np.ones(0)
    return unbiased(xx, yy, xy), xx.subsets + yy.subsets - 2 * xy.subsets * (sizes - 1) / sizes


def _cubic_sums(
    x: FloatArray, y: FloatArray, members: tuple[Tensor, Tensor] | None, tile: int
) -> tuple[PairSums, PairSums, PairSums]:
    def cube(products: Tensor, _: slice, __: slice) -> Tensor:
        return products.div_(x.shape[1]).add_(1).pow_(3)

    one, two = members or (None, None)
    return (
        pair_sums(x, None, cube, members=None if one is None else (one, one), tile=tile),
        pair_sums(y, None, cube, members=None if two is None else (two, two), tile=tile),
        pair_sums(x, y, cube, members=members, tile=tile),
    )


def estimate(measured: Measured) -> list[Estimate]:
    """KID, or KD over another extractor: unbiased over all samples; and over subsets, as it is usually published."""
    x, y, protocol = measured.samples.features, measured.reference.features, measured.protocol
    label = measured.label("KID", "KD")
    subsets, size, fewest = protocol.kid_subsets, protocol.kid_subset_size, min(len(x), len(y))
    if protocol.kid_shrinks:
        size = min(size, fewest)
    if subsets == 0 or size < 2 or fewest < size:
        found = kernel_distance(x, y)
        return [measured.normal_estimate("kid", label, found.value, found.standard_error, better=False)]
    found, mean, std = whole_and_subsets(x, y, subsets=subsets, size=size, seed=protocol.seed)
    published = measured.normal_estimate(
        "kid-subsets",
        f"{label}, mean of {subsets} subsets of {size:,}",
        mean,
        found.standard_error,
        better=False,
        interval="95 %, delta method of the estimate over all samples, around the mean of the subsets",
        details={"subset_std": std, "subsets": subsets, "subset_size": size},
    )
    return [measured.normal_estimate("kid", label, found.value, found.standard_error, better=False), published]
