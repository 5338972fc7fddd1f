"""Tests of exporting a cohort's tiles to other layouts, and of reading them back."""

from __future__ import annotations

import csv
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from tcgn_mil.errors import InputError
from tcgn_mil.io.tile_files import read_tiles
from tcgn_mil.preprocessing.interop.tile_source import read_slide_tiles
from tcgn_mil.preprocessing.interop.tile_writers import EXPORTS, export_cohort
from tcgn_mil.preprocessing.slides.table import SlideEntry
from tcgn_mil.preprocessing.tiles.cohort import tile_cohort
from tcgn_mil.preprocessing.tiles.pixels import iter_tiles
from tcgn_mil.preprocessing.tiles.settings import TileSettings
from tcgn_mil.preprocessing.tiles.tiling import tile_path
from tcgn_mil.types.tiles import TileSet


@pytest.fixture(scope="module")
def entry(pyramid: Path) -> SlideEntry:
    return SlideEntry("painted", "patient", pyramid)


@pytest.fixture(scope="module")
def folder(entry: SlideEntry, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tiles")
    tile_cohort([entry], TileSettings(), out)
    return out


@pytest.fixture(scope="module")
def ours(folder: Path) -> TileSet:
    return read_tiles(tile_path(folder, "painted"))


@pytest.mark.parametrize("layout", ["clam", "trident", "hest"])
def test_round_trips_keep_places_and_size(
    folder: Path, entry: SlideEntry, ours: TileSet, tmp_path: Path, layout: str
) -> None:
    entries = [entry] if layout == "hest" else None
    assert export_cohort(folder, layout, tmp_path, entries).done == ["painted"]
    back = read_slide_tiles(tmp_path, entry)
    assert np.array_equal(back.coords, ours.coords)
    assert back.spec == ours.spec
    assert (back.slide_id, back.patient_id, back.slide_size) == (
        "painted",
        "patient",
        ours.slide_size,
    )


def test_files_lie_where_each_tool_looks(folder: Path, entry: SlideEntry, tmp_path: Path) -> None:
    for layout in EXPORTS:
        export_cohort(folder, layout, tmp_path / layout, [entry])
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == {
        "clam/patches/painted.h5",
        "trident/14x_112px_0px_overlap/patches/painted_patches.h5",
        "hest/patches/painted.h5",
        "geojson/painted.geojson",
    }


def test_hest_files_hold_the_pixels_that_are_encoded(
    folder: Path, entry: SlideEntry, ours: TileSet, tmp_path: Path
) -> None:
    export_cohort(folder, "hest", tmp_path, [entry])
    with entry.open() as slide:
        pixels = np.concatenate(
            [batch for batch, _ in iter_tiles(slide, ours.coords, ours.spec, 500)]
        )
    with h5py.File(tmp_path / "patches" / "painted.h5") as file:
        assert np.array_equal(file["img"][:], pixels)
        assert file["img"].dtype == np.uint8
        assert file["barcode"].shape == (len(ours), 1)
        assert file["barcode"][0, 0].decode() == f"{ours.coords[0, 0]}x{ours.coords[0, 1]}"
        attributes = dict(file["img"].attrs)
    assert set(attributes) == {
        "patch_size_src",
        "patch_size_target",
        "downsample",
        "pixel_size",
        "name",
    }
    assert attributes["patch_size_src"] == pytest.approx(ours.spec.level0_px)
    assert attributes["downsample"] == pytest.approx(ours.spec.level0_px / 112)


def test_foreign_tiles_go_out_in_another_layout(
    folder: Path, entry: SlideEntry, ours: TileSet, tmp_path: Path
) -> None:
    export_cohort(folder, "trident", tmp_path / "trident")
    assert export_cohort(tmp_path / "trident", "clam", tmp_path / "clam", [entry]).done == [
        "painted"
    ]
    assert np.array_equal(read_slide_tiles(tmp_path / "clam", entry).coords, ours.coords)


def test_a_slide_that_fails_costs_a_row(folder: Path, entry: SlideEntry, tmp_path: Path) -> None:
    Image.new("RGB", (500, 500)).save(tmp_path / "small.png")
    export_cohort(folder, "trident", tmp_path / "trident")
    (path,) = (tmp_path / "trident").rglob("*.h5")
    (path.parent / "small_patches.h5").write_bytes(path.read_bytes())
    (path.parent / "cut_patches.h5").write_bytes(path.read_bytes()[:900])
    entries = [
        SlideEntry("small", "p", tmp_path / "small.png", mpp=0.5),
        SlideEntry("cut", "p", entry.path),
        SlideEntry("gone", "p", tmp_path / "gone.svs"),
        entry,
    ]
    done, failures = export_cohort(tmp_path / "trident", "geojson", tmp_path / "out", entries)
    assert done == ["painted"]
    assert [failure.slide for failure in failures] == ["small", "cut", "gone"]
    with (tmp_path / "out" / "failures.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    expected = ["says it is of slide 'painted'", "2 tile files", "no such tile file"]
    assert all(part in row["reason"] for part, row in zip(expected, rows, strict=True)), rows
    assert all(row["stage"] == "export-tiles" and row["likely_fix"] for row in rows)


def test_a_file_of_another_slide_is_refused(
    folder: Path, entry: SlideEntry, tmp_path: Path
) -> None:
    (tmp_path / "other.h5").write_bytes(tile_path(folder, "painted").read_bytes())
    with pytest.raises(InputError, match="is of slide 'painted', not 'other'"):
        read_slide_tiles(tmp_path, SlideEntry("other", "p", Path("elsewhere.svs")))


@pytest.mark.parametrize(
    ("layout", "message"),
    [("zarr", "unknown tile layout 'zarr'"), ("hest", "HEST files hold pixels")],
)
def test_what_cannot_be_exported_is_said_at_once(
    folder: Path, tmp_path: Path, layout: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        export_cohort(folder, layout, tmp_path / "out")
    with pytest.raises(InputError, match="holds no tile file"):
        export_cohort(tmp_path, "clam", tmp_path / "out")


def test_an_error_that_was_not_foreseen_costs_a_row(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError("no memory left")

    monkeypatch.setitem(EXPORTS, "clam", fail)
    done, failures = export_cohort(folder, "clam", tmp_path)
    assert done == []
    assert "MemoryError: no memory left" in failures[0].reason


def test_an_override_survives_a_round_trip_through_another_layout(
    pyramid: Path, tmp_path: Path
) -> None:
    """The file says 0.5, and the user 1.0; the exported tiles are read without the override."""
    overridden = SlideEntry("painted", "p", pyramid, mpp=1.0, override_mpp=True)
    tile_cohort([overridden], TileSettings(), tmp_path / "tiles")
    ours = read_tiles(tile_path(tmp_path / "tiles", "painted"))
    plain = SlideEntry("painted", "p", pyramid)
    for layout in ("trident", "clam", "hest"):
        assert export_cohort(tmp_path / "tiles", layout, tmp_path / layout, [plain]).done
        assert read_slide_tiles(tmp_path / layout, plain).spec == ours.spec
    with h5py.File(tmp_path / "hest" / "patches" / "painted.h5") as file:
        assert float(file["img"].attrs["pixel_size"]) == 1.0
