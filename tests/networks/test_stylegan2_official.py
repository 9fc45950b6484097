"""Our StyleGAN2 networks compute what NVIDIA's do: values, gradients and second derivatives, on both paths.

The figures in tests/fixtures/stylegan2.npz are the official code's (see make_stylegan2_fixtures.py)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.fixtures.stylegan2_cases import DISCRIMINATORS, GENERATORS, inputs, numpy_state
from torch import Tensor, nn

from ganwright.networks.stylegan2 import Discriminator, Generator, discriminator_plan, generator_plan

FIXTURES = Path(__file__).parents[1] / "fixtures"
OPERATIONS = ["fast", "reference"]


def fill(network: nn.Module) -> None:
    state = numpy_state({name: tuple(value.shape) for name, value in network.state_dict().items()})
    found = network.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()}, strict=False)
    assert all(name.endswith("resample_filter") for name in found.missing_keys) and not found.unexpected_keys


@pytest.fixture(scope="module")
def official() -> dict[str, Tensor]:
    with np.load(FIXTURES / "stylegan2.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


def agrees(found: Tensor, official: dict[str, Tensor], key: str) -> None:
    expected = official[key]
    assert found.shape == expected.shape, key
    error = (found.detach().float() - expected).abs().max().item()
    assert error <= 1e-5 * max(1.0, expected.abs().max().item()), (key, error)


def labels_of(kwargs: dict[str, Any], c: Tensor, rows: int) -> Tensor | None:
    return c[:rows].argmax(1) if kwargs["c_dim"] else None


@pytest.mark.parametrize("operations", OPERATIONS)
@pytest.mark.parametrize("name", GENERATORS)
def test_generators(name: str, operations: str, official: dict[str, Tensor]) -> None:
    repository, kwargs = GENERATORS[name]
    network = Generator(replace(generator_plan(kwargs, repository), operations=operations)).eval()
    fill(network)
    given = {key: torch.from_numpy(value) for key, value in inputs(kwargs).items()}
    z, c, y = given["z"][:2], labels_of(kwargs, given["c"], 2), given["y"][:2]
    w = network.mapping(z, c)
    agrees(w, official, f"G/{name}/w")
    truncated = network(z, c, truncation=0.6, cutoff=3)
    agrees(truncated[1:, :, ::3, ::3], official, f"G/{name}/truncated")
    ws = network.styles(z, c).detach().requires_grad_(True)
    images = network.synthesis(ws)
    agrees(images[:1, :1], official, f"G/{name}/images")
    agrees(network.synthesis(ws, "none")[1:, :, ::3, ::3], official, f"G/{name}/none")
    (gradient,) = torch.autograd.grad((images * y).sum(), ws, create_graph=True)
    lengths = gradient.square().sum(2).mean(1).sqrt()
    agrees(lengths, official, f"G/{name}/lengths")
    lengths.square().sum().backward()
    agrees(network.synthesis.b8.conv0.weight.grad[:2, :8], official, f"G/{name}/grad_weight")
    agrees(network.synthesis.b8.conv1.affine.weight.grad[:6], official, f"G/{name}/grad_affine")


@pytest.mark.parametrize("operations", OPERATIONS)
@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_discriminators(name: str, operations: str, official: dict[str, Tensor]) -> None:
    repository, kwargs = DISCRIMINATORS[name]
    network = Discriminator(replace(discriminator_plan(kwargs, repository), operations=operations))
    fill(network)
    given = {key: torch.from_numpy(value) for key, value in inputs(kwargs).items()}
    images = given["images"].requires_grad_(True)
    logits = network(images, labels_of(kwargs, given["c"], 4))
    agrees(logits, official, f"D/{name}/logits")
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    agrees(gradient[:1, :1], official, f"D/{name}/gradient")
    gradient.square().sum().backward()
    agrees(network.b4.conv.weight.grad[:1], official, f"D/{name}/grad_conv")
    agrees(network.b4.out.weight.grad, official, f"D/{name}/grad_out")
