"""Tests of OME-TIFF with its pyramid and resolution, and of DICOM with one slide a series."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest
import tifffile
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit, VLWholeSlideMicroscopyImageStorage, generate_uid

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.slides.readers import open_slide, slide_files
from tcgn_mil.preprocessing.slides.readers.scanned import ScannedSlide
from tcgn_mil.preprocessing.slides.table import find_slides
from tcgn_mil.preprocessing.tiles.settings import TileSettings
from tcgn_mil.preprocessing.tiles.tiling import tile_slide


def write_ome(
    path: Path,
    image: NDArray[np.uint8],
    *,
    size: float | None = 0.5,
    unit: str = "µm",
    y: float = 1,
) -> Path:
    """Write a tiled OME-TIFF with two more levels in SubIFDs.

    A pixel is `size` units wide and `y` times as high as it is wide.
    """
    metadata = {"axes": "YXS"}
    if size is not None:
        metadata |= {
            "PhysicalSizeX": size,
            "PhysicalSizeXUnit": unit,
            "PhysicalSizeY": size * y,
            "PhysicalSizeYUnit": unit,
        }
    options = {"photometric": "rgb", "tile": (256, 256), "compression": "adobe_deflate"}
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(image, subifds=2, metadata=metadata, **options)
        writer.write(image[::2, ::2], subfiletype=1, **options)
        writer.write(image[::8, ::8], subfiletype=1, **options)
    return path


def write_dicom(path: Path, image: NDArray[np.uint8], mpp: float, series: str, **more: str) -> Path:
    """Write one level of a whole-slide image, as JPEG frames of 256 px."""
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = (
        VLWholeSlideMicroscopyImageStorage,
        generate_uid(),
    )
    meta.TransferSyntaxUID = JPEGBaseline8Bit
    header = Dataset()
    header.file_meta = meta
    spacing, shared, optics = Dataset(), Dataset(), Dataset()
    spacing.PixelSpacing, spacing.SliceThickness = [mpp / 1000, mpp / 1000], 0.001
    shared.PixelMeasuresSequence, optics.OpticalPathIdentifier = [spacing], "0"
    height, width = image.shape[:2]
    frames = []
    for top in range(0, height, 256):
        for left in range(0, width, 256):
            frame = np.full((256, 256, 3), 255, np.uint8)
            part = image[top : top + 256, left : left + 256]
            frame[: part.shape[0], : part.shape[1]] = part
            frames.append(imagecodecs.jpeg8_encode(frame, level=95))
    values = {
        "SOPClassUID": VLWholeSlideMicroscopyImageStorage,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "StudyInstanceUID": "1.2.3",
        "FrameOfReferenceUID": "1.2.4",
        "SeriesInstanceUID": series,
        "Modality": "SM",
        "ImageType": ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"],
        "SamplesPerPixel": 3,
        "PhotometricInterpretation": "YBR_FULL_422",
        "PlanarConfiguration": 0,
        "BitsAllocated": 8,
        "BitsStored": 8,
        "HighBit": 7,
        "PixelRepresentation": 0,
        "Rows": 256,
        "Columns": 256,
        "TotalPixelMatrixColumns": width,
        "TotalPixelMatrixRows": height,
        "DimensionOrganizationType": "TILED_FULL",
        "NumberOfOpticalPaths": 1,
        "TotalPixelMatrixFocalPlanes": 1,
        "SharedFunctionalGroupsSequence": [shared],
        "OpticalPathSequence": [optics],
        "NumberOfFrames": len(frames),
        "PixelData": encapsulate(frames),
        **more,
    }
    for name, value in values.items():
        setattr(header, name, value)
    header["PixelData"].is_undefined_length = True
    header.save_as(path, enforce_file_format=True)
    return path


class TestOmeTiff:
    def test_levels_resolution_and_pixels(
        self, tmp_path: Path, painted: tuple[NDArray, NDArray]
    ) -> None:
        with open_slide(write_ome(tmp_path / "a.ome.tif", painted[0])) as slide:
            assert slide.mpp == 0.5
            assert slide.level_sizes == ((2400, 1800), (1200, 900), (300, 225))
            assert slide.level_downsamples == (1, 2, 8)
            assert np.array_equal(slide.read(400, 300, 0, 50, 40), painted[0][300:340, 400:450])
            assert np.array_equal(slide.read(400, 300, 1, 50, 40), painted[0][300:380:2, 400:500:2])
            corner = slide.read(-10, 1790, 0, 20, 20)
        assert np.array_equal(corner[:10, 10:], painted[0][1790:, :10])
        assert (corner[10:] == 255).all()
        assert (corner[:, :10] == 255).all()

    @pytest.mark.parametrize(("size", "unit", "mpp"), [(500, "nm", 0.5), (0.0005, "mm", 0.5)])
    def test_units_of_length(
        self, tmp_path: Path, painted: tuple, size: float, unit: str, mpp: float
    ) -> None:
        with open_slide(
            write_ome(tmp_path / "a.ome.tif", painted[0][:300, :300], size=size, unit=unit)
        ) as slide:
            assert slide.mpp == pytest.approx(mpp)

    @pytest.mark.parametrize("how", [{"size": None}, {"unit": "pixel"}])
    def test_without_one_it_must_be_told(self, tmp_path: Path, painted: tuple, how: dict) -> None:
        path = write_ome(tmp_path / "a.ome.tif", painted[0][:300, :300], **how)
        with pytest.raises(InputError, match="does not say its resolution"):
            open_slide(path)
        with open_slide(path, mpp=0.25) as slide:
            assert slide.mpp == 0.25

    def test_oblong_pixels_and_other_images_are_refused(
        self, tmp_path: Path, painted: tuple
    ) -> None:
        with pytest.raises(InputError, match="not square"):
            open_slide(write_ome(tmp_path / "a.ome.tif", painted[0][:300, :300], y=1.1))
        tifffile.imwrite(
            tmp_path / "b.ome.tif", np.zeros((3, 64, 64), np.uint16), metadata={"axes": "CYX"}
        )
        with pytest.raises(InputError, match=r"b\.ome\.tif.*not RGB of 8 bits"):
            open_slide(tmp_path / "b.ome.tif")

    def test_one_cut_off_is_an_input_error(
        self, tmp_path: Path, painted: tuple[NDArray, NDArray]
    ) -> None:
        path = write_ome(tmp_path / "a.ome.tif", painted[0])
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(InputError, match=r"a\.ome\.tif"), open_slide(path) as slide:
            slide.read(0, 0, 0, *slide.size)

    def test_it_is_tiled_as_the_same_slide_in_another_format(
        self, tmp_path: Path, painted: tuple[NDArray, NDArray], pyramid: Path
    ) -> None:
        write_ome(tmp_path / "a.ome.tif", painted[0])
        (ome,), (plain,) = find_slides(tmp_path / "a.ome.tif"), find_slides(pyramid)
        assert ome.slide_id == "a"
        found, expected = (
            tile_slide(entry, TileSettings(), tmp_path / "tiles") for entry in (ome, plain)
        )
        assert abs(len(found) - len(expected)) <= 0.05 * len(
            expected
        )  # its levels are not averaged


class TestDicom:
    def test_a_series_is_one_slide_with_its_levels(
        self, tmp_path: Path, painted: tuple[NDArray, NDArray]
    ) -> None:
        image, uid = painted[0], generate_uid()
        write_dicom(tmp_path / "one" / "a.dcm", image, 0.5, uid)
        write_dicom(
            tmp_path / "one" / "b.dcm",
            image[::4, ::4],
            2.0,
            uid,
            ImageType=["DERIVED", "PRIMARY", "VOLUME", "RESAMPLED"],
        )
        (entry,) = find_slides(tmp_path)
        assert entry.slide_id == "one"
        with entry.open() as slide:
            assert isinstance(slide, ScannedSlide)
            assert slide.level_sizes == ((2400, 1800), (600, 450))
            assert slide.mpp == pytest.approx(0.5)
            read = slide.read(1100, 850, 0, 100, 100).astype(float)
        assert np.abs(read - image[850:950, 1100:1200]).mean() < 6

    def test_slides_are_named_by_glass_slide_else_folder_else_file(self, tmp_path: Path) -> None:
        image = np.full((256, 256, 3), 200, np.uint8)
        glass = "TCGA-AA-0001-01Z-00-DX1"
        write_dicom(tmp_path / "x" / "1.dcm", image, 0.5, "1.5.1", ContainerIdentifier=glass)
        write_dicom(tmp_path / "y" / "2.dcm", image, 0.5, "1.5.2")
        write_dicom(tmp_path / "z" / "3.dcm", image, 0.5, "1.5.3")
        write_dicom(tmp_path / "z" / "4.dcm", image, 0.5, "1.5.4", ContainerIdentifier="../up")
        entries = find_slides(tmp_path)
        assert {entry.slide_id for entry in entries} == {glass, "y", "3", "4"}
        assert {entry.patient_id for entry in entries if entry.slide_id == glass} == {
            "TCGA-AA-0001"
        }

    def test_headers_of_a_folder_are_read_once_for_all_its_slides(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        image = np.full((256, 256, 3), 200, np.uint8)
        for number in range(4):
            write_dicom(tmp_path / f"{number}.dcm", image, 0.5, f"1.5.{number // 2}")
        entries = find_slides(tmp_path)
        os.utime(tmp_path, (1e9, 1e9))  # as if nothing changed for long
        read, header_of = [], pydicom.dcmread

        def counted(path: Path, **options: Any) -> Any:
            read.append(path)
            return header_of(path, **options)

        monkeypatch.setattr(pydicom, "dcmread", counted)
        assert len({entry.digest() for entry in entries}) == 2
        assert [len(slide_files(entry.path)) for entry in entries] == [2, 2]
        assert len(read) == 4

    def test_a_file_that_is_no_dicom_is_a_slide_that_fails(self, tmp_path: Path) -> None:
        (tmp_path / "text.dcm").write_text("no slide")
        (entry,) = find_slides(tmp_path)
        with pytest.raises(InputError, match=r"text\.dcm.*not a slide of a known format"):
            entry.open()
        with pytest.raises(pydicom.errors.InvalidDicomError):
            pydicom.dcmread(entry.path)
