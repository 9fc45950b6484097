"""Layers by name, truncation, mixing, and files of latents."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from ganwright.errors import DataError, GanwrightError, SettingsError
from ganwright.exploring import Explorer
from ganwright.exploring.layers import describe_layers, layer_groups, parse_layers
from ganwright.exploring.mixing import mixed
from ganwright.exploring.truncation import truncate, truncated_normal
from ganwright.recipes.base import SampleRequest

from .toys import LATENT, LAYERS

OFFICIAL_1024 = [
    "b4.conv1",
    *(f"b{r}.conv{i}" for r in (8, 16, 32, 64, 128, 256, 512, 1024) for i in (0, 1)),
    "b1024.torgb",
]


def alike(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal images, up to the rounding of sums in another order."""
    return a.shape == b.shape and np.abs(a.astype(int) - b).max() <= 1


def test_groups_are_the_papers_at_1024_pixels_and_thirds_below_64() -> None:
    groups = layer_groups(OFFICIAL_1024)
    assert {OFFICIAL_1024[i].split(".")[0] for i in groups["coarse"]} == {"b4", "b8"}
    assert {OFFICIAL_1024[i].split(".")[0] for i in groups["middle"]} == {"b16", "b32"}
    assert len(groups["fine"]) == 11
    assert [len(members) for members in layer_groups(LAYERS).values()] == [2, 2, 2]
    assert [len(members) for members in layer_groups(["a", "b", "c", "d", "e"]).values()] == [2, 1, 2]
    assert sum(layer_groups(["one"]).values(), ()) == (0,)


@pytest.mark.parametrize(
    ("wanted", "meant"),
    [
        ("all", (0, 1, 2, 3, 4, 5)),
        ("fine,coarse", (0, 1, 4, 5)),
        ("b8", (1, 2)),
        ("b8.conv1, 0", (0, 2)),
        ("1-3,2", (1, 2, 3)),
        ([5, "b4.conv1"], (0, 5)),
    ],
)
def test_layers_are_named_in_many_ways(wanted: str | list[int | str], meant: tuple[int, ...]) -> None:
    assert parse_layers(wanted, LAYERS) == meant


@pytest.mark.parametrize("wrong", ["b8.conv2", "6", "3-1", "corse", "", "-1"])
def test_a_layer_that_is_not_there(wrong: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_layers(wrong, LAYERS)
    assert "b16.torgb" in str(caught.value)
    assert wrong != "corse" or "Did you mean 'coarse'" in str(caught.value)


def test_layers_in_words() -> None:
    assert describe_layers((0, 1, 2, 3, 4, 5), LAYERS) == "all layers"
    assert describe_layers((0, 1), LAYERS) == "coarse layers (b4.conv1 to b8.conv0)"
    assert describe_layers((0, 2, 3), LAYERS) == "layers b4.conv1, b8.conv1 to b16.conv0"


def test_a_seed_is_the_first_image_of_sample(style: Explorer, plain: Explorer) -> None:
    for explorer in (style, plain):
        with torch.no_grad():
            sampled = explorer.space.recipe.sample(SampleRequest(n=1, seed=12)).images
        assert alike(explorer.images([3, 12]).images[1:], sampled)


def test_truncation_is_the_papers_formula(style: Explorer) -> None:
    latents = style.latents([1, 2])
    mean = style.space.styles.mean
    found = truncate(style.space, latents, 0.3, [0, 4]).values
    expected = latents.values.clone()
    for layer in (0, 4):
        for i in range(2):
            expected[i, layer] = mean + 0.3 * (latents.values[i, layer] - mean)
    torch.testing.assert_close(found, expected)


def test_psi_0_is_one_image_and_1_is_what_it_was(style: Explorer) -> None:
    sheet = style.truncation([4, 5, 6], [0, 0.5, 1])
    assert sheet.images.shape == (3, 3, 16, 16, 3)
    assert (sheet.images[:, 0] == sheet.images[0, 0]).all()
    assert alike(sheet.images[:, 2], style.images([4, 5, 6]).images)
    assert not np.array_equal(sheet.images[0, 1], sheet.images[1, 1])
    some = style.truncation([4, 5], [0], layers="coarse").images
    assert not np.array_equal(some[0], some[1])


def test_without_w_the_latents_are_truncated(plain: Explorer) -> None:
    sheet = plain.truncation([4, 5], [0, 1, np.inf])
    assert (sheet.images[0, 0] == sheet.images[1, 0]).all()
    assert alike(sheet.images[:, 2], plain.images([4, 5]).images)
    with pytest.raises(SettingsError, match="needs the intermediate latents W"):
        plain.truncation([4], layers="coarse")


@pytest.mark.parametrize("threshold", [0.2, 1.0, 3.0])
def test_truncated_normal_has_the_truncated_distribution(threshold: float) -> None:
    z = torch.randn(20_000, generator=torch.Generator().manual_seed(0))
    found = truncated_normal(z, threshold)
    assert found.abs().max() <= threshold
    truth = stats.truncnorm(-threshold, threshold)
    assert stats.kstest(found.numpy(), truth.cdf).pvalue > 0.01
    assert (found.argsort() == z.argsort()).float().mean() > 0.99  # quantiles stay
    for extreme in (0.0, 1e-30, 12.0, -40.0):  # no precision is lost far out
        assert torch.isfinite(truncated_normal(torch.tensor([extreme]), threshold)).all()


def test_mixing_swaps_the_layers_asked_for_and_no_others(style: Explorer) -> None:
    rows, columns = style.latents([1, 2]), style.latents([3, 4, 5])
    found = mixed(rows, columns, (1, 4)).values.view(2, 3, len(LAYERS), -1)
    for i in range(2):
        for j in range(3):
            for layer in range(len(LAYERS)):
                source = columns.values[j] if layer in (1, 4) else rows.values[i]
                assert torch.equal(found[i, j, layer], source[layer])


def test_the_mixing_grid_has_its_sources_at_the_edges(style: Explorer) -> None:
    sheet = style.mix([1, 2], [3, 4, 5], "b8")
    assert sheet.images.shape == (3, 4, 16, 16, 3) and sheet.blank == {(0, 0)}
    assert alike(sheet.images[0, 1:], style.images([3, 4, 5]).images)
    assert alike(sheet.images[1:, 0], style.images([1, 2]).images)
    every = style.mix([1, 2], [3, 4, 5], "all")
    assert alike(every.images[2, 1:], style.images([3, 4, 5]).images)
    assert "b8.conv0" in " ".join(sheet.notes)


def test_classes_are_asked_for_or_come_in_turn(conditional: Explorer) -> None:
    in_turn = conditional.latents([7, 7, 7, 7]).values[:, 0]
    torch.testing.assert_close(in_turn - in_turn[0], torch.tensor([0.0, 1, 2, 0])[:, None].expand(-1, 5))
    one = conditional.latents([7, 7], labels=2).values[:, 0]
    torch.testing.assert_close(one, in_turn[[2, 2]])
    assert "kind 2" in conditional.latents([7], labels=2).names[0]
    with pytest.raises(SettingsError, match="There is no class 3"):
        conditional.latents([7], labels=3)


def test_labels_of_a_run_without_classes(style: Explorer) -> None:
    with pytest.raises(SettingsError, match="has no classes"):
        style.truncation([1], labels=0)


def test_mixing_without_w_says_what_is_possible(plain: Explorer) -> None:
    with pytest.raises(SettingsError) as caught:
        plain.mix()
    assert "W" in str(caught.value) and "stylegan2" in str(caught.value) and "interpolate" in str(caught.value)


# Files. ------------------------------------------------------------------------------------------------------------


def test_latents_come_back_from_their_file(style: Explorer, tmp_path: Path) -> None:
    latents = style.latents([3, 4])
    found = style.load(style.save(latents, tmp_path / "two.safetensors"))
    assert torch.equal(found.values, latents.values)
    assert (found.kind, found.names) == ("w+", latents.names)
    joined = style.latents([5, str(tmp_path / "two.safetensors"), "6"])
    assert joined.names == ("seed 5", "seed 3", "seed 4", "seed 6")
    assert torch.equal(joined.values[1:3], latents.values)
    torch.testing.assert_close(joined.values[3], style.latents(6).values[0])


def test_latents_of_another_run_are_refused_unless_asked_for(style: Explorer, tmp_path: Path) -> None:
    path = style.save(style.latents([3]), tmp_path / "w.safetensors")
    style.origin = replace(style.origin, run="others", step=9)
    with pytest.raises(DataError, match="another run, toys"):
        style.load(path)
    style.other_run = True
    assert len(style.load(path)) == 1
    assert "toys" in style.notes[0]
    style.origin = replace(style.origin, layers=(*LAYERS, "b32.conv0"))
    with pytest.raises(DataError, match="latent space differs"):
        style.load(path)


def test_a_renamed_run_is_the_same_run_and_another_step_is_told(style: Explorer, tmp_path: Path) -> None:
    style.origin = replace(style.origin, created="2026-01-01T00:00:00")
    path = style.save(style.latents([3]), tmp_path / "w.safetensors")
    style.origin = replace(style.origin, run="renamed", step=5)
    style.load(path)
    assert style.notes == ["w.safetensors was made at step 0; the checkpoint shown is of step 5"]


@pytest.mark.parametrize("content", [b"", b"nonsense" * 10, None])
def test_files_that_are_no_latents(style: Explorer, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "w.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(GanwrightError, match="latents"):
        style.load(path)


def test_a_file_of_directions_is_no_file_of_latents(style: Explorer, tmp_path: Path) -> None:
    path = style.save_directions(style.directions(k=2, n=100), tmp_path / "d.safetensors")
    with pytest.raises(DataError, match="no file of latents"):
        style.load(path)
    latents = style.save(style.latents([1]), tmp_path / "w.safetensors")
    with pytest.raises(DataError, match="no file of directions"):
        style.load_directions(latents)


def test_latents_in_z_are_mapped_where_w_is_needed(style: Explorer, tmp_path: Path) -> None:
    z = style.space.seeds([8], kind="z")
    assert z.values.shape == (1, LATENT)
    found = style.latents(str(style.save(z, tmp_path / "z.safetensors")))
    torch.testing.assert_close(found.values, style.latents(8).values)
