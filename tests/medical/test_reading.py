"""NIfTI and DICOM read in physical units, upright, at 16 bits."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import JPEGLosslessSV1, RLELossless, generate_uid
from scans import affine, dicom_slice, save, volume, write_nifti, write_series

from ganwright.config import DataSettings
from ganwright.data.decode import BrokenImageError
from ganwright.data.inspection import inspect_data
from ganwright.data.medical.files import find_items
from ganwright.data.medical.nifti import read_nifti
from ganwright.data.medical.scan import PLANES, Scan, cut, from_ras, square_size, to_ras, uncut
from ganwright.data.medical.source import MedicalSource
from ganwright.data.medical.window import CT_RANGE, ValueRange, parse_window
from ganwright.data.opening import open_dataset
from ganwright.data.sources import open_images
from ganwright.errors import DataError, SettingsError


def read_one(path: Path) -> Scan:
    items, _ = find_items(path)
    assert len(items) == 1, [item.name for item in items]
    return items[0].read()


# Orientation. --------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(order=st.permutations([0, 1, 2]), flips=st.tuples(*[st.booleans()] * 3), tilt=st.floats(-0.3, 0.3))
def test_any_storage_order_gives_the_same_ras_volume(order: list[int], flips: tuple[bool, ...], tilt: float) -> None:
    values, where = volume(), affine()
    rotation = np.eye(4)
    rotation[:2, :2] = [[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]]
    where = rotation @ where
    # Store it otherwise, by plain numpy: axis `order[n]` of the world is axis n of the file, flipped or not.
    stored, index = values.transpose(order), np.zeros((4, 4))
    index[3, 3] = 1
    for n, axis in enumerate(order):
        index[axis, n] = -1 if flips[n] else 1
        index[axis, 3] = values.shape[axis] - 1 if flips[n] else 0
        stored = np.flip(stored, n) if flips[n] else stored
    turned, _, found, axes = to_ras(stored, None, where @ index)
    np.testing.assert_array_equal(turned, values)
    np.testing.assert_allclose(found, where, atol=1e-9)
    back, again = from_ras(turned, found, axes)
    np.testing.assert_array_equal(back, stored)
    np.testing.assert_allclose(again, where @ index, atol=1e-9)


def test_slices_are_shown_as_radiologists_see_them() -> None:
    values = np.zeros((4, 5, 6), np.float32)
    values[3, :, :] += 1  # the patient's right
    values[:, 4, :] += 10  # front
    values[:, :, 5] += 100  # head
    scan = Scan(values, affine=np.eye(4))
    axial, coronal, sagittal = (scan.slice(2, plane)[0] for plane in ("axial", "coronal", "sagittal"))
    assert axial.shape == (5, 4) and (axial[:, 0] % 10 == 1).all() and (axial[0] >= 10).all()
    assert coronal.shape == (6, 4) and (coronal[:, 0] % 10 == 1).all() and (coronal[0] >= 100).all()
    assert sagittal.shape == (6, 5) and (sagittal[:, 0] % 100 == 10).all() and (sagittal[0] >= 100).all()


@pytest.mark.parametrize("plane", [*PLANES, None])
def test_uncut_undoes_cut(plane: str | None) -> None:
    values = np.random.default_rng(0).random((4, 5, 6))
    count = values.shape[0 if plane is None else PLANES.index(plane)]
    np.testing.assert_array_equal(uncut(np.stack([cut(values, k, plane) for k in range(count)]), plane), values)


def test_a_plane_is_chosen_across_the_widest_spacing() -> None:
    values = np.zeros((4, 5, 6), np.float32)
    assert Scan(values, affine=np.diag([1.0, 1, 1, 1])).plane("auto") == "axial"
    assert Scan(values, affine=np.diag([5.0, 1, 1, 1])).plane("auto") == "sagittal"
    assert Scan(values, affine=np.diag([1.0, 3, 1, 1])).plane("auto") == "coronal"
    assert Scan(values, affine=np.diag([1.0, 3, 1, 1])).plane("axial") == "axial"
    assert Scan(values[:, :1], affine=np.diag([9.0, 1, 1, 1])).plane("auto") == "coronal"  # one slice, one way


def test_pixels_become_square() -> None:
    assert square_size((10, 20), (3.0, 1.0)) == (30, 20)
    assert square_size((10, 20), (1.0, 1.005)) == (10, 20)
    assert square_size((10, 20), (0.0, 0.0)) == (10, 20)


# NIfTI. --------------------------------------------------------------------------------------------------------------


def test_nifti_slope_and_intercept(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), affine())
    image.header.set_slope_inter(2.5, -7)
    nibabel.save(image, tmp_path / "a.nii")
    raw = np.asarray(nibabel.load(tmp_path / "a.nii").dataobj.get_unscaled(), np.float64)
    slope, inter = nibabel.load(tmp_path / "a.nii").dataobj.slope, nibabel.load(tmp_path / "a.nii").dataobj.inter
    np.testing.assert_allclose(read_one(tmp_path).values, raw * slope + inter, rtol=1e-6)


def test_nifti_nan_time_and_units(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((4, 5, 6, 3)).astype(np.float32)
    values[1, 2, 3, 0] = np.nan
    image = nibabel.Nifti1Image(values, np.diag([1000.0, 2000, 3000, 1]))
    image.header.set_xyzt_units("micron")
    nibabel.save(image, tmp_path / "a.nii.gz")
    scan = read_one(tmp_path)
    assert scan.values.shape == (4, 5, 6) and scan.valid is not None and not scan.valid[1, 2, 3]
    assert scan.valid.sum() == 119 and np.isfinite(scan.values).all()
    np.testing.assert_allclose(scan.voxel_spacing, (1, 2, 3))
    assert "time" in scan.notes[0]


def test_hounsfield_units_are_recognised_and_padding_masked(tmp_path: Path) -> None:
    values = volume()
    values[0] = -2000
    write_nifti(tmp_path / "ct.nii.gz", values.astype(np.int16), affine())
    scan = read_one(tmp_path)
    assert scan.modality == "CT" and scan.unit == "HU"
    np.testing.assert_array_equal(scan.valid, values != -2000)


@pytest.mark.parametrize("kind", ["text", "truncated", "complex", "colour", "bomb", "flat affine"])
def test_broken_nifti_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.nii.gz"
    good = write_nifti(tmp_path / "b.nii.gz", volume(1), affine()).read_bytes()
    if kind == "text":
        path.write_text("hello")
    elif kind == "truncated":
        path.write_bytes(good[: len(good) // 2])
    elif kind == "complex":
        nibabel.save(nibabel.Nifti1Image(np.ones((2, 2, 2), np.complex64), affine()), path)
    elif kind == "colour":
        nibabel.save(nibabel.Nifti1Image(np.zeros((2, 2, 2), [("R", "u1"), ("G", "u1"), ("B", "u1")]), affine()), path)
    elif kind == "bomb":
        header = nibabel.Nifti1Header()
        header.set_data_dtype(np.float64)
        header.set_data_shape((20000, 20000, 20000))
        path = tmp_path / "a.nii"
        path.write_bytes(header.binaryblock + b"\0" * 400)
    else:
        raw = bytearray(nibabel.Nifti1Image(volume(2), affine()).to_bytes())
        raw[280:296] = b"\0" * 16  # srow_x
        path = tmp_path / "a.nii"
        path.write_bytes(bytes(raw))
    with pytest.raises(BrokenImageError):
        read_nifti(path, path.name)
    dataset = open_dataset(tmp_path, DataSettings(resolution=8, skip_empty=0, split_by="image"))
    assert [name for name, _ in dataset.skipped] == [path.name]


# DICOM. --------------------------------------------------------------------------------------------------------------


def test_a_series_is_the_volume_it_was_cut_from(tmp_path: Path) -> None:
    values = volume()
    write_series(tmp_path, values, order=[3, 0, 7, 1, 9, 5, 2, 8, 4, 6])  # file order says nothing
    scan = read_one(tmp_path)
    np.testing.assert_array_equal(scan.values, values)
    np.testing.assert_allclose(scan.affine, affine(), atol=1e-6)
    assert scan.modality == "CT" and scan.unit == "HU"


def test_rescale_comes_before_everything(tmp_path: Path) -> None:
    stored = np.array([[0, 1024], [2048, 3000]], np.uint16)
    save(dicom_slice(stored, RescaleSlope=1, RescaleIntercept=-1024), tmp_path / "a.dcm")
    save(dicom_slice(stored, RescaleSlope=0.5, RescaleIntercept=10, Modality="MR"), tmp_path / "b" / "b.dcm")
    np.testing.assert_array_equal(read_one(tmp_path / "a.dcm").slice(0, "axial")[0], stored.astype(int) - 1024)
    np.testing.assert_array_equal(read_one(tmp_path / "b").slice(0, "axial")[0], stored * 0.5 + 10)


def test_modality_table(tmp_path: Path) -> None:
    from pydicom.dataset import Dataset

    table = Dataset()
    table.LUTDescriptor, table.ModalityLUTType = [4, 0, 16], "US"
    table.LUTData = [5, 50, 500, 5000]
    dataset = dicom_slice(np.array([[0, 1], [2, 3]], np.uint16), RescaleSlope=None, RescaleIntercept=None)
    dataset.Modality, dataset.ModalityLUTSequence = "MR", DicomSequence([table])
    table["LUTDescriptor"].VR, table["LUTData"].VR = "US", "US"
    save(dataset, tmp_path / "a.dcm")
    np.testing.assert_array_equal(read_one(tmp_path).slice(0, "axial")[0], [[5, 50], [500, 5000]])


def test_padding_is_not_a_value(tmp_path: Path) -> None:
    stored = np.array([[-2000, 40], [70, -2000]], np.int16)
    save(dicom_slice(stored, PixelPaddingValue=-2000, Modality="MR"), tmp_path / "a.dcm")
    scan = read_one(tmp_path)
    np.testing.assert_array_equal(scan.slice(0, "axial")[1], [[False, True], [True, False]])
    # Without the field, CT below -1024 is padding all the same.
    save(dicom_slice(stored), tmp_path / "b" / "b.dcm")
    np.testing.assert_array_equal(read_one(tmp_path / "b").slice(0, "axial")[1], [[False, True], [True, False]])
    low, high = parse_window("0%:100%").of(scan).low, parse_window("0%:100%").of(scan).high
    assert (low, high) == (40, 70)


def test_windows_of_the_file(tmp_path: Path) -> None:
    stored = np.array([[0, 40], [70, 100]], np.int16)
    fields = {"WindowCenter": [40, 400], "WindowWidth": [80, 1800]}
    save(dicom_slice(stored, **fields), tmp_path / "a.dcm")
    scan = read_one(tmp_path)
    # PS3.3 C.11.2.1.2.1: full range is (c - 0.5) -/+ (w - 1) / 2
    assert scan.windows == ((0.0, 79.0), (399.5 - 899.5, 399.5 + 899.5))
    assert parse_window("file").of(scan) == ValueRange(0.0, 79.0)
    assert parse_window("file:2").of(scan).high == 1299.0
    save(dicom_slice(stored, VOILUTFunction="LINEAR_EXACT", **fields), tmp_path / "b" / "b.dcm")
    assert read_one(tmp_path / "b").windows[0] == (0.0, 80.0)


def test_monochrome1_is_shown_inverted(tmp_path: Path) -> None:
    stored = np.array([[0, 1000], [500, 250]], np.uint16)
    fields = {"PhotometricInterpretation": "MONOCHROME1", "Modality": "DX", "PixelSpacing": [1, 1]}
    save(dicom_slice(stored, ImagePositionPatient=None, **fields), tmp_path / "a.dcm")
    source = MedicalSource(tmp_path, DataSettings(window="0:1000"))
    assert source.extra["medical"]["name"] == "xray" and source.names == ["a.dcm"]
    np.testing.assert_array_equal(source.picture(0).pixels[..., 0], np.round((1 - stored / 1000) * 65535))


def test_multi_frame_and_enhanced(tmp_path: Path) -> None:
    from pydicom.dataset import Dataset

    frames = np.random.default_rng(0).integers(0, 1000, (3, 4, 5)).astype(np.int16)
    cine = dicom_slice(frames, NumberOfFrames=3, ImagePositionPatient=None, Modality="XA")
    save(cine, tmp_path / "cine" / "a.dcm")
    scan = read_one(tmp_path / "cine")
    assert not scan.is_volume
    np.testing.assert_array_equal(scan.values, frames)
    assert MedicalSource(tmp_path / "cine", DataSettings()).names[2] == "a.dcm#frame-0002"

    enhanced = dicom_slice(frames, NumberOfFrames=3, ImagePositionPatient=None, ImageOrientationPatient=None)
    for name in ("PixelSpacing", "RescaleSlope", "RescaleIntercept", "SliceThickness"):
        delattr(enhanced, name)
    shared, orientation, measures = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    measures.PixelSpacing, measures.SliceThickness = [2, 1], 3
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    enhanced.SharedFunctionalGroupsSequence = [shared]
    each = []
    for k, z in enumerate((6.0, 0.0, 3.0)):
        frame, place, rescale = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = [0, 0, z]
        rescale.RescaleSlope, rescale.RescaleIntercept = 1, -10 * k
        frame.PlanePositionSequence, frame.PixelValueTransformationSequence = [place], [rescale]
        each.append(frame)
    enhanced.PerFrameFunctionalGroupsSequence = each
    save(enhanced, tmp_path / "enhanced" / "a.dcm")
    volume_scan = read_one(tmp_path / "enhanced")
    assert volume_scan.voxel_spacing == pytest.approx((1, 2, 3))
    for k, (stored, offset) in enumerate(((1, 10), (2, 20), (0, 0))):
        np.testing.assert_array_equal(volume_scan.slice(k, "axial")[0], frames[stored] - offset)


def test_uneven_slices_stand_alone(tmp_path: Path) -> None:
    for number, z in enumerate((0.0, 2.5, 5.0, 11.0), 1):
        save(dicom_slice(np.full((4, 4), number, np.int16), position=(0, 0, z)), tmp_path / f"{number}.dcm")
    items, _ = find_items(tmp_path)
    assert len(items) == 4 and all(item.read().is_volume for item in items)


def test_colour_frames(tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    fields = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0, "Modality": "US"}
    dataset = dicom_slice(rgb, BitsAllocated=8, BitsStored=8, HighBit=7, PixelSpacing=None, **fields)
    dataset["PixelData"].VR = "OB"
    save(dataset, tmp_path / "a.dcm")
    source = open_images(tmp_path)
    np.testing.assert_array_equal(source.decode(0), rgb)
    assert open_dataset(tmp_path, DataSettings(resolution=6, held_out=0)).spec.channels == 3


def test_compressed_without_a_plugin_names_the_plugin(tmp_path: Path) -> None:
    from pydicom.encaps import encapsulate

    dataset = dicom_slice(np.ones((4, 4), np.int16))
    dataset.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    dataset.PixelData = encapsulate([b"\xff\xd8\xff\xd9"])
    dataset["PixelData"].is_undefined_length = True
    save(dataset, tmp_path / "a.dcm")
    with pytest.raises(DataError, match=r"JPEG Lossless.*pylibjpeg-libjpeg"):
        open_dataset(tmp_path, DataSettings(resolution=4))


def test_run_length_encoding_is_read(tmp_path: Path) -> None:
    stored = volume()[:, :, 5].astype(np.int16)
    dataset = dicom_slice(stored)
    dataset.compress(RLELossless, stored)
    save(dataset, tmp_path / "a.dcm")
    np.testing.assert_array_equal(read_one(tmp_path).slice(0, "axial")[0], stored)


def test_broken_dicom_is_named_and_skipped(tmp_path: Path) -> None:
    write_series(tmp_path / "good", volume())
    (tmp_path / "empty.dcm").write_bytes(b"")
    (tmp_path / "text.dcm").write_text("hello, I am no DICOM file")
    short = save(dicom_slice(np.ones((40, 40), np.int16), SeriesInstanceUID="9.9"), tmp_path / "short.dcm")
    short.write_bytes(short.read_bytes()[:-1000])
    absurd = dicom_slice(np.ones((4, 4), np.int16), SeriesInstanceUID="9.8", NumberOfFrames=900_000_000)
    save(absurd, tmp_path / "absurd.dcm")
    dataset = open_dataset(tmp_path, DataSettings(resolution=8, skip_empty=0, split_by="image"))
    assert {name for name, _ in dataset.skipped} == {"empty.dcm", "text.dcm", "short.dcm", "absurd.dcm"}
    assert len(dataset.images) == 10
    report = inspect_data(tmp_path, DataSettings(skip_empty=0))
    assert {name for name, _ in report.broken} == {"empty.dcm", "text.dcm", "short.dcm", "absurd.dcm"}


def test_files_without_an_ending(tmp_path: Path) -> None:
    for path in write_series(tmp_path, volume()):
        path.rename(path.with_suffix(""))
    assert len(MedicalSource(tmp_path, DataSettings(skip_empty=0))) == 10


def test_ordinary_pictures_stay_ordinary(tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "a.png")
    assert open_images(tmp_path).bits == 8


# Values. -------------------------------------------------------------------------------------------------------------


def test_every_hounsfield_unit_survives_16_bits() -> None:
    values = np.arange(CT_RANGE[0], CT_RANGE[1] + 1)
    kept = ValueRange(*CT_RANGE)
    pixels = kept.to_uint16(values)
    assert len(np.unique(pixels)) == 4096
    back = kept.to_physical(pixels / 32767.5 - 1)
    np.testing.assert_array_equal(np.round(back), values)
    np.testing.assert_allclose(kept.to_physical(kept.to_unit(values)), values, atol=1e-3)
    inverted = ValueRange(*CT_RANGE, inverted=True)
    np.testing.assert_allclose(inverted.to_physical(inverted.to_unit(values)), values, atol=1e-3)
    assert inverted.to_uint16(values)[0] == 65535


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [("brain", 0, 80), ("lung", -1350, 150), ("40/80", 0, 80), ("-160:240", -160, 240), ("40.5/10", 35.5, 45.5)],
)
def test_windows(text: str, low: float, high: float) -> None:
    assert parse_window(text).fixed == (low, high)


@pytest.mark.parametrize("text", ["brian", "80/0", "5:1", "99%:1%", "0%:101%", "file:0", ""])
def test_impossible_windows(text: str) -> None:
    with pytest.raises(SettingsError, match="no window"):
        parse_window(text)


def test_automatic_windows() -> None:
    values = np.random.default_rng(0).normal(100, 10, (20, 20, 20)).astype(np.float32)
    found = parse_window("auto").of(Scan(values, affine=np.eye(4), modality="MR"))
    np.testing.assert_allclose((found.low, found.high), np.percentile(values, (0.5, 99.5)), rtol=1e-6)
    assert parse_window("auto").of(Scan(values, affine=np.eye(4), modality="CT")) == ValueRange(*CT_RANGE)
    mask = np.zeros((20, 20, 20), np.float32)
    mask[0, 0, 0] = 1  # nearly all are equal
    found = parse_window("auto").of(Scan(mask, affine=np.eye(4)))
    assert (found.low, found.high) == (0, 1)


def test_batches_have_more_than_256_levels(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(-1000, 1000, (32, 32, 8)).astype(np.int16)
    write_nifti(tmp_path / "a.nii.gz", values, np.diag([1.0, 1, 1, 1]))
    dataset = open_dataset(tmp_path, DataSettings(resolution=32, held_out=0, skip_empty=0))
    assert dataset.spec.bits == 16 and dataset.images.dtype == np.uint8 and dataset.values.dtype == np.uint16
    batch = dataset.batch(0, 8, seed=0)["images"]
    assert batch.dtype == torch.float32 and len(torch.unique(batch)) > 1500
    assert batch.min() >= -1 and batch.max() <= 1
    hounsfield = ValueRange(*CT_RANGE).to_physical(dataset.values[..., 0] / 32767.5 - 1)
    np.testing.assert_array_equal(np.round(hounsfield[3]), values[:, :, 3].T[::-1, ::-1])
    assert (np.abs(dataset.images.astype(int) - dataset.values / 257) <= 0.51).all()


def test_slices_are_chosen(tmp_path: Path) -> None:
    values = np.zeros((10, 10, 20), np.int16)
    values[2:8, 2:8, 5:15] = 500
    values[0, 0] = 1000
    write_nifti(tmp_path / "a.nii.gz", values, np.diag([1.0, 1, 1, 1]))
    names = MedicalSource(tmp_path, DataSettings(window="0:1000")).names
    assert [name.rpartition("-")[2] for name in names] == [f"{k:04d}" for k in range(5, 15)]
    everything = MedicalSource(tmp_path, DataSettings(window="0:1000", skip_empty=0, slice_range=(0.25, 0.5)))
    assert [name.rpartition("-")[2] for name in everything.names] == [f"{k:04d}" for k in range(5, 10)]
    assert len(MedicalSource(tmp_path, DataSettings(slice_axis="coronal", skip_empty=0))) == 10
    with pytest.raises(SettingsError):
        MedicalSource(tmp_path, DataSettings(slice_range=(0.5, 0.5)))


def test_a_packed_set_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(3):
        write_nifti(tmp_path / "set" / f"sub-{n}" / "t1.nii.gz", volume(n).astype(np.int16), affine())
    (tmp_path / "set" / "bad.nii.gz").write_text("no")
    (tmp_path / "set" / "bad.nii.gz").rename(tmp_path / "set" / "sub-1" / "bad.nii.gz")
    wanted = DataSettings(resolution=8, held_out=0.4)
    first = open_dataset(tmp_path / "set", wanted)
    monkeypatch.setattr("ganwright.data.pack.MANY_IMAGES", 3)
    for _ in range(2):
        packed = open_dataset(tmp_path / "set", wanted)
        np.testing.assert_array_equal(packed.values, first.values)
        np.testing.assert_array_equal(packed.images, first.images)
        np.testing.assert_array_equal(packed.held_out_index, first.held_out_index)
        assert packed.spec == first.spec and packed.skipped == first.skipped
        torch.testing.assert_close(packed.batch(1, 4, seed=3), first.batch(1, 4, seed=3))
    (tmp_path / "set" / "sub-1" / "bad.nii.gz").unlink()
    packed = open_dataset(tmp_path / "set", wanted)
    with monkeypatch.context() as here:
        here.setattr("ganwright.data.medical.files.Item.read", lambda self: pytest.fail("it was read again"))
        assert open_dataset(tmp_path / "set", wanted).spec == packed.spec
    other = open_dataset(tmp_path / "set", DataSettings(resolution=8, held_out=0.4, window="bone"))
    assert other.spec.fingerprint != first.spec.fingerprint


def test_real_volume(real_data: object) -> None:
    folder = real_data("mni152")  # type: ignore[operator]
    path = folder / "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
    truth = nibabel.as_closest_canonical(nibabel.load(path))
    scan = read_nifti(path, path.name)
    np.testing.assert_allclose(scan.values, truth.get_fdata(), rtol=1e-5)
    np.testing.assert_allclose(scan.affine, truth.affine)
    report = inspect_data(path, DataSettings(resolution=64))
    assert report.facts["voxel spacing (mm)"] == {"1 x 1 x 1": 1} and report.facts["volumes"].startswith("1 ")


def test_study_ids_are_not_what_matters(tmp_path: Path) -> None:
    """Series of one patient are one group, even in several studies."""
    for n, patient in enumerate(("A", "A", "B")):
        fields = {"PatientID": patient, "StudyInstanceUID": generate_uid(), "SeriesInstanceUID": generate_uid()}
        write_series(tmp_path / str(n), volume(n), **fields)
    dataset = open_dataset(tmp_path, DataSettings(resolution=8, held_out=0.5, skip_empty=0))
    assert dataset.grouping.by == "patient" and dataset.grouping.count == 2
    assert dataset.spec.extra["split"]["held_out_groups"] == 1
