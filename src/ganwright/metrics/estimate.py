"""A number is an estimate: a value with its interval, its sample counts, and how it was measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from ganwright.errors import ProvenanceError


@dataclass(frozen=True)
class Provenance:
    """How a number was measured; two numbers are comparable only if these are equal.

    Attributes:
        extractor: Name and version of the feature extractor or judge, or "" where none is used.
        preprocessing: What was done to the images before it.
        reference: Fingerprint of the real data compared with, or "".
        n_reference: Number of reference samples; 0 where unknown.
        protocol: The named protocol (see `protocols.PROTOCOLS`), or "".
    """

    extractor: str = ""
    preprocessing: str = ""
    reference: str = ""
    n_reference: int = 0
    protocol: str = ""


@dataclass(frozen=True)
class Estimate:
    """A measured value with its uncertainty.

    Attributes:
        name: Key, such as "fd" or "kid".
        label: What people read, such as "FD (efficientnet-lite0)"; "FID" only over the 2015 Inception features.
        value: The point estimate.
        low: Lower end of the interval.
        high: Upper end of the interval.
        n: Number of samples measured.
        provenance: How it was measured.
        interval: How the interval was made, such as "95 %, delta method".
        higher_is_better: Direction.
        warnings: What a reader must know (bias at small n, say).
        details: Further figures of the same measurement by name (`subset_std`, say); not intervals.
    """

    name: str
    label: str
    value: float
    low: float
    high: float
    n: int
    provenance: Provenance
    interval: str
    higher_is_better: bool
    warnings: tuple[str, ...] = ()
    details: Mapping[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.label} {self.value:.4g} [{self.low:.4g}, {self.high:.4g}] (n = {self.n})"

    def better_than(self, other: Estimate) -> bool:
        """Whether this value is the better one.

        Raises:
            ProvenanceError: The two were not measured in the same way.
        """
        self.require_comparable(other)
        return self.value > other.value if self.higher_is_better else self.value < other.value

    def clearly_better_than(self, other: Estimate) -> bool:
        """Whether it is better and the two intervals do not overlap (a conservative test)."""
        self.require_comparable(other)
        return self.low > other.high if self.higher_is_better else self.high < other.low

    def require_comparable(self, other: Estimate) -> None:
        """Refuse to compare what was measured differently.

        Raises:
            ProvenanceError: Says which of metric, extractor, preprocessing, reference and sample count differ.
        """
        mine = {"metric": self.name, **asdict(self.provenance), "n": self.n}
        theirs = {"metric": other.name, **asdict(other.provenance), "n": other.n}
        different = [f"{key}: {mine[key]!r} and {theirs[key]!r}" for key in mine if mine[key] != theirs[key]]
        if mine["protocol"] != theirs["protocol"]:
            raise ProvenanceError(
                f"Numbers of the protocols '{mine['protocol']}' and '{theirs['protocol']}' cannot be compared: the "
                "tools resize images, scale them or compute the statistic differently, which changes a value "
                "by more than most models differ.",
                where="; ".join(different),
                fix="evaluate both with one --protocol",
            )
        if different:
            raise ProvenanceError(
                "These two numbers were not measured in the same way and cannot be compared.",
                where="; ".join(different),
                fix="evaluate both again with the same extractor, reference and number of samples",
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "warnings": list(self.warnings)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Estimate:
        """The inverse of `to_dict`; unknown keys are ignored."""
        known = {f.name for f in fields(cls)}
        kept = {key: value for key, value in values.items() if key in known}
        kept["provenance"] = Provenance(**kept["provenance"])
        kept["warnings"] = tuple(kept.get("warnings", ()))
        return cls(**kept)


class Evaluation(dict[str, Estimate]):
    """Estimates by name, as one evaluation gave them."""

    @classmethod
    def of(cls, estimates: Iterable[Estimate]) -> Evaluation:
        """From a list of estimates."""
        return cls({estimate.name: estimate for estimate in estimates})

    def __str__(self) -> str:
        return "\n".join(str(estimate) for estimate in self.values())

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {name: estimate.to_dict() for name, estimate in self.items()}
