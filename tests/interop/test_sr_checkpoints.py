"""Super-resolution state dicts of other people become runs; unknown ones are refused with the nearest named."""

from __future__ import annotations

import io
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from ganwright.degrade import downsample, upsample
from ganwright.interop import CheckpointImportError, ImportRefusedError, import_checkpoint
from ganwright.interop.sr_checkpoints import LAYOUTS, plain_state, recognises, sr_from_state
from ganwright.metrics.paired import psnr
from ganwright.networks.rrdb import RRDBNet
from ganwright.networks.srresnet import MSRResNet, SRResNet
from ganwright.samples import to_uint8
from ganwright.training.restore import load_recipe

State = dict[str, Tensor]


def drawn(network: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                values = torch.randn(tensor.shape, generator=generator)
                tensor.copy_(0.5 + values.abs() if "running_var" in name else 0.1 * values)
    return network.eval()


# How the other repositories name the same parts. --------------------------------------------------------------


def esrgan(state: State) -> State:
    """The ESRGAN repository's RRDBNet_arch.py."""

    def rename(name: str) -> str:
        name = re.sub(r"^body\.(\d+)\.rdb(\d)", r"RRDB_trunk.\1.RDB\2", name)
        for ours, theirs in (("conv_body", "trunk_conv"), ("conv_hr", "HRconv")):
            name = name.replace(ours, theirs)
        return re.sub(r"^conv_up", "upconv", name)

    return {rename(name): tensor for name, tensor in state.items()}


def old(state: State) -> State:
    """Its older form, a sequence: first, shortcut block, [upsample, conv, act] per doubling, conv, act, conv."""
    blocks = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("body."))
    ups = sum(name.startswith("conv_up") and name.endswith("weight") for name in state)
    places = {"conv_first": "model.0", "conv_body": f"model.1.sub.{blocks}"}
    places |= {f"conv_up{i}": f"model.{3 * i}" for i in range(1, ups + 1)}
    places |= {"conv_hr": f"model.{3 * ups + 2}", "conv_last": f"model.{3 * ups + 4}"}
    renamed = {}
    for name, tensor in state.items():
        part, _, kind = name.rpartition(".")
        inner = re.sub(r"^body\.(\d+)\.rdb(\d)\.conv(\d)$", r"model.1.sub.\1.RDB\2.conv\3.0", part)
        renamed[f"{places.get(part, inner)}.{kind}"] = tensor
    return renamed


def leftthomas(state: State) -> State:
    blocks = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks."))
    last = blocks + 3
    ups = sum(re.match(r"^ups\.\d+\.conv\.weight$", name) is not None for name in state)
    renamed = {}
    for name, tensor in state.items():
        name = re.sub(r"^blocks\.(\d+)", lambda found: f"block{int(found[1]) + 2}", name)
        name = re.sub(r"^(block\d+)\.norm", r"\1.bn", name)
        name = re.sub(r"^(block\d+)\.act", r"\1.prelu", name)
        for ours, theirs in (
            ("head_act", "block1.1"),
            ("head", "block1.0"),
            ("trunk_end", f"block{last - 1}.1"),
            ("trunk", f"block{last - 1}.0"),
            ("tail", f"block{last}.{ups}"),
        ):
            name = re.sub(rf"^{ours}\.", f"{theirs}.", name)
        name = re.sub(r"^ups\.(\d+)\.conv", rf"block{last}.\1.conv", name)
        renamed[re.sub(r"^ups\.(\d+)\.act", rf"block{last}.\1.prelu", name)] = tensor
    return {name: tensor for name, tensor in renamed.items() if "num_batches" not in name}


def same(state: State) -> State:
    return state


def module(state: State) -> State:
    return {f"module.{name}": tensor for name, tensor in state.items()}


Case = tuple[Callable[[], nn.Module], Callable[[State], Any], str, dict[str, Any]]
CASES: dict[str, Case] = {
    "basicsr-x4": (lambda: RRDBNet(3, 4, 6, 3, 4), same, "RRDBNet (BasicSR)", {"upscale": 4, "blocks": 3}),
    "basicsr-x2": (lambda: RRDBNet(3, 2, 6, 1, 4), same, "RRDBNet (BasicSR)", {"upscale": 2, "growth": 4}),
    "basicsr-x1-grey": (lambda: RRDBNet(1, 1, 6, 1, 4), same, "RRDBNet (BasicSR)", {"upscale": 1}),
    "basicsr-module": (lambda: RRDBNet(3, 4, 6, 1, 4), module, "RRDBNet (BasicSR)", {"width_g": 6}),
    "esrgan": (lambda: RRDBNet(3, 4, 6, 2, 4), esrgan, "RRDBNet (ESRGAN)", {"upscale": 4, "blocks": 2}),
    "esrgan-module": (lambda: RRDBNet(3, 4, 6, 1, 4), lambda s: module(esrgan(s)), "RRDBNet (ESRGAN)", {}),
    "old-x4": (lambda: RRDBNet(3, 4, 6, 2, 4), old, "RRDBNet (ESRGAN, old)", {"upscale": 4, "blocks": 2}),
    "old-x2": (lambda: RRDBNet(3, 2, 6, 1, 4, 1), old, "RRDBNet (ESRGAN, old)", {"upscale": 2, "upsamplings": 1}),
    "old-x8": (lambda: RRDBNet(3, 8, 6, 1, 4, 3), old, "RRDBNet (ESRGAN, old)", {"upscale": 8}),
    "msrresnet-x4": (lambda: MSRResNet(3, 4, 6, 2), same, "MSRResNet (BasicSR)", {"upscale": 4, "blocks": 2}),
    "msrresnet-x3": (lambda: MSRResNet(1, 3, 6, 1), same, "MSRResNet (BasicSR)", {"upscale": 3}),
    "msrresnet-x2": (lambda: MSRResNet(3, 2, 6, 1), same, "MSRResNet (BasicSR)", {"upscale": 2, "width_g": 6}),
    "srgan-x4": (
        lambda: SRResNet(3, 4, 6, 3, "prelu", "tanh"),
        leftthomas,
        "SRGAN (leftthomas)",
        {"upscale": 4, "blocks": 3, "trunk": "prelu", "final": "tanh"},
    ),
    "srgan-x2-norm": (
        lambda: SRResNet(3, 2, 6, 2, "norm", "tanh"),
        leftthomas,
        "SRGAN (leftthomas)",
        {"upscale": 2, "trunk": "norm"},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_every_layout_gives_the_same_network(case: str, tmp_path: Path) -> None:
    make, rename, origin, settings = CASES[case]
    network = drawn(make())
    torch.save(OrderedDict(rename(dict(network.state_dict()))), tmp_path / "weights.pth")
    run = import_checkpoint(tmp_path / "weights.pth", tmp_path / "run", quiet=True)
    assert run.config["imported"]["origin"] == origin
    recipe = load_recipe(run)
    assert {name: run.config["settings"][name] for name in settings} == settings
    images = torch.rand(1, recipe.data.channels, 8, 12, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(recipe.translate(images), network(images).clamp(-1, 1), atol=1e-6, rtol=0)


def test_averaged_weights_are_preferred(tmp_path: Path) -> None:
    averaged, last = (dict(drawn(RRDBNet(3, 4, 4, 1, 2)).state_dict()) for _ in range(2))
    last = {name: tensor + 1 for name, tensor in last.items()}
    found = plain_state({"params": last, "params_ema": averaged})
    assert found is not None and torch.equal(found["conv_first.weight"], averaged["conv_first.weight"])
    both = plain_state({"state_dict": module(last), "epoch": 3})
    assert both is not None and torch.equal(both["conv_first.weight"], last["conv_first.weight"])
    assert plain_state({"epoch": 3}) is None and plain_state([1]) is None and plain_state({}) is None


def test_unknown_weights_are_refused_with_the_nearest_named(tmp_path: Path) -> None:
    state = dict(RRDBNet(3, 4, 4, 1, 2).state_dict())
    state["conv_attention.weight"] = state.pop("conv_hr.weight")
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(CheckpointImportError) as caught:
        import_checkpoint(tmp_path / "weights.pth", tmp_path / "run", quiet=True)
    told = str(caught.value)
    assert "The nearest is RRDBNet (BasicSR)" in told and "lacks conv_hr.weight" in told
    assert "it also has conv_attention.weight" in told and "weights.pth" in told
    assert not (tmp_path / "run").exists()
    with pytest.raises(CheckpointImportError, match=r"no network we know\.\n"):
        sr_from_state({"nothing.like.it": torch.zeros(1)})


@pytest.mark.parametrize("case", ["basicsr-x4", "msrresnet-x4", "srgan-x4", "old-x4"])
def test_weights_that_do_not_fit_together_are_refused(case: str, tmp_path: Path) -> None:
    make, rename, _, _ = CASES[case]
    state = rename(dict(make().state_dict()))
    name = next(name for name in reversed(state) if name.endswith("weight") and state[name].ndim == 4)
    state[name] = torch.zeros(7, 5, 3, 3)
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(CheckpointImportError):
        import_checkpoint(tmp_path / "weights.pth", tmp_path / "run", quiet=True)


def test_nothing_in_a_file_is_run(tmp_path: Path) -> None:
    state = dict(RRDBNet(3, 4, 4, 1, 2).state_dict())
    torch.save({"params": state, "note": Path("x")}, tmp_path / "weights.pth")  # a Path is an object of a class
    with pytest.raises(ImportRefusedError):
        import_checkpoint(tmp_path / "weights.pth", tmp_path / "run", quiet=True)


def test_layouts_are_told_apart() -> None:
    assert not recognises({"conv_first.weight": torch.zeros(1)})
    for make, rename, origin, _ in CASES.values():
        state = plain_state(rename(dict(make().state_dict())))
        assert state is not None and recognises(state) and sr_from_state(state).origin == origin
    assert {origin for _, _, origin, _ in CASES.values()} == {layout.origin for layout in LAYOUTS}


@pytest.mark.slow
@pytest.mark.parametrize(("scale", "butterfly"), [(2, None), (4, 26.38)])
def test_published_srgan_weights_beat_bicubic_on_every_picture_of_set5(
    scale: int, butterfly: float | None, real_data: Any, tmp_path: Path
) -> None:
    weights = real_data("srgan-checkpoints") / f"netG_epoch_{scale}_100.pth"
    recipe = load_recipe(import_checkpoint(weights, tmp_path / "run", quiet=True))
    with zipfile.ZipFile(real_data("set5_set14_color.zip")) as archive:
        for name in ("baby", "bird", "butterfly", "head", "woman"):
            pixels = np.array(Image.open(io.BytesIO(archive.read(f"CSet5/{name}.png"))).convert("RGB"))
            clean = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1
            clean = clean[..., : clean.shape[-2] // scale * scale, : clean.shape[-1] // scale * scale]
            low = downsample(clean, scale)
            with torch.no_grad():
                restored = to_uint8(recipe.translate(low))
            found = [
                psnr(image, to_uint8(clean), luma=True, shave=scale)[0]
                for image in (restored, to_uint8(upsample(low, scale)))
            ]
            assert found[0] > found[1], name
            if name == "butterfly" and butterfly:
                assert found[0] == pytest.approx(butterfly, abs=0.02)
