"""What every foreign format becomes, and what a format is: a file of its own, and a row in `importing.FORMATS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from ganwright.data.spec import DataSpec
from ganwright.training.settings import RunSettings


@dataclass(frozen=True)
class Foreign:
    """A file's networks in our terms.

    Attributes:
        origin: Where such files come from, for people and `run.yaml`.
        settings: Recipe and settings that build the networks.
        data: What is known of the training data.
        average: State of the averaged generator.
        generator: State of the generator as it was trained last.
        discriminator: State of the discriminator; None: none that fits.
        notes: What the user should know.
    """

    origin: str
    settings: RunSettings
    data: DataSpec
    average: Mapping[str, Tensor]
    generator: Mapping[str, Tensor]
    discriminator: Mapping[str, Tensor] | None
    notes: tuple[str, ...] = ()


class Read(Protocol):
    """Translates what a file holds."""

    def __call__(self, content: Any, name: str, fingerprint: str, *, eval_mode: bool) -> Foreign:
        """The networks in our terms.

        Args:
            content: Of `read_checkpoint_file`.
            name: Of the file, for the data's name.
            fingerprint: For the data's fingerprint.
            eval_mode: See `Format.two_ways`.

        Raises:
            CheckpointImportError: The file does not fit together, or no settings of ours build its networks.
        """


@dataclass(frozen=True)
class Format:
    """One kind of file.

    Attributes:
        claims: Whether the content is of this kind, or nearly.
        read: Translates it.
        layouts: For plain state dicts: names of the tensors of typical files (digits as #) by origin, for the refusal
            of a file that is near one of them.
        two_ways: Whether `eval_mode` makes a difference.
    """

    claims: Callable[[Any], bool]
    read: Read
    layouts: Mapping[str, frozenset[str]]
    two_ways: bool = False
