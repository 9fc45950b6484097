"""A trained run that turns pictures into pictures, used on files of any size, depth and number of channels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ganwright.data.photo import Photo
from ganwright.errors import SettingsError
from ganwright.recipes.base import Recipe
from ganwright.restoring.classical import resized
from ganwright.restoring.measuring import Floats
from ganwright.restoring.tile import Tiling, tiled
from ganwright.run import Run
from ganwright.training.restore import default_device, load_recipe

_LUMA = (0.299, 0.587, 0.114)
_TILE, _SMALLEST_TILE = 512, 128


@dataclass(frozen=True)
class Translator:
    """A recipe with its weights, one direction of it, and the way pictures are cut for it.

    Attributes:
        recipe: In `eval` mode, on its device.
        name: For people: the run's name.
        direction: One of the recipe's.
        tiling: How pictures are cut.
        keep_colours: Restorers give back what they were given: each channel of a colour picture is restored on its
            own by a recipe for grey, and grey stays grey. Others turn their input into the channels they know.
    """

    recipe: Recipe
    name: str
    direction: str
    tiling: Tiling
    keep_colours: bool = False

    @property
    def channels(self) -> int:
        """Channels the recipe takes in this direction."""
        return self.recipe.data.channels_out if self.direction == "b2a" else self.recipe.data.channels

    def photo(self, photo: Photo, advance: Callable[[], object] = lambda: None) -> Photo:
        """The picture translated; its transparency is kept and enlarged with it.

        Args:
            photo: Any.
            advance: Called after each tile, `tiles(photo)` times.
        """
        bands = [photo.colour] if self._separate(photo) == 1 else np.split(photo.colour, 3, axis=-1)
        made = np.concatenate([self._work(photo, band, advance) for band in bands], axis=-1)
        if made.shape[-1] in (2, 4):
            return photo.repainted(made[..., :-1], np.ascontiguousarray(made[..., -1]))
        if self.keep_colours and photo.colour.shape[-1] == 1 and made.shape[-1] == 3:
            made = np.rint(made.mean(-1, keepdims=True)).astype(made.dtype)
        return photo.repainted(made, enlarged_alpha(photo, self.tiling.scale))

    def tiles(self, photo: Photo) -> int:
        """How many tiles there are to do."""
        return self.tiling.count(*photo.size) * self._separate(photo)

    def floats(self, picture: Floats) -> Floats:
        """A picture (H, W, C) in [0, 1] translated, without rounding."""
        found: Floats = self.photo(_Unrounded(np.asarray(picture, np.float32))).colour
        return found

    def _separate(self, photo: Photo) -> int:
        return 3 if self.keep_colours and self.channels == 1 and photo.colour.shape[-1] == 3 else 1

    def _work(self, photo: Photo, colour: npt.NDArray[Any], advance: Callable[[], object]) -> npt.NDArray[Any]:
        shown = _with_channels(colour, photo, self.channels)
        return tiled(self._translate, shown, self.tiling, device=self.recipe.device, advance=advance)

    def _translate(self, images: Tensor) -> Tensor:
        return self.recipe.translate(images, self.direction)


class _Unrounded(Photo):
    """A picture in floats (H, W, C) in [0, 1]."""

    @property
    def top(self) -> int:
        return 1

    def repainted(self, colours: npt.NDArray[Any], alpha: npt.NDArray[Any] | None = None) -> Photo:
        return _Unrounded(colours)


def load_translator(
    run: Run,
    *,
    direction: str = "",
    checkpoint: int | str = "last",
    tile: int | None = None,
    overlap: int = 64,
    restoring: bool = False,
    device: str | None = None,
) -> Translator:
    """The translator of a run.

    Args:
        run: Trained.
        direction: "a2b" or "b2a"; "": the recipe's first.
        checkpoint: A step, "last" or "best".
        tile: Side of a tile in pixels of the input; 0: pictures at once; None: 512, less for recipes that enlarge.
        overlap: Of tiles.
        restoring: See `Translator.keep_colours`.
        device: Where to compute; None: a GPU where there is one.

    Raises:
        SettingsError: The run's recipe does not translate, not in this direction, or the tiles are impossible.
        CheckpointError: There is no such checkpoint.
    """
    recipe = load_recipe(run, step=checkpoint, device=device or default_device())
    if not recipe.directions:
        raise SettingsError(
            "This run makes images from nothing; it cannot work on a picture.",
            where=f"{run.path}: {run.config['recipe']}",
            fix="name a run of pix2pix, cyclegan, srgan, denoise-gan or the like",
        )
    wanted = direction or recipe.directions[0]
    if wanted not in recipe.directions:
        raise SettingsError(
            f"This run does not translate {wanted}.", where=run.path, fix="choose " + " or ".join(recipe.directions)
        )
    if tile is None:
        tile = max(_SMALLEST_TILE, _TILE // recipe.scale)
        overlap = min(overlap, tile // 2)
    return Translator(recipe, run.name, wanted, Tiling(tile, overlap, recipe.scale), restoring)


def enlarged_alpha(photo: Photo, scale: int) -> npt.NDArray[Any] | None:
    """The picture's transparency, `scale` times as large."""
    if photo.alpha is None or scale == 1:
        return photo.alpha
    values = photo.alpha[..., None] / np.float32(photo.top)
    larger = resized(values, (photo.size[0] * scale, photo.size[1] * scale))[..., 0]
    return np.asarray(np.rint(larger * photo.top), photo.alpha.dtype)


def _with_channels(colour: npt.NDArray[Any], photo: Photo, wanted: int) -> npt.NDArray[Any]:
    """The channels a recipe was trained on: grey is repeated, colour becomes luma; 4 are colour and transparency."""
    given = colour.shape[-1]
    if wanted == given:
        return colour
    if wanted == 1:
        luma = colour.astype(np.float64) @ np.array(_LUMA)
        rounded = np.rint(luma) if np.issubdtype(colour.dtype, np.integer) else luma
        return np.asarray(rounded, colour.dtype)[..., None]
    if wanted == 3:
        return np.repeat(colour, 3, axis=-1)
    if wanted == 4:
        rgb = _with_channels(colour, photo, 3)
        full = photo.top if photo.alpha is None else photo.alpha[..., None]
        return np.concatenate([rgb, np.broadcast_to(full, (*rgb.shape[:2], 1)).astype(rgb.dtype)], axis=-1)
    raise SettingsError(
        f"The run was trained on {wanted} channels, and a picture has 1, 3 or 4.",
        where="channels",
        fix="translate arrays with `Recipe.translate`",
    )


def open_run(path: str | Path | Run) -> Run:
    """The run.

    Raises:
        RunError: It is none.
    """
    return path if isinstance(path, Run) else Run.open(path)
