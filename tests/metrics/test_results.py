"""A second evaluation of the same pixels is read from the cache; anything that changes a number computes it again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from image_sets import pictures

import ganwright as gw
from ganwright.files import cache_folder
from ganwright.metrics import sets
from ganwright.metrics.results import remembered, result_key


def test_the_second_call_computes_nothing(pool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, report = pictures(1, 60), pictures(2, 80), tmp_path / "r.html"
    first = gw.evaluate(x, reference=y, extractor=pool, report=report, quiet=True)
    assert len(first) > 8

    def refuse(*_: object) -> object:
        raise AssertionError("computed again")

    monkeypatch.setattr("ganwright.metrics.examples._places", refuse)
    monkeypatch.setattr("ganwright.metrics.manifold.manifolds", refuse)
    monkeypatch.setattr("ganwright.metrics.frechet.influences", refuse)
    again = gw.evaluate(x.copy(), reference=y.copy(), extractor=pool, report=tmp_path / "again.html", quiet=True)
    assert again == first
    assert (tmp_path / "again.html").stat().st_size == pytest.approx(report.stat().st_size, rel=0.01)


@pytest.mark.parametrize("changed", ["samples", "reference", "n", "code", "held_out"])
def test_what_changes_a_number_changes_the_key(changed: str, pool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = pictures(1, 60), pictures(2, 80)
    options = {"extractor": pool, "metrics": ("kid", "authenticity"), "quiet": True}
    keys: list[str] = []
    original = sets.remembered
    monkeypatch.setattr(sets, "remembered", lambda key, what, compute: keys.append(key) or original(key, what, compute))
    gw.evaluate(x, reference=y, **options)
    before = set(keys)
    assert before and "" not in before
    keys.clear()
    other: dict[str, object] = {}
    if changed == "samples":
        x = x.copy()
        x[7, 3, 3] ^= 1
    elif changed == "reference":
        y = y[:-1]
    elif changed == "n":
        other = {"n": 50}
    elif changed == "code":
        monkeypatch.setattr("ganwright.metrics.results._code", lambda: "other source")
    else:
        other = {"held_out": pictures(3, 40)}
    gw.evaluate(x, reference=y, **options, **other)
    assert keys and not before & set(keys)


def test_a_damaged_or_unwritable_cache_costs_only_time(monkeypatch: pytest.MonkeyPatch) -> None:
    key = result_key("a", 1)
    assert remembered(key, "what", lambda: [1.5]) == [1.5]
    assert remembered(key, "what", lambda: [2.5]) == [1.5]
    for path in (cache_folder() / "results").iterdir():
        path.write_text("[1.")
    assert remembered(key, "what", lambda: [2.5]) == [2.5]
    assert remembered("", "what", lambda: [3.5]) == [3.5]

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ganwright.metrics.results.write_atomic", full)
    assert remembered(result_key("b"), "what", lambda: {"x": float(np.float64(0.1))}) == {"x": 0.1}


def test_new_code_computes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    before = result_key("same")
    monkeypatch.setattr("ganwright.metrics.results._code", lambda: "other source")
    assert result_key("same") != before
