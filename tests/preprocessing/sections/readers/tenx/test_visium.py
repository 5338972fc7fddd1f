"""Space Ranger folders, old and new, and each way in which a folder can be broken."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scanpy
from visium_folders import PATCH, POSITIONS, MakeVisium, edit_positions, full_image, read

from tcgn_mil.errors import InputError
from tcgn_mil.io.spot_files import read_spots
from tcgn_mil.preprocessing.sections.config import SpotsConfig
from tcgn_mil.preprocessing.sections.lattice import fit_lattice
from tcgn_mil.preprocessing.sections.run import write_spots
from tcgn_mil.preprocessing.sections.sources import detect_format
from tcgn_mil.types.tile_geometry import PatchSize

pytestmark = [
    pytest.mark.usefixtures("plain_overlays"),
    pytest.mark.filterwarnings("ignore:Variable names are not unique"),
]


@pytest.mark.parametrize("matrix", ["h5", "mtx"])
@pytest.mark.parametrize("header", [True, False])
def test_every_form_of_a_folder_gives_the_counts_that_scanpy_reads(
    make_visium: MakeVisium, matrix: str, header: bool
) -> None:
    folder = make_visium(matrix=matrix, header=header)
    raw = read(folder)
    if matrix == "h5":
        known = scanpy.read_10x_h5(folder / "filtered_feature_bc_matrix.h5")
    else:
        known = scanpy.read_10x_mtx(
            folder / "filtered_feature_bc_matrix", var_names="gene_ids", make_unique=False
        )
    known.var_names_make_unique()
    assert list(raw.spots) == list(known.obs_names)
    expected = pd.DataFrame(
        known.X.toarray(), columns=known.var_names if matrix == "mtx" else known.var["gene_ids"]
    )
    assert raw.genes.names == ("TP53", "ERBB2", "PLCXD1", "HLA-A")
    assert np.array_equal(raw.counts[:, 0].toarray().ravel(), expected["ENSG00000141510"])
    both = expected["ENSG00000182378"] + expected["ENSG00000182379"]
    assert np.array_equal(raw.counts[:, 2].toarray().ravel(), both)
    assert raw.mpp == pytest.approx(1.0, rel=1e-3)


def test_genes_keep_their_ids_and_what_was_done_is_counted(make_visium: MakeVisium) -> None:
    folder = make_visium()
    genes = read(folder).genes
    assert genes.ids == (
        "ENSG00000141510",
        "ENSG00000141736",
        "ENSG00000182378;ENSG00000182379",
        "ENSG00000206503",
    )
    assert genes.other_features == {"Antibody Capture": 1}
    assert (
        "1 ids merged with another of the same name; 1 features of type Antibody Capture left out"
        in str(genes.note())
    )
    by_id = read(folder, gene_ids="ensembl").genes
    assert by_id.names[2:4] == ("ENSG00000182378", "ENSG00000182379")
    assert by_id.report.merged == 0


def test_positions_are_read_by_name_whatever_their_order(make_visium: MakeVisium) -> None:
    folder = make_visium()
    before = read(folder)
    edit_positions(folder, lambda table: table[[*table.columns[::-1]]])
    pd.testing.assert_frame_equal(read(folder).positions, before.positions)
    assert before.centres()[0] == pytest.approx(
        pd.read_csv(folder / POSITIONS, index_col="barcode").loc[
            before.spots[0], ["pxl_col_in_fullres", "pxl_row_in_fullres"]
        ]
    )


def test_spots_off_tissue_are_listed_with_their_reason(make_visium: MakeVisium) -> None:
    folder = make_visium()
    table = pd.read_csv(folder / POSITIONS)
    raw = read(folder)
    outside = table.loc[table["in_tissue"] == 0, "barcode"]
    assert raw.dropped == [(name, "not under tissue (in_tissue 0)") for name in outside]
    first = str(raw.spots[0])
    edit_positions(folder, lambda table: table[table["barcode"] != first])
    assert (first, "no position in the spot file") in read(folder).dropped


def test_resolution_is_by_the_distance_of_spots_never_by_their_diameter(
    make_visium: MakeVisium,
) -> None:
    folder = make_visium()
    angle = np.deg2rad(17)  # a section that lies askew

    def turn(table: pd.DataFrame) -> pd.DataFrame:
        x, y = table["pxl_col_in_fullres"], table["pxl_row_in_fullres"]
        return table.assign(
            pxl_col_in_fullres=2 * (np.cos(angle) * x - np.sin(angle) * y) + 900,
            pxl_row_in_fullres=2 * (np.sin(angle) * x + np.cos(angle) * y),
        )

    edit_positions(folder, turn)
    raw = read(folder)
    assert raw.mpp == pytest.approx(0.5, rel=1e-3)
    assert raw.warnings == ()
    assert read(folder, mpp=0.51).mpp == 0.51
    with pytest.raises(
        InputError, match=r"tissue_positions.csv: .*100 µm apart, give 0.5.*but 0.6 is stated"
    ):
        read(folder, mpp=0.6)


def test_a_mirrored_array_is_told(make_visium: MakeVisium) -> None:
    folder = make_visium()
    swapped = {
        "pxl_col_in_fullres": "pxl_row_in_fullres",
        "pxl_row_in_fullres": "pxl_col_in_fullres",
    }
    edit_positions(folder, lambda table: table.rename(columns=swapped))
    (warning,) = read(folder).warnings
    assert "x and y swapped" in warning


def test_folders_of_folders_and_outs_are_sections(make_visium: MakeVisium, tmp_path: Path) -> None:
    first, second = make_visium("S1"), make_visium("S2", matrix="mtx", header=False)
    held = tmp_path / "held"
    first.rename(tmp_path / "held_outs")
    held.mkdir()
    (held / "S1").mkdir()
    (tmp_path / "held_outs").rename(held / "S1" / "outs")
    second.rename(held / "S2")
    assert detect_format(held) == detect_format(held / "S1") == "visium"
    done, failures, notes = write_spots(
        held, tmp_path / "out", SpotsConfig(patch=PatchSize(16, 2.0))
    )
    assert (done, failures) == (["S1", "S2"], [])
    assert "2 sections have no patient and count as one patient each (S1, S2)" in notes[-1]
    with pytest.raises(InputError, match="one image for 2 sections"):
        write_spots(held, tmp_path / "out", SpotsConfig(image=tmp_path / "visium" / "S1.png"))


def test_a_table_gives_each_section_its_image_and_patient(
    make_visium: MakeVisium, tmp_path: Path
) -> None:
    make_visium("S1")
    make_visium("S2", matrix="mtx", seed=1)
    (tmp_path / "visium" / "S2" / POSITIONS).unlink()
    table = tmp_path / "sections.tsv"
    rows = [
        "section\tpath\timage\tpatient_id",
        "a\tvisium/S1\tvisium/S1.png\tP7",
        "b\tvisium/S2\tvisium/S2.png\tP8",
    ]
    table.write_text("\n".join(rows))
    done, (failure,), _ = write_spots(table, tmp_path / "out", SpotsConfig(patch=PATCH))
    assert done == ["a"]
    assert failure.slide == "b"
    assert "has no tissue_positions.csv or tissue_positions_list.csv" in failure.reason
    assert read_spots(tmp_path / "out" / "a.h5ad").patient == "P7"
    table.write_text("\n".join([rows[0], rows[1].replace("P7", "P9")]))
    write_spots(table, tmp_path / "out", SpotsConfig(patch=PATCH))
    assert read_spots(tmp_path / "out" / "a.h5ad").patient == "P9"


def test_the_lattice_is_fitted_over_all_spots() -> None:
    rng = np.random.default_rng(0)
    row, column = (grid.ravel() for grid in np.mgrid[:30, :40])
    hexagonal = (row + column) % 2 == 0
    array = np.column_stack([column, row]).astype(float)
    square = fit_lattice(array, array * 145 + rng.normal(0, 3, array.shape), path="x")
    assert (square.pitch_px, square.pitch_um) == (pytest.approx(145, rel=1e-3), None)
    pixels = array[hexagonal] * [60, 60 * np.sqrt(3)] + rng.normal(0, 3, (hexagonal.sum(), 2))
    visium = fit_lattice(array[hexagonal], pixels, path="x")
    assert (visium.pitch_px, visium.pitch_um, visium.mirrored) == (
        pytest.approx(120, rel=1e-3),
        100,
        False,
    )
    assert fit_lattice(array[hexagonal], pixels[:, ::-1], path="x").mirrored
    assert fit_lattice(array[:5], array[:5] * 145, path="x").pitch_px is None  # one row of spots
    twice = np.vstack([array[hexagonal]] * 2)
    with pytest.raises(InputError, match="600 of 1200 spots are at the place of another one"):
        fit_lattice(twice, twice * [60, 60 * np.sqrt(3)], path="x")


def to_parquet(folder: Path) -> None:
    pd.read_csv(folder / POSITIONS).to_parquet(folder / "spatial" / "tissue_positions.parquet")
    (folder / POSITIONS).unlink()


def to_gz(folder: Path) -> None:
    for name in (POSITIONS, "spatial/scalefactors_json.json"):
        (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes()))
        (folder / name).unlink()


def to_words(folder: Path) -> None:
    edit_positions(folder, lambda t: t.assign(in_tissue=t["in_tissue"].map({0: "no", 1: "True"})))


@pytest.mark.parametrize("change", [to_parquet, to_gz, to_words])
def test_positions_are_read_in_every_form(
    make_visium: MakeVisium, change: Callable[[Path], None]
) -> None:
    folder = make_visium()
    before = read(folder)
    change(folder)
    after = read(folder)
    pd.testing.assert_frame_equal(after.positions, before.positions, check_dtype=False)
    assert (after.mpp, after.dropped) == (before.mpp, before.dropped)


def test_a_folder_of_cell_ranger_2_is_read_with_genes_tsv(make_visium: MakeVisium) -> None:
    folder = make_visium(matrix="mtx")
    before = read(folder)
    matrix = folder / "filtered_feature_bc_matrix"
    (matrix / "features.tsv.gz").rename(matrix / "genes.tsv.gz")
    assert (read(folder).counts != before.counts).nnz == 0


def test_spots_have_no_transcripts_to_sum(make_visium: MakeVisium, tmp_path: Path) -> None:
    config = SpotsConfig(patch=PATCH, pool_from="nuclei", image=str(full_image(make_visium())))
    _, (failure,), _ = write_spots(tmp_path / "visium" / "S1", tmp_path / "out", config)
    assert "holds counts of spots or bins, and no nuclei to sum" in failure.reason
