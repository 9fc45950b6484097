"""`Explorer`: a trained run, and everything that can be done in its latent space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from ganwright.errors import SettingsError
from ganwright.exploring import directions as finding
from ganwright.exploring import mixing, truncation, walking
from ganwright.exploring.directions import Directions, Method
from ganwright.exploring.editing import STRENGTHS, Edit, directions_sheet, edit_sheet, edited
from ganwright.exploring.latents import Latents, Origin, joined, load_latents, save_latents
from ganwright.exploring.perceptual import PerceptualLoss
from ganwright.exploring.projection import ProjectionSettings, project_image
from ganwright.exploring.result import Projection, as_projection, read_target, to_tensor
from ganwright.exploring.sheet import Sheet
from ganwright.exploring.space import Space
from ganwright.exploring.video import Clip
from ganwright.metrics.extractor_base import usable_device
from ganwright.metrics.extractors import open_extractor
from ganwright.recipes.base import Recipe
from ganwright.run import Run
from ganwright.samples import ImageSamples, Uint8Array
from ganwright.training.restore import checkpoint_folder, default_device, load_recipe

Source = int | str | Path | Latents
"""Where a point in latent space comes from: a seed, a file of latents, or latents."""
Labels = Sequence[int] | int | None


def explore(
    run: str | Path | Run,
    *,
    checkpoint: int | str = "last",
    ema: bool = True,
    device: str | None = None,
    other_run: bool = False,
) -> Explorer:
    """Open a run's latent space.

        explorer = gw.explore("runs/faces-stylegan2-3f2a")
        explorer.truncation([1, 2, 3]).save("truncation.png")

    Args:
        run: The run.
        checkpoint: A step, "last" or "best".
        ema: Use the averaged weights.
        device: Where to compute; None: a GPU where there is one.
        other_run: Use files of other runs too, where they fit (of the run this one was fine-tuned from, say).

    Raises:
        CheckpointError: There is no such checkpoint.
        SettingsError: The recipe has no latent space, or the device cannot be used.
    """
    opened = Run.open(run.path if isinstance(run, Run) else run)
    recipe = load_recipe(opened, step=checkpoint, ema=ema, device=usable_device(device or default_device()))
    step = int(checkpoint_folder(opened, checkpoint).name.removeprefix("step-"))
    return Explorer(recipe, opened.name, created=str(opened.config.get("created", "")), step=step, other_run=other_run)


class Explorer:
    """A generator's latent space.

    Seeds, files of latents and `Latents` can be given wherever points are asked for. A style-based generator is moved
    about in W, any other in z.

    Args:
        recipe: In `eval` mode, with trained weights.
        name: Of the run.
        created: When the run was begun; with `step` it tells files of this run from others'.
        step: Of the checkpoint.
        other_run: Use files of other runs too, where they fit.

    Attributes:
        space: Seeds to latents and latents to images.
        origin: What files made here say of where they come from.
        notes: What people should know about files that were read.
    """

    def __init__(self, recipe: Recipe, name: str, *, created: str = "", step: int = 0, other_run: bool = False) -> None:
        self.space = Space(recipe, name)
        styles = self.space.styles
        width, layers = (0, ()) if styles is None else (styles.style_dim, tuple(styles.layers))
        self.origin = Origin(name, created, step, self.space.latent.latent_dim, width, layers)
        self.other_run = other_run
        self.notes: list[str] = []

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers that take a style, coarse to fine; empty without a W."""
        return self.origin.layers

    # Points. -------------------------------------------------------------------------------------------------------

    def latents(self, sources: Source | Sequence[Source], *, labels: Labels = None, psi: float = 1.0) -> Latents:
        """Points in W (or z) from seeds, files or latents; several are joined.

        Args:
            sources: One or several; text of digits is a seed, other text a file.
            labels: Classes of the seeds.
            psi: Truncation of the seeds, in W.

        Raises:
            DataError: A file cannot be used.
            SettingsError: No sources, or impossible labels.
        """
        several = [sources] if isinstance(sources, int | str | Path | Latents) else list(sources)
        seeds = [int(s) for s in several if isinstance(s, int | str) and _is_seed(s)]
        drawn = iter(range(len(seeds)))
        from_seeds = truncation.truncate(self.space, self.space.seeds(seeds, labels), psi) if seeds else None
        parts = []
        for source in several:
            if from_seeds is not None and _is_seed(source):
                parts.append(from_seeds[[next(drawn)]])
            else:
                found = source if isinstance(source, Latents) else self.load(str(source))
                parts.append(self.space.mapped(found, self.space.kind))
        if not parts:
            raise SettingsError("No points in latent space were given.", fix="give seeds, or files made by project")
        return parts[0] if len(parts) == 1 else joined(parts)

    def images(self, sources: Source | Sequence[Source], **options: Any) -> ImageSamples:
        """The images of points; options as for `latents`."""
        return ImageSamples(self.space.images(self.latents(sources, **options)))

    def load(self, path: str | Path) -> Latents:
        """Latents of a file; a note about it is added to `notes`.

        Raises:
            DataError: It is no such file, or another run's.
        """
        latents, note = load_latents(path, self.origin, other_run=self.other_run)
        self._note(note)
        return latents

    def save(self, latents: Latents, path: str | Path) -> Path:
        """Write latents to a file that every command here takes."""
        return save_latents(path, latents, self.origin)

    # Pictures. -----------------------------------------------------------------------------------------------------

    def truncation(
        self,
        seeds: Sequence[int] = (0, 1, 2, 3),
        psi: Sequence[float] | None = None,
        *,
        layers: str | Sequence[int | str] = "all",
        labels: Labels = None,
    ) -> Sheet:
        """See `truncation.truncation_sheet`."""
        return truncation.truncation_sheet(self.space, seeds, psi, layers=layers, labels=labels)

    def mix(
        self,
        rows: Source | Sequence[Source] = (0, 1, 2, 3),
        columns: Source | Sequence[Source] = (4, 5, 6, 7, 8),
        layers: str | Sequence[int | str] = "coarse",
        *,
        psi: float = 1.0,
        labels: Labels = None,
    ) -> Sheet:
        """See `mixing.mixing_sheet`."""
        self.space.need_styles("Style mixing")
        of_rows, of_columns = (self.latents(side, labels=labels, psi=psi) for side in (rows, columns))
        return mixing.mixing_sheet(self.space, of_rows, of_columns, layers)

    def walk(self, seed: int = 0, **options: Any) -> Clip:
        """See `walking.walk`."""
        return walking.walk(self.space, seed, **options)

    def interpolate(self, between: Sequence[Source], steps: int = 8, *, labels: Labels = None, psi: float = 1) -> Sheet:
        """See `walking.interpolation_sheet`. Without labels all points are of class 0."""
        return walking.interpolation_sheet(self.space, self._ends(between, labels, psi), steps)

    def interpolation_film(
        self, between: Sequence[Source], *, seconds: float = 6, fps: float = 30, labels: Labels = None, psi: float = 1
    ) -> Clip:
        """See `walking.interpolation_film`."""
        return walking.interpolation_film(self.space, self._ends(between, labels, psi), seconds, fps)

    # Directions and edits. -----------------------------------------------------------------------------------------

    def directions(self, method: Method = "ganspace", k: int = 10, **options: Any) -> Directions:
        """See `directions.find_directions`."""
        return finding.find_directions(self.space, method, k, **options)

    def load_directions(self, path: str | Path) -> Directions:
        """Directions of a file; a note about it is added to `notes`.

        Raises:
            DataError: It is no such file, or another run's.
        """
        found, note = finding.load_directions(path, self.origin, other_run=self.other_run)
        self._note(note)
        return found

    def save_directions(self, directions: Directions, path: str | Path) -> Path:
        """Write directions to a file."""
        return finding.save_directions(path, directions, self.origin)

    def show_directions(
        self,
        directions: Directions,
        sources: Source | Sequence[Source] = (0, 1),
        *,
        strengths: Sequence[float] = STRENGTHS,
        layers: str | None = None,
        labels: Labels = None,
        psi: float = 1.0,
    ) -> Sheet:
        """See `editing.directions_sheet`."""
        latents = self.latents(sources, labels=labels, psi=psi)
        return directions_sheet(self.space, latents, directions, strengths=strengths, layers=layers)

    def edited(
        self, sources: Source | Sequence[Source], edits: Edits, directions: Directions, **options: Any
    ) -> Latents:
        """Points after edits; options as for `latents`."""
        return edited(self.space, self.latents(sources, **options), _edits(edits), directions)

    def edit(self, sources: Source | Sequence[Source], edits: Edits, directions: Directions, **options: Any) -> Sheet:
        """Images before and after edits (`{"ganspace-0": 2}` or `["ganspace-0=2@fine"]`); options as for `latents`."""
        return edit_sheet(self.space, self.latents(sources, **options), _edits(edits), directions)

    # Real images. --------------------------------------------------------------------------------------------------

    def project(
        self,
        image: str | Path | Uint8Array,
        *,
        extractor: str | None = "efficientnet-lite0",
        weights: Path | None = None,
        labels: Labels = None,
        quiet: bool = False,
        **settings: Any,
    ) -> Projection:
        """The point in latent space whose image is nearest to a real one.

        Args:
            image: A picture file or uint8 pixels (H, W, 1 or 3); other sizes are resized.
            extractor: For the perceptual loss; None: pixels alone.
            weights: The extractor's weights, where they are not found by themselves.
            labels: In z of a conditional recipe: its class, or classes to try; None: all.
            quiet: Show no progress.
            settings: Fields of `ProjectionSettings`.

        Raises:
            DataError: The image cannot be read.
            SettingsError: Impossible settings.
        """
        known = {field.name for field in fields(ProjectionSettings)}
        if unknown := sorted(set(settings) - known):
            raise SettingsError(
                f"Projection has no setting '{unknown[0]}'.", fix="choose from " + ", ".join(sorted(known))
            )
        chosen = ProjectionSettings(**settings)
        data = self.space.recipe.data
        target, name, notes = read_target(image, data.resolution, data.channels)
        opened = None if extractor is None else open_extractor(extractor, device=self.space.device, weights=weights)
        perceptual = None if opened is None else PerceptualLoss(opened, data.resolution)
        loss = "pixels (mean squared error)" if perceptual is None else perceptual.name
        found = project_image(self.space, to_tensor(target), chosen, perceptual, name=name, labels=labels, quiet=quiet)
        return as_projection(self.space, found, target, loss, notes, opened)

    def _ends(self, between: Sequence[Source], labels: Labels, psi: float) -> Latents:
        of_seeds = 0 if labels is None and self.space.latent.num_classes else labels
        return self.latents(between, labels=of_seeds, psi=psi)

    def _note(self, note: str) -> None:
        if note and note not in self.notes:
            self.notes.append(note)


Edits = Sequence[Edit | str] | Mapping[str, float]
"""Edits, also written as text or as a mapping from direction to strength."""


def _edits(given: Edits) -> list[Edit]:
    if isinstance(given, Mapping):
        return [Edit(name, strength) for name, strength in given.items()]
    return [Edit.parse(edit) if isinstance(edit, str) else edit for edit in given]


def _is_seed(source: Source) -> bool:
    return isinstance(source, int) or (isinstance(source, str) and source.isdigit())
