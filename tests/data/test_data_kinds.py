"""Domains, text, single pictures, and which kind a source is opened as."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from picture_sets import encode, noise, write_folder, write_zip

from ganwright.config import DataSettings
from ganwright.data.domains import DomainsDataset
from ganwright.data.opening import open_dataset
from ganwright.data.single import SingleImageDataset
from ganwright.data.spec import DataKind, Dataset, DataSpec
from ganwright.data.text import BOS, EOS, PAD, UNK, TextDataset
from ganwright.errors import DataError

IMAGES, LABELLED = frozenset({DataKind.IMAGES}), frozenset({DataKind.LABELLED_IMAGES})
DOMAINS, TEXT, SINGLE = (frozenset({kind}) for kind in (DataKind.DOMAINS, DataKind.TEXT, DataKind.SINGLE_IMAGE))


def domain_files(a: str, b: str) -> dict[str, bytes]:
    files = {f"{a}/{i}.png": encode(noise(i, 40, 40)) for i in range(6)}
    return files | {f"{b}/{i}.png": encode(noise(100 + i, 70, 90)) for i in range(9)}


@pytest.mark.parametrize("names", [("trainA", "trainB"), ("A", "B")])
def test_domains(tmp_path: Path, names: tuple[str, str]) -> None:
    folder = write_folder(tmp_path / "s", domain_files(*names) | {"testA/1.png": encode(noise(50))})
    data = open_dataset(folder, DataSettings(held_out=0), accepts=DOMAINS)
    assert isinstance(data, DomainsDataset)
    assert (data.spec.kind, data.spec.count, data.spec.resolution) == (DataKind.DOMAINS, 9, 32)
    assert data.spec.extra == {"domains": list(names), "count_a": 6, "count_b": 9, "channels_out": 3}
    assert any("testA" in note for note in data.notes)
    batch = data.batch(0, 18, seed=0)
    assert batch["images_a"].shape == batch["images_b"].shape == (18, 3, 32, 32)
    assert len({row.numpy().tobytes() for row in batch["images_a"]}) == 6
    assert len({row.numpy().tobytes() for row in batch["images_b"]}) == 9
    assert torch.equal(data.batch(0, 18, seed=0)["images_a"], batch["images_a"])
    # Any two sets, as a tuple.
    pair = (write_zip(tmp_path / "a.zip", {"1.png": encode(noise(0))}), noise(1, 16, 16)[None])
    assert open_dataset(pair, DataSettings(held_out=0), accepts=DOMAINS).spec.extra["count_b"] == 1


def test_domains_are_shuffled_independently(tmp_path: Path) -> None:
    same = np.stack([noise(i, 8, 8) for i in range(40)])
    batch = open_dataset((same, same), DataSettings(held_out=0, resolution=8), accepts=DOMAINS).batch(0, 40, seed=0)
    equal = sum(torch.equal(a, b) for a, b in zip(batch["images_a"], batch["images_b"], strict=True))
    assert equal < 8


def test_domains_of_different_channels(tmp_path: Path) -> None:
    pair = (noise(0, 8, 8)[None], noise(1, 8, 8, 1)[None])
    with pytest.raises(DataError, match=r"(?s)3 channel\(s\) and domain B 1.*--channels"):
        open_dataset(pair, accepts=DOMAINS)
    with pytest.raises(DataError, match="not two domains"):
        open_dataset(write_folder(tmp_path / "s", {"a/1.png": b"x"}), accepts=DOMAINS)


def test_text(tmp_path: Path) -> None:
    file = tmp_path / "lines.txt"
    file.write_bytes("\ufeffthe cat sat\n\n  the   dog\t\nthé\n".encode() + b"bad \xff\xfe\n")
    data = open_dataset(file, DataSettings(held_out=0), accepts=TEXT)
    assert isinstance(data, TextDataset)
    assert data.lines == ["the cat sat", "the dog", "thé"]
    assert data.vocabulary[4:] == ("the", "cat", "dog", "sat", "thé")  # by frequency, then alphabet
    assert data.tokens.tolist() == [[BOS, 4, 5, 7, EOS], [BOS, 4, 6, EOS, PAD], [BOS, 8, EOS, PAD, PAD]]
    assert data.spec.extra == {"vocabulary_size": 9, "length": 5}
    assert data.skipped == [("line 5", "It is not UTF-8.")]
    assert data.decode(data.tokens) == data.lines
    rows = data.batch(0, 6, seed=0)["tokens"]
    assert rows.dtype == torch.int64 and sorted(data.decode(rows)) == sorted(data.lines * 2)
    assert set(data.real_samples(9, seed=0).texts) == set(data.lines)


def test_words_of_held_out_lines_alone_are_unknown() -> None:
    data = open_dataset([f"word{i} same" for i in range(200)], DataSettings(held_out=0.5), accepts=TEXT)
    assert isinstance(data, TextDataset)
    same = data.vocabulary.index("same")
    assert data.tokens[data.held_out_index, 1:3].tolist() == [[UNK, same]] * len(data.held_out_index)
    assert (data.tokens[data.train_index] != UNK).all()
    assert data.spec.extra["vocabulary_size"] == 4 + 1 + len(data.train_index)


def test_long_lines_are_cut() -> None:
    data = open_dataset(["a " * 100, "b"], DataSettings(held_out=0), accepts=TEXT)
    assert isinstance(data, TextDataset)
    assert data.tokens.shape == (2, 66) and data.tokens[0, -1] == EOS and "cut" in data.notes[0]


def test_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\n\n")
    (tmp_path / "b.txt").write_bytes(b"\x89PNG\0\0")
    for source, message in (
        (tmp_path / "a.txt", "no text here"),
        (tmp_path / "b.txt", "no UTF-8"),
        (tmp_path / "c.txt", "cannot be read"),
        (3, "no text"),
    ):
        with pytest.raises(DataError, match=message):
            open_dataset(source, accepts=TEXT)


def test_single_picture(tmp_path: Path) -> None:
    picture = noise(0, 20, 30)
    (tmp_path / "p.png").write_bytes(encode(picture))
    for source in (tmp_path / "p.png", picture, torch.from_numpy(picture).permute(2, 0, 1) / 255):
        data = open_dataset(source, accepts=SINGLE, seed=4)
        assert isinstance(data, SingleImageDataset)
        np.testing.assert_array_equal(data.image, picture)
        assert (data.spec.count, data.spec.resolution, data.spec.extra) == (
            1,
            20,
            {"height": 20, "width": 30},
        )
        batch = data.batch(7, 3, seed=0)["images"]
        assert batch.is_contiguous(memory_format=torch.channels_last)
        for row in batch:
            np.testing.assert_allclose(row.permute(1, 2, 0), picture / 127.5 - 1, atol=1e-6)
        assert (data.real_samples(9, seed=0).images == picture).all()
        assert data.real_samples(9, seed=0, held_out=True) is None
    square = open_dataset(picture, DataSettings(resolution=16, channels="1"), accepts=SINGLE)
    assert square.spec.resolution == 16 and square.spec.channels == 1
    with pytest.raises(DataError, match="One picture is wanted, but there are 4"):
        open_dataset(noise(0, 4 * 8, 8).reshape(4, 8, 8, 3), accepts=SINGLE)


def test_kind_follows_what_is_accepted(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "s", domain_files("trainA", "trainB"))
    chosen = DataSettings(resolution=8, held_out=0)
    assert open_dataset(folder, chosen, accepts=IMAGES).spec.kind == DataKind.IMAGES
    assert open_dataset(folder, chosen, accepts=IMAGES | LABELLED).spec.kind == DataKind.LABELLED_IMAGES
    assert open_dataset(folder, chosen, accepts=IMAGES | DOMAINS).spec.kind == DataKind.DOMAINS
    one = folder / "trainA" / "0.png"
    assert open_dataset(one, chosen, accepts=IMAGES).spec.kind == DataKind.IMAGES
    assert open_dataset(one, chosen, accepts=IMAGES | SINGLE).spec.kind == DataKind.SINGLE_IMAGE


def test_data_of_the_wrong_kind(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "s", {"1.png": encode(noise(0)), "2.png": encode(noise(1))})
    chosen = DataSettings(held_out=0)
    with pytest.raises(DataError, match=r"(?s)needs labelled images, and these have no labels.*folder"):
        open_dataset(folder, chosen, accepts=LABELLED)
    with pytest.raises(DataError, match="This is text, and the recipe needs images"):
        open_dataset(write_folder(tmp_path, {"a.txt": b"hello"}) / "a.txt", accepts=IMAGES)
    with pytest.raises(DataError, match="These are no pairs"):
        open_dataset(folder, accepts=frozenset({DataKind.PAIRS}))
    with pytest.raises(DataError, match="needs text, and this is images"):
        open_dataset(open_dataset(folder, chosen), accepts=TEXT)
    with pytest.raises(DataError, match="3 labels"):
        open_dataset(folder, labels=[1, 2, 3])
    with pytest.raises(DataError, match="A int is no set of images"):
        open_dataset(3)


def test_open_datasets_of_other_kinds_pass_through() -> None:
    class Own(Dataset):
        spec = DataSpec(DataKind.PAIRS, "own", 7, "f")

        def batch(self, index: int, size: int, *, seed: int) -> dict[str, torch.Tensor]:
            return {}

    own = Own()
    assert open_dataset(own, accepts=frozenset({DataKind.PAIRS}), min_count=7) is own
    with pytest.raises(DataError, match="7 training samples"):
        open_dataset(own, accepts=frozenset({DataKind.PAIRS}), min_count=8)
