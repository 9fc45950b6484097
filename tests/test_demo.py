"""The demo keeps its promise: an independent classifier reads the generated digits as the class asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import ganwright as gw
from ganwright.data.opening import open_dataset
from ganwright.samples import ImageSamples


def to_tensor(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 255


def train_classifier(images: np.ndarray, labels: np.ndarray) -> nn.Module:
    """A network unlike the judge of `class-accuracy`: no batch norm, average pooling, plain SGD."""
    torch.manual_seed(7)
    network = nn.Sequential(
        *(nn.Conv2d(1, 24, 5, 2, 2), nn.ReLU(), nn.Conv2d(24, 48, 5, 2, 2), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(48 * 64, 128), nn.ReLU(), nn.Linear(128, 10)),
    )
    optimizer = torch.optim.SGD(network.parameters(), 0.05, momentum=0.9, weight_decay=1e-4)
    generator = np.random.default_rng(7)
    x, y = to_tensor(images), torch.from_numpy(labels)
    for epoch in range(8):
        for group in optimizer.param_groups:
            group["lr"] = 0.05 * (1 - epoch / 8)
        for rows in np.array_split(generator.permutation(len(x)), len(x) // 64):
            shift = tuple(generator.integers(-2, 3, 2))
            loss = F.cross_entropy(network(torch.roll(x[rows], shift, (2, 3))), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network.eval()


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_digits_are_read_as_the_class_asked_for(tmp_path: Path) -> None:
    data = open_dataset("mnist")
    network = train_classifier(data.images[data.train_index], data.labels[data.train_index])
    with torch.no_grad():
        read = network(to_tensor(data.images[data.held_out_index])).argmax(1).numpy()
    assert (read == data.labels[data.held_out_index]).mean() >= 0.96

    run = gw.train("cgan", "mnist", out=tmp_path / "demo", evaluate_every=-1)  # the demo's settings, unbounded
    samples = run.sample(1000, seed=123)
    assert isinstance(samples, ImageSamples) and samples.labels is not None
    with torch.no_grad():
        read = network(to_tensor(samples.images)).argmax(1).numpy()
    share = (read == samples.labels).mean()
    assert share >= 0.90
    assert set(read) == set(range(10))

    # One image a class would pass the above: the digits of a class must vary as real ones do.
    def spread(images: np.ndarray, labels: np.ndarray) -> float:
        return float(np.mean([images[labels == k].astype(float).std(axis=0).mean() for k in range(10)]))

    real = spread(data.images[data.held_out_index], data.labels[data.held_out_index])
    assert spread(samples.images, samples.labels) >= 0.7 * real
    print(f"read as asked for: {share:.3f}; spread {spread(samples.images, samples.labels) / real:.2f} of real")
