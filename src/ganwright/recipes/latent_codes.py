"""InfoGAN's latent codes: how they are drawn, laid out, read back and asked for (Chen et al. 2016).

A row of codes is one-hot for each categorical code in turn, then the continuous ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ganwright.errors import SettingsError, nearest
from ganwright.recipes.base import StepContext

LOG_SPREAD = (-3.0, 1.0)
"""Bounds of log σ of a continuous code as Q reads it, so that perfect reading earns no endless reward."""


@dataclass(frozen=True)
class LatentCodes:
    """Codes with their priors: uniform over the categories, uniform in [-1, 1].

    Attributes:
        categorical: Number of categorical codes.
        categories: Categories of each.
        continuous: Number of continuous codes.
    """

    categorical: int
    categories: int
    continuous: int

    @property
    def size(self) -> int:
        """Numbers in a row of codes."""
        return self.categorical * self.categories + self.continuous

    @property
    def readings(self) -> int:
        """Numbers Q says: logits of the categorical codes, then mean and log σ of the continuous ones."""
        return self.categorical * self.categories + 2 * self.continuous

    @property
    def names(self) -> tuple[str, ...]:
        """Names to ask for: category, category2, …, code1, code2, …."""
        first = [f"category{i + 1}" if i else "category" for i in range(self.categorical)]
        return (*first, *(f"code{i + 1}" for i in range(self.continuous)))

    @property
    def meanings(self) -> dict[str, str]:
        """What may be asked of each code, by name."""
        category = f"0 to {self.categories - 1}"
        return {name: category if name.startswith("category") else "-1 to 1" for name in self.names}

    def draw(self, rows: int, ctx: StepContext) -> Tensor:
        """Codes (rows, size) from their priors."""
        categories = ctx.integers(self.categories, rows, self.categorical)
        return self.join(categories, 2 * ctx.uniform(rows, self.continuous) - 1)

    def join(self, categories: Tensor, continuous: Tensor) -> Tensor:
        """Categories int64 (n, categorical) and continuous codes (n, continuous) as rows (n, size)."""
        one_hot = F.one_hot(categories, self.categories).flatten(1).to(continuous.dtype)
        return torch.cat([one_hot, continuous], dim=1)

    def split(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """The inverse of `join`."""
        parts = torch.unflatten(codes[:, : self.size - self.continuous], 1, (self.categorical, self.categories))
        return parts.argmax(2), codes[:, self.size - self.continuous :]

    def log_likelihoods(self, readings: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Mean over rows of log Q(c | x), summed over the categorical and over the continuous codes.

        Q is categorical, and a Gaussian with its own mean and spread for each continuous code. The bound on the mutual
        information is this plus the codes' entropy, which is constant.

        Args:
            readings: What Q says (N, `readings`).
            codes: What they are (N, size).
        """
        categories, continuous = self.split(codes)
        end = self.categorical * self.categories
        logits = torch.unflatten(readings[:, :end], 1, (self.categorical, self.categories))
        of_categories = -F.cross_entropy(logits.flatten(0, 1), categories.flatten(), reduction="sum") / len(codes)
        mean, log_spread = readings[:, end:].chunk(2, dim=1)
        log_spread = log_spread.clamp(*LOG_SPREAD)
        errors = ((continuous - mean) / log_spread.exp()).square()
        log_density = -0.5 * errors - log_spread - 0.5 * math.log(2 * math.pi)
        return of_categories, log_density.sum(1).mean()

    def read(self, readings: Tensor) -> tuple[Tensor, Tensor]:
        """The likeliest categories (N, categorical) and continuous codes (N, continuous)."""
        end = self.categorical * self.categories
        logits = torch.unflatten(readings[:, :end], 1, (self.categorical, self.categories))
        return logits.argmax(2), readings[:, end : end + self.continuous]

    def requested(self, n: int, u: Tensor, options: Mapping[str, Any]) -> Tensor:
        """The codes of n samples (n, size): drawn, the first category in turn, but for those in `options`.

        Args:
            n: Samples.
            u: Numbers in [0, 1), float32 (n, categorical + continuous).
            options: By name of a code a value, or n of them.

        Raises:
            SettingsError: An unknown code, no such category, or a wrong number of values.
        """
        categories = (u[:, : self.categorical] * self.categories).long().clamp(max=self.categories - 1)
        if self.categorical:
            categories[:, 0] = torch.arange(n) % self.categories
        continuous = 2 * u[:, self.categorical :] - 1
        for name, wanted in options.items():
            if name not in self.names:
                raise SettingsError(
                    f"This GAN has no code '{name}'.{nearest(name, self.names)}",
                    where=name,
                    fix="ask for one of " + ", ".join(self.names),
                )
            column = self.names.index(name)
            values = _values(name, wanted, n)
            if column < self.categorical:
                if any(value not in range(self.categories) for value in values):
                    raise SettingsError(
                        f"'{name}' has no such category.", where=name, fix=f"give 0 to {self.categories - 1}"
                    )
                categories[:, column] = torch.tensor(values).long()
            else:
                continuous[:, column - self.categorical] = torch.tensor(values)
        return self.join(categories, continuous)


def _values(name: str, wanted: Any, n: int) -> list[float]:
    many = wanted if isinstance(wanted, list | tuple | Tensor) else [wanted] * n
    if len(many) != n:
        raise SettingsError(f"{len(many)} values do not fit {n} samples.", where=name, fix=f"give one, or {n}")
    try:
        return [float(value) for value in many]
    except (TypeError, ValueError):
        raise SettingsError(f"'{wanted}' is no value of '{name}'.", where=name, fix="give a number") from None
