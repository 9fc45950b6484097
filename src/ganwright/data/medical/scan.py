"""A scan in physical units: a volume turned to RAS, or frames as they are stored; and its slices as pictures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
from PIL import Image

from ganwright.errors import MissingExtraError

Plane = Literal["sagittal", "coronal", "axial"]
FloatArray = npt.NDArray[np.float32]
Affine = npt.NDArray[np.float64]

PLANES: tuple[Plane, ...] = ("sagittal", "coronal", "axial")
"""Planes by the axis of a RAS volume that a slice of theirs is taken along."""
SQUARE = 0.01
"""Pixels whose sides differ by a smaller share are taken for square."""


def need(package: str) -> Any:
    """The package `nibabel` or `pydicom`.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        if package == "nibabel":
            import nibabel

            return nibabel
        import pydicom
        import pydicom.pixels

        return pydicom
    except ImportError as error:
        raise MissingExtraError(package, "medical", "Reading and writing medical images") from error


@dataclass(frozen=True)
class Scan:
    """One volume, or one file of frames.

    Attributes:
        values: Physical values. A volume: float32 (X, Y, Z) in RAS+: x grows to the patient's right, y to the front,
            z to the head. Frames: float32 (F, H, W), or uint8 (F, H, W, 3) in colour, as stored.
        valid: bool (X, Y, Z) or (F, H, W): False where there is no measurement (padding, NaN); None: all is valid.
        affine: Voxel indices to millimetres in RAS, (4, 4); None for frames.
        pixel_spacing: Of frames: millimetres between rows and between columns, (0, 0) where unknown.
        modality: DICOM's code (CT, MR, PT, …); "" where unknown.
        unit: Of the values: HU, BQML, …; "" where unknown.
        inverted: Whether low values are to be shown bright (MONOCHROME1).
        windows: (low, high) of the windows the file itself proposes.
        axes: How the file's own axes became RAS: nibabel's orientation (3, 2), or None for frames.
        notes: What a person should know about how it was read; identifies no one.
    """

    values: npt.NDArray[Any]
    valid: npt.NDArray[np.bool_] | None = None
    affine: Affine | None = None
    pixel_spacing: tuple[float, float] = (0.0, 0.0)
    modality: str = ""
    unit: str = ""
    inverted: bool = False
    windows: tuple[tuple[float, float], ...] = ()
    axes: npt.NDArray[Any] | None = None
    notes: tuple[str, ...] = ()

    @property
    def is_volume(self) -> bool:
        """Whether it has a place in space."""
        return self.affine is not None

    @property
    def colour(self) -> bool:
        """Whether it is RGB."""
        return self.values.ndim == 4

    @property
    def voxel_spacing(self) -> tuple[float, float, float]:
        """Millimetres along x, y and z of a volume."""
        assert self.affine is not None
        return cast(tuple[float, float, float], tuple(np.linalg.norm(self.affine[:3, :3], axis=0).tolist()))

    def plane(self, wanted: str) -> Plane | None:
        """The plane its slices are taken in; None for frames.

        Args:
            wanted: A plane, or "auto": across the axis with the widest spacing; axial where spacings are equal.
        """
        if self.affine is None:
            return None
        if wanted in PLANES:
            return next(plane for plane in PLANES if plane == wanted)
        spacing, shape = np.array(self.voxel_spacing), self.values.shape
        if 1 in shape:  # a single slice can be cut one way only
            return PLANES[2 - shape[::-1].index(1)]
        widest = np.flatnonzero(spacing > spacing.max() * (1 - SQUARE))
        return PLANES[int(widest.max())]

    def count(self, plane: Plane | None) -> int:
        """Number of slices, or frames."""
        return int(self.values.shape[0 if plane is None else PLANES.index(plane)])

    def spacing(self, plane: Plane | None) -> tuple[float, float]:
        """Millimetres between the rows and between the columns of its slices; zeros where unknown."""
        if plane is None:
            return self.pixel_spacing
        a, b = (s for axis, s in enumerate(self.voxel_spacing) if axis != PLANES.index(plane))
        return b, a

    def slice(self, k: int, plane: Plane | None) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]:
        """Slice `k` as a picture (H, W) or (H, W, 3), and which pixels are valid.

        Slices of volumes are shown as radiologists see them: the patient's right at the left, the front (of axial
        slices) or the head on top; sagittal slices look to the left.
        """
        valid = None if self.valid is None else cut(self.valid, k, plane)
        return cut(self.values, k, plane), valid

    def with_values(self, values: FloatArray) -> Scan:
        """The same scan with other values of the same shape, all valid."""
        return replace(self, values=values, valid=None)


def cut(array: npt.NDArray[Any], k: int, plane: Plane | None) -> npt.NDArray[Any]:
    """Slice `k` of an array (X, Y, Z) as a picture, or frame `k` of frames."""
    if plane is None:
        return cast(npt.NDArray[Any], array[k])
    where = tuple(k if name == plane else slice(None) for name in PLANES)
    return array[where].T[::-1, ::-1]  # a view: np.take would copy the whole volume


def uncut(pictures: npt.NDArray[Any], plane: Plane | None) -> npt.NDArray[Any]:
    """The inverse of `cut` for all slices of a scan together: (K, H, W) to (X, Y, Z)."""
    if plane is None:
        return pictures
    # (K, H, W), rows and columns reversed -> (K, a, b) with a < b the two axes of the plane
    return np.moveaxis(pictures[:, ::-1, ::-1].transpose(0, 2, 1), 0, PLANES.index(plane))


def square_size(shape: tuple[int, int], spacing: tuple[float, float]) -> tuple[int, int]:
    """Height and width of a picture when its pixels are made square by stretching the wider side."""
    row, column = spacing
    if row <= 0 or column <= 0 or abs(row - column) <= SQUARE * max(row, column):
        return shape
    finest = min(row, column)
    return max(1, round(shape[0] * row / finest)), max(1, round(shape[1] * column / finest))


def resize(picture: npt.NDArray[Any], size: tuple[int, int]) -> npt.NDArray[Any]:
    """A picture (H, W) or (H, W, 3) at another size, by bicubic interpolation in float32; the same type comes back.

    Values stay within those of the picture.
    """
    if picture.shape[:2] == size:
        return picture
    if picture.ndim == 3:
        return np.stack([resize(channel, size) for channel in np.moveaxis(picture, -1, 0)], axis=-1)
    image = Image.fromarray(np.ascontiguousarray(picture, np.float32))
    found = np.asarray(image.resize((size[1], size[0]), Image.Resampling.BICUBIC))
    found = found.clip(picture.min(), picture.max())
    return (np.round(found) if picture.dtype.kind in "iu" else found).astype(picture.dtype)


def to_ras(
    values: npt.NDArray[Any], valid: npt.NDArray[np.bool_] | None, affine: Affine
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None, Affine, npt.NDArray[Any]]:
    """Turn a volume to RAS+ by flips and permutations only; no value is interpolated.

    Returns:
        Values, valid, affine, and the orientation that was undone (see `from_ras`).
    """
    orientations = need("nibabel").orientations
    axes = orientations.io_orientation(affine)
    turned = orientations.apply_orientation(values, axes)
    mask = None if valid is None else orientations.apply_orientation(valid, axes)
    return turned, mask, affine @ orientations.inv_ornt_aff(axes, values.shape), axes


def from_ras(values: npt.NDArray[Any], affine: Affine, axes: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], Affine]:
    """The inverse of `to_ras`: values and affine in the file's own order of axes."""
    orientations = need("nibabel").orientations
    back = orientations.ornt_transform(np.array([[0, 1], [1, 1], [2, 1]]), axes)
    turned = orientations.apply_orientation(values, back)
    return turned, affine @ orientations.inv_ornt_aff(back, values.shape)
