"""Exploration of a real (untrained) StyleGAN2."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ganwright.data.spec import DataKind, DataSpec
from ganwright.exploring import Explorer
from ganwright.recipes.base import SampleRequest
from ganwright.recipes.stylegan2 import StyleGAN2
from ganwright.recipes.stylegan2_settings import StyleGAN2Settings

SIZES = {"z_dim": 8, "w_dim": 8, "mapping_layers": 2, "channel_base": 64, "channel_max": 8}


def alike(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and np.abs(a.astype(int) - b).max() <= 1


@pytest.fixture(scope="module")
def explorer() -> Explorer:
    torch.manual_seed(0)
    spec = DataSpec(DataKind.IMAGES, "none", 10, "0", 16, 3)
    recipe = StyleGAN2(spec, StyleGAN2Settings(**SIZES)).eval()
    with torch.no_grad():
        recipe.generator.mapping.w_avg.normal_()
        for name, parameter in recipe.generator.named_parameters():
            if name.endswith("noise_strength"):
                parameter.fill_(0.3)
    return Explorer(recipe, "small")


@pytest.mark.parametrize("psi", [1.0, 0.6, 0.0])
def test_truncation_is_the_generators_own(explorer: Explorer, psi: float) -> None:
    request = SampleRequest(n=1, seed=5, options={"truncation": psi, "truncation_cutoff": 3})
    with torch.no_grad():
        expected = explorer.space.recipe.sample(request).images
    assert alike(explorer.truncation([5], [psi], layers="0-2").images[0], expected)


def test_mixing_is_the_generator_on_mixed_styles(explorer: Explorer) -> None:
    generator = explorer.space.recipe.generator
    z = [SampleRequest(n=1, seed=s).normal(8) for s in (1, 2)]
    with torch.no_grad():
        ws, other = (generator.styles(one).clone() for one in z)
        ws[:, 1:3] = other[:, 1:3]
        expected = generator.synthesis(ws)[0].clamp(-1, 1).permute(1, 2, 0) * 127.5 + 127.5
    found = explorer.mix([1], [2], "b8").images[1, 1]
    assert np.abs(found - expected.numpy()).max() <= 1


def test_sefa_looks_at_the_scaled_affine_weights(explorer: Explorer) -> None:
    block = explorer.space.recipe.generator.synthesis.b16
    a = (block.conv1.affine.weight * block.conv1.affine.weight_gain).detach().double().numpy()
    found = explorer.directions("sefa", 3, layers="b16.conv1", n=100)
    expected = np.linalg.svd(a)[2][:3]
    assert (np.abs((found.vectors.numpy() * expected).sum(1)) > 1 - 1e-5).all()


def test_projection_with_noise_fits_the_buffers_of_all_layers(explorer: Explorer) -> None:
    target = explorer.images([3]).images[0]
    first, found = (
        explorer.project(target, extractor=None, steps=n, noise=True, noise_weight=1.0, quiet=True) for n in (2, 120)
    )
    assert found.quality.psnr > first.quality.psnr + 3
    sides = sorted(noise.shape[0] for noise in found.latents.noise.values())
    assert sides == [4, 8, 8, 16, 16]
    assert alike(explorer.space.images(found.latents)[0], found.image)
    assert alike(explorer.images([3]).images[0], target)  # the generator's own noise is back


def test_a_walk_and_an_edit_run_through(explorer: Explorer) -> None:
    frames = list(explorer.walk(0, walks=2, keyframes=2, seconds=0.5, fps=8, psi=0.7).render())
    assert len(frames) == 4
    directions = explorer.directions("ganspace", 2, n=300)
    sheet = explorer.edit([1, 2], ["ganspace-0=2@fine"], directions)
    assert not alike(sheet.images[0, 0], sheet.images[0, 1])
