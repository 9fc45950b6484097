"""Named protocols: everything that must be equal for two published numbers to be comparable.

A protocol fixes the extractor, how images reach it, how many are used, and how each statistic is computed, so that a
number is that tool's number. It is data; the code that follows it is in the metrics.
"""

from __future__ import annotations

from dataclasses import dataclass

from ganwright.errors import SettingsError, nearest


@dataclass(frozen=True)
class Protocol:
    """How images become numbers.

    Attributes:
        name: What users type and what a result carries.
        extractor: Feature extractor; "" where any will do.
        resize: Key of `resizing.RESIZES`. Images enter as uint8; nothing is rounded after resizing.
        centre: Pixels enter the Inception network as (x - centre) / scale.
        scale: See `centre`.
        covariance_ddof: 1: the covariance divides by n - 1 (numpy's `cov`), 0: by n.
        samples: Generated images it asks for; 0: any number.
        kid_subsets: Subsets of the published KID; 0: the estimate over all samples.
        kid_subset_size: Samples in each.
        kid_shrinks: Whether subsets are as large as the smaller set where that has fewer samples; else there are none.
        is_splits: Parts of the published Inception score; 0: the tool has none.
        is_shuffled: Whether samples are shuffled before they are split.
        seed: Of subsets and shuffling, by numpy's `RandomState`.
        tool: The program whose numbers these are, in words.
    """

    name: str
    extractor: str = "inception"
    resize: str = "clean"
    centre: float = 128.0
    scale: float = 128.0
    covariance_ddof: int = 1
    samples: int = 0
    kid_subsets: int = 100
    kid_subset_size: int = 1000
    kid_shrinks: bool = False
    is_splits: int = 10
    is_shuffled: bool = False
    seed: int = 2020
    tool: str = ""


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "offline",
            extractor="efficientnet-lite0",
            tool="none: comparable among ganwright's own results, no download needed",
        ),
        Protocol("clean-fid", kid_shrinks=True, is_splits=0, tool="clean-fid, mode 'clean' (Parmar et al. 2022)"),
        Protocol(
            "pytorch-fid",
            resize="bilinear",
            centre=127.5,
            scale=127.5,
            kid_subsets=0,
            is_splits=0,
            tool="pytorch-fid 0.3",
        ),
        Protocol(
            "torch-fidelity",
            resize="tf1-bilinear",
            is_shuffled=True,
            tool="torch-fidelity 0.3 and 0.4 over inception-v3-compat (its precision and recall: VGG16 unless told)",
        ),
        Protocol(
            "stylegan",
            resize="tf1-bilinear",
            covariance_ddof=0,
            samples=50_000,
            kid_shrinks=True,
            tool="fid50k_full, kid50k_full and is50k of NVIDIA's StyleGAN2-ADA and StyleGAN3 (pr50k3 is over VGG16)",
        ),
        Protocol("custom", extractor="", tool="none: an extractor of your own"),
    )
}
"""Protocols by name; a new one is a row."""


def find_protocol(name: str) -> Protocol:
    """The protocol of this name.

    Raises:
        SettingsError: There is none; the nearest name is suggested.
    """
    if name not in PROTOCOLS:
        raise SettingsError(
            f"There is no protocol '{name}'.{nearest(name, PROTOCOLS)}",
            where="protocol",
            fix="choose from " + ", ".join(PROTOCOLS),
        )
    return PROTOCOLS[name]


def choose_protocol(protocol: str = "", extractor: str = "") -> tuple[Protocol, str]:
    """Protocol and extractor from what the user named; the one follows from the other.

    Raises:
        SettingsError: An unknown protocol, or an extractor that is not the protocol's.
    """
    if not protocol:
        by_extractor = {"": "offline", "efficientnet-lite0": "offline", "inception": "clean-fid"}
        protocol = by_extractor.get(extractor, "custom")
    found = find_protocol(protocol)
    if found.extractor and extractor and extractor != found.extractor:
        raise SettingsError(
            f"The protocol '{found.name}' is over the extractor '{found.extractor}', not '{extractor}'.",
            where="extractor",
            fix="leave out one of --protocol and --extractor, or choose --protocol custom",
        )
    chosen = found.extractor or extractor
    if not chosen:
        raise SettingsError("The protocol 'custom' needs an extractor.", where="extractor", fix="name --extractor")
    return found, chosen
