"""Space Ranger folders, old and new, and each way in which a folder can be broken."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import scanpy
from numpy.typing import NDArray
from PIL import Image

from tcgn_mil.errors import InputError
from tcgn_mil.io.pyramid import write_pyramid
from tcgn_mil.io.spot_files import read_patches, read_spots
from tcgn_mil.preprocessing.sections import writer as section_writer
from tcgn_mil.preprocessing.sections.config import SpotsConfig
from tcgn_mil.preprocessing.sections.lattice import fit_lattice
from tcgn_mil.preprocessing.sections.raw_section import RawSection, ReadSettings
from tcgn_mil.preprocessing.sections.readers.tenx.visium import read_section
from tcgn_mil.preprocessing.sections.run import write_spots
from tcgn_mil.preprocessing.sections.sources import detect_format
from tcgn_mil.types.tile_geometry import PatchSize

MakeVisium = Callable[..., Path]
PATCH = PatchSize(16, 1.0)
pytestmark = pytest.mark.filterwarnings("ignore:Variable names are not unique")
POSITIONS = "spatial/tissue_positions.csv"


@pytest.fixture(autouse=True)
def plain_overlays(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the drawing, half a second per section."""
    if "realdata" not in request.keywords:
        monkeypatch.setattr(
            section_writer,
            "write_overlay",
            lambda path, *args, **kwargs: path.write_bytes(b"picture"),
        )


def read(folder: Path, **settings: object) -> RawSection:
    image = settings.pop("image", None)
    chosen = ReadSettings(PATCH, **settings)  # type: ignore[arg-type]
    return read_section(folder, chosen, section="S1", patient="P1", image=image)  # type: ignore[arg-type]


def full_image(folder: Path) -> Path:
    return folder.with_suffix(".png")


def edit_positions(folder: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    change(pd.read_csv(folder / POSITIONS)).to_csv(folder / POSITIONS, index=False)


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


def test_swapped_x_and_y_are_an_alarm_in_every_report(
    make_visium: MakeVisium, tmp_path: Path
) -> None:
    folder, out = make_visium(), tmp_path / "out"
    swapped = {
        "pxl_col_in_fullres": "pxl_row_in_fullres",
        "pxl_row_in_fullres": "pxl_col_in_fullres",
    }
    edit_positions(folder, lambda table: table.rename(columns=swapped))
    image = np.asarray(Image.open(full_image(folder)))
    wide = np.full((1200, 1200, 3), 240, dtype=np.uint8)  # so that all spots stay on the image
    wide[: image.shape[0]] = image
    Image.fromarray(wide).save(full_image(folder))
    _, failures, notes = write_spots(
        folder, out, SpotsConfig(image=full_image(folder), patch=PATCH)
    )
    assert not failures
    assert "S1: spots and image do not fit: with the spots x and y swapped" in notes[0]
    (row,) = pd.read_csv(out / "sections.csv").to_dict("records")
    assert (row["alignment"], row["better_orientation"]) == ("misplaced", "x and y swapped")
    assert row["darkness_margin"] < 1
    ranks = pd.read_csv(out / "alignment.csv").set_index("orientation")["rank"]
    assert ranks["x and y swapped"] == 1
    assert len(ranks) == 8


def test_the_full_resolution_image_gives_patches_round_the_spots(
    make_visium: MakeVisium, tmp_path: Path
) -> None:
    folder, out = make_visium(), tmp_path / "out"
    done, failures, notes = write_spots(
        folder, out, SpotsConfig(image=full_image(folder), patch=PATCH)
    )
    assert (done, failures) == (["S1"], [])
    assert not [note for note in notes if "µm/px" in note]
    found = read_spots(out / "S1.h5ad")
    image = np.asarray(Image.open(full_image(folder)))
    shown = read_patches(found.patches_path)
    for patch, (x, y) in zip(shown[:5], found.adata.obsm["spatial"][:5], strict=True):
        left, top = int(np.floor(x - 7.5)), int(np.floor(y - 7.5))
        assert np.array_equal(patch, image[top : top + 16, left : left + 16])
    assert found.adata.var["gene_id"].tolist()[2] == "ENSG00000182378;ENSG00000182379"
    (row,) = pd.read_csv(out / "sections.csv").to_dict("records")
    assert (row["alignment"], row["image"], row["flagged"]) == ("fits", "full-resolution image", 0)
    (genes,) = pd.read_csv(out / "gene_report.csv").to_dict("records")
    assert (genes["ids"], genes["genes"], genes["merged"], genes["other_features"]) == (5, 4, 1, 1)
    assert (
        write_spots(folder, out, SpotsConfig(image=full_image(folder), patch=PATCH)).notes == notes
    )  # kept, and told again


def test_a_pyramid_serves_as_the_image_and_its_resolution_is_compared(
    make_visium: MakeVisium, tmp_path: Path
) -> None:
    folder = make_visium()
    image = np.asarray(Image.open(full_image(folder)))
    for name, mpp, warned in (("fits.tiff", 1.0, False), ("other.tiff", 0.5, True)):
        write_pyramid(tmp_path / name, image, mpp=mpp, quality=95)
        out = tmp_path / name.split(".")[0]
        _, failures, notes = write_spots(
            folder, out, SpotsConfig(image=tmp_path / name, patch=PATCH)
        )
        assert not failures
        assert any(f"{name} states 0.5 µm/px, its spots give 1" in note for note in notes) == warned
        patches = read_patches(out / "S1_patches.h5")
        assert patches.std(axis=(1, 2, 3)).min() > 10  # tissue, at the spots' own resolution


def test_without_it_the_hires_picture_serves_where_it_is_fine_enough(
    make_visium: MakeVisium, tmp_path: Path
) -> None:
    folder, out = make_visium(), tmp_path / "out"
    _, failures, notes = write_spots(folder, out, SpotsConfig(patch=PatchSize(16, 2.0)))
    assert not failures
    assert (
        "the hires image has 2 µm/px and shows nuclei as specks:"
        " a patch of 32.0 µm is 16.0 of its pixels" in notes[0]
    )
    found = read_spots(out / "S1.h5ad")
    hires = np.asarray(Image.open(folder / "spatial" / "tissue_hires_image.png"))
    x, y = found.adata.obsm["spatial"][0] / 2  # positions stay in the full-resolution frame
    left, top = int(np.floor(x - 7.5)), int(np.floor(y - 7.5))
    assert np.array_equal(
        read_patches(found.patches_path)[0], hires[top : top + 16, left : left + 16]
    )
    with h5py.File(found.patches_path) as file:
        assert np.abs(file["coords"][0] + 16 - found.adata.obsm["spatial"][0]).max() <= 1
        assert file["img"].attrs["pixel_size"] == pytest.approx(1.0, rel=1e-3)
        assert file["img"].attrs["patch_size_src"] == pytest.approx(32.0, rel=1e-3)


def test_a_picture_too_coarse_is_an_error_unless_allowed(
    make_visium: MakeVisium, tmp_path: Path
) -> None:
    folder, out = make_visium(), tmp_path / "out"
    (folder / "spatial" / "tissue_hires_image.png").unlink()
    _, (failure,), _ = write_spots(folder, out, SpotsConfig(patch=PATCH))
    assert "the lowres image has 10 µm/px and shows no nuclei, only regions" in failure.reason
    assert "too coarse for patches at 1 µm/px" in failure.reason
    assert "--image" in failure.likely_fix
    _, failures, notes = write_spots(
        folder, out, SpotsConfig(patch=PatchSize(64, 1.0), allow_coarse=True)
    )
    assert not failures
    assert "enlarged 10.0 times" in notes[0]
    assert "enlarged 10.0 times" in pd.read_csv(out / "sections.csv")["warnings"][0]


def test_enlarged_patches_keep_place_and_size(make_visium: MakeVisium, tmp_path: Path) -> None:
    """A ramp tells where each pixel of a patch comes from, to a tenth of the picture's pixels."""
    folder, out = make_visium(), tmp_path / "out"
    (folder / "spatial" / "tissue_hires_image.png").unlink()
    ramp = np.add.outer(np.zeros(104), np.arange(120) * 2 + 4).astype(np.uint8)
    Image.fromarray(np.dstack([ramp] * 3)).save(folder / "spatial" / "tissue_lowres_image.png")
    write_spots(folder, out, SpotsConfig(patch=PatchSize(64, 1.0), allow_coarse=True))
    found = read_spots(out / "S1.h5ad")
    x = found.adata.obsm["spatial"][:, 0] / found.adata.uns["mpp"]
    expected = ((x[:, None] - 32 + np.arange(64) + 0.5) / 10 - 0.5) * 2 + 4
    shown = read_patches(found.patches_path)[:, 32, :, 0]
    assert np.abs(shown - expected).max() < 1


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


def test_the_image_of_another_section_is_refused_where_spots_lie_off_it(
    make_visium: MakeVisium, tmp_path: Path
) -> None:
    folder = make_visium()
    Image.new("RGB", (50, 50), "white").save(tmp_path / "other.png")
    _, (failure,), _ = write_spots(
        folder, tmp_path / "out", SpotsConfig(image=tmp_path / "other.png", patch=PATCH)
    )
    assert "other.png: none of" in failure.reason
    assert "lies on the image of 50 x 50 px" in failure.reason
    _, (failure,), _ = write_spots(
        folder, tmp_path / "out", SpotsConfig(image=tmp_path / "none.png", patch=PATCH)
    )
    assert "none.png: no such image" in failure.reason


def test_unknown_folders_are_told_what_is_known(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"holds no section in a layout that is known.*her2st.*Space Ranger"
    ):
        detect_format(tmp_path)
    with pytest.raises(InputError, match="no such folder or file"):
        write_spots(tmp_path / "nowhere", tmp_path / "out")


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


@pytest.mark.realdata
def test_a_real_folder_without_a_usable_image(real_data: Path, tmp_path: Path) -> None:
    source = real_data / "visium_mouse_placenta"
    _, (failure,), _ = write_spots(source, tmp_path / "out")
    assert "lowres image has 23.3 µm/px and shows no nuclei" in failure.reason
    done, _, notes = write_spots(source, tmp_path / "out", SpotsConfig(allow_coarse=True))
    assert done == ["visium_mouse_placenta"]
    assert "a patch of 77.3 µm is 3.3 of its pixels, enlarged 33.8 times" in notes[0]
    found = read_spots(tmp_path / "out" / "visium_mouse_placenta.h5ad")
    assert found.adata.shape == (2898, 19454)  # 11 of 19,465 ids share a symbol
    assert found.adata.uns["mpp"] == pytest.approx(4.67, abs=0.01)
    assert len(pd.read_csv(tmp_path / "out" / "dropped_spots.csv")) == 2094
    (row,) = pd.read_csv(tmp_path / "out" / "sections.csv").to_dict("records")
    assert row["alignment"] == "fits"
    assert json.loads(str(found.adata.uns["section"]))["genes"]["merged"] == 11


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


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_an_image_of_another_size_is_refused(
    make_visium: MakeVisium, tmp_path: Path, share: float
) -> None:
    """The high-resolution picture was once taken for the full one, and most spots were dropped."""
    folder = make_visium()
    with Image.open(full_image(folder)) as full:
        size = (round(full.width * share), round(full.height * share))
        full.resize(size).save(tmp_path / "small.png")
    config = SpotsConfig(image=str(tmp_path / "small.png"), patch=PatchSize(8, 1.0))
    done, (failure,), _ = write_spots(folder, tmp_path / "out", config)
    assert not done
    assert f"lie beyond the image of {size[0]} x {size[1]} px" in failure.reason
    assert "full-resolution image" in failure.likely_fix


@pytest.mark.parametrize("share", [0.8, 2])
def test_an_image_out_of_scale_that_holds_the_spots_is_a_warning_in_every_report(
    make_visium: MakeVisium, tmp_path: Path, share: float
) -> None:
    folder = make_visium()
    with Image.open(full_image(folder)) as full:
        size = (round(full.width * share), round(full.height * share))
        full.resize(size).save(tmp_path / "other.png")
    config = SpotsConfig(image=str(tmp_path / "other.png"), patch=PATCH)
    done, _, notes = write_spots(folder, tmp_path / "out", config)
    assert done == ["S1"]
    assert "S1: the scale of spots and image does not fit: with all positions times" in notes[0]
    (row,) = pd.read_csv(tmp_path / "out" / "sections.csv").to_dict("records")
    assert row["alignment"] == "misplaced"
    assert row["fitting_scale"] == pytest.approx(share, rel=0.1)


def test_a_small_difference_of_scale_is_in_the_table(
    make_visium: MakeVisium, tmp_path: Path
) -> None:
    """Spots mark tissue to about one pitch, so that 6 % are no alarm, but can be seen."""
    folder, scales = make_visium(), {}
    for share in (1.0, 1.06):
        out = tmp_path / f"out{share}"
        with Image.open(full_image(folder)) as full:
            size = (round(full.width * share), round(full.height * share))
            pixels = np.asarray(full.convert("RGB").resize(size))
        write_pyramid(tmp_path / "full.tiff", pixels, mpp=1.03, quality=90)
        write_spots(folder, out, SpotsConfig(image=str(tmp_path / "full.tiff"), patch=PATCH))
        (row,) = pd.read_csv(out / "sections.csv").to_dict("records")
        assert row["fitting_scale"] == 1
        assert row["stated_mpp"] == pytest.approx(1.03, rel=1e-3)
        scales[share] = row["extent_scale"]
    assert scales[1.06] / scales[1.0] == pytest.approx(1.06, rel=0.02)


def test_spots_beyond_a_cropped_image_are_counted_everywhere(
    make_visium: MakeVisium, tmp_path: Path
) -> None:
    folder, out = make_visium(), tmp_path / "out"
    edit_positions(folder, lambda t: t.assign(pxl_col_in_fullres=t["pxl_col_in_fullres"] - 300))
    with Image.open(full_image(folder)) as full:
        full.crop((300, 0, full.width, full.height)).save(tmp_path / "cropped.png")
    config = SpotsConfig(image=str(tmp_path / "cropped.png"), patch=PATCH)
    done, _, notes = write_spots(folder, out, config)
    assert done == ["S1"]
    (row,) = pd.read_csv(out / "sections.csv").to_dict("records")
    listed = pd.read_csv(out / "dropped_spots.csv")["reason"].value_counts().to_dict()
    off = listed["its patch is off the image"]
    assert off > 5
    assert row["dropped"] == sum(listed.values())
    assert row["fitting_scale"] == 1
    assert f"{off} (its patch is off the image)" in row["dropped_because"]
    total = row["spots"] + row["dropped"]
    assert f"S1: {row['dropped']} of {total} spots left out: {row['dropped_because']}" in notes
    assert any("lie beyond the image" in note for note in notes)


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


def test_spots_have_no_transcripts_to_sum(make_visium: MakeVisium, tmp_path: Path) -> None:
    config = SpotsConfig(patch=PATCH, pool_from="nuclei", image=str(full_image(make_visium())))
    _, (failure,), _ = write_spots(tmp_path / "visium" / "S1", tmp_path / "out", config)
    assert "holds counts of spots or bins, and no nuclei to sum" in failure.reason
