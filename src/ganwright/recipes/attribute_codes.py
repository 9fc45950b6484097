"""Attributes as numbers a network can take and predict, and attributes that were met in training.

Numbers are standardised by the real images' mean and spread; classes are one-hot. See `attributes.py` for formulas.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganwright.errors import SettingsError, nearest
from ganwright.networks.blocks import mean_over_processes
from ganwright.recipes.attributes import ATTRIBUTES

BANK_ROWS = 1024
"""Real images whose attributes are remembered, to ask for plausible ones when sampling."""
WATCHED_BATCHES = 1000
"""Mean and spread are those of so many batches; then they stay, so that a code keeps its meaning."""


class AttributeCodes(nn.Module):
    """What is known about the real images' attributes; all of it in buffers.

    Args:
        names: Keys of `ATTRIBUTES`.
    """

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        self.kinds = [ATTRIBUTES[name] for name in names]
        self.size = sum(kind.size for kind in self.kinds)
        count = len(self.names)
        for name, value in (
            ("mean", torch.zeros(count)),
            ("mean_square", torch.ones(count)),
            ("bank", torch.zeros(BANK_ROWS, count)),
            ("batches", torch.zeros((), dtype=torch.int64)),
            ("rows", torch.zeros((), dtype=torch.int64)),
        ):
            self.register_buffer(name, value)
        self.mean: Tensor
        self.mean_square: Tensor
        self.bank: Tensor
        self.batches: Tensor
        self.rows: Tensor

    @torch.no_grad()
    def observe(self, values: Tensor) -> None:
        """Take note of real images' attributes (N, A)."""
        watching = self.batches < WATCHED_BATCHES  # a tensor, as below: nothing waits for the device
        self.batches.add_(watching)
        share = torch.where(watching, 1 / self.batches.clamp(min=1), 0).to(self.mean.dtype)
        self.mean.lerp_(mean_over_processes(values.mean(0)).to(self.mean.dtype), share)
        self.mean_square.lerp_(mean_over_processes(values.square().mean(0)).to(self.mean.dtype), share)
        values = values[-BANK_ROWS:]
        places = (self.rows + torch.arange(len(values), device=values.device)) % BANK_ROWS
        self.bank[places] = values.to(self.bank.dtype)
        self.rows.add_(len(values))

    def encode(self, values: Tensor) -> Tensor:
        """Attributes (N, A) as a code (N, size)."""
        spread = (self.mean_square - self.mean.square()).clamp(min=1e-6).sqrt()
        parts = []
        for i, kind in enumerate(self.kinds):
            if kind.classes:
                parts.append(F.one_hot(values[:, i].long(), kind.size).to(self.mean.dtype))
            else:
                parts.append(((values[:, i] - self.mean[i]) / spread[i]).unsqueeze(1))
        return torch.cat(parts, dim=1)

    def loss(self, predicted: Tensor, code: Tensor) -> Tensor:
        """Mean over attributes of squared error (numbers) or cross-entropy (classes).

        Args:
            predicted: Standardised numbers and class logits (N, size).
            code: What is true or was asked for (N, size), from `encode`.
        """
        sizes = [kind.size for kind in self.kinds]
        losses = []
        for kind, p, c in zip(self.kinds, torch.split(predicted, sizes, 1), torch.split(code, sizes, 1), strict=True):
            losses.append(F.cross_entropy(p, c.argmax(1)) if kind.classes else F.mse_loss(p, c))
        return torch.stack(losses).mean()

    def requested(self, n: int, u: Tensor, options: Mapping[str, Any]) -> Tensor:
        """The attributes asked of n samples (n, A): of real images met in training, but for those named in `options`.

        Args:
            n: Samples.
            u: Numbers in [0, 1) (n,) that choose the real images.
            options: By attribute a value, or n of them; classes by name or number.

        Raises:
            SettingsError: An unknown attribute or class, or a wrong number of values.
        """
        met = min(int(self.rows), BANK_ROWS)
        bank = self.bank[:met].cpu() if met else self.mean[None].cpu()
        values = bank[(u * len(bank)).long().clamp(max=len(bank) - 1)].clone().float()
        for name, wanted in options.items():
            if name not in self.names:
                raise SettingsError(
                    f"This GAN has no attribute '{name}'.{nearest(name, self.names)}",
                    where=name,
                    fix="ask for one of " + ", ".join(self.names),
                )
            many = wanted if isinstance(wanted, list | tuple | Tensor) else [wanted] * n
            if len(many) != n:
                raise SettingsError(f"{len(many)} values do not fit {n} samples.", where=name)
            column = self.names.index(name)
            values[:, column] = torch.tensor([_value(name, one) for one in many])
        return values


def control(asked: Tensor, found: Tensor, names: Sequence[str]) -> dict[str, float]:
    """How well images have the attributes that were asked of them, by attribute.

    Args:
        asked: (N, A).
        found: (N, A), measured on the images.
        names: The attributes.

    Returns:
        `control_<name>`: Pearson's correlation for a number, Cohen's kappa for a class (agreement beyond chance; 1 is
        perfect, 0 none, for both); left out where all values are equal.
    """
    result = {}
    for i, name in enumerate(names):
        a, b = asked[:, i].double().cpu(), found[:, i].double().cpu()
        if ATTRIBUTES[name].classes:
            value = _kappa(a.long(), b.long(), len(ATTRIBUTES[name].classes))
        else:
            a, b = a - a.mean(), b - b.mean()
            value = (a * b).sum() / (a.square().sum() * b.square().sum()).sqrt()
        if value.isfinite():
            result[f"control_{name}"] = float(value)
    return result


def _kappa(a: Tensor, b: Tensor, classes: int) -> Tensor:
    """(p_o - p_e) / (1 - p_e) (Cohen 1960)."""
    by_chance = (torch.bincount(a, minlength=classes) * torch.bincount(b, minlength=classes)).sum() / len(a) ** 2
    return ((a == b).double().mean() - by_chance) / (1 - by_chance)


def _value(name: str, wanted: Any) -> float:
    classes = ATTRIBUTES[name].classes
    if classes and isinstance(wanted, str):
        if wanted not in classes:
            raise SettingsError(
                f"'{wanted}' is no value of '{name}'.{nearest(wanted, classes)}",
                where=name,
                fix="one of " + ", ".join(classes),
            )
        return float(classes.index(wanted))
    try:
        value = float(wanted)
    except (TypeError, ValueError):
        raise SettingsError(f"'{wanted}' is no value of '{name}'.", where=name, fix="give a number") from None
    if classes and value not in range(len(classes)):
        raise SettingsError(f"'{name}' has no class {wanted}.", where=name, fix="one of " + ", ".join(classes))
    return value
