"""When a verdict becomes a finding: first time, worse, long after, cleared; and what a finding looks like."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from ganwright.errors import SettingsError
from ganwright.metrics.estimate import Estimate, Provenance
from ganwright.training.doctor import CHECKS, Check, Doctor, Finding, Healthy, Symptom, Verdict
from ganwright.training.doctor.check import push
from ganwright.training.doctor.non_finite import NonFinite
from ganwright.training.doctor.regression import MetricRegression
from ganwright.training.doctor.saturation import DiscriminatorSaturation


@dataclass
class Scripted(Check):
    """Says what it is told to: badness above 0 is a symptom, 0 is healthy, below 0 is no opinion."""

    name: ClassVar[str] = "scripted"
    clear_after: ClassVar[int] = 2
    severities: dict[float, str] = field(default_factory=dict)

    def on_log(self, step: int, scalars: dict[str, float]) -> Verdict:
        badness = scalars["badness"]
        if badness == 0:
            return Healthy("all is well")
        if badness < 0:
            return None
        return Symptom(self.severities.get(badness, "warning"), badness, "seen", "why", ("a", "recipe `dcgan`"))


def says(doctor: Doctor, badness: list[float], every: int = 10) -> list[tuple[int, str]]:
    out = []
    for i, value in enumerate(badness):
        out += [(f.step, f.severity) for f in doctor.after_log(every * (i + 1), {"badness": value})]
    return out


def test_said_once_while_it_lasts() -> None:
    assert says(Doctor(checks=[Scripted()]), [-1, 1, 1, 1, 1.4, -1, 1]) == [(20, "warning")]


def test_said_again_when_worse_and_when_graver() -> None:
    assert says(Doctor(checks=[Scripted()]), [1, 1.6, 1.6, 2.5]) == [
        (10, "warning"),
        (20, "warning"),
        (40, "warning"),
    ]
    assert says(Doctor(checks=[Scripted({1.1: "critical"})]), [1, 1.1, 1.1, 1]) == [
        (10, "warning"),
        (20, "critical"),
    ]


def test_cleared_after_enough_healthy_verdicts_and_said_anew() -> None:
    told = says(Doctor(checks=[Scripted()]), [1, 0, 1, 0, -1, 0, 0, 1])
    assert told == [(10, "warning"), (60, "info"), (80, "warning")]
    assert says(Doctor(checks=[Scripted()]), [0, 0, 0]) == []


def test_long_conditions_are_repeated_ever_more_rarely() -> None:
    told = [step for step, _ in says(Doctor(checks=[Scripted()]), [1] * 1000, every=100)]
    assert told == [100, 5_100, 15_100, 35_100, 75_100]


def test_the_recipe_in_use_is_not_its_own_remedy() -> None:
    for recipe, advice in (("dcgan", "a"), ("lsgan", "a; recipe `dcgan`")):
        (finding,) = Doctor(recipe, [Scripted()]).after_log(1, {"badness": 1.0})
        assert finding.try_ == advice


def test_unknown_and_repeated_checks_are_refused() -> None:
    with pytest.raises(SettingsError, match="mode-collapse"):
        Doctor(checks=["mode-colapse"])
    with pytest.raises(SettingsError, match="twice"):
        Doctor(checks=["non-finite", NonFinite()])


def test_all_checks_by_default_and_a_choice_of_them() -> None:
    assert set(Doctor().checks) == set(CHECKS)
    assert list(Doctor(checks=["memorisation", "non-finite"]).checks) == ["memorisation", "non-finite"]


def test_finding_as_a_log_line_and_on_the_terminal() -> None:
    finding = Finding(70, "divergence", "critical", "loss [red]5[/red]", "because", "this; that", stop=True)
    line = json.loads(json.dumps(finding.to_dict()))
    assert line == {
        "event": "finding",
        "step": 70,
        "check": "divergence",
        "severity": "critical",
        "seen": "loss [red]5[/red]",
        "why": "because",
        "try": "this; that",
    }
    output = io.StringIO()
    Console(file=output, width=80).print(finding)
    for text in ("critical: divergence, step 70", "loss [red]5[/red]", "because", "this; that"):
        assert text in output.getvalue()


def test_evidence_that_does_not_apply_is_passed_over() -> None:
    doctor = Doctor()
    assert doctor.after_log(1, {}) == []
    assert doctor.after_evaluation(1, {}) == []
    assert doctor.state()["open"] == {}


# Thresholds of the checks on numbers --------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(1, 40), st.floats(-1e6, 1e6)), min_size=1, max_size=60))
@settings(max_examples=100, deadline=None)
def test_a_window_holds_just_enough(entries: list[tuple[int, float]]) -> None:
    window: list[list[float]] = []
    step = 0
    given_ = []
    for gap, value in entries:
        step += gap
        given_.append([step, value])
        full = push(window, step, value, logs=4, steps=50)
        enough = [k for k in range(len(given_)) if len(given_) - k >= 4 and step - given_[k][0] >= 50]
        assert full == bool(enough)
        assert window == (given_[enough[-1] :] if enough else given_)


def test_a_window_forgets_what_a_rewound_run_did() -> None:
    window: list[list[float]] = []
    for step in (10, 20, 30):
        push(window, step, float(step), logs=2, steps=1000)
    push(window, 20, 0.5, logs=2, steps=1000)
    assert window == [[10, 10.0], [20, 0.5]]


@pytest.mark.parametrize("accuracy", [0.85, 0.95, 0.98])
def test_a_strong_discriminator_is_not_saturated(accuracy: float) -> None:
    doctor = Doctor(checks=["discriminator-saturation"])
    told = [doctor.after_log(s, {"d_accuracy": accuracy, "loss_discriminator": 0.001}) for s in range(50, 5000, 50)]
    assert not any(told)


@pytest.mark.parametrize(("every", "first"), [(1, 1000), (50, 1000), (100, 1400)])
def test_saturation_needs_ten_logs_and_five_hundred_steps_after_warm_up(every: int, first: int) -> None:
    doctor = Doctor(checks=["discriminator-saturation"])
    told = [
        f
        for s in range(every, 3000, every)
        for f in doctor.after_log(s, {"d_accuracy": 1.0, "loss_discriminator": 0.3})
    ]
    assert [(f.step, f.severity) for f in told] == [(first, "warning")]


def test_one_accuracy_of_several_is_enough() -> None:
    doctor = Doctor(checks=[DiscriminatorSaturation(logs=2, steps=1, warm_up_steps=0)])
    scalars = {"d_accuracy_a": 0.7, "d_accuracy_b": 1.0, "loss_discriminator_b": 1e-4}
    told = [f for s in (1, 2, 3) for f in doctor.after_log(s, scalars)]
    assert [(f.step, f.severity) for f in told] == [(2, "critical")]
    assert "d_accuracy_b" in told[0].seen


def test_loss_scaling_may_overflow_now_and_then() -> None:
    nan, inf = float("nan"), float("inf")
    doctor = Doctor(precision="fp16")
    assert doctor.after_log(1, {"grad_norm_generator": inf, "loss_generator": 1.0}) == []
    assert doctor.after_log(2, {"grad_norm_generator": 1.0, "loss_generator": 1.0}) == []
    assert [doctor.after_log(s, {"grad_norm_generator": nan}) for s in (3, 4)] == [[], []]
    assert doctor.after_log(5, {"grad_norm_generator": nan})[0].stop
    assert Doctor(precision="fp16").after_log(1, {"loss_generator": nan})[0].stop
    assert Doctor().after_log(1, {"grad_norm_generator": inf})[0].stop


def test_a_spike_is_not_divergence() -> None:
    doctor = Doctor(checks=["divergence"])
    losses = [1.0] * 20 + [1e7, 1e7] + [1.0] * 20
    assert [f for s, x in enumerate(losses, 1) for f in doctor.after_log(s, {"loss_g": x})] == []
    assert [doctor.after_log(100 + s, {"loss_g": -1e7}) for s in range(3)][-1][0].severity == "critical"


def estimate(value: float, half: float, *, n: int = 1000, higher: bool = False, name: str = "fd") -> Estimate:
    where = Provenance("net", "none", "data", 1000)
    return Estimate(name, name, value, value - half, value + half, n, where, "95 %", higher)


def regress(values: list[Estimate], **thresholds: object) -> list[int]:
    doctor = Doctor(checks=[MetricRegression(**thresholds)])
    told = []
    for i, value in enumerate(values):
        told += [f.step for f in doctor.after_evaluation(1000 * (i + 1), {value.name: value})]
    return told


def test_regression_needs_two_clear_evaluations_in_a_row() -> None:
    best, same, worse = estimate(20, 1), estimate(23, 2), estimate(30, 1)
    assert regress([best, worse, worse]) == [3000]
    assert regress([best, worse, same, worse]) == []
    assert regress([best, estimate(23, 0.1), estimate(23, 0.1)]) == []  # within the margin
    assert regress([best, estimate(23, 0.1), estimate(23, 0.1)], margin=0.1) == [3000]
    assert regress([worse, best, best]) == []


def test_regression_where_higher_is_better() -> None:
    high, low = (estimate(v, 0.02, higher=True, name="class-accuracy") for v in (0.9, 0.5))
    assert regress([high, low, low]) == [3000]
    assert regress([low, high, high]) == []


def test_another_provenance_starts_afresh() -> None:
    best, worse = estimate(20, 1), estimate(30, 1, n=500)
    assert regress([best, worse, worse]) == []
    assert regress([best, worse, estimate(40, 1, n=500), estimate(40, 1, n=500)]) == [4000]


def test_a_regression_that_recovers_is_cleared() -> None:
    doctor = Doctor(checks=["metric-regression"])
    told = []
    for i, value in enumerate([20.0, 30.0, 30.0, 15.0]):
        told += doctor.after_evaluation(1000 * (i + 1), {"fd": estimate(value, 1)})
    assert [(f.step, f.severity) for f in told] == [(3000, "warning"), (4000, "info")]
    assert "20 at step 1000" in told[0].seen
