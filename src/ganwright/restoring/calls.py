"""The Python side of `ganwright restore` and `ganwright translate`."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from ganwright.errors import SettingsError, nearest
from ganwright.restoring.batch import Restored, RestoreOptions, restore_each, translate_each
from ganwright.restoring.prior import PriorOptions
from ganwright.restoring.targets import Format
from ganwright.restoring.translator import Translator, load_translator, open_run
from ganwright.run import Run


def restore(
    what: str,
    picture: str | Path,
    *,
    run: str | Path | Run | Translator | None = None,
    out: str | Path | None = None,
    **options: Any,
) -> list[Restored]:
    """Restore a picture, or each picture of a folder, and write the results to files.

    Args:
        what: "denoise", "inpaint", "upscale" or "deblock".
        picture: A file or a folder.
        run: A trained restorer; None: Deep Image Prior, fitted to each picture.
        out: The result's file or folder; None: beside the picture.
        options: Fields of `RestoreOptions` (mask, factor, sigma, truth, classical, format_, force, sheets) and of
            `PriorOptions` (network, steps, max_minutes, seed, settings).

    Returns:
        What was written, one entry a picture; fewer where it was interrupted.

    Raises:
        DataError: A picture, mask or original cannot be used, or a result is there already.
        SettingsError: There is no such option, or the restorer does not do this.
    """
    of_prior = {field.name for field in fields(PriorOptions)}
    known = of_prior | {field.name for field in fields(RestoreOptions)} - {"prior"}
    for name in options:
        if name not in known:
            raise SettingsError(f"There is no option '{name}'.{nearest(name, known)}", fix=", ".join(sorted(known)))
    prior = PriorOptions(**{name: value for name, value in options.items() if name in of_prior})
    rest: dict[str, Any] = {name: value for name, value in options.items() if name not in of_prior}
    for name in {"mask", "truth"} & rest.keys():
        rest[name] = None if rest[name] is None else Path(rest[name])
    by = run if isinstance(run, Translator) or run is None else load_translator(open_run(run), restoring=True)
    chosen = RestoreOptions(**rest, prior=prior)
    return list(restore_each(what, Path(picture), out=None if out is None else Path(out), by=by, options=chosen))


def translate(
    run: str | Path | Run | Translator,
    pictures: str | Path,
    *,
    out: str | Path | None = None,
    direction: str = "",
    tile: int | None = None,
    overlap: int = 64,
    format_: Format = "auto",
    force: bool = False,
) -> list[Path]:
    """Turn a picture, or each picture of a folder, into another with a trained run, and write the results to files.

    Args:
        run: Of pix2pix, cyclegan, srgan, ….
        pictures: A file or a folder.
        out: The result's file or folder; None: beside them.
        direction: "a2b" or "b2a"; "": the recipe's first.
        tile: Side of a tile in pixels; 0: pictures at once; None: 512, less for recipes that enlarge.
        overlap: Pixels that neighbouring tiles share.
        format_: "auto": the picture's own where that is lossless, else PNG.
        force: Write over what is there.

    Returns:
        The files.

    Raises:
        DataError: A picture cannot be used, or a result is there already.
        SettingsError: The run does not translate, or not in this direction.
    """
    if not isinstance(run, Translator):
        run = load_translator(open_run(run), direction=direction, tile=tile, overlap=overlap)
    return list(
        translate_each(run, Path(pictures), out=None if out is None else Path(out), format_=format_, force=force)
    )
