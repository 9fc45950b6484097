"""Pictures restored, one or a folder: by Deep Image Prior or by a trained run, with a classical result beside."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from ganwright.console import console, progress
from ganwright.data.photo import Photo, read_mask, read_photo, write_photo
from ganwright.data.single import ALPHA, SingleImageDataset
from ganwright.errors import DataError, GanwrightError, SettingsError, nearest
from ganwright.restoring import judging
from ganwright.restoring.judging import Beside, Candidate
from ganwright.restoring.measuring import Floats, Mask, Verdict
from ganwright.restoring.prior import INTERRUPTED, Fitted, PriorOptions, fit_prior
from ganwright.restoring.targets import Format, Task, plan, save_sheet
from ganwright.restoring.translator import Translator, enlarged_alpha
from ganwright.run import Run

What = Literal["denoise", "inpaint", "upscale", "deblock"]
DONE: dict[str, str] = {"denoise": "denoised", "inpaint": "inpainted", "upscale": "upscaled", "deblock": "deblocked"}
PRIOR = "deep image prior"


@dataclass(frozen=True)
class RestoreOptions:
    """How pictures are restored, by whichever method.

    Attributes:
        mask: inpaint: which pixels are known: a picture, a folder with one for each picture (by name), or None for
            the picture's own transparency.
        sigma: Standard deviation of the noise in grey levels of 255, for the classical denoiser; None: estimated.
        factor: upscale: how many times larger; None: as the run does, or 4.
        truth: The undamaged picture, or a folder with one for each (by name).
        classical: Compute a classical result beside it.
        format_: Of the results; "auto": the picture's own where that is lossless, else PNG.
        force: Write over what is there.
        sheets: Write before/after pictures.
        prior: Of Deep Image Prior.
    """

    mask: Path | None = None
    sigma: float | None = None
    factor: int | None = None
    truth: Path | None = None
    classical: bool = True
    format_: Format = "auto"
    force: bool = False
    sheets: bool = True
    prior: PriorOptions = field(default_factory=PriorOptions)


@dataclass(frozen=True)
class Restored:
    """One picture restored.

    Attributes:
        source: Where it was.
        target: Where the result is.
        method: What made it.
        verdicts: Comparisons with a classical result.
        better: Name of the classical method, where it is better.
        classical: Where its result is, where it is better.
        sheet: Where the before/after picture is.
        run: The run of Deep Image Prior, or None.
        reason: Why that ended.
    """

    source: Path
    target: Path
    method: str
    verdicts: tuple[Verdict, ...] = ()
    better: str = ""
    classical: Path | None = None
    sheet: Path | None = None
    run: Run | None = None
    reason: str = "finished"

    @property
    def interrupted(self) -> bool:
        """Whether the person wanted it to stop."""
        return self.reason in INTERRUPTED


@dataclass(frozen=True)
class _Made:
    photo: Photo
    candidate: Candidate
    fitted: Fitted | None = None


def restore_each(
    what: str, source: Path, *, out: Path | None = None, by: Translator | None = None, options: RestoreOptions
) -> Iterator[Restored]:
    """Restore a picture, or each picture of a folder; yields each as it is written.

    Args:
        what: "denoise", "inpaint", "upscale" or "deblock".
        source: A picture or a folder.
        out: Where to, see `plan`.
        by: A trained restorer; None: Deep Image Prior, fitted to each picture.
        options: The rest.

    Raises:
        DataError: A picture, mask or original cannot be used, or a result is there already.
        SettingsError: The restorer does not do this.
    """
    options = _checked(what, by, options)
    tasks = plan(source, out, DONE[what], format_=options.format_, force=options.force, sheets=options.sheets)
    many = len(tasks) > 1
    with progress(f"{what}", len(tasks), quiet=not (many and by is not None)) as advance:
        for i, task in enumerate(tasks):
            if many and by is None:
                console.print(f"{i + 1} of {len(tasks)}: {task.source}", markup=False)
            try:
                result = _restore(what, task, by, options, quiet=many)
            except (DataError, SettingsError) as error:
                if not many:
                    raise
                console.print(f"{task.source} is left out: {error}", style="yellow", markup=False, soft_wrap=True)
                continue
            finally:
                advance()
            yield result
            if result.interrupted:
                return


def _checked(what: str, by: Translator | None, options: RestoreOptions) -> RestoreOptions:
    if what not in get_args(What):
        raise SettingsError(
            f"`restore` cannot '{what}'.{nearest(what, DONE)}", fix="choose " + ", ".join(get_args(What))
        )
    if options.mask is not None and what != "inpaint":
        raise SettingsError("A mask is for inpainting.", where="mask", fix="ganwright restore inpaint …")
    if by is not None and what == "inpaint":
        raise SettingsError(
            "Trained restorers are not told which pixels are missing.",
            where="run",
            fix="leave --run out: Deep Image Prior fills holes",
        )
    scale = 1 if by is None else by.recipe.scale
    if by is not None and (what == "upscale") != (scale > 1):
        does = f"enlarges by {scale}" if scale > 1 else "keeps the size"
        raise SettingsError(f"This run {does}; it does not {what}.", where=by.name)
    if by is not None and options.factor not in (None, scale) and what == "upscale":
        raise SettingsError(f"This run enlarges by {scale}, not by {options.factor}.", where="factor")
    factor = (scale if by is not None else options.factor or 4) if what == "upscale" else 1
    if what == "upscale" and factor < 2:
        raise SettingsError(f"A factor of {factor} enlarges nothing.", where="factor", fix="give 2 or more")
    return RestoreOptions(**{**vars(options), "factor": factor})


def _restore(what: str, task: Task, by: Translator | None, o: RestoreOptions, *, quiet: bool) -> Restored:
    photo, factor = read_photo(task.source), o.factor or 1
    mask = _partner(o.mask, task.source, "mask") if what == "inpaint" else None
    known = _known(photo, mask, task.source) if what == "inpaint" else None
    truth_file = _partner(o.truth, task.source, "original")
    truth = None if truth_file is None else read_photo(truth_file)  # before anything that takes long
    if truth is not None and truth.size != (photo.size[0] * factor, photo.size[1] * factor):
        judging.against_truth(truth, {"": photo}, truth_file)
    if by is None:
        made = _by_prior(what, task.source, photo, mask, known, o, measured=truth is None and o.classical)
    else:
        made = _by_run(by, photo, quiet)
    beside = None
    if o.classical and not (made.fitted and made.fitted.reason in INTERRUPTED):
        beside = _classical(what, task.source, photo, known, made.candidate, o)
    return _write(task, photo, made, beside, truth, known)


def _by_run(by: Translator, photo: Photo, quiet: bool) -> _Made:
    with progress("tiles", by.tiles(photo), quiet=quiet) as advance:
        made = by.photo(photo, advance)
    return _Made(made, Candidate(by.name, method=by.floats))


def _by_prior(
    what: str, path: Path, photo: Photo, mask: Path | None, known: Mask | None, o: RestoreOptions, *, measured: bool
) -> _Made:
    factor = o.factor or 1
    named = "" if known is None else ALPHA if mask is None else str(mask.resolve())
    fitted = fit_prior(path, what, o.prior, mask=named, factor=factor)
    if known is not None:
        values = np.clip(fitted.estimate, 0, 1) * photo.top
        colours = np.where(known[..., None], photo.colour, np.rint(values).astype(photo.colour.dtype))
        made = photo.repainted(colours, None if mask is None else photo.alpha)
    else:
        made = photo.repainted(fitted.restored, enlarged_alpha(photo, factor))

    def again(picture: Floats) -> Floats:
        console.print("the same on a shrunken copy, to see whether it is better than bicubic", markup=False)
        pixels = np.rint(np.clip(picture, 0, 1) * 65535).astype(np.uint16)
        with tempfile.TemporaryDirectory() as folder:
            data = SingleImageDataset(pixels, path.stem)
            return fit_prior(data, what, o.prior, factor=factor, out=Path(folder) / "run").restored

    candidate = Candidate(PRIOR, fitted.estimate, fitted.held_out, again if measured else None)
    return _Made(made, candidate, fitted)


def _classical(
    what: str, path: Path, photo: Photo, known: Mask | None, candidate: Candidate, o: RestoreOptions
) -> Beside:
    picture = photo.floats()
    sigma = None if o.sigma is None else o.sigma / 255
    if what == "upscale":
        return judging.beside_upscaled(picture, o.factor or 1, candidate)
    if known is not None:
        return judging.beside_inpainted(picture, ~known, candidate)
    if what == "deblock":
        return judging.beside_deblocked(picture, path, sigma)
    return judging.beside_denoised(picture, candidate, sigma)


def _write(
    task: Task, photo: Photo, made: _Made, beside: Beside | None, truth: Photo | None, known: Mask | None
) -> Restored:
    """Write result, sheet and, where it is better, the classical result."""
    name = made.candidate.name
    verdicts = [] if beside is None else [beside.verdict]
    columns = [("before", _holes_shown(photo, known)), (name, made.photo)]
    simple = None
    if beside is not None and beside.colours is not None:
        simple = made.photo.repainted(beside.colours, made.photo.alpha)
        columns.append((beside.name, simple))
    if truth is not None:
        results = {name: made.photo} | ({beside.name: simple} if beside is not None and simple is not None else {})
        verdicts.append(judging.against_truth(truth, results, task.source))
        columns.append(("original", truth))
    write_photo(task.target, made.photo)
    judged = [verdict for verdict in verdicts if verdict.decibels]
    better = judged[-1].best if judged and judged[-1].best != name else ""  # the truth has the last word
    saved = write_photo(task.beside(beside.short), simple) if better and beside and simple else None
    sheet = save_sheet(task.sheet, columns) if task.sheet else None
    run, reason = (made.fitted.run, made.fitted.reason) if made.fitted else (None, "finished")
    return Restored(task.source, task.target, name, tuple(verdicts), better, saved, sheet, run, reason)


def _holes_shown(photo: Photo, known: Mask | None) -> Photo:
    """The picture as it was, holes in middle grey."""
    if known is None:
        return photo
    return photo.repainted(np.where(known[..., None], photo.floats(), 0.5))


def _known(photo: Photo, mask: Path | None, where: Path) -> Mask:
    """Which pixels are known, as the data set will have it."""
    if mask is not None:
        return read_mask(mask, photo.size)
    if photo.alpha is None:
        raise DataError(
            "Which pixels are to be filled in is not known: the picture has no transparency, and there is no mask.",
            where=where,
            fix="give --mask FILE: a picture of the same size, white where it is known, black where it is not",
        )
    known: Mask = photo.alpha >= 0.9 * photo.top
    return known


def _partner(named: Path | None, source: Path, what: str) -> Path | None:
    """The file that belongs to a picture: the one named, or the one of its name in the folder named.

    Raises:
        DataError: There is none.
    """
    if named is None or named.is_file():
        return named
    if named.is_dir():
        found = sorted(file for file in named.iterdir() if file.stem == source.stem and file.is_file())
        if len(found) == 1:
            return found[0]
    raise DataError(f"There is no {what} for {source.name}.", where=named, fix=f"name it {source.stem}.png")


def translate_each(
    by: Translator,
    source: Path,
    *,
    out: Path | None = None,
    format_: Format = "auto",
    force: bool = False,
    sheets: bool = False,
) -> Iterator[Path]:
    """Translate a picture, or each picture of a folder; yields each file as it is written.

    Args:
        by: The translator.
        source: A picture or a folder, whose sub-folders are kept.
        out: Where to, see `plan`.
        format_: Of the results.
        force: Write over what is there.
        sheets: Write before/after pictures.

    Raises:
        DataError: A picture cannot be used, or a result is there already.
    """
    tasks = plan(source, out, "translated", format_=format_, force=force, sheets=sheets)
    many = len(tasks) > 1
    with progress("translating", len(tasks), quiet=not many) as advance:
        for task in tasks:
            try:
                photo = read_photo(task.source)
                with progress("tiles", by.tiles(photo), quiet=many) as tile_done:
                    made = by.photo(photo, tile_done)
            except GanwrightError as error:
                if not many:
                    raise
                console.print(f"{task.source} is left out: {error}", style="yellow", markup=False, soft_wrap=True)
                continue
            finally:
                advance()
            write_photo(task.target, made)
            if task.sheet:
                save_sheet(task.sheet, [("before", photo), ("after", made)])
            yield task.target
