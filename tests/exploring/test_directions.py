"""Directions against eigenvectors and singular vectors computed otherwise; edits as sums."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ganwright.errors import DataError, SettingsError
from ganwright.exploring import Edit, Explorer
from ganwright.exploring.directions import sefa, streamed_covariance

from .toys import LAYERS, STYLE


def same_lines(found: np.ndarray, expected: np.ndarray, atol: float) -> None:
    """Rows equal up to their sign."""
    signs = np.sign((found * expected).sum(1, keepdims=True))
    np.testing.assert_allclose(found, expected * signs, atol=atol)


@pytest.mark.parametrize("layers", ["all", "coarse", "b16.conv1"])
def test_sefa_is_the_eigenvectors_of_the_weights(style: Explorer, layers: str) -> None:
    found = style.directions("sefa", 4, layers=layers, n=200)
    chosen = {"all": range(6), "coarse": (0, 1), "b16.conv1": (4,)}[layers]
    affine = style.space.recipe.generator.affine.detach().numpy().astype(np.float64)
    a = np.concatenate([affine[i] for i in chosen])
    values, vectors = np.linalg.eigh(a.T @ a)
    same_lines(found.vectors.numpy(), vectors.T[::-1][:4], 1e-5)
    np.testing.assert_allclose(found.values.numpy(), values[::-1][:4], rtol=1e-5)
    assert found.layers == tuple(chosen)


def test_normalised_sefa_is_the_authors_program() -> None:
    """Their lines: columns of the transposed weights to unit length, then numpy's eig."""
    a = np.random.default_rng(0).normal(size=(30, 6)) * np.arange(1, 31)[:, None]
    unit = a / np.sqrt((a**2).sum(1, keepdims=True))
    values, vectors = np.linalg.eig(unit.T @ unit)
    order = np.argsort(-values)
    _, found = sefa(torch.from_numpy(a), normalise=True)
    same_lines(found.numpy(), vectors.T[order], 1e-9)


def test_ganspace_is_the_singular_vectors_of_centred_w(style: Explorer) -> None:
    found = style.directions("ganspace", STYLE, n=2500, seed=3)
    w = torch.cat(list(style.space.sampled_w(2500, seed=3))).numpy()
    _, singular, vectors = np.linalg.svd(w - w.mean(0), full_matrices=False)
    same_lines(found.vectors.numpy(), vectors, 1e-5)
    np.testing.assert_allclose(found.scales.numpy(), singular / np.sqrt(2499), rtol=1e-5)
    np.testing.assert_allclose(found.values.numpy(), singular**2 / (singular**2).sum(), rtol=1e-5)


def test_ganspace_finds_the_known_axes_of_w(style: Explorer) -> None:
    """w = M z + m, so components are the left singular vectors of M, whatever was sampled."""
    m = style.space.recipe.generator.mapping.detach().numpy().astype(np.float64)
    u, singular, _ = np.linalg.svd(m, full_matrices=False)
    found = style.directions("ganspace", 2, n=20_000)
    assert (np.abs((found.vectors.numpy() * u.T[:2]).sum(1)) > 0.999).all()
    np.testing.assert_allclose(found.scales.numpy(), singular[:2], rtol=0.03)


def test_without_w_ganspace_regresses_activations_on_latents(plain: Explorer) -> None:
    """The definition step by step: activations, their components, and the least-squares latent of each."""
    found = plain.directions("ganspace", 3, n=1500, seed=5)
    generator = torch.Generator().manual_seed(5)
    z = torch.cat([torch.randn(n, 7, generator=generator, dtype=torch.float64) for n in (1000, 500)]).numpy()
    a = plain.space.latent.first_layer.numpy().astype(np.float64)
    y = z @ a.T
    y, z = y - y.mean(0), z - z.mean(0)
    _, singular, components = np.linalg.svd(y, full_matrices=False)
    x = y @ components[:3].T
    regressed = np.linalg.lstsq(x, z, rcond=None)[0]
    same_lines(found.vectors.numpy(), regressed / np.linalg.norm(regressed, axis=1, keepdims=True), 1e-4)
    np.testing.assert_allclose(found.values.numpy(), (singular**2 / (singular**2).sum())[:3], rtol=1e-4)


def test_without_w_sefa_is_the_first_layers(plain: Explorer) -> None:
    found = plain.directions("sefa", 3)
    a = plain.space.latent.first_layer.numpy().astype(np.float64)
    same_lines(found.vectors.numpy(), np.linalg.svd(a)[2][:3], 1e-5)
    torch.testing.assert_close(found.scales, torch.ones(3))


def test_a_streamed_covariance_is_the_covariance_far_from_0() -> None:
    rows = np.random.default_rng(0).normal(size=(1003, 4)) @ np.diag([1, 2, 3, 1e-3]) + 1e6
    blocks = [torch.from_numpy(rows[i : i + 100]) for i in range(0, 1003, 100)]
    np.testing.assert_allclose(streamed_covariance(blocks).numpy(), np.cov(rows.T), rtol=1e-6, atol=1e-9)


def test_directions_have_one_sign_and_repeat(style: Explorer) -> None:
    a, b = style.directions(k=5, n=500), style.directions(k=5, n=500)
    assert torch.equal(a.vectors, b.vectors)
    largest = a.vectors.gather(1, a.vectors.abs().argmax(1, keepdim=True))
    assert (largest > 0).all()


def test_an_edit_is_a_step_in_standard_deviations_in_its_layers(style: Explorer) -> None:
    found = style.directions(k=3, n=500)
    before = style.latents([1, 2])
    after = style.edited([1, 2], ["ganspace-1=-1.5@fine", Edit("ganspace-0", 2.0)], found)
    expected = before.values.clone()
    expected += 2.0 * found.scales[0] * found.vectors[0]
    for layer in (4, 5):
        expected[:, layer] -= 1.5 * found.scales[1] * found.vectors[1]
    torch.testing.assert_close(after.values, expected)
    sefa_of_some = style.directions("sefa", 1, layers="0-1", n=100)
    moved = style.edited([1], {"sefa-0": 1}, sefa_of_some).values - style.latents([1]).values
    assert (moved[:, :2].abs().sum(2) > 0).all() and (moved[:, 2:] == 0).all()


def test_edits_in_z(plain: Explorer) -> None:
    found = plain.directions("sefa", 2)
    after = plain.edited([1], {"sefa-1": 3}, found).values
    torch.testing.assert_close(after, plain.latents([1]).values + 3 * found.vectors[1])
    with pytest.raises(SettingsError, match="needs the intermediate latents W"):
        plain.edited([1], ["sefa-1=3@coarse"], found)


def test_sheets_show_every_direction_at_every_strength(style: Explorer) -> None:
    found = style.directions(k=2, n=500)
    sheet = style.show_directions(found, [1, 2, 3], strengths=[-1, 0, 2])
    assert sheet.images.shape[:2] == (6, 3)
    moved = style.space.images(style.edited([3], {"ganspace-1": 2}, found))[0]
    assert np.abs(sheet.images[5, 2].astype(int) - moved).max() <= 1
    assert np.abs(sheet.images[:3, 1].astype(int) - style.images([1, 2, 3]).images).max() <= 1
    edits = style.edit([1, 2], ["ganspace-0=1", "ganspace-1=1"], found)
    assert edits.images.shape[:2] == (2, 4) and list(edits.columns) == [
        "before",
        "ganspace-0\n+1 sd",
        "ganspace-1\n+1 sd",
        "all",
    ]
    assert sheet.picture().ndim == 3


def test_directions_come_back_from_their_file_with_names(style: Explorer, tmp_path: Path) -> None:
    found = style.directions("sefa", 3, layers="middle", n=100).renamed({"sefa-1": "smile"})
    again = style.load_directions(style.save_directions(found, tmp_path / "d.safetensors"))
    assert again.names == ("sefa-0", "smile", "sefa-2") and again.layers == (2, 3) and again.method == "sefa"
    for name in ("vectors", "scales", "values"):
        assert torch.equal(getattr(again, name), getattr(found, name))
    style.origin = replace(style.origin, run="another")
    with pytest.raises(DataError, match="another run"):
        style.load_directions(tmp_path / "d.safetensors")


@pytest.mark.parametrize("names", [{"sefa-9": "x"}, {"sefa-0": "sefa-1"}, {"sefa-0": "a=b"}, {"sefa-0": " "}])
def test_names_that_cannot_be(style: Explorer, names: dict[str, str]) -> None:
    with pytest.raises(SettingsError):
        style.directions("sefa", 2, n=100).renamed(names)


@pytest.mark.parametrize("text", ["smile", "smile=", "=2", "smile=two", "smile=1..2", "smile=2@"])
def test_edits_that_cannot_be_read(text: str) -> None:
    with pytest.raises(SettingsError, match="is no edit"):
        Edit.parse(text)


def test_edits_are_read() -> None:
    assert Edit.parse("a-0=-1.5@b8,fine") == Edit("a-0", -1.5, "b8,fine")
    assert str(Edit.parse("x=+2e1")) == "x=20"


def test_wrong_requests_say_what_there_is(style: Explorer) -> None:
    found = style.directions(k=2, n=100)
    with pytest.raises(SettingsError, match="Did you mean 'ganspace-1'"):
        style.edit([1], {"gansapce-1": 1}, found)
    with pytest.raises(SettingsError, match="choose 1 to 5"):
        style.directions(k=len(LAYERS))
    with pytest.raises(SettingsError, match="Did you mean 'sefa'"):
        style.directions("seffa")
    with pytest.raises(SettingsError, match="principal components"):
        style.directions(k=2, n=1)


def test_a_recipe_that_hides_its_first_layer(plain: Explorer) -> None:
    plain.space.latent = replace(plain.space.latent, first_layer=None)
    with pytest.raises(SettingsError, match="first layer"):
        plain.directions(k=2)
