"""Domain extractors: their training, their files, and what they are for, against definitions written anew."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import scipy.ndimage
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load, load_file, save_file
from scipy.stats import binomtest

from ganwright.config import DataSettings
from ganwright.data.opening import open_dataset
from ganwright.errors import DataError, GanwrightError, MetricError, SettingsError
from ganwright.metrics import domain_training
from ganwright.metrics.domain_training import DomainExtractorInfo, class_weights, train_extractor
from ganwright.metrics.extractor_domain import DomainDescription, DomainExtractor
from ganwright.metrics.extractors import open_extractor
from ganwright.networks.domain_classifier import augmented

KEY = "ganwright-domain-extractor"


def squares(n: int, channels: int = 1, classes: int = 3, side: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """A bright square whose place depends on the class, in noise."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, n)
    images = rng.integers(0, 100, (n, side, side, channels), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[3:9, 2 + 4 * label : 7 + 4 * label] = rng.integers(150, 256)
    return images, labels


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> DomainExtractorInfo:
    out = tmp_path_factory.mktemp("trained") / "squares.safetensors"
    return train_extractor(squares(400), out=out, resolution=16, steps=60, held_out=0.2, quiet=True)


@pytest.fixture(scope="module")
def colour(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("colour") / "colour.safetensors"
    return train_extractor(squares(100, channels=3, side=17), out=out, resolution=17, steps=8, quiet=True).path


def test_it_learns_and_tells_its_accuracy_on_images_it_has_not_seen(trained: DomainExtractorInfo) -> None:
    extractor = DomainExtractor(trained.path)
    dataset = open_dataset(squares(400), DataSettings(resolution=16, held_out=0.2))
    images, labels = dataset.images[dataset.held_out_index], dataset.labels[dataset.held_out_index]
    found = extractor(images)
    right = found.logits.argmax(1) == labels
    assert trained.accuracy == right.mean() > 0.9
    expected = binomtest(int(right.sum()), len(right)).proportion_ci(method="wilson")
    assert (trained.low, trained.high) == pytest.approx((expected.low, expected.high), abs=1e-6)
    assert trained.balanced_accuracy == pytest.approx(np.mean([right[labels == k].mean() for k in range(3)]))
    train_labels = dataset.labels[dataset.train_index]
    assert trained.commonest == (labels == np.bincount(train_labels).argmax()).mean()
    assert (trained.n, trained.n_train, trained.steps) == (len(right), len(train_labels), 60)
    assert found.features.shape == (len(right), 256)
    assert (extractor.name, extractor.size, extractor.has_logits) == ("domain:squares", 16, True)
    assert extractor.description.accuracy == trained.accuracy
    assert "held-out real images" in str(trained)


def functional(path: Path, x: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The network from the file's tensors alone, in float64: three stages of residual blocks, all pooled."""
    t = {name: tensor.double() for name, tensor in load_file(path).items()}
    x = x.double()

    def norm(x: torch.Tensor, name: str, eps: float = 1e-5) -> torch.Tensor:
        shape = (1, -1, 1, 1) if x.ndim == 4 else (1, -1)
        y = (x - t[f"{name}.running_mean"].view(shape)) / (t[f"{name}.running_var"].view(shape) + eps).sqrt()
        return y * t[f"{name}.weight"].view(shape) + t[f"{name}.bias"].view(shape) if f"{name}.weight" in t else y

    def halved(x: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.shape
        out = torch.zeros(n, c, -(-h // 2), -(-w // 2), dtype=x.dtype)
        for i in range(out.shape[2]):
            for j in range(out.shape[3]):
                out[:, :, i, j] = x[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean((2, 3))
        return out

    def block(x: torch.Tensor, name: str, stride: int) -> torch.Tensor:
        y = norm(F.conv2d(x, t[f"{name}.conv1.weight"], stride=stride, padding=1), f"{name}.bn1").clamp(min=0)
        y = norm(F.conv2d(y, t[f"{name}.conv2.weight"], padding=1), f"{name}.bn2")
        if f"{name}.shortcut.1.weight" in t:
            x = norm(F.conv2d(halved(x), t[f"{name}.shortcut.1.weight"]), f"{name}.shortcut.2")
        return (x + y).clamp(min=0)

    x = norm(F.conv2d(x, t["stem.weight"], padding=1), "norm").clamp(min=0)
    pooled = []
    for stage, blocks in enumerate((2, 2, 1)):
        for i in range(blocks):
            x = block(x, f"stages.{stage}.{i}", 2 if i == 0 else 1)
        pooled.append(x.mean((2, 3)))
    features = norm(torch.cat(pooled, 1), "standardise", eps=0.01)
    return features.numpy(), (features @ t["head.weight"].T + t["head.bias"]).numpy()


def about(path: Path) -> dict[str, Any]:
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()[KEY])


def normalised(path: Path, planes: list[np.ndarray], side: int) -> torch.Tensor:
    """Pillow's float bicubic of each plane, then (x - mean) / std with the file's numbers."""
    found = about(path)
    resized = [
        np.asarray(Image.fromarray(p.astype(np.float32), "F").resize((side, side), Image.Resampling.BICUBIC))
        for p in planes
    ]
    parts = [(r.clip(0, 255) - m) / s for r, m, s in zip(resized, found["mean"], found["std"], strict=True)]
    return torch.from_numpy(np.stack(parts)[None])


def assert_equal(extractor: DomainExtractor, image: np.ndarray, x: torch.Tensor, path: Path) -> None:
    features, logits = functional(path, x)
    found = extractor(image[None])
    assert np.abs(found.features - features).max() < 0.02
    assert np.abs(found.logits - logits).max() < 0.02


def test_features_are_those_of_the_definition(trained: DomainExtractorInfo) -> None:
    extractor = DomainExtractor(trained.path)
    rng = np.random.default_rng(1)
    for side in (16, 40):
        grey = rng.integers(0, 256, (side, side, 1), dtype=np.uint8)
        assert_equal(extractor, grey, normalised(trained.path, [grey[:, :, 0]], 16), trained.path)
    rgb = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    luma = rgb[:, :, 0] * 0.299 + rgb[:, :, 1] * 0.587 + rgb[:, :, 2] * 0.114
    assert np.abs(luma - np.asarray(Image.fromarray(rgb).convert("L"))).max() < 1  # what the data's grey images are
    assert_equal(extractor, rgb, normalised(trained.path, [luma], 16), trained.path)
    assert "601" in extractor.preprocessing and "16x16" in extractor.preprocessing


def test_colour_networks_take_grey_images_as_equal_channels(colour: Path) -> None:
    extractor = DomainExtractor(colour)
    rng = np.random.default_rng(1)
    rgb = rng.integers(0, 256, (17, 17, 3), dtype=np.uint8)
    assert_equal(extractor, rgb, normalised(colour, [rgb[:, :, i] for i in range(3)], 17), colour)
    grey = rgb[:, :, :1]
    assert np.array_equal(extractor(grey[None]).features, extractor(grey.repeat(3, 2)[None]).features)
    assert "601" not in extractor.preprocessing


def test_training_repeats_whatever_the_threads(tmp_path: Path) -> None:
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    contents = []
    try:
        for i, (seed, n) in enumerate([(0, 1), (0, 2), (1, 1)]):
            torch.set_num_threads(n)
            path = tmp_path / f"{i}.safetensors"
            train_extractor(squares(60), out=path, steps=3, seed=seed, quiet=True)
            assert torch.get_num_threads() == n
            contents.append(path.read_bytes())
    finally:
        torch.set_num_threads(threads)
    # Not to the byte: vectorised sums depend on where memory happens to lie (a last bit, seen in one of five calls).
    first, second, third = (load(content) for content in contents)
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, rtol=1e-4, atol=1e-5)
    assert any(not torch.allclose(third[name], tensor, rtol=1e-2, atol=1e-3) for name, tensor in first.items())
    assert torch.equal(torch.get_rng_state(), state)


def test_ctrl_c_keeps_what_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls, limit = domain_training.augmented, [0], [5]

    def interrupting(*args: Any) -> torch.Tensor:
        calls[0] += 1
        if calls[0] > limit[0]:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(domain_training, "augmented", interrupting)
    path = tmp_path / "a.safetensors"
    info = train_extractor(squares(60), out=path, steps=50, quiet=True)
    assert (info.steps, info.stopped_by) == (5, "interrupt")
    assert "interrupted" in str(info)
    assert DomainExtractor(path).description.steps == 5
    calls[0], limit[0] = 0, 0
    with pytest.raises(KeyboardInterrupt):
        train_extractor(squares(60), out=tmp_path / "b.safetensors", steps=50, quiet=True)
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_the_clock_ends_it_with_the_learning_rate_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, rates = [0.0], []

    def clock() -> float:
        now[0] += 1.0
        return now[0]

    monkeypatch.setattr(time, "monotonic", clock)
    real = domain_training._learning_rate
    monkeypatch.setattr(domain_training, "_learning_rate", lambda *a: rates.append(real(*a)) or rates[-1])
    info = train_extractor(
        squares(60), out=tmp_path / "a.safetensors", resolution=8, steps=5000, max_minutes=1.0, quiet=True
    )
    assert info.stopped_by == "time" and 20 < info.steps <= 61
    assert rates[-1] < 0.05 * max(rates)


def test_class_weights_are_inverse_effective_numbers() -> None:
    counts = [10, 500, 9000, 0]
    effective = [sum(0.999**i for i in range(n)) for n in counts]  # Cui et al., equation 2, summed out
    raw = [1 / e if e else 0.0 for e in effective]
    mean = sum(r * n for r, n in zip(raw, counts, strict=True)) / sum(counts)
    assert np.allclose(class_weights(np.array(counts)).numpy(), [r / mean for r in raw], rtol=1e-4)


class Fixed:
    """A generator whose draws are given."""

    def __init__(self, *draws: float) -> None:
        self.draws = draws

    def uniform(self, low: float, high: float, shape: tuple[int, int]) -> np.ndarray:
        assert (low, high, shape[0]) == (-1, 1, len(self.draws))
        return np.repeat(np.array(self.draws)[:, None], shape[1], axis=1)


def test_augmentation_is_the_affine_map_it_says() -> None:
    images = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 1, 25, 25))).float()
    draw: Callable[..., Any] = lambda *d, flip=False: augmented(images, Fixed(*d), flip)  # noqa: E731
    assert torch.allclose(draw(0, 0, 0, 0, 0, 0), images, atol=1e-5)
    assert torch.allclose(draw(0, 0, 0, 0, 0, -1), images, atol=1e-5)  # no mirroring unless asked for
    assert torch.allclose(draw(0, 0, 0, 0, 0, -1, flip=True), images.flip(-1), atol=1e-5)
    assert torch.allclose(draw(0, 0, 0, 0, 1, 0), images * 1.15, atol=1e-5)
    shifted = draw(0, 0, 1, -1, 0, 0)  # 0.08 x 25 = 2 pixels
    assert torch.allclose(shifted[..., 2:, :-2], images[..., :-2, 2:], atol=1e-4)
    smooth = scipy.ndimage.gaussian_filter(images.numpy(), (0, 0, 2, 2))
    turned = augmented(torch.from_numpy(smooth), Fixed(1, 1, 0, 0, 0, 0))
    a = np.deg2rad(10)
    matrix = 1.1 * np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]])  # rows, columns
    offset = np.array([12, 12]) - matrix @ [12, 12]
    expected = scipy.ndimage.affine_transform(smooth[0, 0], matrix, offset, order=1, mode="nearest")
    assert np.abs(turned[0, 0].numpy() - expected).max() < 1e-3


def changed(path: Path, into: Path, **values: Any) -> Path:
    found = about(path) | values
    save_file(load_file(path), into, {KEY: json.dumps(found)})
    return into


@pytest.mark.parametrize(
    "values",
    [
        {"format": 2},
        {"architecture": "resnet-50"},
        {"resolution": 10**9},
        {"resolution": True},
        {"resolution": 16.0},
        {"channels": 4},
        {"channels": True, "mean": [1.0], "std": [1.0]},
        {"channels": 3},
        {"mean": [float("nan")]},
        {"mean": [float("inf")]},
        {"mean": "12"},
        {"mean": [10**400]},
        {"std": [0.0]},
        {"std": [1.0, 1.0]},
        {"classes": ["a"]},
        {"classes": ["a", "b", 3]},
        {"classes": ["a"] * 4},
        {"classes": "abc"},
        {"classes": ["a", "b", "c" * 10_000]},
        {"accuracy": 1.5},
        {"accuracy": "high"},
        {"steps": None},
        {"seed": "0"},
    ],
    ids=lambda values: "-".join(values),
)
def test_hostile_descriptions_are_refused(values: dict[str, Any], trained: DomainExtractorInfo, tmp_path: Path) -> None:
    assert DomainExtractor(changed(trained.path, tmp_path / "same.safetensors")).size == 16
    with pytest.raises(MetricError, match=r"not a domain extractor|cannot be read"):
        DomainExtractor(changed(trained.path, tmp_path / "a.safetensors", **values))


@pytest.mark.parametrize("text", ["", "[]", "nonsense", "[" * 200_000, '{"format": 1}', "null"])
def test_descriptions_that_are_none_are_refused(text: str, trained: DomainExtractorInfo, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file(load_file(trained.path), path, {KEY: text})
    with pytest.raises(MetricError, match="not a domain extractor"):
        DomainExtractor(path)


def test_class_names_cannot_command_a_terminal(trained: DomainExtractorInfo, tmp_path: Path) -> None:
    path = changed(trained.path, tmp_path / "a.safetensors", classes=["\x1b[2Jx", "b", "c"])
    assert DomainExtractor(path).class_names[0] == "\\x1b[2Jx"


def test_wrong_weights_are_refused(trained: DomainExtractorInfo, tmp_path: Path) -> None:
    path, tensors = tmp_path / "a.safetensors", load_file(trained.path)
    description = {KEY: json.dumps(about(trained.path))}
    save_file({k: v for k, v in tensors.items() if k != "head.bias"}, path, description)
    with pytest.raises(MetricError, match=r"missing \(head.bias\)"):
        DomainExtractor(path)
    for name, value in (
        ("head.bias", torch.zeros(4)),
        ("head.bias", tensors["head.bias"].half()),
        ("head.bias", torch.full((3,), float("nan"))),
        ("norm.running_var", -tensors["norm.running_var"]),
    ):
        save_file(tensors | {name: value}, path, description)
        with pytest.raises(MetricError, match=name):
            DomainExtractor(path)


def test_other_files_are_refused(trained: DomainExtractorInfo, tmp_path: Path) -> None:
    with pytest.raises(MetricError, match="does not exist"):
        DomainExtractor(tmp_path / "nothing.safetensors")
    path = tmp_path / "a.safetensors"
    for content in (b"", b"hello", trained.path.read_bytes()[:1000], trained.path.read_bytes()[:-1]):
        path.write_bytes(content)
        with pytest.raises(MetricError, match="cannot be read"):
            DomainExtractor(path)
    save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(MetricError, match="something else"):
        DomainExtractor(path)


@settings(max_examples=60, deadline=None)
@given(place=st.floats(0, 1), byte=st.integers(0, 255), header=st.booleans())
def test_damage_gives_an_error_for_people_or_none(
    place: float, byte: int, header: bool, trained: DomainExtractorInfo, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(trained.path.read_bytes())
    length = 8 + int.from_bytes(content[:8], "little") if header else len(content)
    content[min(int(place * length), length - 1)] = byte
    path = tmp_path_factory.mktemp("damage") / "a.safetensors"
    path.write_bytes(content)
    try:
        DomainExtractor(path)(squares(2)[0])
    except GanwrightError:
        pass
    finally:
        path.unlink()


def test_what_cannot_be_trained_on_is_refused(tmp_path: Path) -> None:
    images, labels = squares(40)
    out, single = tmp_path / "a.safetensors", open_dataset((images, labels))
    single.labels[:] = 0
    with pytest.raises(DataError, match="no labels"):
        train_extractor(images, out=out, quiet=True)
    with pytest.raises(MetricError, match="two classes"):
        train_extractor(single, out=out, quiet=True)
    for wrong in ({"resolution": 128}, {"steps": 0}, {"max_minutes": -1.0}, {"device": "gpu"}):
        with pytest.raises(SettingsError):
            train_extractor((images, labels), out=out, quiet=True, **wrong)
    with pytest.raises(SettingsError, match="must end in"):
        train_extractor((images, labels), out=tmp_path / "a.pt", quiet=True)
    assert not list(tmp_path.iterdir())


def test_weights_of_something_else_are_not_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "a.safetensors"
    train_extractor(squares(40), out=out, steps=1, quiet=True)
    train_extractor(squares(40), out=out, steps=2, quiet=True)
    assert DomainExtractor(out).description.steps == 2
    save_file({"weight": torch.zeros(3)}, out)
    before = out.read_bytes()
    with pytest.raises(SettingsError, match="left alone"):
        train_extractor(squares(40), out=out, steps=1, quiet=True)
    assert out.read_bytes() == before


def test_large_images_are_reduced_and_nothing_held_out_is_said(tmp_path: Path) -> None:
    dataset = open_dataset(squares(30, channels=3, side=70), DataSettings(resolution=70, held_out=0.0))
    info = train_extractor(dataset, out=tmp_path / "a.safetensors", steps=1, quiet=True)
    extractor = DomainExtractor(info.path)
    assert (extractor.size, info.n, info.low, info.high) == (64, 0, 0.0, 1.0)
    assert np.isnan(info.accuracy) and np.isnan(extractor.description.accuracy)
    assert "unknown" in str(info)
    assert DomainDescription.from_json(extractor.description.to_json()).classes == info.classes


def test_the_file_is_named_after_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "my set.npz", images=squares(40)[0], labels=squares(40)[1])
    info = train_extractor(tmp_path / "my set.npz", steps=1, quiet=True)
    assert info.path == Path("my-set-extractor.safetensors") and info.path.is_file()


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Fréchet distance of two Gaussians; tr (S T)^1/2 as the nuclear norm of A B', where S = A'A and T = B'B."""
    centred = [(x - x.mean(0)) / np.sqrt(len(x) - 1) for x in (a.astype(np.float64), b.astype(np.float64))]
    traces = sum((x**2).sum() for x in centred)
    root = scipy.linalg.svdvals(centred[0] @ centred[1].T).sum()
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + traces - 2 * root)


@pytest.mark.slow
def test_digits_are_read_and_what_is_wrong_with_them_is_ranked(tmp_path: Path) -> None:
    info = train_extractor("mnist", out=tmp_path / "digits.safetensors", steps=500, max_minutes=0, quiet=True)
    assert info.n > 900 and info.accuracy >= 0.98
    dataset = open_dataset("mnist", DataSettings())
    real = dataset.images[dataset.train_index[:800]]
    unseen, labels = (a[dataset.held_out_index[:500]] for a in (dataset.images, dataset.labels))

    def rounded(images: np.ndarray) -> np.ndarray:
        return np.clip(np.rint(images), 0, 255).astype(np.uint8)

    def noise(sigma: float) -> np.ndarray:
        return rounded(unseen + np.random.default_rng(0).normal(0, sigma, unseen.shape))

    def blur(sigma: float) -> np.ndarray:
        return rounded(scipy.ndimage.gaussian_filter(unseen.astype(float), (0, sigma, sigma, 0)))

    def distance(extractor: Any, images: np.ndarray, n: int = 800) -> float:
        return frechet(extractor(real[:n]).features, extractor(images).features)

    domain = DomainExtractor(info.path)
    for worse in (
        [unseen, blur(0.7), blur(1.0), blur(1.5)],
        [unseen, noise(10), noise(20), noise(40)],
        [unseen, np.roll(unseen, 2, 2), np.roll(unseen, 4, 2), np.roll(unseen, 6, 2)],
        [unseen[labels >= k] for k in (0, 1, 3, 5)],
    ):
        found = [distance(domain, images) for images in worse]
        assert found == sorted(found), found
        assert found[-1] > 2 * found[0]
    # Missing digits count for more than noise nobody sees; with features of photographs it is the other way round.
    general = open_extractor("efficientnet-lite0")
    missing, noisy = unseen[labels >= 3][:250], noise(5)[:250]
    assert distance(domain, missing) > 1.5 * distance(domain, noisy)
    assert distance(general, missing, 250) < distance(general, noisy, 250) / 1.5
