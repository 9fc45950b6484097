"""How samples that were made from inputs are drawn and saved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ganwright.config import DataSettings
from ganwright.data.images import ImageDataset
from ganwright.data.opening import open_dataset
from ganwright.errors import DataError, SettingsError
from ganwright.recipes.base import Recipe
from ganwright.samples import DomainSamples, PairSamples, to_uint8
from ganwright.training.journal import sample_request


def shade(n: int, size: int, channels: int, value: int) -> np.ndarray:
    return np.full((n, size, size, channels), value, np.uint8)


def test_a_pair_is_one_row_input_output_target() -> None:
    samples = PairSamples(shade(3, 4, 1, 10), shade(3, 4, 3, 20), shade(3, 4, 3, 30))
    sheet = samples.grid()
    assert samples.columns == ("input", "output", "target") and len(samples) == 3
    assert sheet.shape[0] == 3 * 6 + 2
    for row in range(3):
        top = 2 + row * 6
        assert [int(sheet[top, 2 + k * 6, 0]) for k in range(3)] == [10, 20, 30]


def test_many_pairs_stand_in_two_blocks() -> None:
    inputs = np.arange(9, dtype=np.uint8).reshape(9, 1, 1, 1).repeat(4, 1).repeat(4, 2)
    sheet = PairSamples(inputs, inputs).grid()
    block = 2 * 6 + 2 + 6
    assert sheet.shape[:2] == (5 * 6 + 2, 2 * block)
    assert sheet[2, block + 2, 0] == 5 and (sheet[-4:, block:] == 255).all()  # the last row of the second is empty


def test_small_inputs_are_shown_in_larger_dots_and_alpha_is_left_out() -> None:
    inputs = np.array([[[[1, 0, 0, 9], [2, 0, 0, 9]]] * 2], np.uint8)  # (1, 2, 2, 4)
    sheet = PairSamples(inputs, shade(1, 4, 2, 7)).grid()
    assert sheet[2, 2:6, 0].tolist() == [1, 1, 2, 2]
    assert sheet[2, 8].tolist() == [7, 7, 0]


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "LA"), (3, "RGB"), (4, "RGBA")])
def test_each_output_is_saved_with_its_channels(tmp_path: Path, channels: int, mode: str) -> None:
    outputs = np.random.default_rng(0).integers(0, 256, (2, 5, 6, channels), np.uint8)
    paths = PairSamples(shade(2, 5, 3, 0)[:, :, :5], outputs).save_each(tmp_path)
    for path, image in zip(paths, outputs, strict=True):
        with Image.open(path) as picture:
            assert picture.mode == mode
            assert np.array_equal(np.asarray(picture).reshape(image.shape), image)


def test_domains_are_shown_side_by_side_and_saved_apart(tmp_path: Path) -> None:
    there = PairSamples(shade(2, 4, 3, 1), shade(2, 4, 3, 2), cycled=shade(2, 4, 3, 3))
    back = PairSamples(shade(1, 4, 3, 4), shade(1, 4, 3, 5), cycled=shade(1, 4, 3, 6))
    samples = DomainSamples({"a2b": there, "b2a": back})
    assert len(samples) == 3 and there.columns == ("input", "output", "back again")
    assert set(np.unique(samples.grid())) == {1, 2, 3, 4, 5, 6, 255}
    saved = [path.relative_to(tmp_path).as_posix() for path in samples.save_each(tmp_path)]
    assert saved == ["a2b/000000.png", "a2b/000001.png", "b2a/000000.png"]


def test_counts_must_agree() -> None:
    with pytest.raises(ValueError, match="2 inputs, but 3 of the targets"):
        PairSamples(shade(2, 4, 3, 0), shade(2, 4, 3, 0), shade(3, 4, 3, 0))


def test_values_are_rounded_to_the_nearest_level() -> None:
    x = torch.tensor([-1.5, -1.0, 0.0, 1.0, 1.5]).view(1, 1, 1, 5)
    assert to_uint8(x).ravel().tolist() == [0, 0, 128, 255, 255]


class Inverter(Recipe):
    directions = ("a2b",)

    def optimizers(self): ...
    def step(self, batch, ctx): ...
    def sample(self, request): ...


def images(n: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (n, 8, 8, 3), np.uint8)


def test_a_translator_is_asked_about_held_out_data() -> None:
    dataset = open_dataset(images(40), DataSettings(resolution=8, held_out=0.3))
    assert isinstance(dataset, ImageDataset)
    request = sample_request(Inverter(dataset.spec, None), dataset, 100, 5, baselines=True)
    shown = to_uint8(request.inputs["images"])
    held_out = {dataset.images[i].tobytes() for i in dataset.held_out_index}
    assert request.n == len(held_out) and request.baselines
    assert {image.tobytes() for image in shown} == held_out
    few = sample_request(Inverter(dataset.spec, None), dataset, 3, 5)
    assert torch.equal(few.inputs["images"], request.inputs["images"][:3])


def test_training_data_is_shown_where_nothing_is_held_out() -> None:
    dataset = open_dataset(images(4), DataSettings(resolution=8, held_out=0.0))
    assert dataset.nothing_held_out
    assert sample_request(Inverter(dataset.spec, None), dataset, 9, 0).n == 4


def test_without_inputs_a_translator_says_what_it_needs() -> None:
    recipe = Inverter(open_dataset(images(4), DataSettings(resolution=8)).spec, None)
    with pytest.raises(DataError, match="none to show it"):
        sample_request(recipe, None, 4, 0)
    with pytest.raises(SettingsError, match="translates none"):
        recipe.translate(torch.zeros(1, 3, 8, 8))
