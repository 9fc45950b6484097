"""Hugging Face datasets, through the optional package `datasets`. Code that a dataset brings is never run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from ganwright.data.decode import BrokenImageError, Header, Picture, decode_picture, read_header
from ganwright.data.labels import Labelling, labels_from_values
from ganwright.data.sources import ImageSource
from ganwright.errors import DataError, MissingExtraError
from ganwright.files import hash_bytes

PREFIX = "hf:"
_IMAGE_COLUMNS = ("image", "img", "images", "pixel_values")
_LABEL_COLUMNS = ("label", "labels", "fine_label", "class", "target")


def is_dataset(source: object) -> bool:
    """Whether `source` is a `datasets.Dataset` (the package is not imported to find out)."""
    package = sys.modules.get("datasets")
    return package is not None and isinstance(source, package.Dataset)


def parse(reference: str) -> tuple[str, str | None, str]:
    """Take "hf:NAME[/CONFIG][?split=train]" apart; NAME may be `owner/name` or a local path.

    Returns:
        Name, configuration or None, split.

    Raises:
        DataError: It is not of this form.
    """
    fix = "write hf:NAME, hf:OWNER/NAME, hf:OWNER/NAME/CONFIG, with ?split=train or ?config=… where needed"
    name, _, query = reference.removeprefix(PREFIX).partition("?")
    options = dict(parse_qsl(query))
    unknown = sorted(set(options) - {"split", "config"})
    if not name or unknown:
        raise DataError(f"Unknown option {unknown[0]!r}." if unknown else "No name.", where=reference, fix=fix)
    config = options.get("config")
    if not Path(name).exists() and name.count("/") == 2 and config is None:
        name, _, config = name.rpartition("/")
    return name, config, options.get("split", "train")


def open_named(reference: str) -> HuggingFaceSource:
    """Load "hf:NAME[/CONFIG][?split=train]" from the Hub, its cache, or a folder written by `save_to_disk`.

    Raises:
        MissingExtraError: `datasets` is not installed.
        DataError: It cannot be loaded.
    """
    name, config, split = parse(reference)
    try:
        import datasets
    except ImportError as error:
        raise MissingExtraError("datasets", "huggingface", "Reading Hugging Face datasets") from error
    try:
        if Path(name).is_dir() and any((Path(name) / f).exists() for f in ("state.json", "dataset_dict.json")):
            loaded = datasets.load_from_disk(name)
            if isinstance(loaded, datasets.DatasetDict):
                loaded = loaded[split]
        else:
            loaded = datasets.load_dataset(name, config, split=split)
    except KeyError as error:
        raise DataError(f"The dataset has no split '{split}'.", where=reference, fix="?split=…") from error
    except Exception as error:  # network, unknown name, scripts, wrong split: one type each
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"The Hugging Face dataset cannot be loaded: {reason}",
            where=reference,
            fix="check the name, the configuration and the split, and the network",
        ) from error
    return HuggingFaceSource(loaded, Path(name).name, reference)


class HuggingFaceSource(ImageSource):
    """The image column of a `datasets.Dataset`; its class labels where it has them.

    Raises:
        DataError: It has no column of images.
    """

    def __init__(self, dataset: Any, name: str, location: str = "datasets.Dataset") -> None:
        import datasets

        self.name, self.location = name, location
        features = dataset.features
        images = [column for column, kind in features.items() if isinstance(kind, datasets.Image)]
        preferred = [column for column in _IMAGE_COLUMNS if column in images] or images
        if not preferred:
            raise DataError(
                f"The dataset has no column of images; its columns are {', '.join(features)}.", where=location
            )
        self._column = preferred[0]
        classes = [column for column, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
        plain = [column for column in _LABEL_COLUMNS if column in features]
        self._label_column = next(iter([*[c for c in plain if c in classes], *classes, *plain]), None)
        self._dataset = dataset
        self._raw = dataset.select_columns([self._column]).cast_column(self._column, datasets.Image(decode=False))
        self._names = [f"{i:06d}" for i in range(len(dataset))]

    @property
    def names(self) -> Sequence[str]:
        """Positions: 000000, 000001, …."""
        return self._names

    def read(self, i: int) -> bytes:
        """The encoded bytes of image `i`."""
        cell = self._raw[i][self._column]
        try:
            if cell is None:
                raise BrokenImageError("The cell is empty.", where=self._names[i])
            content = cell["bytes"]
            return bytes(content) if content is not None else Path(cell["path"]).read_bytes()
        except (OSError, TypeError) as error:
            raise BrokenImageError(f"It cannot be read ({error}).", where=self._names[i]) from error

    def picture_of(self, raw: bytes, i: int) -> Picture:
        """Decode image `i`."""
        return decode_picture(raw, self._names[i])

    def header(self, i: int) -> Header:
        """Size, mode and format of image `i`."""
        return read_header(BytesIO(self.read(i)), self._names[i])

    def _find_labels(self) -> Labelling:
        if self._label_column is None:
            return Labelling()
        try:
            found = labels_from_values(list(self._dataset[self._label_column]), where=self._label_column)
        except DataError:
            return Labelling(notes=[f"column {self._label_column!r} holds no class labels"])
        names = getattr(self._dataset.features[self._label_column], "names", None)
        if names:
            return Labelling(found.labels, tuple(names[int(k)] for k in found.class_names), found.notes)
        return found

    def _quick_signature(self) -> str | None:
        fingerprint = getattr(self._dataset, "_fingerprint", None)
        return hash_bytes(b"hf", str(fingerprint).encode(), self._column.encode()) if fingerprint else None
