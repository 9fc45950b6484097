"""Text as training data: one sample a line, words separated by white space, numbered by frequency."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ganwright.config import DataSettings
from ganwright.data.spec import Batch, DataKind, Dataset, DataSpec
from ganwright.data.split import SHOW, EpochOrder, duplicates, held_out_mask, shuffled
from ganwright.errors import DataError
from ganwright.files import hash_bytes
from ganwright.samples import TextSamples

PAD, BOS, EOS, UNK = 0, 1, 2, 3
SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")
MAX_WORDS = 64
"""Longer lines are cut."""
SUFFIXES = frozenset({".txt", ".text", ".tokens"})


def recognises(source: object) -> bool:
    """Whether `source` is a text file or a list of strings."""
    if isinstance(source, list):
        return bool(source) and all(isinstance(line, str) for line in source)
    return isinstance(source, str | os.PathLike) and Path(source).suffix.lower() in SUFFIXES


def read_lines(source: Any) -> tuple[list[str], list[tuple[str, str]]]:
    """Lines of a file or a list of strings: words separated by one space, empty lines left out.

    Returns:
        The lines, and (line number, reason) of those that are not UTF-8.

    Raises:
        DataError: There is no such file, or it holds no text.
    """
    skipped: list[tuple[str, str]] = []
    if isinstance(source, list):
        raw: list[str] = [str(line) for line in source]
        where: object = "list"
    else:
        where, raw = source, []
        try:
            content = Path(source).read_bytes()
        except OSError as error:
            raise DataError(f"The text cannot be read: {error.strerror}.", where=source) from error
        if b"\0" in content[:8192]:
            raise DataError("This is no UTF-8 text.", where=source, fix="give one sample a line, in UTF-8")
        for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
            try:
                raw.append(line.decode("utf-8"))
            except UnicodeDecodeError:
                skipped.append((f"line {number}", "It is not UTF-8."))
    lines = [" ".join(line.split()) for line in raw]
    lines = [line for line in lines if line]
    if not lines:
        raise DataError("There is no text here.", where=where, fix="give one sample a line, in UTF-8")
    return lines, skipped


class TextDataset(Dataset):
    """Lines of text as rows of word numbers.

    A row is BOS, the words, EOS, and PAD up to the common length. The vocabulary is made from the training
    lines alone; other words are UNK.

    Attributes:
        lines: All lines, training and held-out together.
        vocabulary: The words by number; the first four are PAD, BOS, EOS and UNK.
        tokens: int64 (N, T).
        train_index: Positions of the training lines.
        held_out_index: Positions of the held-out ones.
        spec: `extra` has `vocabulary_size` and `length` (T).
    """

    def __init__(
        self,
        lines: Sequence[str],
        settings: DataSettings,
        *,
        seed: int,
        name: str,
        skipped: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.lines, self.skipped = list(lines), list(skipped)
        digests = b"".join(bytes.fromhex(hash_bytes(line.encode())) for line in self.lines)
        hashes = np.frombuffer(digests, np.uint8).reshape(-1, 16)
        held_out = held_out_mask(hashes, settings.held_out, seed)
        self.train_index: npt.NDArray[np.int64] = np.flatnonzero(~held_out)
        self.held_out_index: npt.NDArray[np.int64] = np.flatnonzero(held_out)
        self._order = EpochOrder(self.train_index)
        self.duplicates = duplicates(hashes)
        counts = Counter(word for i in self.train_index for word in self.lines[i].split())
        words = sorted(counts, key=lambda word: (-counts[word], word))
        self.vocabulary = (*SPECIAL, *(word for word in words if word not in SPECIAL))
        numbers = {word: i for i, word in enumerate(self.vocabulary)}
        split = [line.split() for line in self.lines]
        long = sum(len(line) > MAX_WORDS for line in split)
        length = min(MAX_WORDS, max(map(len, split))) + 2
        self.tokens = torch.full((len(split), length), PAD, dtype=torch.int64)
        for row, line in zip(self.tokens, split, strict=True):
            ids = [BOS, *(numbers.get(word, UNK) for word in line[:MAX_WORDS]), EOS]
            row[: len(ids)] = torch.tensor(ids)
        self.notes = [f"{long} lines are cut to {MAX_WORDS} words"] if long else []
        if self.duplicates:
            self.notes.append(f"{self.duplicates} lines are copies of others")
        self.spec = DataSpec(
            kind=DataKind.TEXT,
            name=name,
            count=len(self.train_index),
            fingerprint=hash_bytes(f"words, v1, {MAX_WORDS}".encode(), digests),
            extra={"vocabulary_size": len(self.vocabulary), "length": length},
        )

    def batch(self, index: int, size: int, *, seed: int) -> Batch:
        """`tokens` int64 (B, T); every training line once an epoch."""
        return {"tokens": self.tokens[torch.from_numpy(self._order.batch(index, size, seed))]}

    def real_samples(self, n: int, *, seed: int, held_out: bool = False) -> TextSamples | None:
        """Up to `n` training or held-out lines without replacement; None where there are none."""
        pool = self.held_out_index if held_out else self.train_index
        if len(pool) == 0:
            return None
        return TextSamples([self.lines[i] for i in pool[shuffled(len(pool), seed, SHOW)[:n]]])

    def decode(self, tokens: Tensor) -> list[str]:
        """Rows of word numbers (B, T) as lines: up to EOS, without PAD and BOS."""
        lines = []
        for row in tokens.tolist():
            end = row.index(EOS) if EOS in row else len(row)
            lines.append(" ".join(self.vocabulary[i] for i in row[:end] if i not in (PAD, BOS)))
        return lines


def open_text(source: Any, settings: DataSettings, *, seed: int) -> TextDataset:
    """Open a UTF-8 file with one sample a line, or a list of strings.

    Raises:
        DataError: It cannot be read, or holds no text.
    """
    if not isinstance(source, list | str | os.PathLike):
        raise DataError(
            f"A {type(source).__name__} is no text.",
            fix="give a UTF-8 file with one sample a line, or strings",
        )
    lines, skipped = read_lines(source)
    name = "text" if isinstance(source, list) else Path(source).stem
    return TextDataset(lines, settings, seed=seed, name=name, skipped=skipped)
