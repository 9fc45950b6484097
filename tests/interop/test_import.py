"""Official files become runs: equal to NVIDIA's own code, and refused where they are not what they say."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from ganwright.data.spec import DataKind, DataSpec
from ganwright.errors import GanwrightError, RunError
from ganwright.interop import CheckpointImportError, ImportRefusedError, export_state, import_checkpoint
from ganwright.interop.admitted import read_checkpoint_file
from ganwright.interop.nvidia import OfficialCheckpoint, understand
from ganwright.interop.r3gan import r3gan_to_state
from ganwright.run import Run
from ganwright.training.fine_tuning import begin_from
from ganwright.training.launch import resume_run
from ganwright.training.restore import load_recipe, sample_run
from ganwright.training.settings import resolve
from tests.fixtures.nvidia_files import CASES, Persistent, content, dump, network, outputs, trees


def write(tmp_path: Path, value: Any, protocol: int = 4) -> Path:
    path = tmp_path / "network.pkl"
    path.write_bytes(dump(value, protocol))
    return path


def understood(tmp_path: Path, value: Any) -> OfficialCheckpoint:
    return understand(read_checkpoint_file(write(tmp_path, value)))


def labels_of(classes: int) -> torch.Tensor | None:
    return torch.tensor([0, classes - 1]) if classes else None


@pytest.mark.parametrize("case", CASES)
def test_networks_equal_the_official_ones(case: str, tmp_path: Path) -> None:
    expected = {name: torch.from_numpy(outputs()[f"{case}/{name}"]) for name in ("z", "w", "image", "logits")}
    run = import_checkpoint(write(tmp_path, content(case)), tmp_path / "run", quiet=True)
    recipe = load_recipe(run)
    labels = labels_of(recipe.data.num_classes)
    with torch.no_grad():
        image = recipe.generator(expected["z"], labels)
        torch.testing.assert_close(recipe.generator.mapping(expected["z"], labels), expected["w"], atol=1e-5, rtol=0)
        torch.testing.assert_close(image, expected["image"], atol=1e-4, rtol=0)
        if f"{case}/truncated" in outputs():
            truncated = recipe.generator(expected["z"], labels, truncation=0.5)
            torch.testing.assert_close(truncated, torch.from_numpy(outputs()[f"{case}/truncated"]), atol=1e-4, rtol=0)
        judge = understood(tmp_path, content(case)).discriminator
        assert judge is not None
        logits = judge.build()(expected["image"], labels)
        torch.testing.assert_close(logits, expected["logits"].flatten(), atol=1e-4, rtol=0)
        kept, notes = run.config["imported"]["discriminator"], run.config["imported"]["notes"]
        # These have a D that NVIDIA's scripts never make: two mapping layers, or another clamp than G's.
        assert kept == (case not in ("ada-conditional", "s3-r", "s3-t-odd"))
        assert kept or "discriminator is left out" in notes[0]
        if kept:
            torch.testing.assert_close(recipe.discriminator(expected["image"], labels), logits, atol=1e-6, rtol=0)


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_every_protocol(protocol: int, tmp_path: Path) -> None:
    value = read_checkpoint_file(write(tmp_path, content("s3-t"), protocol))
    assert understand(value).average.kind == "stylegan3"


def test_last_and_averaged_generator_are_told_apart(tmp_path: Path) -> None:
    value = content("ada-orig")
    value["G"].state["_modules"]["synthesis"].state["_modules"]["b4"].state["_parameters"]["const"] += 1
    run = import_checkpoint(write(tmp_path, value), tmp_path / "run", quiet=True)
    averaged, last = load_recipe(run).state_dict(), load_recipe(run, ema=False).state_dict()
    differ = [name for name in averaged if not torch.equal(averaged[name], last[name])]
    assert differ == ["generator.synthesis.b4.const"]


def test_a_network_alone(tmp_path: Path) -> None:
    run = import_checkpoint(write(tmp_path, content("s3-stylegan2")["G_ema"]), tmp_path / "run", quiet=True)
    assert not run.config["imported"]["discriminator"] and len(run.config["imported"]["notes"]) == 2


def test_the_run_is_usable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = import_checkpoint(write(tmp_path, content("s3-r")), tmp_path / "run")
    assert "research and evaluation only" in " ".join(capsys.readouterr().err.split() + capsys.readouterr().out.split())
    assert "research and evaluation only" in (run.path / "LICENCE-NOTICE.txt").read_text()
    config = Run.open(run.path).config
    assert config["data"]["class_names"] == ["0", "1"] and config["data"]["count"] == 1000
    assert "/data/pictures.zip" not in (run.path / "run.yaml").read_text()  # somebody's paths are not ours to keep
    samples = sample_run(run, 3, labels=1, options={"truncation": 0.7})
    assert samples.images.shape == (3, 32, 32, 3)
    with pytest.raises(RunError, match="imported") as error:
        resume_run(run)
    assert "--init-from" in str(error.value)
    with pytest.raises(RunError, match="already"):
        import_checkpoint(write(tmp_path, content("s3-r")), run.path)


def test_fine_tuning_begins_with_the_imported_weights(tmp_path: Path) -> None:
    run = import_checkpoint(write(tmp_path, content("ada-skip")), tmp_path / "run", quiet=True)
    imported = load_recipe(run)
    settings = resolve(run.config["recipe"], run.config["settings"])
    fresh = settings.info.recipe(imported.data, settings.recipe)
    from ganwright.training.ema import MovingAverage

    begin_from(fresh, MovingAverage(fresh, fresh.ema_networks, 1, 0), str(run.path), quiet=True)
    for name, tensor in imported.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], tensor), name


def test_exported_state_is_what_came_in(tmp_path: Path) -> None:
    value = content("s3-t")
    source = understood(tmp_path, value)
    run = import_checkpoint(write(tmp_path, value), tmp_path / "run", quiet=True)
    for name, expected in (("generator", source.average), ("discriminator", source.discriminator)):
        path = export_state(run, tmp_path / f"{name}.pt", network=name)
        assert expected is not None
        state = torch.load(path, weights_only=True)
        assert state.keys() == expected.state.keys()
        assert all(torch.equal(state[key], tensor) for key, tensor in expected.state.items())
    with pytest.raises(GanwrightError, match="no network 'generater'"):
        export_state(run, tmp_path / "x.pt", network="generater")


# What is not the official network. -------------------------------------------------------------------------------


def changed(case: str, *where: str, **attributes: Any) -> dict[str, Any]:
    value = content(case)
    node = value["G_ema"]
    for name in where:
        node = node.state["_modules"][name]
    node.state.update(attributes)
    return value


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (changed("ada-skip", "synthesis", "b8", "conv0", conv_clamp=3.0), "conv_clamp of synthesis.b8.conv0"),
        (changed("ada-skip", "mapping", "fc0", bias_gain=0.5), "bias_gain of mapping.fc0"),
        (changed("s3-t", "synthesis", "L2_36_12", up_factor=4), "up_factor"),
        (changed("s3-t", _init_kwargs={"z_dim": 16}), "built in a way that is not"),
        (changed("s3-t", _init_kwargs=None), "does not say what it was constructed with"),
        (changed("s3-t", "synthesis", _parameters={"extra": torch.zeros(2)}), "has besides synthesis.extra"),
        (changed("s3-t", "mapping", _buffers={}), "lacks mapping.w_avg"),
        (changed("s3-t", "mapping", _buffers={"w_avg": torch.zeros(3)}), "in another size mapping.w_avg"),
        (changed("s3-t", "mapping", _buffers={"w_avg": torch.zeros(16).int()}), "of type torch.int32"),
        ({"G_ema": Persistent("Unheard", {"_modules": {}})}, "no network of StyleGAN2"),
        ({"weights": torch.zeros(3)}, "no network we know"),
        ([1, 2, 3], "no generator"),
    ],
)
def test_changed_networks_are_refused(value: Any, told: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointImportError, match=told):
        import_checkpoint(write(tmp_path, value), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def with_arguments(**arguments: Any) -> dict[str, Any]:
    tree = trees()["s3-t"]["G_ema"]
    value = network(tree)
    value.state["_init_kwargs"] = {**value.state["_init_kwargs"], **arguments}
    return {"G_ema": value}


@pytest.mark.parametrize(
    "arguments",
    [
        {"img_resolution": 1 << 40},
        {"img_resolution": 48},
        {"channel_base": 1 << 60},
        {"num_layers": 10**9},
        {"filter_size": 10**6},
        {"mapping_kwargs": {"num_layers": 10**9}},
        {"first_cutoff": float("nan")},
        {"first_cutoff": 0},
        {"z_dim": "sixteen"},
        {"z_dim": -1},
        {"conv_kernel": [3]},
        {"new_argument": 1},
        {"mapping_kwargs": [[[[[[[1]]]]]]]},
    ],
)
def test_impossible_arguments_are_refused_at_once(arguments: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(CheckpointImportError):
        import_checkpoint(write(tmp_path, with_arguments(**arguments)), tmp_path / "run", quiet=True)


def test_networks_without_end_are_refused(tmp_path: Path) -> None:
    value = content("s3-t")
    loop = value["G_ema"].state["_modules"]
    twin: dict[str, Any] = {}
    for _ in range(40):  # each holds the one before twice: 2^40 modules in a small file
        twin = {"a": Persistent("X", {"_modules": twin}), "b": Persistent("X", {"_modules": twin})}
    loop["more"] = Persistent("X", {"_modules": twin})
    with pytest.raises(ImportRefusedError, match="without end"):
        understood(tmp_path, value)


def test_source_text_is_not_run(tmp_path: Path) -> None:
    tree = read_checkpoint_file(write(tmp_path, content("ada-orig")))["G_ema"]
    assert "raise SystemExit" in tree.source  # it is there, as text


def test_numbers_of_numpy_are_plain(tmp_path: Path) -> None:
    tree = read_checkpoint_file(write(tmp_path, content("s3-t")))["G_ema"]
    layer = tree.state["_modules"]["synthesis"].state["_modules"]["L0_36_12"]
    assert type(layer.state["in_cutoff"]) is float
    assert np.array_equal(layer.state["in_size"].value, [36, 36])


# R3GAN: plain classes, whose names are all a file says of how its networks were built. -------------------------


def module_tree(state: dict[str, torch.Tensor], class_name: str) -> Any:
    """Modules, nested by the names in a state dict, pickled as instances of R3GAN's and torch's classes are."""
    parameters = {name: torch.nn.Parameter(t) for name, t in state.items() if "." not in name}
    children: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in state.items():
        if "." in name:
            children.setdefault(name.partition(".")[0], {})[name.partition(".")[2]] = tensor
    module, _, name = class_name.rpartition(".")
    made = type(name, (), {"__module__": module, "__qualname__": name})
    instance = made()
    inner = {child: module_tree(own, "R3GAN.Networks.Convolution") for child, own in children.items()}
    instance.__dict__.update(_parameters=parameters, _buffers={}, _modules=inner, DataType=torch.bfloat16)
    return instance


class ByName(pickle._Pickler):  # type: ignore[misc]
    """Writes classes by name, whether or not they can be imported."""

    def save_global(self, obj: Any, name: str | None = None) -> None:
        if isinstance(obj, type) and obj.__module__.startswith(("R3GAN", "training")):
            self.save(obj.__module__)
            self.save(obj.__qualname__)
            self.write(pickle.STACK_GLOBAL)
        else:
            super().save_global(obj, name)

    dispatch: ClassVar[Any] = {**pickle._Pickler.dispatch, type: save_global}  # type: ignore[attr-defined]


def test_r3gan_snapshots(tmp_path: Path) -> None:
    settings = resolve("r3gan", {"width": 16, "group_width": 8, "blocks": 1, "latent_dim": 4, "taper_after": 8})
    spec = DataSpec(DataKind.IMAGES, "x", 9, "0", 16, 3)
    recipe = settings.info.recipe(spec, settings.recipe)
    states = {
        name: r3gan_to_state(dict(recipe.get_submodule(name).state_dict())) for name in ("generator", "discriminator")
    }
    snapshot = {
        "G_ema": module_tree(states["generator"], "training.networks.Generator"),
        "D": module_tree(states["discriminator"], "training.networks.Discriminator"),
        "cur_nimg": 7,
    }
    path = tmp_path / "snapshot.pkl"
    with path.open("wb") as file:
        ByName(file, protocol=4).dump(snapshot)
    run = import_checkpoint(path, tmp_path / "run", quiet=True)
    imported = load_recipe(run)
    assert run.config["recipe"] == "r3gan" and run.config["imported"]["origin"] == "R3GAN"
    for name in ("generator", "discriminator"):
        ours, theirs = (r.get_submodule(name).state_dict() for r in (imported, recipe))
        assert all(torch.equal(ours[key], tensor) for key, tensor in theirs.items())
    exported = torch.load(export_state(run, tmp_path / "g.pt"), weights_only=True)
    assert exported.keys() == states["generator"].keys()
