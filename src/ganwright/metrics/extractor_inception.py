"""The 2015 Inception extractor, and where its published weights come from."""

from __future__ import annotations

import hashlib
import os
import urllib.error
import urllib.request
from pathlib import Path

import torch
from torch import Tensor, nn

from ganwright.errors import MetricError
from ganwright.files import atomic_path, cache_folder
from ganwright.metrics.extractor_base import Extractor
from ganwright.metrics.protocols import PROTOCOLS, Protocol
from ganwright.metrics.resizing import resize_name
from ganwright.networks.efficientnet_lite import read_weights
from ganwright.networks.folded import for_inference, uninitialised
from ganwright.networks.inception import InceptionV3

INCEPTION_URL = (
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth"
)
INCEPTION_FILE = "pt_inception-2015-12-05-6726825d.pth"
INCEPTION_SHA256_PREFIX = "6726825d"
INCEPTION_VARIABLE = "GANWRIGHT_INCEPTION"


class Inception(Extractor):
    """The 2015 Inception graph of FID (Heusel et al. 2017).

    Args:
        device: Where to compute.
        weights: The published weights file; None: see `find_inception`.
        network: A network with weights already, for tests and conversions; `version` must then be told apart.
        protocol: Says how images are resized and scaled; None: clean-fid's way.
    """

    name, feature_dim, has_logits, size = "inception", 2048, True, 299
    has_spatial = True
    cpu_batch = 8

    def __init__(
        self,
        device: torch.device | str = "cpu",
        weights: Path | None = None,
        network: InceptionV3 | None = None,
        protocol: Protocol | None = None,
    ) -> None:
        super().__init__(device)
        protocol = protocol or PROTOCOLS["clean-fid"]
        self.resize, self.centre, self.scale = protocol.resize, protocol.centre, protocol.scale
        self.preprocessing = f"{resize_name(self.resize, 299)}, (x - {self.centre:g}) / {self.scale:g}"
        if network is None:
            network = uninitialised(InceptionV3)
            network.load_state_dict(read_weights(str(find_inception(weights))))
            self.version = INCEPTION_SHA256_PREFIX
        else:
            self.version = "custom-" + _hash_state(network)
        self.network = for_inference(network).to(self.device)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features (N, 2048), logits without bias (N, 1008) and spatial features (N, 2023)."""
        features, logits, spatial = self.network((images - self.centre) / self.scale)
        return features, logits, spatial


def find_inception(weights: Path | None = None) -> Path:
    """The published weights: the file named, `GANWRIGHT_INCEPTION`, the cache, or fetched once; checksum verified.

    Raises:
        MetricError: Not to be had, or another file; says what to do.
    """
    named = weights or (Path(os.environ[INCEPTION_VARIABLE]) if os.environ.get(INCEPTION_VARIABLE) else None)
    path = named or cache_folder() / INCEPTION_FILE
    if not path.is_file():
        if named is not None:
            raise MetricError("The Inception weights file does not exist.", where=path, fix=_advice())
        _fetch(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if not digest.startswith(INCEPTION_SHA256_PREFIX):
        raise MetricError(
            "This is not the published Inception file: its SHA-256 does not begin with "
            f"{INCEPTION_SHA256_PREFIX} but with {digest[:8]}.",
            where=path,
            fix=_advice(),
        )
    return path


def _fetch(path: Path) -> None:
    try:
        with urllib.request.urlopen(INCEPTION_URL, timeout=30) as answer:
            content = answer.read()
    except (urllib.error.URLError, OSError) as error:
        raise MetricError(
            f"The Inception weights are not on this machine and could not be fetched ({error}).",
            where=path,
            fix=_advice(),
        ) from error
    if not hashlib.sha256(content).hexdigest().startswith(INCEPTION_SHA256_PREFIX):
        raise MetricError("What was fetched is not the published Inception file.", where=INCEPTION_URL, fix=_advice())
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def _advice() -> str:
    return (
        f"download {INCEPTION_URL} (95 MB) on a machine with internet, put it at {cache_folder() / INCEPTION_FILE} "
        f"or name it with {INCEPTION_VARIABLE}=/path/to/{INCEPTION_FILE}; or use --extractor efficientnet-lite0, "
        "which needs no download"
    )


def _hash_state(network: nn.Module) -> str:
    digest = hashlib.blake2b(digest_size=4)
    for key, tensor in network.state_dict().items():
        digest.update(key.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
