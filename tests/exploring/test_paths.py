"""Interpolation as geometry demands it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ganwright.errors import SettingsError
from ganwright.exploring import Explorer
from ganwright.exploring.paths import between, closed_loop, slerp

VECTORS = arrays(np.float64, 6, elements=st.floats(-5, 5)).filter(lambda v: np.linalg.norm(v) > 1e-2)


def at(a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
    return slerp(torch.from_numpy(a), torch.from_numpy(b), torch.tensor([t], dtype=torch.float64)).numpy()


def angle(a: np.ndarray, b: np.ndarray) -> float:
    u, v = a / np.linalg.norm(a), b / np.linalg.norm(b)
    return 2 * math.atan2(np.linalg.norm(u - v), np.linalg.norm(u + v))


@given(VECTORS, VECTORS, st.floats(0, 1))
@settings(max_examples=150, deadline=None)
def test_slerp(a: np.ndarray, b: np.ndarray, t: float) -> None:
    np.testing.assert_allclose(at(a, b, 0), a, atol=1e-9)
    np.testing.assert_allclose(at(a, b, 1), b, atol=1e-6)
    point, whole = at(a, b, t), angle(a, b)
    length = (1 - t) * np.linalg.norm(a) + t * np.linalg.norm(b)
    assert np.linalg.norm(point) == pytest.approx(length, rel=1e-6)
    assert angle(a, point) == pytest.approx(t * whole, abs=1e-5)
    assert angle(point, b) == pytest.approx((1 - t) * whole, abs=1e-5)
    np.testing.assert_allclose(point, at(b, a, 1 - t), atol=1e-4 if whole < 3.1 else math.inf)


@given(VECTORS, VECTORS, st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_slerp_is_shoemakes_formula(a: np.ndarray, b: np.ndarray, t: float) -> None:
    u, v = a / np.linalg.norm(a), b / np.linalg.norm(b)
    omega = angle(u, v)
    if not 0.01 < omega < 3.1:
        return
    expected = (math.sin((1 - t) * omega) * u + math.sin(t * omega) * v) / math.sin(omega)
    np.testing.assert_allclose(at(u, v, t), expected, atol=1e-7)


def test_slerp_of_special_points() -> None:
    a = np.array([3.0, 4, 0])
    np.testing.assert_allclose(at(a, a, 0.3), a)
    np.testing.assert_allclose(at(a, 2 * a, 0.5), 1.5 * a)
    opposite = at(a, -a, 0.5)
    assert np.linalg.norm(opposite) == pytest.approx(5) and opposite @ a == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(at(np.zeros(3), a, 0.5), a / 2)


def test_between_is_an_arc_in_z_and_a_line_in_w() -> None:
    a, b = torch.tensor([1.0, 0]), torch.tensor([0.0, 1])
    torch.testing.assert_close(between(a, b, 3, "z")[1], torch.full((2,), math.sqrt(0.5)))
    torch.testing.assert_close(between(a, b, 3, "w+")[1], torch.full((2,), 0.5))


@pytest.mark.parametrize("kind", ["z", "w+"])
def test_a_loop_goes_through_its_keyframes_and_closes_smoothly(kind: str) -> None:
    shape = (5, 9) if kind == "z" else (5, 4, 9)
    keyframes = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    loop = closed_loop(keyframes, 1000, kind).double().flatten(1)
    torch.testing.assert_close(loop[::200].float(), keyframes.flatten(1))
    twice = closed_loop(torch.cat([keyframes, keyframes]), 2000, kind).double().flatten(1)
    torch.testing.assert_close(twice[1000:], loop, atol=1e-5, rtol=0)  # frame 1000 is frame 0 again
    around = torch.cat([loop, loop[:2]])
    steps = around.diff(dim=0)
    assert steps.norm(dim=1).max() < 3 * steps.norm(dim=1).mean()  # no jump anywhere, the seam included
    finer = closed_loop(keyframes, 4000, kind).double().flatten(1)
    bends = [torch.cat([x, x[:2]]).diff(n=2, dim=0).norm(dim=1).max() * len(x) for x in (loop, finer)]
    assert bends[1] < 0.35 * bends[0]  # nor a corner, where bends would not shrink with the steps
    if kind == "z":
        lengths, known = loop.norm(dim=1), keyframes.norm(dim=1)
        assert lengths.min() > 0.8 * known.min() and lengths.max() < 1.25 * known.max()


@pytest.mark.parametrize(("keyframes", "frames"), [(1, 10), (3, 0)])
def test_loops_that_cannot_be(keyframes: int, frames: int) -> None:
    with pytest.raises(SettingsError, match="at least 2 keyframes"):
        closed_loop(torch.randn(keyframes, 4), frames, "z")


def test_the_sheet_begins_and_ends_at_its_points(style: Explorer, plain: Explorer) -> None:
    for explorer in (style, plain):
        sheet = explorer.interpolate([1, 2, 3], 5)
        ends = explorer.images([1, 2, 3]).images.astype(int)
        assert sheet.images.shape[:2] == (2, 5)
        assert np.abs(sheet.images[:, 0] - ends[:2]).max() <= 1
        assert np.abs(sheet.images[:, -1] - ends[1:]).max() <= 1


def test_classes_are_interpolated_in_w(conditional: Explorer) -> None:
    sheet = conditional.interpolate([1, 1], 3, labels=[0, 2])
    middle = conditional.images([1], labels=1).images
    assert np.abs(sheet.images[0, 1].astype(int) - middle[0]).max() <= 1  # the toy's classes lie on a line
    same = conditional.interpolate([1, 2], 3)
    assert np.abs(same.images[0, -1].astype(int) - conditional.images([2], labels=0).images[0]).max() <= 1


def test_too_little_to_interpolate(style: Explorer) -> None:
    for between_, steps in (([1], 5), ([1, 2], 1)):
        with pytest.raises(SettingsError, match="at least 2 points"):
            style.interpolate(between_, steps)
