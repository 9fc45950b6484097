"""Directions in latent space that change one thing at a time, found without labels.

GANSpace (Härkönen et al. 2020): principal components of the styles w, or of the first layer's activations where there
is no W. SeFa (Shen & Zhou 2021): eigenvectors of the weights that read the latent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ganwright.errors import DataError, SettingsError, nearest
from ganwright.exploring.latents import (
    Kind,
    Origin,
    check_origin,
    origin_from_dict,
    origin_to_dict,
    read_tensors,
    write_tensors,
)
from ganwright.exploring.layers import parse_layers
from ganwright.exploring.space import Space

Method = Literal["ganspace", "sefa"]
METHODS: tuple[Method, ...] = ("ganspace", "sefa")
_SEFA_SAMPLES = 2000
"""Styles sampled to learn how far images lie apart along a direction found by SeFa."""


@dataclass(frozen=True)
class Directions:
    """k directions.

    Attributes:
        method: "ganspace" or "sefa".
        kind: "w+" (directions of w, applied to some layers) or "z".
        names: Of each: "ganspace-0", or the user's own.
        vectors: float32 (k, D), of unit length.
        scales: float32 (k,): standard deviation of latents along each; strengths are given in it.
        values: float32 (k,): GANSpace: share of the variance; SeFa: eigenvalue.
        layers: Layers they are for (all of them, or those SeFa looked at); empty in z.
    """

    method: str
    kind: Kind
    names: tuple[str, ...]
    vectors: Tensor
    scales: Tensor
    values: Tensor
    layers: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def find(self, name: str) -> int:
        """The position of a direction.

        Raises:
            SettingsError: There is none of that name.
        """
        if name not in self.names:
            raise SettingsError(
                f"There is no direction '{name}'.{nearest(name, self.names)}",
                fix="choose from " + ", ".join(self.names),
            )
        return self.names.index(name)

    def renamed(self, names: Mapping[str, str]) -> Directions:
        """With other names, for some or all: `{"ganspace-3": "smile"}`.

        Raises:
            SettingsError: There is none of that name, or two would have one name.
        """
        new = list(self.names)
        for old, name in names.items():
            new[self.find(old)] = name
        if len(set(new)) < len(new) or any(not name.strip() or set(name) & set("=@ ") for name in new):
            raise SettingsError("Names of directions must differ, and have no spaces, = or @.", where="rename")
        return replace(self, names=tuple(new))


def find_directions(
    space: Space,
    method: Method = "ganspace",
    k: int = 10,
    *,
    layers: str | Sequence[int | str] = "all",
    n: int = 10_000,
    seed: int = 0,
    labels: Sequence[int] | int | None = None,
    normalise: bool = False,
) -> Directions:
    """Directions, the strongest first.

    Each points to the side on which its largest number is positive; which side that is means nothing.

    Args:
        space: The generator.
        method: "ganspace" or "sefa".
        k: How many.
        layers: In W, which layers they are for; SeFa looks at the weights of these alone.
        n: GANSpace: random latents to look at.
        seed: Of these.
        labels: Classes of these.
        normalise: SeFa: bring each output's weights to unit length first. The authors' program does; their equation
            does not.

    Raises:
        SettingsError: An unknown method, impossible numbers, or a recipe that does not tell its first layer.
    """
    if method not in METHODS:
        raise SettingsError(f"There is no method '{method}'.{nearest(method, METHODS)}", fix="choose ganspace or sefa")
    dim = space.latent.latent_dim if space.styles is None else space.styles.style_dim
    if not 1 <= k <= dim:
        raise SettingsError(f"There are no {k} directions in {dim} dimensions.", where="k", fix=f"choose 1 to {dim}")
    if n < 2:
        raise SettingsError(f"{n} latents have no principal components.", where="n", fix="choose 10000")
    if space.styles is None:
        if layers != "all":
            space.need_styles("Choosing layers")
        vectors, values, scales = _in_z(space, method, n, seed, normalise)
        chosen: tuple[int, ...] = ()
    else:
        chosen = parse_layers(layers, space.styles.layers)
        if method == "ganspace":
            covariance = _covariance(space, n, seed, labels)
            variances, vectors = _eigenvectors(covariance)
            values, scales = variances / variances.sum().clamp_min(1e-300), variances.sqrt()
        else:
            weights = [space.styles.affines[space.styles.layers[i]] for i in chosen]
            values, vectors = sefa(torch.cat([w.detach().cpu() for w in weights]), normalise=normalise)
            covariance = _covariance(space, min(n, _SEFA_SAMPLES), seed, labels)
            scales = (vectors @ covariance * vectors).sum(1).clamp_min(0).sqrt()
    names = tuple(f"{method}-{i}" for i in range(k))
    vectors, scales, values = (t[:k].float() for t in (vectors, scales, values))
    return Directions(method, space.kind, names, vectors, scales, values, chosen)


def sefa(weights: Tensor, *, normalise: bool = False) -> tuple[Tensor, Tensor]:
    """The directions whose steps change a layer's output most: eigenvectors of AᵀA (Shen & Zhou 2021, equation 5).

    Args:
        weights: A (outputs, D).
        normalise: Bring each row to unit length first.

    Returns:
        Eigenvalues (D,), largest first, and unit eigenvectors as rows (D, D), in float64.
    """
    a = weights.double().cpu()
    if normalise:
        a = a / a.norm(dim=1, keepdim=True).clamp_min(1e-300)
    return _eigenvectors(a.T @ a)


def _covariance(space: Space, n: int, seed: int, labels: Sequence[int] | int | None) -> Tensor:
    """Covariance of w over n random latents, (D, D): from one pass in blocks, however large n is."""
    return streamed_covariance(space.sampled_w(n, seed=seed, labels=labels))


def streamed_covariance(blocks: Iterable[Tensor]) -> Tensor:
    """Covariance (D, D) of rows that come in float64 blocks (b, D), dividing by n - 1.

    Blocks are merged by their means and centred products (Chan et al. 1983), which loses no precision far from 0.
    """
    count, mean, products = 0, torch.zeros(()), torch.zeros(())
    for block in blocks:
        m, centre = len(block), block.mean(0)
        rows = block - centre
        gap = centre - mean
        products = products + rows.T @ rows + torch.outer(gap, gap) * (count * m / (count + m))
        mean = mean + gap * (m / (count + m))
        count += m
    return products / (count - 1)


def _in_z(space: Space, method: Method, n: int, seed: int, normalise: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Directions, values and scales in z, from the layer that z enters.

    GANSpace takes principal components of that layer's activations A z over sampled z, and the latents that lead to
    them by regression (Härkönen et al. 2020, section 2.2): with C the covariance of the sampled z, the latent of the
    component v is C Aᵀ v up to length. These are the activations before the non-linearity, so SeFa is the limit for
    infinitely many latents.
    """
    weights = space.latent.first_layer
    if weights is None:
        raise SettingsError(
            f"{space.name} does not tell the weights of its first layer, so directions cannot be found.",
            fix="its recipe must set `first_layer` in latent_space()",
        )
    a = weights.detach().double().cpu()
    if method == "sefa":
        values, vectors = sefa(a, normalise=normalise)
        return vectors, values, torch.ones(len(values), dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    blocks = (
        torch.randn(min(1000, n - i), a.shape[1], generator=generator, dtype=torch.float64) for i in range(0, n, 1000)
    )
    covariance = streamed_covariance(blocks)
    # The components of A z from the D x D matrix C^(1/2) Aᵀ A C^(1/2): A z itself may have thousands of numbers.
    spread, axes = torch.linalg.eigh(covariance)
    root = axes * spread.clamp_min(0).sqrt() @ axes.T
    variances, turned = _eigenvectors(root @ a.T @ a @ root)
    latents = turned @ root  # C^(1/2) u is C Aᵀ v up to length, for v = A C^(1/2) u
    latents = _signed(latents / latents.norm(dim=1, keepdim=True).clamp_min(1e-300))
    scales = (latents @ covariance * latents).sum(1).clamp_min(0).sqrt()
    return latents, variances / variances.sum().clamp_min(1e-300), scales


def _eigenvectors(symmetric: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, largest first, not below 0, and eigenvectors as rows."""
    values, columns = torch.linalg.eigh(symmetric)
    return values.flip(0).clamp_min(0), _signed(columns.T.flip(0))


def _signed(rows: Tensor) -> Tensor:
    """Each row turned so that its largest number is positive."""
    largest = rows.gather(1, rows.abs().argmax(1, keepdim=True))
    return rows * torch.where(largest < 0, -1.0, 1.0)


# Files. ------------------------------------------------------------------------------------------------------------

_KEY, _WHAT = "ganwright-directions", "directions"
_FIX = "make one with `ganwright explore RUN directions`"


def save_directions(path: str | Path, directions: Directions, origin: Origin) -> Path:
    """Write directions to a safetensors file: `vectors`, `scales`, `values`, and a description as metadata."""
    tensors = {name: getattr(directions, name) for name in ("vectors", "scales", "values")}
    described = {
        "method": directions.method,
        "kind": directions.kind,
        "names": list(directions.names),
        "layers": list(directions.layers),
        "origin": origin_to_dict(origin),
    }
    write_tensors(Path(path), _KEY, tensors, described)
    return Path(path)


def load_directions(path: str | Path, here: Origin, *, other_run: bool = False) -> tuple[Directions, str]:
    """Directions of a file, and a note for people (or an empty string); see `check_origin`.

    Raises:
        DataError: It is no such file, or another run's.
    """
    path = Path(path)
    tensors, described = read_tensors(path, _KEY, _WHAT, _FIX)
    note = check_origin(origin_from_dict(described.get("origin"), path, _WHAT), here, path, other_run=other_run)
    try:
        names, kind = tuple(map(str, described["names"])), described["kind"]
        layers = tuple(int(i) for i in described["layers"])
        dim = here.latent_dim if kind == "z" else here.style_dim
        shapes = [tuple(tensors[name].shape) for name in ("vectors", "scales", "values")]
        sound = shapes == [(len(names), dim), (len(names),), (len(names),)] and kind in ("z", "w+")
        if not sound or not all(0 <= i < len(here.layers) for i in layers):
            raise ValueError("shapes")
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"This file of {_WHAT} is damaged.", where=path, fix=_FIX) from error
    vectors, scales, values = (tensors[name].float() for name in ("vectors", "scales", "values"))
    return Directions(str(described["method"]), kind, names, vectors, scales, values, layers), note
