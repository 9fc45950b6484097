"""Generated images in physical units, with all 16 bits that a network's floating-point output carries."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from ganwright.data.medical.window import ValueRange
from ganwright.errors import SettingsError
from ganwright.medical.dicom import write_dicom
from ganwright.medical.nifti import write_nifti
from ganwright.recipes.base import SampleRequest
from ganwright.recipes.sampling import requested_labels
from ganwright.run import Run
from ganwright.training.restore import default_device, load_recipe


def generate_files(
    run: str | Path | Run,
    n: int,
    folder: str | Path,
    *,
    seed: int = 0,
    format: Literal["nifti", "dicom"] = "nifti",
    checkpoint: int | str = "last",
    device: str | None = None,
) -> list[Path]:
    """Samples of a run trained on medical images, as files in physical units.

    Values are mapped back by the range of the training set (where every scan had a range of its own, by their
    medians), and pixels have the size of the training images'.

    Args:
        run: A run of a recipe with a latent space.
        n: How many.
        folder: Where to.
        seed: Equal seeds give equal samples.
        format: One NIfTI file, or one DICOM file, a sample.
        checkpoint: A step, "last" or "best".
        device: Where to compute; None: a GPU where there is one.

    Returns:
        The files.

    Raises:
        SettingsError: The run was not trained on medical images, or its recipe has no latent space.
        CheckpointError: There is no such checkpoint.
    """
    opened = run if isinstance(run, Run) else Run.open(run)
    where = torch.device(device or default_device())
    recipe = load_recipe(opened, step=checkpoint, device=where)
    about: dict[str, Any] | None = recipe.data.extra.get("medical")
    space = recipe.latent_space()
    if about is None or space is None:
        lacking = "was not trained on medical images" if about is None else "makes no images from latents"
        raise SettingsError(f"This run {lacking}.", where=opened.path, fix="`ganwright sample` writes PNG files")
    request = SampleRequest(n=n, seed=seed)
    labels, latents = requested_labels(request, space.num_classes), request.normal(space.latent_dim)
    values = ValueRange(about["low"], about["high"], about["inverted"])
    spacing = about["field_of_view_mm"] / recipe.data.resolution
    paths: list[Path] = []
    with torch.no_grad():
        for start in range(0, n, request.batch_size):
            rows = slice(start, start + request.batch_size)
            of_rows = None if labels is None else labels[rows].to(where)
            made = space.generate(latents[rows].to(where), of_rows).float().cpu().numpy()
            for image in made:  # (C, H, W)
                stem = f"sample-{len(paths):06d}"
                paths += _write(Path(folder), stem, image, values, spacing, about, format)
    return paths


def _write(
    folder: Path, stem: str, image: Any, values: ValueRange, spacing: float, about: dict[str, Any], format: str
) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    if format == "dicom" and len(image) == 3:
        frames = np.round((image.transpose(1, 2, 0)[None].clip(-1, 1) + 1) * 127.5).astype(np.uint8)
        return write_dicom(folder, frames, stem=stem, spacing=(spacing, spacing), modality=about["modality"])
    physical = values.to_physical(image.mean(axis=0))  # (H, W)
    if format == "dicom":
        told = {"modality": about["modality"], "unit": about["unit"], "inverted": values.inverted}
        return write_dicom(folder, physical[None], stem=stem, spacing=(spacing, spacing), **told)
    # A picture's rows run backwards and its columns from the patient's right: an axial slice of a RAS volume.
    affine = np.diag([spacing or 1.0, spacing or 1.0, 1.0, 1.0])
    return [write_nifti(folder / f"{stem}.nii.gz", physical.T[::-1, ::-1, None], affine)]
