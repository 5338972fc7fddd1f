"""Tests of the tile files of CLAM, TRIDENT and HEST.

They are read without options, written exactly as the tools do, and refused if they do not fit.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tcgn_mil.errors import InputError
from tcgn_mil.io.tile_files import write_tiles
from tcgn_mil.preprocessing.interop.tile_readers import (
    find_tile_file,
    read_any_tiles,
    read_layout,
    tile_layout,
)
from tcgn_mil.preprocessing.interop.tile_writers import (
    nominal_magnification,
    write_clam,
    write_trident,
)
from tcgn_mil.types.tile_geometry import PatchSize, TileSpec
from tcgn_mil.types.tiles import TileSet

COORDS = np.array([[0, 0], [1024, 0], [0, 1024], [39_000, 29_000]], dtype=np.int64)


class Geometry(NamedTuple):
    mpp: float = 0.25
    size: tuple[int, int] = (40_000, 30_000)
    level_downsamples: tuple[float, ...] = (1.0, 4.0, 16.0)


def write_foreign(
    path: Path, attributes: dict[str, Any], coords: np.ndarray = COORDS, place: str = "coords"
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["coords"] = coords
        if place == "img":
            file["img"] = np.zeros((len(coords), 4, 4, 3), np.uint8)
            file["barcode"] = np.array([[f"{i}".encode()] for i in range(len(coords))]).reshape(
                -1, 1
            )
        file[place].attrs.update(attributes)
    return path


def clam(path: Path, coords: np.ndarray = COORDS, **changed: Any) -> Path:
    attributes = {
        "patch_size": 256,
        "patch_level": 1,
        "downsample": (4.0, 4.0),
        "downsampled_level_dim": (10_000, 7500),
        "level_dim": (10_000, 7500),
        "name": "a",
        "save_path": "/etc",
    }
    return write_foreign(path, attributes | changed, coords)


def trident(path: Path, coords: np.ndarray = COORDS, **changed: Any) -> Path:
    attributes = {
        "patch_size": 512,
        "patch_size_level0": 1024,
        "level0_magnification": 40,
        "target_magnification": 20,
        "overlap": 0,
        "name": "a",
        "savetodir": "/etc/20x_512px_0px_overlap",
        "level0_width": 40_000,
        "level0_height": 30_000,
    }
    return write_foreign(path, attributes | changed, coords)


def hest(path: Path, coords: np.ndarray = COORDS, **changed: Any) -> Path:
    attributes = {
        "patch_size_src": 448,
        "patch_size_target": 224,
        "downsample": 2.0,
        "pixel_size": 0.25,
        "name": "image",
    }
    return write_foreign(path, attributes | changed, coords, place="img")


def our_tiles(
    patch: PatchSize = PatchSize(), slide: Geometry = Geometry(), **chosen: Any
) -> TileSet:
    spec = TileSpec.for_slide(
        patch, slide_mpp=slide.mpp, level_downsamples=slide.level_downsamples, **chosen
    )
    return TileSet("a", COORDS, np.ones(len(COORDS), np.float32), spec, slide.size, "p")


@pytest.mark.parametrize(
    ("write", "layout", "um", "px", "level"),
    [
        (clam, "clam", 256.0, 256, 1),
        (trident, "trident", 256.0, 512, 0),
        (hest, "hest", 112.0, 224, 0),
    ],
)
def test_files_of_other_tools_are_read_without_options(
    tmp_path: Path, write: Callable, layout: str, um: float, px: int, level: int
) -> None:
    path = write(tmp_path / "a.h5")
    assert tile_layout(path) == layout
    tiles = read_any_tiles(path, Geometry())
    assert np.array_equal(tiles.coords, COORDS)
    assert tiles.coords.dtype == np.int64
    assert (tiles.slide_id, tiles.slide_size) == ("a", (40_000, 30_000))
    assert tiles.spec.patch.um == pytest.approx(um)
    assert tiles.spec.tile_px == px
    assert (
        tiles.spec.read_level == level
    )  # the nearest level at least as fine as the tile's own pixels
    assert np.isnan(tiles.tissue_fraction).all()


def test_the_size_comes_from_the_slide_never_from_the_magnification(tmp_path: Path) -> None:
    path = trident(tmp_path / "a_patches.h5", level0_magnification=20, target_magnification=10)
    coarse = read_any_tiles(path, Geometry(mpp=0.46))
    assert coarse.spec.patch.um == pytest.approx(1024 * 0.46)
    assert coarse.spec.mpp == pytest.approx(0.92)
    assert coarse.slide_id == "a"


def test_a_trident_overlap_makes_the_step_smaller(tmp_path: Path) -> None:
    spec = read_any_tiles(trident(tmp_path / "a.h5", overlap=128), Geometry()).spec
    assert (spec.stride_px, spec.level0_stride_px) == (384, 768)


@pytest.mark.parametrize("coords", [np.empty((0, 2), np.int64), np.empty(0), np.empty((0, 2))])
@pytest.mark.parametrize("write", [clam, trident])
def test_empty_slides_have_no_tile(tmp_path: Path, write: Callable, coords: np.ndarray) -> None:
    tiles = read_any_tiles(write(tmp_path / "a.h5", coords), Geometry())
    assert tiles.coords.shape == (0, 2)


@pytest.mark.parametrize("write", [clam, trident, hest])
def test_without_the_slide_it_says_what_is_missing(tmp_path: Path, write: Callable) -> None:
    with pytest.raises(
        InputError, match=r"does not say how large its tiles are.*Fix: give the slides"
    ):
        read_any_tiles(write(tmp_path / "a.h5"))


@pytest.mark.parametrize(
    ("write", "changed", "slide", "message"),
    [
        (trident, {"level0_width": 39_999}, Geometry(), "laid on a slide of 39999 x 30000 px"),
        (clam, {"level_dim": (9000, 7500)}, Geometry(), "laid on a slide of 36000 x 30000 px"),
        (hest, {"pixel_size": 0.5}, Geometry(), "laid on a slide of 0.5 µm/px, this one has 0.25"),
        (hest, {}, Geometry(size=(20_000, 20_000)), "1 of its tiles lie outside the slide"),
        (clam, {"name": "b"}, Geometry(), "says it is of slide 'b', not 'a'"),
        (trident, {"patch_size_level0": 200}, Geometry(), "too coarse"),
        (trident, {"patch_size": float("nan")}, Geometry(), "attribute patch_size is nan"),
        (
            trident,
            {"patch_size_level0": 10**9},
            Geometry(),
            "attribute patch_size_level0 is 1000000000",
        ),
        (trident, {"overlap": 512}, Geometry(), "attribute overlap is 512"),
        (trident, {"patch_size": "wide"}, Geometry(), "attribute patch_size is wide"),
        (trident, {"patch_size": 4, "patch_size_level0": 4}, Geometry(), "patch size of 4 px"),
        (clam, {"downsample": (4.0, 2.0)}, Geometry(), "attribute downsample is"),
    ],
)
def test_files_that_do_not_fit_are_refused(
    tmp_path: Path, write: Callable, changed: dict, slide: Geometry, message: str
) -> None:
    path = write(tmp_path / "a.h5", **changed)
    with pytest.raises(InputError) as caught:
        read_any_tiles(path, slide)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert " Fix: " in str(caught.value)


@pytest.mark.parametrize("missing", ["patch_size", "downsample"])
def test_a_missing_attribute_is_named(tmp_path: Path, missing: str) -> None:
    path = clam(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        del file["coords"].attrs[missing]
    with pytest.raises(InputError, match=f"has no attribute {missing}, which a CLAM file has"):
        read_any_tiles(path, Geometry())


def test_coords_alone_are_no_tile_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing that says how large a tile is"):
        tile_layout(write_foreign(tmp_path / "a.h5", {}))
    with pytest.raises(InputError, match="coords are float64"):
        read_any_tiles(clam(tmp_path / "b.h5", COORDS + 0.5), Geometry())
    with pytest.raises(InputError, match=r"coords have shape \(4, 3\)"):
        read_any_tiles(clam(tmp_path / "c.h5", np.zeros((4, 3), int)), Geometry())


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    path = trident(tmp_path / "a.h5")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match=r"a\.h5: cannot be read as HDF5"):
        read_any_tiles(path, Geometry())


def test_no_path_in_a_file_is_followed(tmp_path: Path) -> None:
    """Neither a path in an attribute is read, although that file is there, nor a linked file."""
    other = clam(tmp_path / "other" / "a.h5", COORDS[:1])
    path = trident(tmp_path / "a.h5", savetodir=str(other.parent), name="a")
    assert len(read_any_tiles(path, Geometry())) == len(COORDS)
    with h5py.File(path, "a") as file:
        del file["coords"]
        file["coords"] = h5py.ExternalLink(str(other), "coords")
    with pytest.raises(InputError, match="coords is a link to another file"):
        read_any_tiles(path, Geometry())
    (tmp_path / "raw.bin").write_bytes(b"\0" * 64)
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "coords", (4, 2), np.int64, external=[(str(tmp_path / "raw.bin"), 0, 64)]
        )
        file["coords"].attrs.update({"patch_size": 4, "patch_size_level0": 4})
    with pytest.raises(InputError, match="lies in another file"):
        read_any_tiles(path, Geometry())


def test_an_absurd_number_of_tiles_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = trident(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        attributes = dict(file["coords"].attrs)
        del file["coords"]
        file.create_dataset("coords", (10**9, 2), np.int64, chunks=(1024, 2))
        file["coords"].attrs.update(attributes)
    with pytest.raises(InputError, match=r"coords claims 16\.0 GB, but 0 bytes are stored"):
        read_any_tiles(path, Geometry())


class TestFolders:
    @pytest.mark.parametrize(
        "place",
        [
            "a.h5",
            "a_patches.h5",
            "patches/a.h5",
            "patches/a_patches.h5",
            "20x_512px_0px_overlap/patches/a_patches.h5",
        ],
    )
    def test_each_tools_names_are_found(self, tmp_path: Path, place: str) -> None:
        path = trident(tmp_path / place)
        assert find_tile_file(tmp_path, ["a"]) == path
        assert find_tile_file(path.parent, ["a"]) == path

    def test_other_tools_name_it_after_the_slide_file(self, tmp_path: Path) -> None:
        path = clam(tmp_path / "a.h5")
        assert find_tile_file(tmp_path, ["patient-1", "a"]) == path
        assert (
            read_any_tiles(path, Geometry(), slide_id="patient-1", file_name="a").slide_id
            == "patient-1"
        )

    def test_two_layouts_in_one_folder(self, tmp_path: Path) -> None:
        """Each slide is read as its own file says; of two files for a slide none is chosen."""
        clam(tmp_path / "a.h5")
        trident(tmp_path / "b_patches.h5", name="b")
        assert read_any_tiles(find_tile_file(tmp_path, ["a"]), Geometry()).spec.tile_px == 256
        assert read_any_tiles(find_tile_file(tmp_path, ["b"]), Geometry()).spec.tile_px == 512
        trident(tmp_path / "a_patches.h5")
        with pytest.raises(InputError, match=r"slide a has 2 tile files: a\.h5, a_patches\.h5"):
            find_tile_file(tmp_path, ["a"])

    def test_two_trident_sizes_are_not_chosen_between(self, tmp_path: Path) -> None:
        for name in ("20x_512px_0px_overlap", "10x_256px_0px_overlap"):
            trident(tmp_path / name / "patches" / "a_patches.h5")
        with pytest.raises(InputError, match="has 2 tile files"):
            find_tile_file(tmp_path, ["a"])

    def test_no_name_leaves_the_folder(self, tmp_path: Path) -> None:
        trident(tmp_path / "a.h5")
        with pytest.raises(InputError, match="cannot be a file name"):
            find_tile_file(tmp_path / "inside", ["../a"])
        with pytest.raises(InputError, match="no such tile file"):
            find_tile_file(tmp_path, ["b"])


class TestWriting:
    def test_clam_to_the_letter(self, tmp_path: Path) -> None:
        write_clam(tmp_path / "patches" / "a.h5", our_tiles())
        with h5py.File(tmp_path / "patches" / "a.h5") as file:
            assert list(file) == ["coords"]
            coords = file["coords"]
            assert (coords.shape, coords.dtype) == ((4, 2), np.int64)
            assert np.array_equal(coords[:], COORDS)
            found = dict(coords.attrs)
        assert set(found) == {
            "patch_size",
            "patch_level",
            "downsample",
            "downsampled_level_dim",
            "level_dim",
            "name",
            "save_path",
        }
        assert (found["patch_size"], found["patch_level"], found["name"]) == (309, 0, "a")
        assert all(isinstance(found[name], np.integer) for name in ("patch_size", "patch_level"))
        assert found["downsample"].tolist() == [1.0, 1.0]
        assert (
            found["level_dim"].tolist()
            == found["downsampled_level_dim"].tolist()
            == [40_000, 30_000]
        )
        assert str(tmp_path) not in str(found)

    def test_trident_to_the_letter(self, tmp_path: Path) -> None:
        path = tmp_path / "a_patches.h5"
        write_trident(path, our_tiles(PatchSize(512, 0.5), stride_px=384))
        with h5py.File(path) as file:
            assert list(file) == ["coords"]
            assert file["coords"].dtype == np.int64
            found = dict(file["coords"].attrs)
        expected = {
            "patch_size": 512,
            "patch_size_level0": 1024,
            "level0_magnification": 40,
            "target_magnification": 20,
            "overlap": 128,
            "name": "a",
            "savetodir": "20x_512px_128px_overlap",
            "level0_width": 40_000,
            "level0_height": 30_000,
        }
        assert found == expected
        assert all(
            np.issubdtype(type(value), np.integer)
            for value in found.values()
            if not isinstance(value, str)
        )

    @pytest.mark.parametrize(
        ("mpp", "magnification"),
        [(0.25, 40), (0.23, 40), (0.5, 20), (0.46, 20), (0.1945, 60), (1.0, 10), (0.12, 80)],
    )
    def test_nominal_magnifications_are_the_nearest_step(
        self, mpp: float, magnification: float
    ) -> None:
        assert nominal_magnification(mpp) == magnification

    @given(
        px=st.integers(32, 512),
        mpp=st.floats(0.3, 2.0),
        slide_mpp=st.floats(0.2, 0.44),  # at most 1.5 times the tile
        stride=st.integers(16, 600),
        write=st.sampled_from([write_clam, write_trident]),
    )
    @settings(
        max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    def test_round_trips_give_the_same_tiles(
        self, tmp_path: Path, px: int, mpp: float, slide_mpp: float, stride: int, write: Callable
    ) -> None:
        slide = Geometry(mpp=slide_mpp)
        tiles = our_tiles(PatchSize(px, mpp), slide, stride_px=stride)
        write(tmp_path / "a.h5", tiles)
        back = read_any_tiles(tmp_path / "a.h5", slide)
        assert np.array_equal(back.coords, tiles.coords)
        assert back.spec == tiles.spec

    @pytest.mark.parametrize("write", [write_clam, write_trident])
    def test_without_our_attribute_only_rounding_is_lost(
        self, tmp_path: Path, write: Callable
    ) -> None:
        tiles, path = our_tiles(), tmp_path / "a.h5"
        write(path, tiles)
        with h5py.File(path, "a") as file:
            for name in list(file.attrs):
                del file.attrs[name]
        back = read_any_tiles(path, Geometry())
        assert np.array_equal(back.coords, tiles.coords)
        assert back.spec.patch.um == pytest.approx(tiles.spec.patch.um, abs=0.5 * 0.25)

    def test_what_is_ours_stays_ours(self, tmp_path: Path) -> None:
        tiles = our_tiles()
        write_tiles(tmp_path / "a.h5", tiles, slide_file="a.svs")
        assert tile_layout(tmp_path / "a.h5") == "tcgn-mil"
        assert read_any_tiles(tmp_path / "a.h5").spec == tiles.spec

    def test_ours_without_coords_is_named(self, tmp_path: Path) -> None:
        path = tmp_path / "a.h5"
        write_tiles(path, our_tiles(), slide_file="a.svs")
        with h5py.File(path, "a") as file:
            del file["coords"]
        with pytest.raises(InputError, match="is not a tile file: it has no coords"):
            read_any_tiles(path)

    def test_a_spec_that_the_sizes_contradict_is_not_believed(self, tmp_path: Path) -> None:
        path = trident(tmp_path / "a.h5")
        with h5py.File(path, "a") as file:
            file.attrs["spec"] = json.dumps(our_tiles().spec.as_dict())
        assert read_any_tiles(path, Geometry()).spec.tile_px == 512
        assert read_layout(path).spec == our_tiles().spec
