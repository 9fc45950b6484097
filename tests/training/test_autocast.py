"""Half precision: what a step updates, the rest of the step must see."""

from __future__ import annotations

import torch
from lightning_fabric import Fabric

from ganwright.recipes.base import Stage
from ganwright.training.context import LoopContext
from ganwright.training.randomness import StepRandomness


def test_updates_within_one_autocast_block_see_each_others_weights() -> None:
    # PyTorch keeps half-precision copies of weights until the block ends, whatever happens to the weights meanwhile.
    fabric = Fabric(accelerator="cpu", precision="bf16-mixed")
    layer = torch.nn.Linear(1, 1, bias=False)
    layer.weight.data.fill_(1.0)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.5)
    prepared = {"layer": fabric.setup_optimizers(optimizer)}
    randomness = StepRandomness(0, fabric.device, rank=0, world_size=1)
    ctx = LoopContext(fabric, prepared, randomness, dict, [Stage("train", 1)])
    ctx.begin_step(0, logging=False)
    seen = []
    with fabric.autocast():
        for _ in range(3):
            y = layer(torch.ones(1, 1))
            seen.append(float(y.detach()))
            ctx.minimise(y.float().square().mean() / 2, "layer")  # the derivative by the weight is the weight
    assert seen == [1.0, 0.5, 0.25]
