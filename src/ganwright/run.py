"""A run is a folder: everything known about a training is a file in it, readable without ganwright.

    run.yaml            everything needed to repeat it
    log.jsonl           one line per logged step, and one per event (findings, resumption, end)
    metrics.jsonl       one line per evaluation
    samples/000500.png  fixed-seed grids per stage (.txt for text); `real.png` beside them
    checkpoints/        one folder each: safetensors and exact training state
    report.html

This module writes and reads those files; it knows nothing of recipes or of how they train.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ganwright.errors import RunError
from ganwright.files import append_jsonl, is_temporary, read_jsonl, truncate_jsonl, write_atomic

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Run:
    """A run folder."""

    path: Path

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """Open an existing run.

        Raises:
            RunError: The folder is no run, or was written by a newer version.
        """
        run = cls(Path(path))
        if not (run.path / "run.yaml").is_file():
            raise RunError(
                "This is not a run folder: it has no run.yaml.",
                where=path,
                fix="give the folder that `ganwright train` printed, such as runs/mnist-dcgan-3f2a",
            )
        if run.config.get("format", 0) > FORMAT_VERSION:
            raise RunError("This run was written by a newer ganwright.", where=path, fix="upgrade ganwright")
        return run

    @classmethod
    def create(cls, path: Path, config: dict[str, Any]) -> Run:
        """Create a run folder with its `run.yaml`.

        Raises:
            RunError: The folder already holds a run, or cannot be written.
        """
        if (path / "run.yaml").exists():
            raise RunError("There is a run in this folder already.", where=path, fix="choose another --out")
        try:
            for folder in ("samples", "checkpoints"):
                (path / folder).mkdir(parents=True, exist_ok=True)
            run = cls(path)
            run.write_config(config)
        except OSError as error:
            raise RunError(
                f"The run folder cannot be written: {error.strerror}.",
                where=path,
                fix="choose a folder you may write to with --out, and make room on the disk",
            ) from error
        return run

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

    @property
    def config(self) -> dict[str, Any]:
        """The content of `run.yaml`: `format`, `recipe`, `paper`, `settings` (flat), `data`, `data_source`,
        `versions`, `device`, `created`, `command`.
        """
        try:
            loaded = yaml.safe_load((self.path / "run.yaml").read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise RunError("run.yaml is not valid YAML.", where=self.path / "run.yaml") from error
        if not isinstance(loaded, dict):
            raise RunError("run.yaml is empty or not a mapping.", where=self.path / "run.yaml")
        return loaded

    def write_config(self, config: dict[str, Any]) -> None:
        """Write `run.yaml`."""
        content = yaml.safe_dump({"format": FORMAT_VERSION, **config}, sort_keys=False, allow_unicode=True)
        write_atomic(self.path / "run.yaml", content)

    # What is written while training. -----------------------------------------------------------------------------

    def log(self, record: dict[str, Any]) -> None:
        """Append to `log.jsonl`: `{"step": …, "loss_d": …}` or `{"step": …, "event": "finding", …}`."""
        append_jsonl(self.path / "log.jsonl", record)

    def log_metrics(self, record: dict[str, Any]) -> None:
        """Append to `metrics.jsonl`: `{"step": …, "estimates": {name: Estimate.to_dict()}, "seconds": …}`."""
        append_jsonl(self.path / "metrics.jsonl", record)

    def rewind(self, step: int) -> None:
        """Forget what was logged after `step`: a resumed run will write it again."""
        for name in ("log.jsonl", "metrics.jsonl"):
            truncate_jsonl(self.path / name, lambda record: record.get("step", 0) <= step)
        for sample_step, sample in self.sample_files():
            if sample_step > step:
                sample.unlink()

    # What is read by everyone. -----------------------------------------------------------------------------------

    def log_records(self) -> list[dict[str, Any]]:
        """Logged steps, without events."""
        return [record for record in read_jsonl(self.path / "log.jsonl") if "event" not in record]

    def events(self, kind: str | None = None) -> list[dict[str, Any]]:
        """Events in the log (`finding`, `resumed`, `finished`, `stopped`), all or of one kind."""
        records = [record for record in read_jsonl(self.path / "log.jsonl") if "event" in record]
        return [record for record in records if kind is None or record["event"] == kind]

    def metric_records(self) -> list[dict[str, Any]]:
        """Evaluations in order."""
        return read_jsonl(self.path / "metrics.jsonl")

    def sample_files(self) -> list[tuple[int, Path]]:
        """(step, path) of each fixed-seed grid or text, in order."""
        found = []
        for path in (self.path / "samples").glob("*"):
            match = re.fullmatch(r"(\d+)\.(png|txt)", path.name)
            if match:
                found.append((int(match[1]), path))
        return sorted(found)

    def sample_path(self, step: int, suffix: str) -> Path:
        """Where the samples of one step belong."""
        return self.path / "samples" / f"{step:06d}.{suffix}"

    def checkpoints(self) -> list[tuple[int, Path]]:
        """(step, folder) of each complete checkpoint, in order."""
        found = []
        for path in (self.path / "checkpoints").glob("step-*"):
            match = re.fullmatch(r"step-(\d+)", path.name)
            if match and path.is_dir() and not is_temporary(path):
                found.append((int(match[1]), path))
        return sorted(found)
