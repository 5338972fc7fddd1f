"""Counts and patches of a section are read back, and refused if they do not belong together."""

from __future__ import annotations

from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.io.spot_files import (
    SpotSet,
    create_patch_file,
    find_sections,
    read_patches,
    read_spots,
    write_spot_table,
)
from tcgn_mil.types.tile_geometry import PatchSize

PATCH = PatchSize(8, 0.7)
SPOTS = ["1x1", "1x2", "µ"]


def write(
    folder: Path, *, spots: list[str] = SPOTS, patch: PatchSize = PATCH, patches: bool = True
) -> Path:
    path, patches_path = folder / "A1.h5ad", folder / "A1_patches.h5"
    adata = anndata.AnnData(
        np.arange(len(SPOTS) * 2, dtype=np.float32).reshape(-1, 2),
        obs=pd.DataFrame({"patient": "A", "section": "A1"}, index=SPOTS),
        var=pd.DataFrame(index=["G1", "G2"]),
        obsm={"spatial": np.zeros((len(SPOTS), 2))},
    )
    if patches:
        with create_patch_file(patches_path, spots, patch, section="A1", pixel_size=0.35) as file:
            for row in range(len(spots)):
                file["img"][row] = row
    write_spot_table(path, SpotSet(adata, str(patches_path), PATCH))
    return path


def test_a_section_comes_back_as_written(tmp_path: Path) -> None:
    found = read_spots(write(tmp_path))
    assert (found.section, found.patient, found.patch) == ("A1", "A", PATCH)
    assert list(found.adata.obs_names) == SPOTS
    assert read_patches(found.patches_path)[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert read_patches(found.patches_path, np.array([0, 2]))[:, 0, 0, 0].tolist() == [0, 2]
    assert find_sections(tmp_path) == {"A1": tmp_path / "A1.h5ad"}


def test_patch_file_states_its_geometry_as_hest_does(tmp_path: Path) -> None:
    write(tmp_path)
    with h5py.File(tmp_path / "A1_patches.h5") as file:
        attrs = dict(file["img"].attrs)
        assert file["barcode"].shape == (3, 1)
    assert attrs["patch_size_src"] == pytest.approx(16)
    assert attrs["downsample"] == pytest.approx(2)
    assert (attrs["patch_size_target"], attrs["pixel_size"], attrs["name"]) == (8, 0.35, "A1")


def test_an_interrupted_patch_file_is_not_there(tmp_path: Path) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        create_patch_file(tmp_path / "x.h5", SPOTS, PATCH, section="x", pixel_size=0.7),
    ):
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spots": ["1x1", "µ", "1x2"]}, "its spots are not the spots of A1.h5ad"),
        ({"spots": SPOTS[:2]}, "its spots are not the spots of A1.h5ad"),
        (
            {"patch": PatchSize(9, 0.7)},
            "its patches are not the patches of A1.h5ad, which are 5.6 µm",
        ),
        ({"patch": PatchSize(8, 0.6)}, "its patches are not the patches of A1.h5ad"),
        ({"patches": False}, "no such patch file"),
    ],
)
def test_patches_of_something_else_are_refused(tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=f"A1_patches.h5: {message}"):
        read_spots(write(tmp_path, **options))


def test_missing_damaged_and_foreign_tables_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such spot file\. Fix: run tcgn-mil spots first"):
        read_spots(tmp_path / "A1.h5ad")
    path = write(tmp_path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InputError, match=r"A1.h5ad: cannot be read as AnnData"):
        read_spots(path)
    anndata.AnnData(np.ones((2, 2), dtype=np.float32)).write_h5ad(path)
    with pytest.raises(InputError, match="is not a spot file of this package"):
        read_spots(path)


def test_damaged_patches_are_named(tmp_path: Path) -> None:
    patches = Path(read_spots(write(tmp_path)).patches_path)
    patches.write_bytes(patches.read_bytes()[:3000])
    with pytest.raises(InputError, match=r"A1_patches.h5: cannot be read as HDF5"):
        read_spots(tmp_path / "A1.h5ad")


def test_patches_that_hold_nan_are_named(tmp_path: Path) -> None:
    path = write(tmp_path)
    pixels = np.zeros((3, 8, 8, 3), np.float32)
    pixels[1, 0, 0, 0] = np.nan
    with h5py.File(tmp_path / "A1_patches.h5", "r+") as file:
        del file["img"]
        file["img"] = pixels
    with pytest.raises(
        InputError,
        match=r"A1_patches.h5: has pixels of float32.* 1 of 3 images hold NaN.*, 1x2 the",
    ):
        read_spots(path)


def test_folders_without_sections_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder of spot files"):
        find_sections(tmp_path / "none")
    with pytest.raises(InputError, match="holds no spot file"):
        find_sections(tmp_path)
