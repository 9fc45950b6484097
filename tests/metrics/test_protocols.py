"""Protocols against the tools they are named after.

The figures in `tests/fixtures/` were computed by pytorch-fid, torch-fidelity, clean-fid, prdc and NVIDIA's formulas
(see `make_protocol_fixtures.py`), over random Inception weights and images that are made anew here, bit for bit.
"""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.fixtures.inception_weights import make_state, shapes_of
from tests.fixtures.make_protocol_fixtures import CLASSES, COLUMNS, GRID, PROTOCOLS, SETS, contrast
from tests.fixtures.pictures import SIZES, preprocessing_image
from tests.fixtures.tools import captured

from ganwright.metrics import frechet, inception_score, kernel, protocols
from ganwright.metrics.estimate import Evaluation, Provenance
from ganwright.metrics.extractor_base import Features
from ganwright.metrics.extractor_inception import Inception
from ganwright.metrics.manifold import manifolds
from ganwright.metrics.measured import Measured
from ganwright.metrics.moments import Moments
from ganwright.networks.folded import uninitialised
from ganwright.networks.inception import InceptionV3

FOLDER = Path(__file__).parent.parent / "fixtures"
SCALARS: dict[str, dict[str, float]] = json.loads((FOLDER / "protocol_scalars.json").read_text())["scalars"]
INPUT_TOLERANCE = {
    "torch-fidelity": 0.0,
    "clean-fid": 2e-5,  # one step of float32 below 255
    "pytorch-fid": 6e-5,  # it resizes in 0..1
    "stylegan": 0.01,  # grid_sample's positions, rounded in -1..1
}
"""How far an input may be off, in grey levels."""
FEATURE_TOLERANCE = 1e-5
"""Of the largest feature. Float32 alone gives 1e-6."""
WHOLE = list(SETS)
KEPT = [f"{name}, kept columns" for name in SETS]


@lru_cache(maxsize=1)
def network() -> InceptionV3:
    made = uninitialised(InceptionV3)
    made.load_state_dict(make_state(shapes_of(made.state_dict())))
    return made


@lru_cache(maxsize=8)
def extractor(protocol: str) -> Inception:
    return Inception(network=network(), protocol=protocols.PROTOCOLS[protocol])


@lru_cache(maxsize=1)
def fixture(name: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / f"protocol_{name}.npz") as file:
        return dict(file)


def check_features(found: Features, key: str, protocol: str, first: int | None = None) -> None:
    """Compare with the features kept under a key, those of all images or of the first ones."""
    known = fixture("features")
    expected, largest = known[f"{key} {protocol}"][:first], float(known[f"{key} {protocol} largest"])
    assert np.abs(found.features[:, COLUMNS] - expected).max() < FEATURE_TOLERANCE * largest
    means = known[f"{key} {protocol} row mean"][:first]
    assert np.abs(found.features.mean(axis=1, dtype=np.float64) - means).max() < FEATURE_TOLERANCE * largest
    logits = known[f"{key} torch-fidelity logits"][:first]
    if protocol == "torch-fidelity":
        assert found.logits is not None
        assert np.abs(found.logits[:, CLASSES] - logits).max() < FEATURE_TOLERANCE * np.abs(logits).max()


def measured(samples: Features, reference: Features, protocol: str, size: int) -> Measured:
    """As an evaluation under this protocol has it, with subsets that fit the few images here."""
    follows = replace(protocols.PROTOCOLS[protocol], kid_subset_size=size)
    provenance = Provenance("inception/test", "", "here", len(reference))
    return Measured(samples, reference, provenance, protocol=follows)


def check_numbers(samples: Features, reference: Features, protocol: str, name: str) -> None:
    """Compare the estimates with the tool's numbers: to 1e-4, a KID also to 1e-3 of its spread over subsets."""
    known = SCALARS[name]
    given = measured(samples, reference, protocol, SETS[name.partition(",")[0]][2])
    found = Evaluation.of(frechet.estimate(given) + kernel.estimate(given) + inception_score.estimate(given))
    kid, spread = "torch-fidelity kernel_inception_distance", known["torch-fidelity kernel_inception_distance_std"]

    def check(value: float, key: str, *, rel: float = 1e-4, of_spread: float = 0.0) -> None:
        assert value == pytest.approx(known[key], rel=rel, abs=of_spread * spread), key

    if protocol == "torch-fidelity":
        check(found["fd"].value, "torch-fidelity frechet_inception_distance")
        check(found["kid-subsets"].value, f"{kid}_mean", of_spread=1e-3)
        check(found["kid-subsets"].details["subset_std"], f"{kid}_std", rel=1e-3)
        check(found["is-splits"].value, "torch-fidelity inception_score_mean")
        check(found["is-splits"].details["split_std"], "torch-fidelity inception_score_std", rel=1e-3)
        for key, value in manifolds(samples.features, reference.features).values.items():
            # Its distances come from a float32 product without centring, to 1e-4 here: one image may be on the other
            # side of a ball's surface. Ours are those of float64, as prdc's are.
            if key in ("precision", "recall"):
                assert abs(value - known[f"torch-fidelity {key}"]) < 1.01 / len(samples)
        for key, value in manifolds(samples.features, reference.features, k=5, k_density=5).values.items():
            check(value, f"prdc {key}", rel=1e-6)
        return
    check(found["fd"].value, f"{protocol} fid")
    if protocol in ("clean-fid", "stylegan"):
        check(found["kid-subsets"].value, f"{protocol} kid", of_spread=1e-3)
    if protocol == "clean-fid":  # with fewer images than a subset asks for it takes all
        check(found["kid"].value, "clean-fid kid, subsets larger than the sets", of_spread=1e-3)
        large = Evaluation.of(kernel.estimate(measured(samples, reference, protocol, 1000)))
        check(large["kid-subsets"].value, "clean-fid kid, subsets larger than the sets", of_spread=1e-3)
    if protocol == "stylegan":
        check(found["is-splits"].value, "stylegan is_mean")
        check(found["is-splits"].details["split_std"], "stylegan is_std", rel=1e-3)


@pytest.mark.parametrize("name", list(SIZES))
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_network_inputs_are_the_tools(protocol: str, name: str) -> None:
    used = extractor(protocol)
    found = captured(lambda: used(preprocessing_image(name)[None]), used.network)
    expected = fixture("inputs")[f"{name} {protocol}"]
    levels = np.abs(found[:, GRID][:, :, GRID] - expected).max() * used.scale
    assert levels <= INPUT_TOLERANCE[protocol]


@pytest.mark.parametrize("name", list(SETS))
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_features_are_the_tools(protocol: str, name: str) -> None:
    check_features(extractor(protocol)(SETS[name][0]()[:4]), f"{name} a", protocol, first=4)


@pytest.mark.parametrize("other", [name for name in PROTOCOLS if name != "clean-fid"])
def test_features_of_another_protocol_are_not(other: str) -> None:
    known = fixture("features")
    difference = np.abs(known["digits a clean-fid"] - known[f"digits a {other}"]).max()
    assert difference > 1000 * FEATURE_TOLERANCE * float(known["digits a clean-fid largest"])


@pytest.mark.parametrize("name", KEPT)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_numbers_from_the_same_features_are_the_tools(protocol: str, name: str) -> None:
    known, key = fixture("features"), name.partition(",")[0]
    a, b = (
        Features(known[f"{key} {side} {protocol}"], contrast(known[f"{key} {side} torch-fidelity logits"]))
        for side in ("a", "b")
    )
    check_numbers(a, b, protocol, name)


@pytest.mark.parametrize("ddof, protocol", [(0, "stylegan"), (1, "pytorch-fid")])
def test_frechet_of_means_and_covariances(ddof: int, protocol: str) -> None:
    known = fixture("features")
    moments = []
    for side in ("a", "b"):
        x = known[f"digits {side} {protocol}"].astype(np.float64)
        moments.append(Moments.of_covariance(x.mean(axis=0), np.cov(x, rowvar=False, ddof=ddof)))
    expected = SCALARS["digits, kept columns"][f"{protocol} fid"]
    assert frechet.frechet_distance(*moments) == pytest.approx(expected, rel=1e-6)


def test_the_covariance_divisor_of_stylegan_matters() -> None:
    known = fixture("features")
    a, b = (known[f"digits {side} stylegan"] for side in ("a", "b"))
    expected = SCALARS["digits, kept columns"]["stylegan fid"]
    assert frechet.frechet_distance(a, b, ddof=0) == pytest.approx(expected, rel=1e-6)
    assert frechet.frechet_distance(a, b, ddof=1) != pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", WHOLE)
def test_numbers_from_images_are_the_tools(name: str) -> None:
    """Under a minute on two free cores: every image through the network once for each way of resizing."""
    make_a, make_b, _ = SETS[name]
    for group in (("clean-fid",), ("pytorch-fid",), ("torch-fidelity", "stylegan")):
        found = [extractor(group[0])(make()) for make in (make_a, make_b)]
        for protocol in group:
            check_features(found[0], f"{name} a", protocol)
            check_features(found[1], f"{name} b", protocol)
            check_numbers(found[0], found[1], protocol, name)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", ["cifar", "facades"])
def test_features_of_photographs_are_the_tools(protocol: str, name: str, real_data: Callable[[str], Path]) -> None:
    read: dict[str, Callable[[Any], list[np.ndarray]]] = {"cifar": cifar_photos, "facades": facades_photos}
    path = real_data({"cifar": "cifar10-jpeg-test.tar.gz", "facades": "facades-pairs.zip"}[name])
    check_features(extractor(protocol)(read[name](path)), name, protocol, first=4)


def cifar_photos(path: Path) -> list[np.ndarray]:
    """The first 4 of every 400th JPEG of 32x32."""
    with tarfile.open(path) as file:
        members = sorted((m for m in file.getmembers() if m.name.endswith(".jpg")), key=lambda m: m.name)
        return [decode(file.extractfile(m).read()) for m in members[:1600:400]]  # type: ignore[union-attr]


def facades_photos(path: Path) -> list[np.ndarray]:
    """The first 4 of every 50th JPEG of 512x256."""
    with zipfile.ZipFile(path) as file:
        names = sorted(name for name in file.namelist() if name.endswith(".jpg"))
        return [decode(file.read(name)) for name in names[:200:50]]


def decode(content: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(content)).convert("RGB"))
