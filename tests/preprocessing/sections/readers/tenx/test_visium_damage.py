"""Each way in which a folder of Space Ranger can be wrong."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from visium_folders import PATCH, POSITIONS, MakeVisium, edit_positions, read

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.sections.config import SpotsConfig
from tcgn_mil.preprocessing.sections.run import write_spots
from tcgn_mil.preprocessing.sections.sources import detect_format
from tcgn_mil.types.tile_geometry import PatchSize

pytestmark = [
    pytest.mark.usefixtures("plain_overlays"),
    pytest.mark.filterwarnings("ignore:Variable names are not unique"),
]


def break_h5(change: Callable[[h5py.File], None]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        with h5py.File(folder / "filtered_feature_bc_matrix.h5", "r+") as file:
            change(file)

    return damage


def put(name: str, values: Callable[[NDArray], NDArray]) -> Callable[[Path], None]:
    def change(file: h5py.File) -> None:
        stored = values(file[name][:])
        del file[name]
        file[name] = stored

    return break_h5(change)


def truncate(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return damage


def positions(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Path], None]:
    return lambda folder: edit_positions(folder, change)


def scalefactors(text: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / "spatial" / "scalefactors_json.json").write_text(text)

    return damage


def without(*names: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return damage


H5, PICTURES = (
    "filtered_feature_bc_matrix.h5",
    ("spatial/tissue_hires_image.png", "spatial/tissue_lowres_image.png"),
)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (without(POSITIONS), r"spatial: has no tissue_positions.csv or tissue_positions_list.csv"),
        (without(H5), r"needs one filtered_feature_bc_matrix \(.h5, or a folder\), found 0"),
        (
            without(*PICTURES),
            r"has no tissue_hires_image.png and no tissue_lowres_image.png.*--image",
        ),
        (without("spatial/scalefactors_json.json"), r"scalefactors_json.json: no such file"),
        (
            scalefactors('{"spot_diameter_fullres": 60}'),
            r"scalefactors_json.json: has no tissue_hires_scalef",
        ),
        (scalefactors('{"tissue_hires_scalef": "half"}'), r"has 'half' as tissue_hires_scalef"),
        (scalefactors("{"), r"scalefactors_json.json: cannot be read as a JSON file"),
        (truncate(H5), r"bc_matrix.h5: cannot be read as HDF5"),
        (
            put("matrix/shape", lambda shape: shape[::-1]),
            r"its matrix of \d+ x 6 does not fit 6 features and \d+",
        ),
        (put("matrix/indptr", lambda ends: ends[:-1]), r"its matrix of 6 x \d+ does not fit"),
        (put("matrix/indices", lambda rows: rows + 3), r"its matrix points outside itself"),
        (
            put("matrix/data", lambda data: data * 0.37),
            r"gene .*, spot .*ACGT-1: [\d.]+ is not a count.* whole numbers",
        ),
        (
            put("matrix/barcodes", lambda names: np.char.add(names, b"x")),
            r"none of its \d+ spots under",
        ),
        (
            put("matrix/barcodes", lambda names: names[[0] * len(names)]),
            r"names barcode .* more than once",
        ),
        (
            break_h5(lambda file: file.move("matrix", "GRCh38")),
            r"is not a 10x matrix file: it has no matrix/barcodes",
        ),
        (
            positions(
                lambda t: t.assign(array_col=[*t["array_col"][:4], "left", *t["array_col"][5:]])
            ),
            r"line 6 is",
        ),
        (
            positions(lambda t: t.assign(in_tissue=t["in_tissue"] * 3)),
            r"line \d+ is not a position",
        ),
        (
            positions(lambda t: t.drop(columns="pxl_col_in_fullres")),
            r"has no column pxl_col_in_fullres",
        ),
        (
            positions(lambda t: t.assign(barcode=t["barcode"].iloc[0])),
            r"places spot .* more than once",
        ),
        (
            positions(lambda t: t.assign(pxl_col_in_fullres=t["pxl_row_in_fullres"])),
            r"lie on no lattice",
        ),
        (
            positions(
                lambda t: t.assign(array_row=t["array_row"].sample(frac=1, random_state=0).values)
            ),
            r"no lattice",
        ),
    ],
)
def test_a_broken_folder_says_what_is_wrong(
    make_visium: MakeVisium, damage: Callable[[Path], None], reason: str
) -> None:
    folder = make_visium()
    damage(folder)
    with pytest.raises(InputError, match=reason) as caught:
        read(folder)
    assert caught.value.fix


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        (
            "features.tsv.gz",
            lambda lines: lines[:-1],
            r"is a matrix of 6 x \d+, beside 5 features and \d+ barcodes",
        ),
        (
            "barcodes.tsv.gz",
            lambda lines: lines[1:],
            r"is a matrix of 6 x (\d+), beside 6 features",
        ),
        ("matrix.mtx.gz", lambda lines: lines[:-4], r"matrix.mtx.gz: cannot be read as a matrix"),
        (
            "matrix.mtx.gz",
            lambda lines: [*lines[:-1], b"1 1 many"],
            r"matrix.mtx.gz: cannot be read as a matrix",
        ),
        (
            "features.tsv.gz",
            lambda lines: [line.split(b"\t")[0] for line in lines],
            r"has 1 columns, not id, name",
        ),
    ],
)
def test_a_broken_mtx_folder_says_what_is_wrong(
    make_visium: MakeVisium, name: str, change: Callable[[list[bytes]], list[bytes]], reason: str
) -> None:
    folder = make_visium(matrix="mtx")
    path = folder / "filtered_feature_bc_matrix" / name
    path.write_bytes(
        gzip.compress(
            b"\n".join(change(gzip.decompress(path.read_bytes()).strip().split(b"\n"))) + b"\n"
        )
    )
    with pytest.raises(InputError, match=reason):
        read(folder)
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(InputError, match=r"cannot be read"):
        read(folder)
    path.unlink()
    with pytest.raises(InputError, match=f"has no {name}"):
        read(folder)


def test_unknown_folders_are_told_what_is_known(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"holds no section in a layout that is known.*her2st.*Space Ranger"
    ):
        detect_format(tmp_path)
    with pytest.raises(InputError, match="no such folder or file"):
        write_spots(tmp_path / "nowhere", tmp_path / "out")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("filtered_feature_bc_matrix.h5", "raw_feature_bc_matrix.h5"),
        ("filtered_feature_bc_matrix", "filtered_gene_bc_matrices"),
    ],
)
def test_a_matrix_of_another_name_is_named_with_its_new_name(
    make_visium: MakeVisium, old: str, new: str
) -> None:
    folder = make_visium(matrix="h5" if old.endswith(".h5") else "mtx")
    (folder / old).rename(folder / new)
    with pytest.raises(InputError, match=f"only {new}") as caught:
        read(folder)
    assert f"rename {new} to {old}" in str(caught.value.fix)


def test_folders_that_hold_no_section_are_named(make_visium: MakeVisium, tmp_path: Path) -> None:
    make_visium("S1")
    flat = tmp_path / "visium" / "flat"
    flat.mkdir()
    for name in ("GSM1_matrix.mtx.gz", "GSM1_tissue_positions_list.csv.gz"):
        (flat / name).write_bytes(b"")
    (tmp_path / "visium" / "notes").mkdir()
    done, (failure,), notes = write_spots(
        tmp_path / "visium", tmp_path / "out", SpotsConfig(patch=PatchSize(16, 2.0))
    )
    assert (done, failure.slide) == (["S1"], "flat")
    assert "side by side" in failure.reason
    assert "GSM1_matrix.mtx.gz to filtered_feature_bc_matrix/matrix.mtx.gz" in failure.likely_fix
    assert "GSM1_tissue_positions_list.csv.gz to spatial/tissue_pos" in failure.likely_fix
    assert "1 folders of visium left out: notes" in notes[-1]
    with pytest.raises(InputError, match="side by side"):
        detect_format(flat)


@pytest.mark.parametrize("inside", [True, False])
def test_cells_of_space_ranger_4_are_refused_with_the_folder_of_bins(
    tmp_path: Path, inside: bool
) -> None:
    outputs = tmp_path / "S1" / "outs"
    cells = outputs / "segmented_outputs"
    (cells / "spatial").mkdir(parents=True)
    (cells / "filtered_feature_cell_matrix.h5").touch()
    if inside:
        (outputs / "binned_outputs" / "square_016um").mkdir(parents=True)
    given = cells if inside else outputs
    (outputs / "spatial").mkdir()
    _, (failure,), _ = write_spots(given, tmp_path / "out", SpotsConfig(patch=PATCH))
    assert "holds cells of Visium HD (segmented_outputs)" in failure.reason
    assert ("binned_outputs/square_016um" if inside else "square_008um") in failure.likely_fix
