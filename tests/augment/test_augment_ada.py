"""How ADA's probability follows the discriminator, and how augmenters are made from settings."""

from __future__ import annotations

import copy
import gc
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from augment_fakes import Seeded
from torch import Tensor

from ganwright.augment import Augmenter, AugmentSettings, make_augmenter
from ganwright.augment.ada import AdaptiveAugmenter
from ganwright.augment.diffaugment import DiffAugmenter
from ganwright.augment.settings import ADA_POLICIES
from ganwright.data.spec import DataKind, DataSpec
from ganwright.errors import SettingsError

BATCH = 64


def _spec(channels: int = 3) -> DataSpec:
    return DataSpec(DataKind.IMAGES, "random", 100, "0", 16, channels, ())


def _logits(share_positive: float) -> Tensor:
    return torch.where(torch.arange(BATCH) < share_positive * BATCH, 2.5, -0.1)


def test_p_rises_linearly_while_the_discriminator_is_sure() -> None:
    ada = AdaptiveAugmenter(kimg=100)
    for step in range(1, 41):
        ada.observe(_logits(0.9))
        # p moves by the images of four steps, which is 1 in 100,000 images.
        assert ada.p.item() == pytest.approx(step // 4 * 4 * BATCH / 100_000)
    assert ada.log()["augment_rt"].item() == pytest.approx(2 * _logits(0.9).gt(0).float().mean().item() - 1)
    assert ada.log()["augment_p"].item() == ada.p.item()


def test_p_falls_no_lower_than_0_and_rises_no_higher_than_1() -> None:
    ada = AdaptiveAugmenter(kimg=1, p=0.4)
    for expected in (0.144, 0.0, 0.0):
        for _ in range(4):
            ada.observe(_logits(0.7))  # r_t = 0.4 < 0.6
        assert ada.p.item() == pytest.approx(expected, abs=1e-6)
    for expected in (0.256, 0.512, 0.768, 1.0, 1.0):
        for _ in range(4):
            ada.observe(_logits(1.0))
        assert ada.p.item() == pytest.approx(expected, abs=1e-6)


def test_r_t_is_the_mean_over_four_steps() -> None:
    ada = AdaptiveAugmenter(kimg=10, p=0.5)
    for share in (1.0, 1.0, 0.75, 0.25):  # r_t = 2·0.75 - 1 = 0.5, below the target though it was above half the time
        ada.observe(_logits(share))
    assert ada.rt.item() == 0.5
    assert ada.p.item() == pytest.approx(0.5 - 4 * BATCH / 10_000)
    exactly = AdaptiveAugmenter(kimg=10, p=0.5, target=0.5)
    for share in (1.0, 1.0, 0.75, 0.25):
        exactly.observe(_logits(share))
    assert exactly.p.item() == 0.5


def test_target_0_keeps_p() -> None:
    ada = AdaptiveAugmenter(p=0.3, target=0)
    for _ in range(8):
        ada.observe(_logits(1.0))
    assert ada.p.item() == pytest.approx(0.3) and ada.rt.item() == 1.0


def test_a_resumed_augmenter_goes_on_exactly() -> None:
    def advance(ada: AdaptiveAugmenter, steps: range) -> list[Tensor]:
        images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1
        found = []
        for step in steps:
            found += [ada(images, Seeded(step)), ada.p.clone(), ada.rt.clone()]
            logits = torch.randn(BATCH, generator=torch.Generator().manual_seed(step)) + 1.5
            ada.observe(logits)
        return found

    whole = AdaptiveAugmenter(kimg=2)
    expected = advance(whole, range(23))
    first = AdaptiveAugmenter(kimg=2)
    head = advance(first, range(10))  # in the middle of four steps
    second = AdaptiveAugmenter(kimg=2)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    found = head + advance(second, range(10, 23))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert 0 < whole.p.item() < 1


def test_as_many_numbers_are_drawn_whatever_p_is() -> None:
    for policy in ADA_POLICIES.values():
        after = []
        for p in (0.0, 0.5):
            ctx = Seeded()
            AdaptiveAugmenter(policy, p=p)(torch.zeros(2, 3, 8, 8), ctx)
            after.append(ctx.uniform(3))
        assert torch.equal(*after)


def _worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.save(_observed(rank, 2), f"{folder}/{rank}.pt")
    gc.collect()
    dist.barrier()
    dist.destroy_process_group()


def _observed(rank: int, world_size: int) -> dict[str, Any]:
    ada = AdaptiveAugmenter(kimg=10)
    for step in range(22):
        logits = torch.randn(BATCH, generator=torch.Generator().manual_seed(step)) + (1.5 if step < 12 else 0.3)
        ada.observe(logits.chunk(world_size)[rank])
    return ada.state_dict()


def test_two_processes_adapt_as_one(tmp_path: Path) -> None:
    mp.spawn(_worker, (str(tmp_path),), nprocs=2)
    expected = _observed(0, 1)
    assert expected["p"] > 0
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, msg=name)


# Settings. ----------------------------------------------------------------------------------------------------


def test_made_from_settings() -> None:
    nothing = make_augmenter(AugmentSettings(), _spec())
    images = torch.rand(2, 3, 4, 4)
    assert type(nothing) is Augmenter and nothing(images, Seeded()) is images
    assert not nothing.state_dict() and nothing.log() == {}

    diff = make_augmenter(AugmentSettings(augment="diffaugment", augment_policy="cutout, color"), _spec())
    assert isinstance(diff, DiffAugmenter) and diff.policy == ("cutout", "color") and diff.log() == {}
    assert DiffAugmenter().policy == ("color", "translation", "cutout")

    settings = AugmentSettings(augment="ada", augment_p=0.2, ada_target=0.5, ada_kimg=100)
    ada = make_augmenter(settings, _spec())
    assert isinstance(ada, AdaptiveAugmenter) and ada.transforms == ADA_POLICIES["bgc"]
    assert ada.p.item() == pytest.approx(0.2) and (ada.target, ada.kimg) == (0.5, 100)
    mixed = make_augmenter(replace(settings, augment_policy="noise,xint,color"), _spec(1))
    assert isinstance(mixed, AdaptiveAugmenter)
    assert mixed.transforms == ("xint", "brightness", "contrast", "lumaflip", "hue", "saturation", "noise")


@pytest.mark.parametrize(
    ("settings", "where", "words"),
    [
        (AugmentSettings(augment="adda"), "augment", "Did you mean 'ada'"),  # type: ignore[arg-type]
        (AugmentSettings(augment="ada", augment_policy="bgd"), "augment_policy", "no augmentation 'bgd'"),
        (AugmentSettings(augment="ada", augment_policy="translation"), "augment_policy", "translation"),
        (AugmentSettings(augment="diffaugment", augment_policy="colour"), "augment_policy", "Did you mean 'color'"),
        (AugmentSettings(augment="diffaugment", augment_policy=""), "augment_policy", "no augmentation ''"),
        (AugmentSettings(augment_p=1.5), "augment_p", "probability"),
        (AugmentSettings(ada_target=1.0), "ada_target", "never exceeds 1"),
        (AugmentSettings(ada_kimg=0), "ada_kimg", "ada_kimg is 0"),
        (AugmentSettings(augment="ada", ada_target=0), "augment_p", "nothing would ever"),
    ],
)
def test_what_makes_no_sense_is_refused(settings: AugmentSettings, where: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words) as error:
        make_augmenter(settings, _spec())
    assert error.value.where == where and error.value.fix


def test_colour_needs_grey_or_rgb() -> None:
    with pytest.raises(SettingsError, match="4 channels"):
        make_augmenter(AugmentSettings(augment="ada"), _spec(4))
    bg = make_augmenter(AugmentSettings(augment="ada", augment_policy="bg", augment_p=1.0), _spec(4))
    assert bg(torch.rand(2, 4, 8, 8), Seeded()).shape == (2, 4, 8, 8)
