"""A run in words: how it ended, what was measured best, and what each figure means to a newcomer.

Everything is read from the run folder, and everything in it may be missing, torn or not a number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from ganwright.metrics.estimate import Estimate
from ganwright.run import Run

Record = dict[str, Any]

_MEANINGS = (
    ("class-accuracy", "How often an independent classifier reads the class that was asked for."),
    ("class-coverage", "How many of the classes the generator makes at all."),
    ("coverage", "Share of real images that have a generated one nearby: whether variety was lost."),
    ("density", "How densely generated images fall among real ones; about 1 is like real images."),
    ("precision", "Share of generated images that look like some real image: fidelity."),
    ("recall", "Share of real images that the generator could have made: variety."),
    (
        "kid",
        "Distance between generated and real images (squared MMD). 0 means alike; chance may take it below.",
    ),
    (
        "kd",
        "Distance between generated and real images (squared MMD). 0 means alike; chance may take it below.",
    ),
    ("fid", "Distance between generated and real images as a whole (Fréchet); 0 means alike."),
    (
        "fd",
        "Distance between generated and real images as a whole (Fréchet), as this extractor sees them; 0 means alike.",
    ),
    (
        "is",
        "How clear-cut and how varied the classes are that a classifier sees; real images are not looked at.",
    ),
    ("psnr", "Closeness to the original, in decibels."),
    ("ssim", "Structural likeness to the original; 1 means equal."),
    ("ms-ssim", "Structural likeness to the original at several scales; 1 means equal."),
    ("mae", "Mean distance of a pixel from the original's, in grey levels."),
    (
        "feature-distance",
        "Distance from the original as this extractor sees it; 0 means alike, and 1 is unlike in every feature.",
    ),
    (
        "cycle-mae",
        "How far an image that was translated there and back is from what it was. Small alone says little: it is also "
        "small where nothing is translated.",
    ),
    ("self-bleu", "How much the texts repeat each other."),
    ("bleu", "Share of word sequences that also occur in real text."),
    ("nll", "How surprised a reference model is by the text."),
)


@dataclass(frozen=True)
class Ending:
    """How a run ended.

    Attributes:
        kind: What became of it.
        sentence: The same in words.
    """

    kind: Literal["finished", "stopped", "unfinished", "empty"]
    sentence: str


@dataclass(frozen=True)
class Measured:
    """One metric over the run, all of its estimates comparable with each other.

    Attributes:
        steps: Steps of the evaluations.
        estimates: Their results; values are finite.
        meaning: What it tells.
        beside: What simple methods (baselines) scored on the same samples.
    """

    steps: list[int]
    estimates: list[Estimate]
    meaning: str
    beside: tuple[Estimate, ...] = ()

    @property
    def best(self) -> int:
        """Index of the best evaluation; the earliest of equals."""
        best = 0
        for i, estimate in enumerate(self.estimates):
            if estimate.better_than(self.estimates[best]):
                best = i
        return best

    @property
    def standing(self) -> str:
        """How sure it is that the best evaluation is better than the last one."""
        best, last = self.estimates[self.best], self.estimates[-1]
        if self.best == len(self.estimates) - 1:
            return "the last evaluation is also the best" if len(self.estimates) > 1 else "the only evaluation"
        if best.clearly_better_than(last):
            return f"clearly better than at the end ({last.value:.4g}): the intervals do not overlap"
        return f"the end ({last.value:.4g}) is not clearly worse: the intervals overlap"


@dataclass(frozen=True)
class Story:
    """What a run folder tells.

    Attributes:
        config: `run.yaml`.
        records: Logged steps, `step` finite, in order of step.
        findings: The doctor's findings.
        ending: How it ended.
        last_step: The last step anything is known of.
        seconds: Training time, or None where it was not recorded.
        images_seen: Training images seen, or None.
        measured: Metrics, the one that chooses the best checkpoint first.
        metric_records: Evaluations as written.
        notes: What could not be read.
    """

    config: Record
    records: list[Record]
    findings: list[Record]
    ending: Ending
    last_step: int
    seconds: float | None
    images_seen: int | None
    measured: list[Measured]
    metric_records: list[Record]
    notes: list[str]

    @property
    def planned(self) -> int | None:
        """Steps the run was asked for."""
        steps = as_dict(self.config.get("settings")).get("steps")
        return steps if isinstance(steps, int) and not isinstance(steps, bool) else None

    def seen_at(self, step: int) -> int | None:
        """Training images seen at a step, where the log has it or sees the same number at every step."""
        return None if self._per_step is None else round(step * self._per_step)

    @cached_property
    def _per_step(self) -> float | None:
        rates = {r["images_seen"] / r["step"] for r in self.records if finite(r.get("images_seen")) and r["step"]}
        return rates.pop() if len(rates) == 1 else None


def read_story(run: Run) -> Story:
    """Read a run folder.

    Raises:
        RunError: `run.yaml` is absent or damaged.
    """
    config = run.config
    records = sorted((r for r in run.log_records() if finite(r.get("step"))), key=lambda r: float(r["step"]))
    events = [e for e in run.events() if finite(e.get("step"))]
    metric_records = [r for r in run.metric_records() if finite(r.get("step"))]
    notes: list[str] = []
    measured = _measured(metric_records, str(as_dict(config.get("settings")).get("best_by", "")), notes)
    steps = [int(r["step"]) for r in (*records, *events, *metric_records)]
    last_step = max([*steps, *(step for step, _ in run.sample_files())], default=0)
    settings = as_dict(config.get("settings"))
    times = [float(r["seconds"]) for r in (*records, *events) if finite(r.get("seconds"))]
    seen = [int(r["images_seen"]) for r in records if finite(r.get("images_seen"))]
    return Story(
        config=config,
        records=records,
        findings=[e for e in events if e.get("event") == "finding"],
        ending=_ending(records, events, last_step, settings.get("steps")),
        last_step=last_step,
        seconds=max(times, default=None),
        images_seen=max(seen, default=None),
        measured=measured,
        metric_records=metric_records,
        notes=notes,
    )


def duration(seconds: float) -> str:
    """Time for people: "42 s", "5 min 40 s", "3 h 12 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def meaning(estimate: Estimate) -> str:
    """What a metric tells, in a sentence, with its direction."""
    found = next(
        (
            text
            for name, text in _MEANINGS
            if estimate.name == name or estimate.name.startswith((f"{name}-", f"{name}/"))
        ),
        "",
    )
    return f"{found} {'Higher' if estimate.higher_is_better else 'Lower'} is better.".strip()


def finite(value: object) -> bool:
    """Whether `value` is a number that is neither NaN nor infinite."""
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300 and math.isfinite(value)
    )


def as_dict(value: object) -> Record:
    """`value` if it is a mapping, else an empty one."""
    return value if isinstance(value, dict) else {}


def _ending(records: Sequence[Record], events: Sequence[Record], last_step: int, planned: object) -> Ending:
    of = f" of {planned:,}" if isinstance(planned, int) else ""
    turns = [e for e in events if e.get("event") in ("finished", "stopped", "resumed")]
    last = turns[-1] if turns else None
    if last is not None and last["event"] == "finished":
        if last.get("reason", "finished") != "finished":
            return Ending("finished", f"It finished at step {int(last['step']):,}: {last['reason']}.")
        return Ending("finished", f"It finished as planned, after {int(last['step']):,} steps.")
    if last is not None and last["event"] == "stopped":
        why = {
            "time": "it had used the time it was given",
            "interrupted": "it was interrupted from the keyboard",
            "terminated": "it was asked to terminate",
        }.get(str(last.get("reason")), str(last.get("reason") or "no reason was written down"))
        return Ending("stopped", f"It was stopped at step {int(last['step']):,}{of}: {why}.")
    if not records and not events and last_step == 0:
        return Ending("empty", "Nothing was logged: it never trained, or was killed before its first log line.")
    grave = [e for e in events if e.get("severity") == "critical" and e.get("event") == "finding"]
    if grave and events[-1] is grave[-1] and float(grave[-1]["step"]) >= last_step:
        return Ending(
            "unfinished",
            f"It has not finished: its log ends at step {last_step:,}{of} with a critical finding of the doctor.",
        )
    return Ending(
        "unfinished",
        f"It has not finished: its log ends at step {last_step:,}{of}. It is still training, or was killed.",
    )


def _measured(records: Sequence[Record], first: str, notes: list[str]) -> list[Measured]:
    """Estimates grouped by metric and provenance: numbers of different provenance share no curve."""
    groups: dict[tuple[object, ...], list[tuple[int, Estimate]]] = {}
    unreadable = 0
    for record in records:
        for values in as_dict(record.get("estimates")).values():
            try:
                estimate = Estimate.from_dict(dict(values))
                usable = all(finite(v) for v in (estimate.value, estimate.low, estimate.high))
            except (KeyError, TypeError, ValueError, AttributeError):
                usable = False
            if not usable:
                unreadable += 1
                continue
            key = (estimate.name, estimate.provenance, estimate.n)
            groups.setdefault(key, []).append((int(record["step"]), estimate))
    if unreadable:
        notes.append(f"{unreadable} estimate(s) in metrics.jsonl are damaged or not finite, and are left out.")
    measured = []
    for (name, provenance, n), found in groups.items():
        if ":" in str(name):  # a baseline stands beside what it is a baseline of
            continue
        pairs = sorted(dict(found).items())  # of a step that was measured twice, the later line counts
        beside = tuple(
            others[-1][1]
            for (other, *how), others in groups.items()
            if str(other).startswith(f"{name}:") and how == [provenance, n]
        )
        measured.append(Measured([s for s, _ in pairs], [e for _, e in pairs], meaning(pairs[0][1]), beside))
    names = [m.estimates[0].name for m in measured]
    if len(set(names)) < len(names):
        notes.append(
            "Some metrics were measured in more than one way (extractor, reference or sample count); "
            "they are shown apart."
        )
    return sorted(measured, key=lambda m: m.estimates[0].name != first)
