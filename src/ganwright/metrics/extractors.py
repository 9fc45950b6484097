"""The table of feature extractors. A new one is a file with a class derived from `Extractor`, and a row here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from ganwright.errors import SettingsError, nearest
from ganwright.metrics.extractor_base import Extractor, Features
from ganwright.metrics.extractor_domain import DOMAIN_ENDING, DomainExtractor
from ganwright.metrics.extractor_efficientnet import EfficientNetLite
from ganwright.metrics.extractor_file import FILE_ENDINGS, UserFile, split_size
from ganwright.metrics.extractor_inception import Inception
from ganwright.metrics.extractor_transformers import FAMILIES, PUBLISHED, TransformersExtractor
from ganwright.metrics.protocols import Protocol

__all__ = ["EXTRACTORS", "Extractor", "Features", "open_extractor"]

EXTRACTORS: dict[str, Callable[..., Extractor]] = {
    "inception": Inception,
    "efficientnet-lite0": EfficientNetLite,
}
"""Extractors by name; files of the user's own need no row."""
LOCAL_PREFIXES = tuple(f"{family}:" for family in FAMILIES)
"""Beginnings of names that are models in a local folder, as `dinov2:/folder`."""


def open_extractor(
    name: str,
    *,
    device: torch.device | str = "cpu",
    weights: Path | None = None,
    protocol: Protocol | None = None,
) -> Extractor:
    """Open an extractor by name, or the user's own TorchScript or ONNX file, or a trained domain extractor.

    Raises:
        SettingsError: An unknown name.
        MetricError: Its weights are missing or wrong.
    """
    if name in EXTRACTORS:
        follows = {} if protocol is None or name != "inception" else {"protocol": protocol}
        return EXTRACTORS[name](device=device, weights=weights, **follows)
    if name in PUBLISHED or name.startswith(LOCAL_PREFIXES):
        return TransformersExtractor(name, device, weights)
    if name.endswith(DOMAIN_ENDING):
        return DomainExtractor(name, device)
    if split_size(name)[0].endswith(FILE_ENDINGS):
        return UserFile(name, device)
    raise SettingsError(
        f"There is no extractor '{name}'.{nearest(name, [*EXTRACTORS, *PUBLISHED])}",
        where="extractor",
        fix=f"choose {', '.join([*EXTRACTORS, *PUBLISHED])} or a file ending in {', '.join(FILE_ENDINGS)} (your own "
        f"network) or {DOMAIN_ENDING} (made by `ganwright extractor train`)",
    )
