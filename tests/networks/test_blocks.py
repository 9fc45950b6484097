"""Norms, dropout and spectral norm, against torch's own layers and against linear algebra."""

from __future__ import annotations

import copy
import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ganwright.networks.blocks import (
    ConditionalNorm,
    Dropout,
    SyncedBatchNorm,
    SyncedBatchNorm2d,
    lent_randomness,
    make_norm,
    spectral_normalise,
    sum_over_processes,
)


def batch(rows: int = 8, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return 5 + 2 * torch.randn(rows, channels, 4, 4, generator=generator, dtype=torch.float64)


def test_one_process_is_torch_batch_norm() -> None:
    ours, theirs = SyncedBatchNorm2d(3).double(), nn.BatchNorm2d(3).double()
    theirs.load_state_dict(ours.state_dict())  # same names
    for _ in range(3):
        assert torch.equal(ours(batch()), theirs(batch()))
    ours.eval(), theirs.eval()
    assert torch.equal(ours(batch()), theirs(batch()))
    assert {k: v.tolist() for k, v in ours.state_dict().items()} == {
        k: v.tolist() for k, v in theirs.state_dict().items()
    }


def _objective(norm: nn.Module, x: Tensor, weight: Tensor) -> Tensor:
    """A loss with a gradient penalty through the norm: needs a double backward."""
    x = x.detach().requires_grad_(True)
    y = (torch.tanh(norm(x)) * weight).flatten(1).sum(1)
    (gradient,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    return y.square().mean() + gradient.flatten(1).square().sum(1).mean()


def _one_step(norm: nn.Module, x: Tensor, weight: Tensor, world_size: int) -> dict[str, Tensor]:
    loss = _objective(norm, x, weight)
    loss.backward()
    gradients = {name: parameter.grad / world_size for name, parameter in norm.named_parameters()}
    return {"loss": loss.detach() / world_size, **gradients, **dict(norm.named_buffers())}


def _worker(rank: int, folder: str) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"}
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.set_num_threads(1)
    for kind in ("plain", "conditional"):
        norm, weight = _example(kind)
        rows = slice(4 * rank, 4 * rank + 4)
        _prepare(norm, rows)
        result = _one_step(norm, batch()[rows], weight, 2)
        for name, value in result.items():
            if "running" not in name and "tracked" not in name:
                dist.all_reduce(value)
        torch.save(result, f"{folder}/{kind}-{rank}.pt")
    dist.destroy_process_group()


LABELS = torch.tensor([0, 1, 1, 0, 1, 0, 0, 1])


class _WithLabels(nn.Module):
    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm, self.rows = norm, slice(None)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x, LABELS[self.rows])


def _example(kind: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(1)
    norm = _WithLabels(make_norm("batch", 3, 2 if kind == "conditional" else 0).double())
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    return norm, torch.randn(3, 4, 4, dtype=torch.float64)


def _prepare(norm: nn.Module, rows: slice) -> None:
    norm.rows = rows  # type: ignore[assignment]


def test_two_processes_equal_one_with_double_backward(tmp_path: Path) -> None:
    mp.spawn(_worker, (str(tmp_path),), nprocs=2)
    for kind in ("plain", "conditional"):
        norm, weight = _example(kind)
        # The penalty is on Σ_i y_i of the process's rows; with batch norm the other process's rows feel it as
        # well, so the one-process reference takes the gradient of the sum over all rows, as both processes
        # together do.
        expected = _one_step(norm, batch(), weight, 1)
        for rank in range(2):
            found = torch.load(tmp_path / f"{kind}-{rank}.pt", weights_only=True)
            assert found.keys() == expected.keys()
            for name, value in expected.items():
                assert torch.allclose(found[name], value, rtol=1e-9, atol=1e-10), (kind, rank, name)


def test_the_sum_over_one_process_is_the_tensor() -> None:
    x = torch.ones(3)
    assert sum_over_processes(x) is x


@pytest.mark.parametrize("shape", [(6, 3), (6, 3, 4, 4)])
def test_conditional_norm_gives_each_class_its_gain_and_bias(shape: tuple[int, ...]) -> None:
    norm = make_norm("batch", 3, num_classes=4)
    assert isinstance(norm, ConditionalNorm)
    x, labels = torch.randn(shape), torch.tensor([0, 1, 2, 3, 0, 1])
    plain = nn.BatchNorm1d(3, affine=False) if len(shape) == 2 else nn.BatchNorm2d(3, affine=False)
    normalised = plain(x)
    assert torch.allclose(norm(x, labels), normalised)  # gains begin at 1, biases at 0
    with torch.no_grad():
        norm.gain.weight[1], norm.bias.weight[2] = 3.0, -1.0
    y = norm(x, labels)
    assert torch.allclose(y[1], 3 * normalised[1]) and torch.allclose(y[2], normalised[2] - 1)
    with pytest.raises(ValueError, match="labels"):
        norm(x)


def test_instance_norm_has_zero_mean_and_unit_variance_in_each_image() -> None:
    y = make_norm("instance", 3)(batch().float(), None)
    assert torch.allclose(y.mean((2, 3)), torch.zeros(8, 3), atol=1e-5)
    assert torch.allclose(y.var((2, 3), unbiased=False), torch.ones(8, 3), atol=1e-3)


def test_dropout_uses_the_lent_numbers() -> None:
    layer, x = Dropout(0.25), torch.ones(2, 3)
    numbers = torch.tensor([[0.0, 0.24, 0.25], [0.5, 0.9, 0.1]])
    with lent_randomness(layer, lambda rows, *shape: numbers):
        assert torch.allclose(layer(x), torch.tensor([[0, 0, 4 / 3], [4 / 3, 4 / 3, 0]]))
        assert torch.equal(layer.eval()(x), x)
    assert layer.uniform is None
    copy.deepcopy(layer)


def test_dropout_keeps_the_mean() -> None:
    torch.manual_seed(0)
    layer = Dropout(0.4)
    with lent_randomness(layer, lambda rows, *shape: torch.rand(rows, *shape)):
        y = layer(torch.ones(200, 500))
    assert y.mean().item() == pytest.approx(1.0, abs=0.01)
    assert (y == 0).float().mean().item() == pytest.approx(0.4, abs=0.01)


def test_spectral_norm_makes_the_largest_singular_value_one_and_only_in_train_mode() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Flatten(), nn.Linear(8 * 16, 4))
    spectral_normalise(network)
    x = torch.randn(2, 3, 4, 4)
    for _ in range(100):
        network(x)
    network.eval()
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    network(x)
    assert before and all(torch.equal(buffer, before[name]) for name, buffer in network.named_buffers())
    for module in (network[0], network[2]):
        singular_values = torch.linalg.svdvals(module.weight.detach().flatten(1))  # type: ignore[operator]
        assert singular_values[0].item() == pytest.approx(1.0, abs=1e-3)


def test_spectral_norm_round_trips_through_safetensors(tmp_path: Path) -> None:
    def build(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 2))
        spectral_normalise(network)
        return network

    first, second = build(0), build(1)
    x = torch.randn(2, 3, 4, 4)
    first(x)
    save_file(first.state_dict(), tmp_path / "weights.safetensors")
    second.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    for _ in range(3):  # the power iteration goes on from the same vectors
        assert torch.equal(first(x), second(x))


def test_networks_with_equal_seeds_have_equal_power_iteration_vectors() -> None:
    buffers = []
    for _ in range(2):
        torch.manual_seed(3)
        layer = nn.Linear(5, 4)
        spectral_normalise(layer)
        layer(torch.ones(1, 5)), layer(torch.zeros(1, 5))  # two passes a step, as on reals and fakes
        buffers.append([buffer.clone() for buffer in layer.buffers()])
    assert all(torch.equal(a, b) for a, b in zip(*buffers, strict=True))


def test_batch_norm_refuses_other_shapes() -> None:
    with pytest.raises(ValueError, match="expected"):
        SyncedBatchNorm(3)(torch.zeros(2, 3, 4))
    with pytest.raises(ValueError, match="expected"):
        SyncedBatchNorm2d(3)(torch.zeros(2, 3))
