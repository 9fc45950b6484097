"""Puts the report together: from a run folder to one HTML file that needs nothing but a browser."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from ganwright._version import __version__
from ganwright.data.spec import DataKind
from ganwright.errors import RunError
from ganwright.files import write_atomic
from ganwright.metrics.neighbours import NeighbourSheet
from ganwright.recipes.registry import recipes
from ganwright.report.charts import number
from ganwright.report.curves import log_charts, metric_charts
from ganwright.report.mutations import mutation_view
from ganwright.report.neighbours import neighbour_view
from ganwright.report.pictures import Picture, album, picture
from ganwright.report.story import Story, as_dict, duration, read_story
from ganwright.run import Run
from ganwright.training.doctor.table import CHECKS

TEXT_LINES = 24
"""Lines of generated text shown per stage."""
_TEXT_WIDTH = 300
_MAX_FINDINGS = 120
_MAX_CLASSES = 60
_GAP = "…"


@dataclass(frozen=True)
class StageView:
    """One stage on the page: an image, or lines of text."""

    step: int
    images_seen: int | None
    picture: Picture | None = None
    lines: tuple[str, ...] = ()


def write_report(run: Run, *, neighbours: NeighbourSheet | None = None, path: Path | None = None) -> Path:
    """Write the report of a run: one self-contained HTML file.

    A run that is empty, unfinished or partly damaged gets a report that says so.

    Args:
        run: The run folder.
        neighbours: Samples beside their nearest training images, where they were looked up.
        path: Where to write; None: `report.html` in the run folder.

    Returns:
        The file's path.

    Raises:
        RunError: `run.yaml` cannot be read, or the report cannot be written.
    """
    target = path if path is not None else run.path / "report.html"
    html = render_report(run, neighbours=neighbours)
    try:
        write_atomic(target, html)
    except OSError as error:
        raise RunError(
            f"The report cannot be written: {error.strerror}.",
            where=target,
            fix="give another place with --out, or make room on the disk",
        ) from error
    return target


def render_report(run: Run, *, neighbours: NeighbourSheet | None = None) -> str:
    """The report as a string of HTML; see `write_report`."""
    story = read_story(run)
    stages, notes = _stages(run, story)
    charts = log_charts(story)
    metrics = metric_charts(story)
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            name=run.name,
            story=story,
            config=story.config,
            sentences=_sentences(story),
            stages=stages,
            shows=_shows(story),
            stage_notes=notes,
            real=picture(run.path / "samples" / "real.png"),
            charts=charts,
            mutations=mutation_view(story),
            metrics=metrics,
            findings=story.findings[:_MAX_FINDINGS],
            findings_left_out=max(0, len(story.findings) - _MAX_FINDINGS),
            checks=_checks(story, has_images=any(stage.picture for stage in stages)),
            neighbours=None if neighbours is None else neighbour_view(neighbours),
            settings=_settings(story),
            data=_data(story),
            machine=_machine(story),
            commands=_commands(run),
            **page_parts(("uplot.min.js", "chart.js", "report.js"), ("uplot.min.css", "report.css")),
            uplot_licence=asset("uplot.LICENSE.txt"),
        )
    )


def _shows(story: Story) -> str:
    """What a sheet of samples shows, where they were made from images."""
    info = recipes().get(str(story.config.get("recipe")))
    if info is None or not info.recipe.directions:
        return ""
    if as_dict(story.config.get("data")).get("kind") == DataKind.DOMAINS.value:
        return "from left to right an image of A, its translation, and that translated back; beside them the same of B"
    return "from left to right what it was shown, what it made of it, and what was wanted"


def page_parts(scripts: Sequence[str], styles: Sequence[str]) -> dict[str, Any]:
    """What every page needs: its scripts and style with their hashes for the content security policy, and the date."""
    contents = [asset(name) for name in scripts]
    style = "\n".join(asset(name) for name in styles)
    return {
        "scripts": [Markup(content) for content in contents],  # noqa: S704  (our own files)
        "style": Markup(style),  # noqa: S704
        "script_hashes": " ".join(_csp_hash(content) for content in contents),
        "style_hash": _csp_hash(style),
        "version": __version__,
        "written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def environment() -> Environment:
    """Jinja with autoescaping and the filters `number` and `duration`; the studio uses the same templates."""
    made = Environment(
        loader=PackageLoader("ganwright.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["number"] = number
    made.filters["duration"] = duration
    made.filters["ticks"] = ticks
    made.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    return made


def ticks(text: object) -> Markup:
    """Text in which `words in backticks` are set as code; everything in it is escaped."""
    parts = str(text).split("`")
    if len(parts) % 2 == 0:  # an odd backtick: no pairs to be sure of
        return escape(str(text))
    return Markup("").join(Markup("<code>{}</code>").format(p) if i % 2 else escape(p) for i, p in enumerate(parts))


def asset(name: str) -> str:
    """Text of a file in `assets/`."""
    return (files("ganwright.report") / "assets" / name).read_text(encoding="utf-8")


def _csp_hash(content: str) -> str:
    """The page's own scripts and styles run by their hash; anything smuggled in does not."""
    return "'sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() + "'"


def _sentences(story: Story) -> list[str]:
    """The summary, in plain sentences."""
    config, data = story.config, as_dict(story.config.get("data"))
    count = data.get("count")
    what = f"{count:,} " if isinstance(count, int) else ""
    classes = data.get("class_names")
    of_classes = f" of {len(classes)} classes" if isinstance(classes, list) and classes else ""
    kind = {"text": "texts", "labelled images": "images", "single image": "image"}.get(
        str(data.get("kind")), str(data.get("kind") or "samples")
    )
    took = f" in {duration(story.seconds)}" if story.seconds is not None else ""
    seen = f" ({story.images_seen:,} images seen)" if story.images_seen else ""
    trained = f"trained for {story.last_step:,} steps{seen}{took}" if story.last_step else "has not trained yet"
    sentences = [
        f"The recipe {config.get('recipe', '(not recorded)')} {trained} on "
        f"{data.get('name', 'data that was not recorded')} ({what}{kind}{of_classes}).",
        story.ending.sentence,
    ]
    if story.measured:
        chosen = story.measured[0]
        best, step = chosen.estimates[chosen.best], chosen.steps[chosen.best]
        sentences.append(
            f"Its best {best.label} was {number(best.value)}, with an interval of {number(best.low)} to "
            f"{number(best.high)} ({best.interval}), at step {step:,}; "
            f"{'higher' if best.higher_is_better else 'lower'} is better, and {chosen.standing}."
        )
        if chosen.beside:
            told = ", ".join(f"{e.name.partition(':')[2]} {number(e.value)}" for e in chosen.beside)
            sentences.append(f"On the same samples simple methods scored: {told}.")
    else:
        sentences.append("It has not been measured: there is no evaluation in metrics.jsonl.")
    grave = sum(f.get("severity") == "critical" for f in story.findings)
    mild = sum(f.get("severity") == "warning" for f in story.findings)
    if grave or mild:
        parts = [f"{n} {word}{'s' * (n != 1)}" for n, word in ((grave, "critical finding"), (mild, "warning")) if n]
        sentences.append(f"The doctor gave {' and '.join(parts)}; see its findings below.")
    elif story.records:
        sentences.append("The doctor, which watches every training for the usual failures, gave no findings.")
    return sentences


def _stages(run: Run, story: Story) -> tuple[list[StageView], list[str]]:
    """Samples by step, and what could not be shown."""
    found = run.sample_files()
    images = [(step, file) for step, file in found if file.suffix == ".png"]
    fitted = album([file for _, file in images])
    stages = [StageView(images[i][0], story.seen_at(images[i][0]), shown) for i, shown in fitted.pictures]
    texts = [(step, file) for step, file in found if file.suffix == ".txt"]
    for step, file in texts:
        with file.open(encoding="utf-8", errors="replace") as open_file:
            lines = [open_file.readline(_TEXT_WIDTH * 4).rstrip("\n") for _ in range(TEXT_LINES)]
        short = tuple(line if len(line) <= _TEXT_WIDTH else line[:_TEXT_WIDTH] + _GAP for line in lines if line)
        stages.append(StageView(step, story.seen_at(step), lines=short))
    return sorted(stages, key=lambda stage: stage.step), fitted.notes


def _checks(story: Story, *, has_images: bool) -> list[tuple[str, str, bool]]:
    """The doctor's checks: name, what it finds, and whether this run gave it anything to look at."""
    evidence = {"log": bool(story.records), "samples": has_images, "evaluation": bool(story.measured)}
    return [(info.name, info.summary, evidence.get(info.looks_at, True)) for info in CHECKS.values()]


def _settings(story: Story) -> list[tuple[str, str, bool]]:
    """(name, value, differs from the default), the changed ones first."""
    settings, changed = as_dict(story.config.get("settings")), as_dict(story.config.get("settings_changed"))
    rows = [(str(name), plain(value), name in changed) for name, value in settings.items()]
    return sorted(rows, key=lambda row: not row[2])


def _data(story: Story) -> list[tuple[str, str]]:
    data = as_dict(story.config.get("data"))
    if not data:
        return []
    size = data.get("resolution")
    colours = {1: "grey", 3: "RGB"}.get(data.get("channels") or 0, "")
    names = data.get("class_names")
    classes = names if isinstance(names, list) else []
    named = ", ".join(str(c) for c in classes[:_MAX_CLASSES]) + (f", {_GAP}" if len(classes) > _MAX_CLASSES else "")
    rows: list[tuple[str, object]] = [
        ("name", data.get("name")),
        ("source", story.config.get("data_source")),
        ("kind", data.get("kind")),
        (
            "training samples",
            f"{data['count']:,}" if isinstance(data.get("count"), int) else data.get("count"),
        ),
        ("trained at", f"{size} × {size} {colours}".strip() if size else None),
        ("classes", f"{len(classes)}: {named}" if classes else "none"),
        ("fingerprint", data.get("fingerprint")),
        *((str(key).replace("_", " "), value) for key, value in as_dict(data.get("extra")).items()),
    ]
    return [(label, plain(value)) for label, value in rows if value not in (None, "")]


def _machine(story: Story) -> list[tuple[str, str]]:
    config = story.config
    rows: list[tuple[str, object]] = [
        ("device", config.get("device")),
        ("training time", duration(story.seconds) if story.seconds is not None else "not recorded"),
        ("created", config.get("created")),
        ("paper", config.get("paper")),
        ("what the recipe is for", config.get("purpose")),
        *((str(name), version) for name, version in as_dict(config.get("versions")).items()),
    ]
    return [(label, plain(value)) for label, value in rows if value not in (None, "")]


def _commands(run: Run) -> list[tuple[str, str]]:
    """(what it does, command); the path is relative where the run lies below the working folder."""
    try:
        relative = os.path.relpath(run.path)
    except ValueError:  # another drive
        relative = str(run.path)
    where = shlex.quote(relative if not relative.startswith("..") else str(run.path))
    return [
        (
            "Train again from the start, with the same settings, seed and data",
            f"ganwright train --from-run {where}",
        ),
        ("Go on from the last checkpoint", f"ganwright resume {where}"),
        ("Make 64 more samples", f"ganwright sample {where} -n 64"),
        ("Measure it again", f"ganwright evaluate {where}"),
    ]


def plain(value: object) -> str:
    """A setting's or a record's value for people; never longer than 600 characters."""
    if isinstance(value, bool):
        text = "yes" if value else "no"
    elif isinstance(value, float):
        text = f"{value:g}"
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        text = ", ".join(plain(item) for item in value) or "(none)"
    elif isinstance(value, dict):
        text = json.dumps(value, ensure_ascii=False, default=str)
    else:
        text = "(none)" if value is None or value == "" else str(value)
    return text if len(text) <= 600 else text[:600] + _GAP


__all__: list[Any] = ["StageView", "asset", "environment", "plain", "render_report", "write_report"]
