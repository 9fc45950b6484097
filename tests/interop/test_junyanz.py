"""Generators of pytorch-CycleGAN-and-pix2pix become runs that give the same images; unknown ones are refused.

The networks here are written from the papers' appendices with the authors' numbering of layers, as simply as can be.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from ganwright.cli import main
from ganwright.interop import CheckpointImportError, ImportRefusedError, import_checkpoint
from ganwright.interop.junyanz import RESNET, UNET, recognises
from ganwright.networks.rrdb import RRDBNet
from ganwright.training.restore import load_recipe

sys.path.insert(0, str(Path(__file__).parent.parent / "recipes"))
from translation_official import close, numbers, thin, weights

State = dict[str, Tensor]
Norm = Callable[[int], nn.Module]
SIDE = 40


def batch(maps: int) -> nn.Module:
    return nn.BatchNorm2d(maps)


def instance(maps: int) -> nn.Module:
    return nn.InstanceNorm2d(maps)


def old_instance(maps: int) -> nn.Module:
    """As torch 0.3 had it: running statistics are in the file, but were not used."""
    return nn.InstanceNorm2d(maps, track_running_stats=True)


def none(maps: int) -> nn.Module:
    return nn.Identity()


class Sequence(nn.Module):
    """Layers called `model.0`, `model.1`, …"""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class Block(nn.Module):
    """Layers called `conv_block.0`, …, and a shortcut."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_block(x)


class Shortcut(Sequence):
    """One level of a U-Net but the outermost; it begins with an activation that changes its input in place."""

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.leaky_relu(x, 0.2)
        return torch.cat([x, self.model(x)], 1)


def has_bias(norm: Norm) -> bool:
    return norm in (instance, old_instance)


def resnet(norm: Norm, blocks: int, *, drop: bool = False, cin: int = 3, cout: int = 3, bilinear: bool = False) -> Any:
    f, b = 4, has_bias(norm)
    layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(cin, f, 7, bias=b), norm(f), nn.ReLU()]
    for maps in (f, 2 * f):
        layers += [nn.Conv2d(maps, 2 * maps, 3, 2, 1, bias=b), norm(2 * maps), nn.ReLU()]
    for _ in range(blocks):
        first = [nn.ReflectionPad2d(1), nn.Conv2d(4 * f, 4 * f, 3, bias=b), norm(4 * f), nn.ReLU()]
        second = [nn.ReflectionPad2d(1), nn.Conv2d(4 * f, 4 * f, 3, bias=b), norm(4 * f)]
        layers.append(Block(*first, *([nn.Dropout(0.5)] if drop else []), *second))
    for maps in (4 * f, 2 * f):
        if bilinear:
            layers += [nn.Upsample(scale_factor=2, mode="bilinear"), nn.ReflectionPad2d(1)]
            layers += [nn.Conv2d(maps, maps // 2, 3, bias=b)]
        else:
            layers += [nn.ConvTranspose2d(maps, maps // 2, 3, 2, 1, 1, bias=b)]
        layers += [norm(maps // 2), nn.ReLU()]
    return Sequence(*layers, nn.ReflectionPad2d(3), nn.Conv2d(f, cout, 7), nn.Tanh())


def unet(norm: Norm, depth: int, *, drop: bool = False, cin: int = 3, cout: int = 3, bilinear: bool = False) -> Any:
    b = has_bias(norm)
    maps = [4 * min(2**i, 8) for i in range(depth)]

    def up(inputs: int, outputs: int, bias: bool) -> list[nn.Module]:
        if bilinear:
            return [nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias)]
        return [nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=bias)]

    level: list[nn.Module] = []
    for i in reversed(range(1, depth)):
        down = [nn.Identity(), nn.Conv2d(maps[i - 1], maps[i], 4, 2, 1, bias=b)]  # the activation is in `Shortcut`
        inner = [norm(maps[i]), *level] if level else []
        end: list[nn.Module] = [nn.ReLU(), *up(maps[i] * (2 if level else 1), maps[i - 1], b), norm(maps[i - 1])]
        end += [nn.Dropout(0.5)] if drop and 4 <= i < depth - 1 else []
        level = [Shortcut(*down, *inner, *end)]
    outermost = [nn.Conv2d(cin, maps[0], 4, 2, 1, bias=b), *level, nn.ReLU(), *up(2 * maps[0], cout, True), nn.Tanh()]
    whole = Sequence()
    whole.model = Sequence(*outermost)
    return whole


def drawn(network: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                values = torch.randn(tensor.shape, generator=generator)
                scale = 1.5 * (tensor[0].numel() if tensor.ndim > 1 else 4) ** -0.5
                tensor.copy_(0.5 + values.abs() if "running_var" in name else scale * values)
    return network.eval()


def save(state: State, folder: Path, name: str = "latest_net_G.pth") -> Path:
    torch.save(OrderedDict(state), folder / name)
    return folder / name


def by_own_statistics(network: nn.Module) -> nn.Module:
    """As the authors' test.py runs it, but for what is dropped: that is drawn, and cannot be compared."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.train()
        elif isinstance(layer, nn.InstanceNorm2d):
            layer.train()  # by its own statistics, whether or not it keeps others
    return network


CASES: dict[str, tuple[Any, str, dict[str, Any], int]] = {
    "resnet9-instance": (lambda: resnet(instance, 9), RESNET, {"resnet_blocks": 9, "dropout": 0.0}, SIDE),
    "resnet6-batch-dropout": (lambda: resnet(batch, 6, drop=True), RESNET, {"norm": "batch", "dropout": 0.5}, SIDE),
    "resnet9-batch": (lambda: resnet(batch, 9), RESNET, {"norm": "batch", "dropout": 0.0}, SIDE),
    "resnet6-old": (lambda: resnet(old_instance, 6), RESNET, {"resnet_blocks": 6, "norm": "instance"}, SIDE),
    "resnet6-instance-dropout": (lambda: resnet(instance, 6, drop=True), RESNET, {"dropout": 0.5}, SIDE),
    "resnet2-none-grey": (lambda: resnet(none, 2, cin=1), RESNET, {"norm": "none", "channels_in": "1"}, SIDE),
    "unet256-batch": (lambda: unet(batch, 8, drop=True), UNET, {"unet_depth": 8, "norm": "batch"}, 256),
    "unet128-batch": (lambda: unet(batch, 7), UNET, {"unet_depth": 7, "dropout": 0.5}, 128),
    "unet128-instance": (lambda: unet(instance, 7, cout=1), UNET, {"norm": "instance", "channels_out": "1"}, 128),
    "unet128-old": (lambda: unet(old_instance, 7), UNET, {"unet_depth": 7, "norm": "instance"}, 128),
    "unet128-none": (lambda: unet(none, 7), UNET, {"norm": "none", "width_g": 4}, 128),
    "unet32-batch": (lambda: unet(batch, 5), UNET, {"unet_depth": 5, "resolution": 32}, 32),
}


@pytest.mark.parametrize("eval_mode", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_the_run_gives_the_images_of_the_file(case: str, eval_mode: bool, tmp_path: Path) -> None:
    make, origin, settings, side = CASES[case]
    network = drawn(make())
    prefix = "module." if eval_mode else ""
    path = save({f"{prefix}{name}": tensor for name, tensor in network.state_dict().items()}, tmp_path)
    run = import_checkpoint(path, tmp_path / "run", eval_mode=eval_mode, quiet=True)
    assert run.config["imported"]["origin"] == origin and run.config["recipe"] == "pix2pix"
    assert {name: run.config["settings"][name] for name in settings} == settings
    recipe = load_recipe(run)
    assert recipe.settings.test_dropout == (recipe.settings.dropout > 0 and not eval_mode)
    images = torch.rand(1, recipe.data.channels, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1
    if eval_mode:
        expected = (by_own_statistics(network) if "old" in case else network)(images)
        made = recipe.translate(images)
    else:
        expected = by_own_statistics(network)(images)
        made = recipe.generator(images)
    assert expected.std() > 0.02
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("unet128-batch", lambda: unet(batch, 7, cin=2)),
        ("unet128-instance", lambda: unet(instance, 7, cout=1)),
        ("unet256-batch", lambda: unet(batch, 8, cin=1, cout=4)),
        ("resnet6-instance", lambda: resnet(instance, 6)),
        ("resnet9-batch", lambda: resnet(batch, 9, drop=True, cout=2)),
    ],
)
def test_the_run_gives_what_the_authors_code_gave(name: str, make: Any, tmp_path: Path) -> None:
    state: State = {}
    for key, tensor in make().state_dict().items():
        value = weights(f"{name}.{key}", tensor.shape) if tensor.is_floating_point() else tensor
        state[key] = value.abs() + 0.5 if key.endswith("running_var") else value
    path = save(state, tmp_path)
    recipe = load_recipe(import_checkpoint(path, tmp_path / "eval", eval_mode=True, quiet=True))
    side = {"unet128": 128, "unet256": 256}.get(name.partition("-")[0], SIDE)
    x = numbers("x", (2, recipe.data.channels, side, side))
    with torch.no_grad():
        close(thin(recipe.translate(x)), f"{name}/eval", 1e-5)
        if name.endswith("batch"):
            own = load_recipe(import_checkpoint(path, tmp_path / "own", quiet=True))
            close(thin(own.generator(x))[:1], f"{name}/own", 1e-5)


def test_dropping_is_a_choice(tmp_path: Path) -> None:
    path = save(dict(drawn(unet(batch, 7, drop=True)).state_dict()), tmp_path)
    dropping = load_recipe(import_checkpoint(path, tmp_path / "a", quiet=True))
    still = load_recipe(import_checkpoint(path, tmp_path / "b", eval_mode=True, quiet=True))
    images = torch.rand(1, 3, 128, 128) * 2 - 1
    with torch.no_grad():
        assert torch.equal(dropping.translate(images), dropping.translate(images))  # of one seed
        assert not torch.allclose(dropping.translate(images), dropping.generator(images), atol=1e-3)
        assert torch.equal(still.translate(images), still.generator(images))


def test_a_counter_that_is_not_there_is_none_too_many(tmp_path: Path) -> None:
    state = {k: v for k, v in drawn(resnet(batch, 6)).state_dict().items() if not k.endswith("num_batches_tracked")}
    import_checkpoint(save(state, tmp_path), tmp_path / "run", quiet=True)


def test_translate_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    network = drawn(resnet(instance, 6))
    save(dict(network.state_dict()), tmp_path, "latest_net_G_A.pth")
    pixels = np.random.default_rng(0).integers(0, 256, (44, SIDE, 3), np.uint8)
    (tmp_path / "in").mkdir()
    Image.fromarray(pixels).save(tmp_path / "in" / "a.png")
    for arguments in (["import", "latest_net_G_A.pth"], ["translate", "runs/latest_net_G_A-imported", "in"]):
        assert main([*arguments, "--out", "run" if arguments[0] == "import" else "out"]) in (0, None)
        if arguments[0] == "import":
            (tmp_path / "runs").mkdir()
            (tmp_path / "run").rename("runs/latest_net_G_A-imported")
    (made,) = (tmp_path / "out").rglob("*.png")
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1
    expected = ((network(x)[0].permute(1, 2, 0) + 1) * 127.5).detach().numpy()
    assert np.abs(np.asarray(Image.open(made)).astype(float) - expected).max() <= 0.51


# Refusals. ------------------------------------------------------------------------------------------------------


def refused(state: State, folder: Path, **options: Any) -> str:
    with pytest.raises(CheckpointImportError) as caught:
        import_checkpoint(save(state, folder), folder / "run", quiet=True, **options)
    assert not (folder / "run").exists()
    return str(caught.value)


@pytest.mark.parametrize("make", [lambda: resnet(instance, 6, bilinear=True), lambda: unet(batch, 7, bilinear=True)])
def test_the_bilinear_variant_is_named_and_refused(make: Any, tmp_path: Path) -> None:
    assert "the bilinear variant" in refused(dict(make().state_dict()), tmp_path)


def test_nearly_known_networks_are_refused_with_what_differs(tmp_path: Path) -> None:
    state = dict(resnet(instance, 6).state_dict())
    state["model.12.conv_block.8.weight"] = state.pop("model.12.conv_block.5.weight")
    told = refused(state, tmp_path)
    assert RESNET in told and "lacks model.12.conv_block.5.weight" in told
    assert "also has model.12.conv_block.8.weight" in told
    state = dict(unet(batch, 7).state_dict())
    state["model.model.attention.weight"] = torch.ones(3)
    told = refused(state, tmp_path)
    assert UNET in told and "also has model.model.attention.weight" in told


def test_both_families_are_named_where_nothing_fits(tmp_path: Path) -> None:
    told = refused({"model.model.0.weight": torch.ones(2), "other.weight": torch.ones(2)}, tmp_path)
    assert f"The nearest is {UNET}" in told and "RRDBNet (BasicSR)" in told and RESNET in told
    state = dict(RRDBNet(3, 4, 4, 1, 2).state_dict())
    state["conv_attention.weight"] = state.pop("conv_hr.weight")
    assert "The nearest is RRDBNet (BasicSR)" in refused(state, tmp_path)


def test_discriminators_are_named(tmp_path: Path) -> None:
    state = {"model.0.weight": torch.ones(4, 6, 4, 4), "model.0.bias": torch.ones(4), "model.2.weight": torch.ones(1)}
    assert "discriminator" in refused(state, tmp_path)


def changed(state: State, name: str, tensor: Tensor) -> State:
    assert name in state
    return {**state, name: tensor}


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (changed(dict(resnet(instance, 6).state_dict()), "model.13.conv_block.1.weight", torch.ones(1)), "do not fit"),
        (changed(dict(resnet(instance, 6).state_dict()), "model.1.weight", torch.ones(3)), "1-dimensional"),
        (changed(dict(resnet(instance, 1).state_dict()), "model.1.weight", torch.ones(1 << 18, 3, 1, 1)), "do not fit"),
        (changed(dict(unet(batch, 5).state_dict()), "model.model.3.weight", torch.ones(8, 9, 4, 4)), "9 channels"),
        ({f"model.{i}.conv_block.1.weight": torch.ones(1) for i in range(10, 900)}, "890 blocks"),
        (
            {"model.10.conv_block.1.weight": torch.ones(1), "model.999999.conv_block.1.weight": torch.ones(1)},
            "2 blocks",
        ),
        ({"model.model.0.weight": torch.ones(1), f"model.model.1.model{'.3.model' * 500}.1": torch.ones(1)}, "8 times"),
        (changed(dict(resnet(instance, 1).state_dict()), "model.1.bias", torch.full((4,), torch.nan)), "not finite"),
        ({**resnet(instance, 1).state_dict(), "model.5.filt": torch.ones(1)}, "blurs"),
    ],
)
def test_files_that_make_no_sense_are_refused(state: State, told: str, tmp_path: Path) -> None:
    assert told in refused(state, tmp_path)


def test_a_tensor_larger_than_its_file_is_refused(tmp_path: Path) -> None:
    state = dict(resnet(instance, 1).state_dict())
    state["model.1.weight"] = torch.ones(1, 1, 1, 1).expand(1 << 24, 3, 7, 7)
    assert "outside its storage" in refused(state, tmp_path)


def test_nothing_in_a_file_is_run(tmp_path: Path) -> None:
    torch.save({"state_dict": resnet(instance, 1).state_dict(), "note": Path("x")}, tmp_path / "net_G.pth")
    with pytest.raises(ImportRefusedError):
        import_checkpoint(tmp_path / "net_G.pth", tmp_path / "run", quiet=True)


def test_eval_mode_is_for_translators_alone(tmp_path: Path) -> None:
    assert "two ways of use" in refused(dict(RRDBNet(3, 4, 4, 1, 2).state_dict()), tmp_path, eval_mode=True)
    assert not recognises(RRDBNet(3, 4, 4, 1, 2).state_dict())
