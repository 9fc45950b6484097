"""Exponential moving average of a recipe's generators (Yazıcı et al. 2019, "The unusual effectiveness of averaging in
GAN training"), with the ramp-up of StyleGAN2-ADA (Karras et al. 2020): early on the average must not lag.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ganwright.errors import SettingsError, nearest

_AVERAGED_BUFFERS = ("running_mean", "running_var")
"""Batch statistics are averaged like weights; other buffers (counters, power-iteration vectors) are copied."""


class MovingAverage:
    """Averaged copies of some submodules' states.

    Args:
        recipe: The module whose submodules are averaged.
        networks: Names of those submodules.
        half_life: Steps after which a weight's share has halved.
        ramp_up: The half-life is at most this share of the steps done.

    Raises:
        SettingsError: The recipe names a network it does not have.
    """

    def __init__(self, recipe: nn.Module, networks: tuple[str, ...], half_life: float, ramp_up: float) -> None:
        self.half_life, self.ramp_up = half_life, ramp_up
        self._live: dict[str, Tensor] = {}
        self._averaged: set[str] = set()
        modules = dict(recipe.named_modules())
        for network in networks:
            if network not in modules:
                raise SettingsError(
                    f"The recipe says to average '{network}', but has no such network.{nearest(network, modules)}"
                )
            parameters = {name for name, _ in modules[network].named_parameters()}
            for name, tensor in modules[network].state_dict(keep_vars=True).items():
                key = f"{network}.{name}"
                self._live[key] = tensor
                if name in parameters or name.endswith(_AVERAGED_BUFFERS):
                    self._averaged.add(key)
        self.average = {key: tensor.detach().clone() for key, tensor in self._live.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move towards the present weights, after `step` steps."""
        half_life = min(self.half_life, self.ramp_up * step) if self.ramp_up > 0 else self.half_life
        decay = 0.5 ** (1 / max(half_life, 1e-8))
        averaged = [key for key in self._live if key in self._averaged]
        if averaged:
            ours = [self.average[key] for key in averaged]
            torch._foreach_lerp_(ours, [self._live[key].detach() for key in averaged], 1 - decay)
        for key in self._live.keys() - self._averaged:
            self.average[key].copy_(self._live[key])

    @contextlib.contextmanager
    def swapped_in(self) -> Iterator[None]:
        """The networks hold the averaged weights inside the block, and exactly their own again after it."""
        own = {key: tensor.detach().clone() for key, tensor in self._live.items()}
        try:
            self._put(self.average)
            yield
        finally:
            self._put(own)

    def copy_to_networks(self) -> None:
        """Give the networks the averaged weights for good."""
        self._put(self.average)

    @torch.no_grad()
    def _put(self, state: dict[str, Tensor]) -> None:
        for key, tensor in self._live.items():
            tensor.copy_(state[key])

    def state_dict(self) -> dict[str, Tensor]:
        """The averages by name."""
        return dict(self.average)

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take averages that `state_dict` gave."""
        for key, tensor in self.average.items():
            tensor.copy_(state[key])


def default_half_life(batch_size: int, steps: int) -> float:
    """10,000 images' worth of steps (StyleGAN2's value), at most a twentieth of the run."""
    return max(1.0, min(10_000 / batch_size, steps / 20))
