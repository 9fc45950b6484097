"""What is written has the right values at the right place, in a header of its own."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scans import affine, dicom_slice, save, volume, write_nifti, write_series

from ganwright.config import DataSettings
from ganwright.data.medical.files import find_items
from ganwright.data.medical.scan import Scan
from ganwright.data.medical.window import ValueRange
from ganwright.errors import DataError, SettingsError
from ganwright.medical import apply_to_files, pseudonym, write_dicom
from ganwright.medical import write_nifti as write
from ganwright.medical.applying import apply_to_scan, finer
from ganwright.medical.dicom import frame_place


def identity(images: torch.Tensor) -> torch.Tensor:
    assert images.min() >= -1 and images.max() <= 1 and images.dtype == torch.float32
    return images


def read(folder: Path) -> Scan:
    items, _ = find_items(folder)
    assert len(items) == 1
    return items[0].read()


@settings(max_examples=25, deadline=None)
@given(
    order=st.permutations([0, 1, 2]),
    flips=st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3),
    spacing=st.tuples(*[st.floats(0.3, 4)] * 3),
    tilt=st.floats(-0.4, 0.4),
)
def test_nifti_round_trip_is_exact_for_every_orientation(
    order: list[int], flips: tuple[float, ...], spacing: tuple[float, ...], tilt: float, tmp_path_factory
) -> None:
    tmp_path = tmp_path_factory.mktemp("nifti")
    where = np.zeros((4, 4))
    for n, axis in enumerate(order):
        where[axis, n] = flips[n] * spacing[n]
    rotation = np.array([[np.cos(tilt), -np.sin(tilt), 0], [np.sin(tilt), np.cos(tilt), 0], [0, 0, 1]])
    where[:3, :3] = rotation @ where[:3, :3]
    where[:, 3] = (3, -7, 11, 1)
    values = np.random.default_rng(0).normal(0, 1e4, (4, 5, 6)).astype(np.float32)
    found = nibabel.load(write(tmp_path / "a.nii.gz", values, where))
    np.testing.assert_array_equal(found.get_fdata(dtype=np.float32), values)
    np.testing.assert_allclose(found.get_sform(), where, atol=1e-4)
    np.testing.assert_allclose(found.get_qform(), where, atol=1e-4)
    assert found.get_data_dtype() == np.float32 and found.header.get_xyzt_units()[0] == "mm"


def test_sheared_axes_are_written_in_the_sform_only(tmp_path: Path) -> None:
    where = affine()
    where[0, 2] = 1.3  # a tilted gantry
    found = nibabel.load(write(tmp_path / "a.nii", volume(), where))
    np.testing.assert_allclose(found.affine, where, atol=1e-5)
    assert int(found.header["sform_code"]) == 1


def test_nifti_integers(tmp_path: Path) -> None:
    found = nibabel.load(write(tmp_path / "a.nii.gz", volume() + 0.3, affine(), number_type="int16"))
    assert found.get_data_dtype() == np.int16
    np.testing.assert_array_equal(np.asarray(found.dataobj), volume())
    with pytest.raises(DataError, match="do not fit"):
        write(tmp_path / "b.nii.gz", volume() * 100, affine(), number_type="int16")
    with pytest.raises(DataError, match="end in"):
        write(tmp_path / "b.png", volume(), affine())


def test_dicom_round_trip_is_exact_for_hounsfield_units(tmp_path: Path) -> None:
    write_series(tmp_path / "in", volume())
    scan = read(tmp_path / "in")
    places = [frame_place(scan.affine, "axial", k, scan.values.shape) for k in range(10)]
    frames = np.stack([scan.slice(k, "axial")[0] for k in range(10)])
    write_dicom(tmp_path / "out", frames, stem="x", spacing=scan.spacing("axial"), places=places, modality="CT")
    back = read(tmp_path / "out")
    np.testing.assert_array_equal(back.values, volume())
    np.testing.assert_allclose(back.affine, affine(), atol=1e-6)
    assert back.modality == "CT" and back.voxel_spacing == pytest.approx((0.8, 1.1, 2.5))


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_dicom_places_of_every_plane(tmp_path: Path, plane: str) -> None:
    scan = Scan(volume().astype(np.float32), affine=affine())
    count = scan.count(plane)
    places = [frame_place(scan.affine, plane, k, scan.values.shape) for k in range(count)]
    frames = np.stack([scan.slice(k, plane)[0] for k in range(count)])
    write_dicom(tmp_path, frames, stem="x", spacing=scan.spacing(plane), places=places, modality="CT")
    back = read(tmp_path)
    np.testing.assert_array_equal(back.values, volume())
    np.testing.assert_allclose(back.affine, affine(), atol=1e-6)


def test_dicom_fractions_are_kept_to_16_bits(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((2, 5, 5)) * 3 - 1
    write_dicom(tmp_path, values, stem="x", modality="MR")
    items, _ = find_items(tmp_path)
    back = np.stack([item.read().values[0] for item in items])
    assert np.abs(back - values).max() <= np.ptp(values) / 65535 * 0.51


@pytest.mark.parametrize("kind", ["nifti", "dicom"])
def test_a_volume_goes_through_and_comes_back_at_its_place(tmp_path: Path, kind: str) -> None:
    values = volume()
    values[0, 0, 0] = 1234
    if kind == "nifti":  # stored the other way round
        turned = np.flip(values, 0).transpose(2, 0, 1).astype(np.int16)
        where = affine() @ np.array([[0, -1, 0, 11], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]])
        write_nifti(tmp_path / "in" / "a.nii.gz", turned, where)
    else:
        write_series(tmp_path / "in", values)
    seen = []

    def look(images: torch.Tensor) -> torch.Tensor:
        seen.append(images.shape)
        return identity(images)

    written = apply_to_files(tmp_path / "in", look, tmp_path / "out", settings=DataSettings(slice_axis="coronal"))
    # 12 columns of 0.8 mm, 10 rows of 2.5 mm: rows are stretched
    assert {tuple(shape[1:]) for shape in seen} == {(1, 31, 12)} and sum(shape[0] for shape in seen) == 14
    assert len(written) == 1
    flat = apply_to_files(tmp_path / "in", identity, tmp_path / "axial", settings=DataSettings(slice_axis="axial"))
    back = read(tmp_path / "axial")
    np.testing.assert_allclose(back.affine, affine(), atol=1e-5)
    np.testing.assert_allclose(back.values.shape, values.shape)
    if kind == "nifti":
        found = nibabel.load(flat[0].paths[0])
        assert found.shape == turned.shape
        np.testing.assert_allclose(found.affine, where, atol=1e-5)
    with pytest.raises(DataError, match="there already"):
        apply_to_files(tmp_path / "in", identity, tmp_path / "out")
    apply_to_files(tmp_path / "in", identity, tmp_path / "out", force=True)


def test_values_come_back_in_physical_units(tmp_path: Path) -> None:
    scan = Scan(volume().astype(np.float32), affine=np.diag([1.0, 1, 1, 1]), modality="CT")
    whole = ValueRange(-1024, 3071)
    np.testing.assert_allclose(apply_to_scan(scan, identity, whole).values, scan.values, atol=1e-3)
    negative = apply_to_scan(scan, lambda x: -x, whole)
    np.testing.assert_allclose(negative.values, 2047 - scan.values, atol=1e-3)
    other = apply_to_scan(scan, identity, whole, output_range=ValueRange(0, 1))
    np.testing.assert_allclose(other.values, (scan.values + 1024) / 4095, atol=1e-6)
    masked = Scan(scan.values, valid=scan.values > -1000, affine=scan.affine, modality="CT")
    found = apply_to_scan(masked, lambda x: torch.ones_like(x), whole)
    assert (found.values[~masked.valid] == -1024).all() and (found.values[masked.valid] == 3071).all()


def test_enlarged_volumes_keep_their_edges() -> None:
    scan = Scan(volume().astype(np.float32), affine=affine((1, 1, 2.5)), modality="CT")
    made = apply_to_scan(scan, lambda x: torch.nn.functional.interpolate(x, scale_factor=2), ValueRange(-1024, 3071))
    assert made.values.shape == (24, 28, 10) and made.voxel_spacing == pytest.approx((0.5, 0.5, 2.5))
    corner = np.array([-0.5, -0.5, -0.5, 1])
    np.testing.assert_allclose(made.affine @ corner, scan.affine @ corner)
    np.testing.assert_allclose(finer(np.eye(4), (2,) * 3, (2,) * 3), np.eye(4))
    with pytest.raises(SettingsError, match="size"):
        apply_to_scan(scan, lambda x: x[..., 1:], ValueRange(-1024, 3071))


def test_colour_goes_through(tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    fields = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0, "Modality": "US"}
    dataset = dicom_slice(rgb, BitsAllocated=8, BitsStored=8, HighBit=7, PixelSpacing=None, **fields)
    dataset["PixelData"].VR = "OB"
    save(dataset, tmp_path / "in" / "a.dcm")
    written = apply_to_files(tmp_path / "in", identity, tmp_path / "out")
    np.testing.assert_array_equal(pydicom.dcmread(written[0].paths[0]).pixel_array, rgb)


def test_pseudonyms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANWRIGHT_CACHE", str(tmp_path))
    first = pseudonym("DOE^JOHN")
    assert first == pseudonym("DOE^JOHN") != pseudonym("DOE^JANE") and len(first) == 12
    assert (tmp_path / "salt").stat().st_mode & 0o077 == 0
    (tmp_path / "salt").unlink()
    assert pseudonym("DOE^JOHN") != first
    monkeypatch.setenv("GANWRIGHT_SALT", "ours")
    second = pseudonym("DOE^JOHN")
    (tmp_path / "salt").unlink()
    assert second == pseudonym("DOE^JOHN")


def test_nothing_readable(tmp_path: Path) -> None:
    (tmp_path / "a.nii").write_text("no")
    with pytest.raises(DataError, match="no readable scan"):
        apply_to_files(tmp_path, identity, tmp_path / "out")


def test_real_volume_comes_back(real_data, tmp_path: Path) -> None:
    path = real_data("mni152") / "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
    written = apply_to_files(path, identity, tmp_path, settings=DataSettings(window="0%:100%"))
    before, after = nibabel.load(path), nibabel.load(written[0].paths[0])
    np.testing.assert_allclose(after.affine, before.affine)
    np.testing.assert_allclose(after.get_fdata(), before.get_fdata(), atol=1e-4)
    assert "mni" not in written[0].paths[0].name
