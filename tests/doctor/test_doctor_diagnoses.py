"""Every finding is provoked by a real training that really goes wrong, and none is made of one that goes
well."""

from __future__ import annotations

import json

import pytest
from tiny_gan import Evidence, Images, TinyGAN, diagnose, digits, train

from ganwright.training.doctor import CHECKS, Doctor, Finding, Healthy, Symptom
from ganwright.training.doctor.collapse import ModeCollapse
from ganwright.training.doctor.saturation import DiscriminatorSaturation

Recording = tuple[list[Evidence], list[Evidence]]


def found(findings: list[Finding]) -> dict[str, Finding]:
    """The gravest-so-far finding of each check: the last that is not merely informative."""
    return {finding.check: finding for finding in findings if finding.severity != "info"}


def test_silent_on_a_healthy_run(healthy_then_collapsed: Recording, data: Images) -> None:
    healthy, _ = healthy_then_collapsed
    # It is healthy: the discriminator stays beatable and the distance to real digits has halved.
    accuracies = [item.scalars["d_accuracy"] for item in healthy if item.scalars]
    assert 0.5 < sum(accuracies) / len(accuracies) < 0.97
    distances = [item.evaluation["fd"].value for item in healthy if item.evaluation]
    assert distances[-1] < 0.6 * distances[0]
    assert diagnose(Doctor(), healthy, data) == []
    # Silent because each check looked and found nothing, not for want of evidence. (Saturation has a
    # warm-up of 500 steps by default; without it the test is stricter.)
    checks = [DiscriminatorSaturation(warm_up_steps=0)]
    checks += [CHECKS[name].make() for name in CHECKS if name != "discriminator-saturation"]
    for check in checks:
        verdicts = []
        for item in healthy:
            if item.scalars is not None:
                verdicts.append(check.on_log(item.step, item.scalars))
            elif item.samples is not None:
                verdicts.append(check.on_samples(item.step, item.samples, data))
            elif item.evaluation is not None:
                verdicts.append(check.on_evaluation(item.step, item.evaluation))
        assert any(isinstance(verdict, Healthy) for verdict in verdicts), check.name
        assert not any(isinstance(verdict, Symptom) for verdict in verdicts), check.name


def test_mode_collapse_missing_classes_and_regression(healthy_then_collapsed: Recording, data: Images) -> None:
    healthy, collapsed = healthy_then_collapsed
    doctor = Doctor("dcgan")
    assert diagnose(doctor, healthy, data) == []
    findings = found(diagnose(doctor, collapsed, data))
    assert {"mode-collapse", "missing-classes", "metric-regression"} <= set(findings)
    assert findings["mode-collapse"].severity == "critical"
    assert "few pictures" in findings["mode-collapse"].why
    assert findings["missing-classes"].severity == "critical"
    best = min(item.evaluation["fd"].value for item in healthy if item.evaluation and item.step >= 500)
    assert f"{best:.4g} at step" in findings["metric-regression"].seen
    assert not any(finding.stop for finding in findings.values())


def test_collapse_from_the_start(data: Images) -> None:
    gan = TinyGAN(data, lr_g=2e-3, lr_d=5e-6, batch=16)
    check = ModeCollapse(slow_start_steps=500)  # 1,000 by default; this one is told sooner to save time
    findings = found(diagnose(Doctor(checks=[check]), train(gan, 600), data))
    assert set(findings) == {"mode-collapse"}
    assert "never been varied" in findings["mode-collapse"].why


def test_saturated_discriminator(data: Images) -> None:
    gan = TinyGAN(data, lr_g=1e-5, lr_d=2e-3, batch=16)
    evidence = train(gan, 520, sample_every=0)
    checks = [name for name in CHECKS if name != "discriminator-saturation"]

    def doctor(recipe: str) -> Doctor:  # warm-up is 500 steps by default; left out here to save time
        return Doctor(recipe, [DiscriminatorSaturation(warm_up_steps=0), *checks])

    findings = found(diagnose(doctor("dcgan"), evidence, data))
    assert set(findings) == {"discriminator-saturation"}
    finding = findings["discriminator-saturation"]
    assert finding.severity == "critical"  # the loss is near 0 as well
    assert "--lr-d" in finding.try_
    assert "recipe `sngan`" in finding.try_
    assert "recipe `sngan`" not in found(diagnose(doctor("sngan"), evidence, data))[finding.check].try_
    # A critic logs no accuracy: nothing is said.
    for item in evidence:
        item.scalars.pop("d_accuracy")
    assert "discriminator-saturation" not in found(diagnose(doctor("dcgan"), evidence, data))


def test_vanishing_gradients_of_the_minimax_loss(data: Images) -> None:
    """Goodfellow et al. 2014, section 3: log(1 - D(G(z))) is flat when D rejects with confidence."""
    gan = TinyGAN(data, minimax=True, lr_g=1e-5, lr_d=2e-2, d_steps=3, batch=16)
    findings = found(diagnose(Doctor(), train(gan, 130, sample_every=0), data))
    assert findings["vanishing-gradients"].severity == "critical"
    # The same discriminator with the non-saturating loss leaves a gradient.
    gan = TinyGAN(data, minimax=False, lr_g=1e-5, lr_d=2e-2, d_steps=3, batch=16)
    assert "vanishing-gradients" not in found(diagnose(Doctor(), train(gan, 130, sample_every=0), data))


def test_vanishing_gradients_against_the_beginning(data: Images) -> None:
    gan = TinyGAN(data, batch=16)
    evidence = train(gan, 100, sample_every=0)
    gan.set_lr(1.0, 2e-4)  # one leap of the generator into the flat part of tanh
    evidence += train(gan, 160, sample_every=0)
    findings = diagnose(Doctor(checks=["vanishing-gradients"]), evidence, data)
    assert findings
    assert findings[0].step > 100


def test_memorisation(data: Images) -> None:
    few = digits(8, 300)
    gan = TinyGAN(few, lr_g=4e-3, lr_d=2e-3, batch=16)
    findings = diagnose(Doctor(), train(gan, 500), few)
    assert set(found(findings)) == {"memorisation"}
    assert "300 held-out images" in findings[-1].seen


def test_non_finite_numbers_stop_training(data: Images) -> None:
    gan = TinyGAN(data, lr_g=1e3, lr_d=1e3, naive=True, batch=16)
    findings = diagnose(Doctor(), train(gan, 3, log_every=1, sample_every=0), data)
    assert findings[0].check == "non-finite"
    assert findings[0].severity == "critical"
    assert findings[0].stop
    assert "is nan" in findings[0].seen or "is inf" in findings[0].seen


def test_divergence(data: Images) -> None:
    gan = TinyGAN(data, lr_g=1e3, lr_d=1e3, batch=16)
    evidence = train(gan, 120, sample_every=0)
    findings = found(diagnose(Doctor(), evidence, data))
    assert findings["divergence"].severity == "critical"
    assert not findings["divergence"].stop


def test_every_check_is_provoked_here() -> None:
    provoked = {
        "non-finite",
        "divergence",
        "discriminator-saturation",
        "vanishing-gradients",
        "mode-collapse",
        "missing-classes",
        "memorisation",
        "metric-regression",
    }
    assert set(CHECKS) == provoked


@pytest.mark.parametrize("cut", [5, 33, 76, 80, 92, 100, 108])
def test_a_resumed_run_is_diagnosed_like_an_uninterrupted_one(
    cut: int, healthy_then_collapsed: Recording, data: Images
) -> None:
    evidence = [*healthy_then_collapsed[0], *healthy_then_collapsed[1]]
    whole = diagnose(Doctor(), evidence, data)
    assert len(whole) >= 3
    first = Doctor()
    before = diagnose(first, evidence[:cut], data)
    state = json.loads(json.dumps(first.state(), allow_nan=False))
    diagnose(first, evidence[cut:], data)  # the state is a copy: going on does not change it
    second = Doctor()
    second.load_state(state)
    assert before + diagnose(second, evidence[cut:], data) == whole
