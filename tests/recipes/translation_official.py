"""Our translators with weights under the authors' names, as in `fixtures/make_translation_fixtures.py`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

FIXTURES = Path(__file__).parent.parent / "fixtures"
sys.path.insert(0, str(FIXTURES))
from r3gan_numbers import numbers, weights  # noqa: E402

OFFICIAL = dict(np.load(FIXTURES / "translation.npz"))
__all__ = ["OFFICIAL", "fill", "numbers", "thin"]


def fill(network: nn.Module, prefix: str, names: Mapping[str, str]) -> None:
    """Give a network the weights of the fixtures; `names` has the authors' name of each of its modules."""
    for name, tensor in network.state_dict().items():
        module, _, leaf = name.rpartition(".")
        if tensor.is_floating_point():
            value = weights(f"{prefix}.{names[module]}.{leaf}", tensor.shape)
            tensor.copy_(value.abs() + 0.5 if leaf == "running_var" else value)


def thin(images: Tensor) -> Tensor:
    """Every 8th row and column, as they are stored."""
    return images.detach()[..., ::8, ::8]


def close(found: Tensor, name: str, tolerance: float) -> None:
    """Assert that a tensor equals the official one."""
    expected = torch.from_numpy(OFFICIAL[name])
    assert found.shape == expected.shape
    assert float(expected.abs().max()) > 0.05, "a fixture of zeros shows nothing"
    assert torch.allclose(found.double(), expected.double(), rtol=0, atol=tolerance), (found - expected).abs().max()
