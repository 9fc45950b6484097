"""DINOv2 and CLIP extractors against direct calls of `transformers`, on tiny networks with random weights."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ganwright.errors import MetricError, MissingExtraError
from ganwright.metrics import extractor_transformers
from ganwright.metrics.extractor_transformers import FAMILIES, PUBLISHED, TransformersExtractor

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny models as `save_pretrained` writes them."""
    root = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    dino = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "initializer_range": 0.3}
    transformers.Dinov2Model(transformers.Dinov2Config(image_size=70, patch_size=14, **dino)).save_pretrained(
        root / "dino"
    )
    transformers.Dinov2WithRegistersModel(
        transformers.Dinov2WithRegistersConfig(image_size=70, patch_size=14, **dino)
    ).save_pretrained(root / "registers")
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = {**small, "image_size": 42, "patch_size": 14, "projection_dim": 8}
    text = {**small, "vocab_size": 50, "bos_token_id": 0, "eos_token_id": 1}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
    transformers.CLIPModel(config).half().save_pretrained(root / "clip")  # as published: all of it, perhaps in halves
    transformers.CLIPVisionModel(config.vision_config).save_pretrained(root / "no-projection")
    return root


def pixels(images: np.ndarray, size: int, mean: Any, std: Any) -> torch.Tensor:
    """Pillow's float bicubic of each plane, / 255, normalised."""
    planes = images.astype(np.float32)
    out = np.zeros((len(images), 3, size, size), np.float32)
    for i in range(len(images)):
        for c in range(3):
            resized = Image.fromarray(planes[i, :, :, c], "F").resize((size, size), Image.Resampling.BICUBIC)
            out[i, c] = (np.asarray(resized).clip(0, 255) / 255 - mean[c]) / std[c]
    return torch.from_numpy(out)


def processor(kind: str) -> Any:
    """The image processor that the family's published models name, with its class's defaults."""
    # A module's Pillow twin where there is no torchvision: their defaults are the same.
    for module, name in ((f"image_processing_pil_{kind}", "Pil"), (f"image_processing_{kind}", "")):
        try:
            found = importlib.import_module(f"transformers.models.{kind}.{module}")
        except ImportError:
            continue
        for candidate in vars(found).values():
            its_own = isinstance(candidate, type) and candidate.__module__ == found.__name__
            if its_own and candidate.__name__.endswith(f"ImageProcessor{name}"):
                return candidate()
    raise AssertionError(kind)


def photograph(n: int = 3, side: tuple[int, int] = (50, 40)) -> np.ndarray:
    """Noise between random colours."""
    rng = np.random.default_rng(0)
    return (rng.random((n, *side, 3)) * rng.integers(50, 256, (n, 1, 1, 3))).astype(np.uint8)


@pytest.mark.parametrize(("folder", "class_name"), [("dino", "Dinov2Model"), ("registers", "Dinov2WithRegistersModel")])
def test_dinov2_is_the_class_token_after_the_last_norm(folders: Path, folder: str, class_name: str) -> None:
    extractor = TransformersExtractor(f"dinov2:{folders / folder}")
    network = getattr(transformers, class_name).from_pretrained(folders / folder).eval()
    images = photograph()
    x = pixels(images, 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    with torch.no_grad():
        states = network(x, output_hidden_states=True).hidden_states[-1]
        expected = network.layernorm(states)[:, 0].numpy()
    found = extractor(images)
    assert found.features.shape == (3, 16) and extractor.feature_dim == 16
    assert np.abs(found.features - expected).max() < 1e-3
    assert found.logits is None and not extractor.has_logits
    assert extractor.name == f"dinov2:{folder}"
    assert "bicubic" in extractor.preprocessing and "224x224" in extractor.preprocessing
    with torch.no_grad():  # with other numbers it would be another answer
        other = network(pixels(images, 224, (0.5,) * 3, (0.229, 0.224, 0.225))).last_hidden_state[:, 0].numpy()
    assert np.abs(other - expected).max() > 0.01


def test_clip_is_the_projected_embedding_of_unit_length(folders: Path) -> None:
    extractor = TransformersExtractor(f"clip:{folders / 'clip'}")
    network = transformers.CLIPModel.from_pretrained(folders / "clip", dtype=torch.float32).eval()
    images = photograph()
    own = processor("clip")
    x = pixels(images, 42, own.image_mean, own.image_std)
    with torch.no_grad():
        pooled = network.vision_model(pixel_values=x).pooler_output
        expected = (pooled @ network.visual_projection.weight.T).numpy()
    expected /= np.sqrt((expected**2).sum(1, keepdims=True))
    found = extractor(images)
    assert (extractor.size, extractor.feature_dim) == (42, 8)
    assert np.abs(found.features - expected).max() < 1e-4
    assert np.abs(np.subtract(*expected[:2])).max() > 1e-3
    assert "unit length" in extractor.preprocessing


def test_preprocessing_is_the_published_one() -> None:
    clip, dino = processor("clip"), processor("bit")  # DINOv2's published models name BitImageProcessor
    assert FAMILIES["clip"].mean == tuple(clip.image_mean) and FAMILIES["clip"].std == tuple(clip.image_std)
    # facebook/dinov2-*: preprocessor_config.json overrides Bit's own means with ImageNet's
    standard = importlib.import_module("transformers.image_utils")
    assert FAMILIES["dinov2"].mean == tuple(standard.IMAGENET_DEFAULT_MEAN)
    assert FAMILIES["dinov2"].std == tuple(standard.IMAGENET_DEFAULT_STD)
    for found in (clip, dino):
        assert found.resample == Image.Resampling.BICUBIC and found.rescale_factor == 1 / 255


def test_grey_is_repeated_and_batches_do_not_matter(folders: Path) -> None:
    extractor = TransformersExtractor("dinov2", weights=folders / "dino")
    assert extractor.name == "dinov2"
    grey = photograph(9)[..., :1]
    whole = extractor(grey).features
    assert np.array_equal(whole, extractor(grey.repeat(3, axis=3)).features)
    single = np.concatenate([extractor(grey[i : i + 1]).features for i in range(9)])
    assert np.abs(whole - single).max() < 1e-4


def test_the_version_is_of_weights_and_configuration(folders: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folders / "dino", copy)
    first = TransformersExtractor(f"dinov2:{folders / 'dino'}").version
    assert TransformersExtractor(f"dinov2:{copy}").version == first
    network = transformers.Dinov2Model.from_pretrained(copy)
    with torch.no_grad():
        network.embeddings.cls_token.add_(1e-3)
    network.save_pretrained(copy)
    second = TransformersExtractor(f"dinov2:{copy}").version
    config = json.loads((copy / "config.json").read_text()) | {"num_attention_heads": 4}
    (copy / "config.json").write_text(json.dumps(config))
    assert len({first, second, TransformersExtractor(f"dinov2:{copy}").version}) == 3


def test_sharded_weights_are_read(folders: Path, tmp_path: Path) -> None:
    network = transformers.Dinov2Model.from_pretrained(folders / "dino")
    network.save_pretrained(tmp_path / "shards", max_shard_size="10KB")
    assert not (tmp_path / "shards" / "model.safetensors").exists()
    extractor = TransformersExtractor(f"dinov2:{tmp_path / 'shards'}")
    whole = TransformersExtractor(f"dinov2:{folders / 'dino'}")
    assert np.array_equal(extractor(photograph()).features, whole(photograph()).features)
    assert extractor.version != whole.version


def test_opening_draws_no_random_numbers_and_says_nothing(folders: Path, capfd: pytest.CaptureFixture[str]) -> None:
    state = torch.get_rng_state()
    TransformersExtractor(f"clip:{folders / 'clip'}")
    assert torch.equal(torch.get_rng_state(), state)
    assert capfd.readouterr() == ("", "")


def edit(**values: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return change


@pytest.mark.parametrize(
    ("family", "model", "change", "message"),
    [
        ("clip", "no-projection", lambda f: None, "visual_projection"),
        ("dinov2", "clip", lambda f: None, "of the type clip"),
        ("clip", "dino", lambda f: None, "of the type dinov2"),
        ("dinov2", "dino", edit(model_type=["dinov2"]), "of the type"),
        ("dinov2", "dino", edit(hidden_size=32), "cannot be read|of another shape"),
        ("dinov2", "dino", edit(num_hidden_layers=3), "weights are missing"),
        ("dinov2", "dino", edit(quantization_config={"load_in_4bit": True}), "Quantised"),
        ("dinov2", "dino", lambda f: (f / "adapter_config.json").write_text("{}"), "adapters"),
        ("dinov2", "dino", lambda f: (f / "config.json").write_text("[]"), "not a model's"),
        ("dinov2", "dino", lambda f: (f / "config.json").write_text("[" * 100_000), "not a model's"),
        ("dinov2", "dino", lambda f: (f / "config.json").unlink(), "no config.json"),
        ("dinov2", "dino", lambda f: (f / "model.safetensors").write_bytes(b"hello"), "cannot be read"),
        ("dinov2", "dino", lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"), "save_pretrained"),
    ],
)
def test_unfit_folders_say_why(
    family: str, model: str, change: Callable[[Path], None], message: str, folders: Path, tmp_path: Path
) -> None:
    folder = tmp_path / model
    shutil.copytree(folders / model, folder)
    change(folder)
    with pytest.raises(MetricError, match=message):
        TransformersExtractor(f"{family}:{folder}")


def test_patches_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    config = transformers.Dinov2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=30, patch_size=15
    )
    transformers.Dinov2Model(config).save_pretrained(tmp_path / "a")
    with pytest.raises(MetricError, match="224 pixels in patches of 15"):
        TransformersExtractor(f"dinov2:{tmp_path / 'a'}")


def test_code_in_a_folder_is_not_run(folders: Path, tmp_path: Path) -> None:
    folder, trace = tmp_path / "a", tmp_path / "ran"
    shutil.copytree(folders / "dino", folder)
    (folder / "evil.py").write_text(f"open({str(trace)!r}, 'w')\nclass Model: pass\nclass Config: pass\n")
    edit(auto_map={"AutoModel": "evil.Model", "AutoConfig": "evil.Config"})(folder)
    TransformersExtractor(f"dinov2:{folder}")
    assert not trace.exists()


@pytest.mark.parametrize("name", PUBLISHED)
def test_without_network_it_says_what_to_download(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = importlib.import_module("huggingface_hub")
    asked: list[tuple[str, str, bool]] = []

    def offline(repository: str, file: str, local_files_only: bool) -> str:
        asked.append((repository, file, local_files_only))
        raise OSError("no network")

    monkeypatch.setattr(hub, "hf_hub_download", offline)
    repository = PUBLISHED[name].repository
    with pytest.raises(MetricError, match="no network") as caught:
        TransformersExtractor(name)
    advice = str(caught.value)
    assert f"hf download {repository} config.json model.safetensors" in advice
    assert f"{PUBLISHED[name].family}:/path/to/" in advice and "efficientnet-lite0" in advice
    assert asked == [(repository, "config.json", True), (repository, "config.json", False)]


def test_what_is_cached_is_not_asked_for_again(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = importlib.import_module("huggingface_hub")

    def cached(repository: str, file: str, local_files_only: bool) -> str:
        assert local_files_only and repository == "openai/clip-vit-base-patch32"
        return str(folders / "clip" / file)

    monkeypatch.setattr(hub, "hf_hub_download", cached)
    extractor = TransformersExtractor("clip-base")
    assert (extractor.name, extractor.feature_dim) == ("clip-base", 8)


def test_a_missing_package_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"ganwright\[transformers\]"):
        TransformersExtractor("dinov2")


def test_the_module_does_not_import_the_package() -> None:
    assert "transformers" not in vars(extractor_transformers)
