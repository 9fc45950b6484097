"""Learning rates follow their schedule in a resumed run too."""

from __future__ import annotations

import pytest
import torch

from ganwright.config import TrainSettings
from ganwright.training.schedules import LearningRates


def test_the_schedule_goes_on_after_an_optimizer_has_loaded_its_state() -> None:
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.ones(1))], lr=0.5)
    rates = LearningRates({"generator": optimizer}, TrainSettings(steps=10, lr_schedule="linear", lr_decay_from=0.0))
    rates.set(4)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.5 * 0.6)
    optimizer.load_state_dict(optimizer.state_dict())  # torch replaces the groups here
    rates.set(8)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.5 * 0.2)
    assert rates.current() == {"lr_generator": pytest.approx(0.5 * 0.2)}
