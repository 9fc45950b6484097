"""Extractors against independent references: Pillow, published sizes, real photographs, other runtimes."""

from __future__ import annotations

import copy
import hashlib
import io
import urllib.error
import urllib.request
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from ganwright.data.sources import open_images
from ganwright.errors import MetricError, SettingsError
from ganwright.metrics import extractor_inception
from ganwright.metrics.extractor_inception import INCEPTION_FILE, Inception, find_inception
from ganwright.metrics.extractors import open_extractor
from ganwright.metrics.resizing import to_input
from ganwright.networks.efficientnet_lite import EfficientNetLite0
from ganwright.networks.folded import for_inference, same_padding
from ganwright.networks.inception import InceptionV3


def with_random_statistics(network: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return network.eval()


@pytest.mark.parametrize(("make", "side"), [(InceptionV3, 299), (EfficientNetLite0, 224)])
def test_folding_batch_norm_changes_nothing(make: type[nn.Module], side: int) -> None:
    torch.manual_seed(0)
    network = with_random_statistics(make())
    x = torch.rand(2, 3, side, side) * 2 - 1
    with torch.no_grad():
        features, logits = network(x)[:2]
        folded_features, folded_logits = for_inference(copy.deepcopy(network))(x)[:2]
    assert (features - folded_features).abs().max() <= 2e-5 * features.abs().max()
    assert (logits - folded_logits).abs().max() <= 2e-5 * logits.abs().max()


def test_inception_has_the_published_shape() -> None:
    # torchvision's Inception-v3 without auxiliary head has 23,834,568 weights; 8 more classes add 8 x 2049
    network = InceptionV3()
    assert sum(p.numel() for p in network.parameters()) == 23_834_568 + 8 * 2049
    state = network.state_dict()
    assert state["fc.weight"].shape == (1008, 2048)
    assert state["Mixed_7c.branch3x3dbl_3b.conv.weight"].shape == (384, 384, 3, 1)
    assert state["Conv2d_1a_3x3.bn.running_var"].shape == (32,)


def test_efficientnet_recognises_photographs() -> None:
    extractor = open_extractor("efficientnet-lite0")
    china, flower = (image[:, 106:533][None] for image in load_sample_images().images)
    assert int(extractor(flower).logits.argmax()) == 985  # daisy
    assert set(np.argsort(extractor(china).logits[0])[-5:]) & {698, 663, 442, 832}  # palace, monastery, …


def test_features_do_not_depend_on_the_batch() -> None:
    extractor = open_extractor("efficientnet-lite0")
    images = np.random.default_rng(0).integers(0, 256, (5, 20, 24, 1), dtype=np.uint8)
    whole = extractor(images).features
    single = np.concatenate([extractor(images[i : i + 1]).features for i in range(5)])
    assert np.abs(whole - single).max() <= 1e-4 * np.abs(whole).max()
    mixed = [images[0], images[1, :9], images[2], images[3].repeat(3, axis=2)]
    alone = np.concatenate([extractor(image[None]).features for image in mixed])
    assert np.abs(extractor(mixed).features - alone).max() <= 1e-4 * np.abs(alone).max()
    as_rgb = extractor(images.repeat(3, axis=3)).features
    assert np.array_equal(as_rgb, whole)


@pytest.mark.parametrize("side", [17, 64, 400])
def test_resize_is_pillows_float_bicubic(side: int) -> None:
    image = np.random.default_rng(1).integers(0, 256, (side, side), dtype=np.uint8)
    ours = to_input(image[None, :, :, None], 96, torch.device("cpu"))[0, 0].numpy()
    pillow = np.asarray(Image.fromarray(image.astype(np.float32), "F").resize((96, 96), Image.Resampling.BICUBIC))
    assert np.abs(ours - pillow.clip(0, 255)).max() < 0.02


def test_same_padding_is_tensorflows() -> None:
    assert same_padding(torch.Size((224, 224)), (3, 3), (2, 2)) == (0, 1, 0, 1)
    assert same_padding(torch.Size((7, 7)), (3, 3), (1, 1)) == (1, 1, 1, 1)
    assert same_padding(torch.Size((112, 112)), (5, 5), (2, 2)) == (1, 2, 1, 2)


def test_missing_inception_weights_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: object, **kwargs: object) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    monkeypatch.setenv("GANWRIGHT_CACHE", str(tmp_path))
    monkeypatch.delenv("GANWRIGHT_INCEPTION", raising=False)
    with pytest.raises(MetricError, match="GANWRIGHT_INCEPTION") as caught:
        open_extractor("inception")
    assert str(tmp_path / "pt_inception-2015-12-05-6726825d.pth") in str(caught.value)


def official_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, InceptionV3]:
    """A file in the published one's format (2018: no zip, no batch counters) whose checksum is taken for right."""
    torch.manual_seed(3)
    network = with_random_statistics(InceptionV3())
    state = OrderedDict((k, v) for k, v in network.state_dict().items() if "num_batches" not in k)
    path = folder / INCEPTION_FILE
    torch.save(state, path, _use_new_zipfile_serialization=False)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(extractor_inception, "INCEPTION_SHA256_PREFIX", digest[:8])
    return path, network


def test_inception_is_fetched_once_and_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, network = official_file(tmp_path, monkeypatch)
    cache = tmp_path / "cache"
    asked: list[str] = []

    def serve(url: str, timeout: float) -> io.BytesIO:
        asked.append(url)
        return io.BytesIO(path.read_bytes() if len(asked) > 1 else b"a proxy's login page")

    monkeypatch.setattr(urllib.request, "urlopen", serve)
    monkeypatch.setenv("GANWRIGHT_CACHE", str(cache))
    monkeypatch.delenv("GANWRIGHT_INCEPTION", raising=False)
    with pytest.raises(MetricError, match="not the published"):
        open_extractor("inception")
    assert not list(cache.iterdir())
    torch.manual_seed(0)
    before = torch.get_rng_state()
    extractor = open_extractor("inception")
    assert torch.equal(torch.get_rng_state(), before)  # opening one in a training changes nothing there
    open_extractor("inception")
    assert len(asked) == 2 and [f.name for f in cache.iterdir()] == [INCEPTION_FILE]
    images = np.random.default_rng(0).integers(0, 256, (2, 299, 299, 3), dtype=np.uint8)
    with torch.no_grad():
        features, logits, _ = network((torch.from_numpy(images).permute(0, 3, 1, 2).float() - 128) / 128)
    found = extractor(images)
    assert np.abs(found.features - features.numpy()).max() <= 2e-5 * features.abs().max()
    assert np.abs(found.logits - logits.numpy()).max() <= 2e-5 * logits.abs().max()


def test_another_file_is_not_taken_for_inception(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = tmp_path / "weights.pth"
    torch.save(InceptionV3().state_dict(), wrong)
    with pytest.raises(MetricError, match="6726825d"):
        find_inception(wrong)
    monkeypatch.setenv("GANWRIGHT_INCEPTION", str(wrong))
    with pytest.raises(MetricError, match="not the published"):
        open_extractor("inception")


def test_inception_with_given_weights_is_not_called_published() -> None:
    extractor = Inception(network=InceptionV3())
    assert extractor.version.startswith("custom-")


class Mean(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=(2, 3))


def test_torchscript_and_onnx_files(tmp_path: Path) -> None:
    images = np.full((3, 10, 10, 1), 51, np.uint8)
    script = tmp_path / "mean.pt"
    torch.jit.save(torch.jit.script(Mean()), script)
    found = open_extractor(f"{script}@32")
    assert found.feature_dim == 3 and found.size == 32
    assert np.allclose(found(images).features, 0.2, atol=1e-4)

    import onnx
    from onnx import TensorProto, helper

    node = helper.make_node("ReduceMean", ["x", "axes"], ["y"], keepdims=0)
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3])
    graph = helper.make_graph(
        [node],
        "mean",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 32, 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [axes],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, tmp_path / "mean.onnx")
    found = open_extractor(f"{tmp_path / 'mean.onnx'}@32")
    assert np.allclose(found(images).features, 0.2, atol=1e-4)


def test_bad_extractors_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="inception"):
        open_extractor("incepton")
    with pytest.raises(MetricError, match="does not exist"):
        open_extractor(str(tmp_path / "nothing.pt"))
    with pytest.raises(SettingsError, match="'gpu' cannot be used"):
        open_extractor("efficientnet-lite0", device="gpu")
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(MetricError, match="TorchScript"):
        open_extractor(str(tmp_path / "text.pt"))
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(MetricError, match="ONNX"):
        open_extractor(str(tmp_path / "text.onnx"))


class Flat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3 * 8 * 8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x.flatten(1))


class Named(nn.Module):
    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"features": x.flatten(1)}


class Same(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


@pytest.mark.parametrize(
    ("network", "size", "message"),
    [(Flat(), "", "fails on a float32 input"), (Named(), "@8", "dict, not a tensor"), (Same(), "@8", r"\(N, D\)")],
)
def test_extractors_that_do_not_fit_say_why(network: nn.Module, size: str, message: str, tmp_path: Path) -> None:
    torch.jit.script(network).save(str(tmp_path / "net.pt"))
    with pytest.raises(MetricError, match=message):
        open_extractor(f"{tmp_path / 'net.pt'}{size}")


def test_onnx_file_of_another_size_says_so(tmp_path: Path) -> None:
    from onnx import TensorProto, helper, save

    boxes = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3, 32, 32]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", boxes[:1], boxes[1:])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), tmp_path / "a.onnx")
    with pytest.raises(MetricError, match="Expected: 32"):
        open_extractor(str(tmp_path / "a.onnx"))


@pytest.mark.slow
def test_features_tell_classes_of_real_pictures_apart(real_data: Callable[[str], Path]) -> None:
    """A linear probe; random weights reach 0.33, these about 0.7."""
    source = open_images(real_data("cifar10-jpeg-test.tar.gz"))
    index = np.random.default_rng(0).permutation(len(source))[:1500]
    labels = source.labels[index]
    features = open_extractor("efficientnet-lite0")(np.stack([source.decode(int(i)) for i in index])).features
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300))
    score = probe.fit(features[:1000], labels[:1000]).score(features[1000:], labels[1000:])
    print(f"probe: {score:.3f}")
    assert score >= 0.6
