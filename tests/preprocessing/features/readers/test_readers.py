"""Feature files of CLAM, TRIDENT and STAMP are recognised, placed, and refused if broken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import h5py
import numpy as np
import pytest
from tile_sets import tile_set

from tcgn_mil.errors import InputError
from tcgn_mil.io.feature_files import write_features
from tcgn_mil.preprocessing.features import readers
from tcgn_mil.preprocessing.features.placement import place
from tcgn_mil.preprocessing.features.readers import open_foreign, register_feature_reader
from tcgn_mil.preprocessing.features.readers.base import FeatureReader, ForeignFeatures
from tcgn_mil.preprocessing.features.search import find_feature_sources
from tcgn_mil.types.features import LEVEL0, SCALED, UNKNOWN
from tcgn_mil.types.tile_geometry import PatchSize, TileSpec

COORDS = np.array([[0, 0], [1024, 0], [0, 1024], [39_000, 29_000]])
FEATURES = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
TRIDENT = {
    "patch_size": 512,
    "patch_size_level0": 1024,
    "level0_magnification": 40,
    "target_magnification": 20,
    "overlap": 128,
    "name": "a",
    "savetodir": "/x",
    "level0_width": 40_000,
    "level0_height": 30_000,
}
STAMP = {
    "stamp_version": "2.3.0",
    "extractor": "uni2",
    "unit": "um",
    "tile_size_um": 256.0,
    "tile_size_px": 224,
    "code_hash": "1a2b3c4d",
    "feat_type": "tile",
}


def clam(path: Path, features: np.ndarray = FEATURES, coords: np.ndarray = COORDS) -> Path:
    """As CLAM appends its batches: resizable, without attributes."""
    with h5py.File(path, "w") as file:
        file.create_dataset("features", data=features, maxshape=(None, *features.shape[1:]))
        file.create_dataset("coords", data=coords.astype(np.int32), maxshape=(None, 2))
    return path


def trident(
    path: Path, features: np.ndarray = FEATURES, encoder: str | None = "uni_v1", **changed: Any
) -> Path:
    """As TRIDENT's save: chunks of one row, attributes on both."""
    with h5py.File(path, "w") as file:
        chunks = (1, *features.shape[1:])
        file.create_dataset(
            "features", data=features, maxshape=(None, *features.shape[1:]), chunks=chunks
        )
        file["features"].attrs.update(
            {"name": "a", "savetodir": "/x"} | ({"encoder": encoder} if encoder else {})
        )
        file.create_dataset(
            "coords",
            data=COORDS[: len(features)].astype(np.int64),
            maxshape=(None, 2),
            chunks=(1, 2),
        )
        file["coords"].attrs.update(TRIDENT | changed)
    return path


def stamp(
    path: Path, features: np.ndarray = FEATURES, without: tuple[str, ...] = (), **changed: Any
) -> Path:
    with h5py.File(path, "w") as file:
        file["coords"] = (COORDS[: len(features)] * 0.25).astype(np.float32)
        file["feats"] = features.astype(np.float16)
        file.attrs.update(
            {name: value for name, value in (STAMP | changed).items() if name not in without}
        )
    return path


@pytest.mark.parametrize(
    ("write", "layout", "encoder", "dtype", "px"),
    [
        (clam, "clam", "", np.float32, None),
        (trident, "trident", "uni_v1", np.float32, 512),
        (stamp, "stamp", "uni2", np.float16, 224),
    ],
)
def test_each_layout_is_known_by_what_it_holds(
    tmp_path: Path, write: Callable, layout: str, encoder: str, dtype: type, px: int | None
) -> None:
    with open_foreign(write(tmp_path / "a.h5")) as found:
        assert (found.layout, found.encoder, found.patch_px) == (layout, encoder, px)
        assert found.features.dtype == dtype
        assert np.array_equal(np.concatenate(list(found.blocks())), FEATURES.astype(dtype))


def test_blocks_are_of_bounded_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "tcgn_mil.preprocessing.features.readers.base.BLOCK_BYTES", 3 * FEATURES[0].nbytes
    )
    with open_foreign(clam(tmp_path / "a.h5")) as found:
        assert [len(block) for block in found.blocks()] == [3, 1]


@patch.dict(readers.READERS)
def test_door_a_layout_is_added_from_outside(tmp_path: Path) -> None:
    @contextmanager
    def open_arrays(path: Path) -> Iterator[ForeignFeatures]:
        yield ForeignFeatures("arrays", np.load(path), coords=None)

    register_feature_reader(
        FeatureReader("arrays", (".npy",), lambda path: path.suffix == ".npy", open_arrays)
    )
    np.save(tmp_path / "a.npy", FEATURES)
    with open_foreign(find_feature_sources(tmp_path)["a"]) as found:
        assert found.layout == "arrays"
        assert np.array_equal(np.concatenate(list(found.blocks())), FEATURES)


def test_clam_needs_size_and_resolution(tmp_path: Path) -> None:
    with open_foreign(clam(tmp_path / "a.h5")) as found:
        placed = place(found, mpp=0.25, patch_px=256, patch_mpp=0.5)
        for given, part in (
            ({}, "--patch-px"),
            ({"patch_px": 256}, "--patch-mpp"),
            ({"patch_px": 256, "patch_mpp": 0.5}, "--mpp"),
        ):
            with pytest.raises(InputError, match=part):
                place(found, **given)
    assert np.array_equal(placed.coords, COORDS)
    assert placed.coords.dtype == np.int64
    assert (placed.positions, placed.spec.level0_px, placed.spec.slide_mpp) == (LEVEL0, 512.0, 0.25)


def test_trident_needs_one_resolution_and_never_the_magnification(tmp_path: Path) -> None:
    with open_foreign(trident(tmp_path / "a.h5")) as found:
        by_slide, by_tile = place(found, mpp=0.25), place(found, patch_mpp=0.5)
        nominal = place(found, mpp=0.2425, patch_mpp=0.5)
        with pytest.raises(InputError, match=r"--patch-mpp.*or the slide's --mpp"):
            place(found)
        with pytest.raises(InputError, match=r"512\.0 µm wide, but 512 px of 0\.5 µm are 256\.0"):
            place(found, mpp=0.5, patch_mpp=0.5)
        with pytest.raises(InputError, match="512 px, not 256"):
            place(found, mpp=0.25, patch_px=256)
    assert by_slide.spec == by_tile.spec
    assert np.array_equal(by_slide.coords, COORDS)
    assert (by_slide.spec.level0_px, by_slide.spec.mpp, by_slide.spec.stride_px) == (1024, 0.5, 384)
    assert by_slide.spec.level0_stride_px == 768
    assert (nominal.spec.mpp, nominal.spec.slide_mpp, nominal.spec.level0_px) == (0.5, 0.2425, 1024)


def test_trident_files_with_clams_tile_attributes(tmp_path: Path) -> None:
    path = clam(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        file["features"].attrs.update({"name": "a", "savetodir": "/x", "encoder": "uni_v1"})
        file["coords"].attrs.update(
            {"patch_size": 256, "patch_level": 1, "downsample": (4.0, 4.0), "name": "a"}
        )
    with open_foreign(path) as found:
        assert (found.layout, found.encoder) == ("trident", "uni_v1")
        assert (found.patch_px, found.level0_px) == (256, 1024)


def test_stamp_microns_become_level0_pixels_or_say_that_they_are_not(tmp_path: Path) -> None:
    with open_foreign(stamp(tmp_path / "a.h5")) as found:
        placed, scaled = place(found, mpp=0.25), place(found)
        with pytest.raises(InputError, match=r"256\.0 µm wide"):
            place(found, patch_mpp=0.5)
    assert np.array_equal(placed.coords, COORDS)
    assert (placed.positions, placed.spec.level0_px) == (LEVEL0, 1024)
    assert placed.spec.patch == PatchSize(224, 256 / 224)
    assert (scaled.positions, scaled.spec.slide_mpp, scaled.spec.level0_px) == (
        SCALED,
        256 / 224,
        224,
    )
    assert scaled.coords.tolist() == np.rint(COORDS * 0.25 / (256 / 224)).tolist()


def test_older_stamp_files_do_not_say_their_pixels(tmp_path: Path) -> None:
    path = stamp(
        tmp_path / "a.h5", without=("tile_size_um", "tile_size_px", "feat_type"), tile_size=256.0
    )
    with open_foreign(path) as found:
        with pytest.raises(InputError, match="--patch-px"):
            place(found, mpp=0.25)
        assert place(found, mpp=0.25, patch_px=224).spec.patch == PatchSize(224, 256 / 224)


def test_without_coords_nothing_stands_for_a_position() -> None:
    placed = place(ForeignFeatures("clam", FEATURES, None), patch_px=256, patch_mpp=0.5)
    assert placed.positions == UNKNOWN
    assert (placed.coords == -1).all()


@pytest.mark.parametrize("write", [clam, trident, stamp])
@pytest.mark.parametrize(
    ("features", "part"),
    [
        (FEATURES[:0], "holds no tile"),
        (np.empty(0, np.float32), "holds no tile"),
        (FEATURES.reshape(2, 2, 6), r"\(2, 2, 6\), not \(N, D\)"),
    ],
)
def test_empty_features_and_those_of_three_axes_are_refused(
    tmp_path: Path, write: Callable, features: np.ndarray, part: str
) -> None:
    with pytest.raises(InputError, match=part), open_foreign(write(tmp_path / "a.h5", features)):
        pass


def change(path: Path, name: str, **created: Any) -> Path:
    with h5py.File(path, "r+") as file:
        del file[name]
        file.create_dataset(name, **created)
    return path


@pytest.mark.parametrize(
    ("name", "created", "part"),
    [
        ("features", {"data": FEATURES.astype(np.int32)}, "int32, not float16 or float32"),
        ("features", {"data": FEATURES[:3]}, "coords are int32 \\(4, 2\\) for 3 tiles"),
        ("features", {"shape": (4, 6), "dtype": "f4", "chunks": (1, 6)}, "never written"),
        ("features", {"shape": (4, 6), "dtype": "f4"}, "never written"),
        (
            "features",
            {"shape": (10**9, 1024), "dtype": "f4", "chunks": (1, 1024)},
            "claims 4096.0 GB, but 0 bytes are stored",
        ),
        (
            "features",
            {"shape": (10**7, 65_000), "dtype": "f4", "chunks": (1, 65_000)},
            "claims 2600.0 GB",
        ),
        (
            "features",
            {"shape": (10**6, 1024), "dtype": "f4", "chunks": (10**6, 1024)},
            "claims 4.1 GB",
        ),
        ("coords", {"data": COORDS + 0.5}, "coords are not whole level-0 pixels"),
        ("coords", {"data": COORDS[:, :1].astype(np.int32)}, r"coords are int32 \(4, 1\)"),
        ("coords", {"data": np.full((4, 2), 2**40)}, "not positions"),
    ],
)
def test_broken_clam_files_are_refused(
    tmp_path: Path, name: str, created: dict[str, Any], part: str
) -> None:
    path = change(clam(tmp_path / "a.h5"), name, **created)
    with pytest.raises(InputError, match=part) as refused, open_foreign(path):
        pass
    assert refused.value.fix


def test_a_file_written_in_part_is_refused(tmp_path: Path) -> None:
    path = change(clam(tmp_path / "a.h5"), "features", shape=(4, 6), dtype="f4", chunks=(1, 6))
    with h5py.File(path, "r+") as file:
        file["features"][:3] = FEATURES[:3]
    with pytest.raises(InputError, match="never written"), open_foreign(path):
        pass


@pytest.mark.parametrize(
    ("changed", "part"),
    [
        ({"feat_type": "slide"}, r"one vector, but its feats have shape \(4, 6\)"),
        ({"feat_type": "cell"}, "features of a 'cell'"),
        ({"unit": "px"}, "coords in px, not um"),
        ({"tile_size_um": "wide"}, "tile_size_um is not a size"),
        ({"tile_size_px": -1}, "tile_size_px is not a size"),
    ],
)
def test_stamp_files_that_say_otherwise_are_refused(
    tmp_path: Path, changed: dict[str, Any], part: str
) -> None:
    with pytest.raises(InputError, match=part), open_foreign(stamp(tmp_path / "a.h5", **changed)):
        pass


def test_stamp_coords_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    path = change(stamp(tmp_path / "a.h5"), "coords", data=np.full((4, 2), np.nan, np.float32))
    with pytest.raises(InputError, match="not positions"), open_foreign(path):
        pass


def test_a_file_of_another_slide_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match="slide 'b', not 'a'"),
        open_foreign(trident(tmp_path / "a.h5", name="b")),
    ):
        pass


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.h5").write_text("no")
    with h5py.File(tmp_path / "else.h5", "w") as file:
        file["data"] = FEATURES
    clam(tmp_path / "whole.h5")
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["features"] = h5py.ExternalLink("whole.h5", "features")
        file["coords"] = COORDS
    spec = TileSpec.for_slide(PatchSize(), slide_mpp=0.25, level_downsamples=[1])
    write_features(tmp_path / "own.h5", FEATURES, tile_set(COORDS, spec, "a"), encoder="e")
    for name, part in (
        ("text", "cannot be read as HDF5"),
        ("else", "no features"),
        ("link", "features is a link to another file"),
        ("own", "of this package"),
        ("gone", "no such feature file"),
    ):
        with pytest.raises(InputError, match=part), open_foreign(tmp_path / f"{name}.h5"):
            pass


@pytest.mark.parametrize("write", [clam, trident, stamp])
def test_damage_anywhere_is_an_input_error_or_harmless(tmp_path: Path, write: Callable) -> None:
    path, rng = write(tmp_path / "a.h5"), np.random.default_rng(0)
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    refused = 0
    for _ in range(60):
        damaged = whole.copy()
        damaged[rng.integers(len(whole), size=8)] = rng.integers(256, size=8)
        path.write_bytes(damaged.tobytes())
        try:
            with open_foreign(path) as found:
                list(found.blocks())
        except InputError:
            refused += 1
    assert refused > 10
