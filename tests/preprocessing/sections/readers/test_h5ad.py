"""Visium sections in .h5ad, as scanpy and CELLxGENE write them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import scanpy
from anndata_sections import PATCH, as_cellxgene, library_of, only, read
from PIL import Image
from scipy import sparse

from tcgn_mil.errors import InputError
from tcgn_mil.io.spot_files import read_patches, read_spots
from tcgn_mil.preprocessing.sections.config import SpotsConfig
from tcgn_mil.preprocessing.sections.lattice import MIRRORED
from tcgn_mil.preprocessing.sections.raw_section import ReadSettings
from tcgn_mil.preprocessing.sections.readers.tenx.visium import read_section
from tcgn_mil.preprocessing.sections.run import write_spots
from tcgn_mil.preprocessing.sections.sources import find_section_sources
from tcgn_mil.types.tile_geometry import PatchSize

pytestmark = [
    pytest.mark.usefixtures("plain_overlays"),
    pytest.mark.filterwarnings(
        "ignore:Variable names are not unique", "ignore:Use `squidpy", "ignore::FutureWarning"
    ),
]


def test_scanpy_s_file_gives_the_section_that_its_folder_gives(
    make_h5ad: Callable[..., Path], tmp_path: Path
) -> None:
    found = read(only(make_h5ad()))
    folder = read_section(
        tmp_path / "visium" / "S1", ReadSettings(PATCH), section="S1", patient="S1"
    )
    assert (found.section, found.patient, found.mpp) == (
        "S1",
        "S1",
        pytest.approx(folder.mpp, rel=1e-6),
    )
    assert found.genes.names == folder.genes.names  # PLCXD1-1, as AnnData marks it, is PLCXD1 again
    assert found.genes.ids == folder.genes.ids
    assert np.array_equal(
        found.counts.toarray(), folder.counts[folder.spots.get_indexer(found.spots)].toarray()
    )
    assert np.allclose(found.centres(), folder.positions.loc[found.spots, ["pixel_x", "pixel_y"]])
    assert found.image.kind == "hires image"
    assert found.image.scale == 0.5


def test_its_picture_is_that_of_the_folder_whether_stored_as_bytes_or_shares(
    make_h5ad: Callable[..., Path], tmp_path: Path
) -> None:
    """scanpy stores a PNG as floats from 0 to 1, squidpy as bytes, and some files have alpha."""

    def as_bytes(adata: anndata.AnnData) -> None:
        images = adata.uns["spatial"]["lib_S2"]["images"]
        shown = np.rint(images["hires"] * 255).astype(np.uint8)
        images["hires"] = np.dstack([shown, np.full(shown.shape[:2], 255, np.uint8)])

    for name, change in (("S1", None), ("S2", as_bytes)):
        raw = read(only(make_h5ad(name, change)))
        with raw.image.open(raw.image_mpp) as slide:
            pixels = slide.read(0, 0, 0, *slide.size)
        known = np.asarray(
            Image.open(tmp_path / "visium" / name / "spatial" / "tissue_hires_image.png")
        )
        assert np.array_equal(pixels, known)


def test_spots_off_tissue_are_listed(make_h5ad: Callable[..., Path]) -> None:
    def mark(adata: anndata.AnnData) -> None:
        adata.obs.iloc[:3, adata.obs.columns.get_loc("in_tissue")] = 0

    raw = read(only(make_h5ad("S1", mark)))
    assert [reason for _, reason in raw.dropped] == ["not under tissue (in_tissue 0)"] * 3
    assert not {name for name, _ in raw.dropped} & set(raw.spots)


def test_several_libraries_of_one_file_are_sections(
    make_h5ad: Callable[..., Path], tmp_path: Path
) -> None:
    first, second = (anndata.read_h5ad(make_h5ad(name)) for name in ("S1", "S2"))
    for adata, patient in ((first, "P1"), (second, "P2")):
        adata.obs["patient"] = patient
    both = anndata.concat(
        [first, second],
        label="library_id",
        keys=["lib_S1", "lib_S2"],
        uns_merge="unique",
        index_unique="-",
        merge="same",
    )
    path = tmp_path / "both.h5ad"
    both.write_h5ad(path)
    done, failures, _ = write_spots(path, tmp_path / "out", SpotsConfig(patch=PATCH))
    assert (done, failures) == (["lib_S1", "lib_S2"], [])
    for name, adata, patient in (("lib_S1", first, "P1"), ("lib_S2", second, "P2")):
        found = read_spots(tmp_path / "out" / f"{name}.h5ad")
        assert found.patient == patient
        assert np.array_equal(found.adata.obsm["spatial"], adata.obsm["spatial"])
    assert write_spots(
        path, tmp_path / "one", SpotsConfig(patch=PATCH, sections=["lib_S2"])
    ).done == ["lib_S2"]
    del both.obs["library_id"]
    both.write_h5ad(path)
    _, failures, _ = write_spots(path, tmp_path / "out", SpotsConfig(patch=PATCH))
    assert [one.slide for one in failures] == ["lib_S1", "lib_S2"]
    assert "holds several libraries, but no obs['library_id']" in failures[0].reason


@pytest.mark.parametrize("place", ["layer", "raw"])
@pytest.mark.parametrize("form", ["csr", "csc", "dense"])
def test_counts_are_found_where_x_was_normalised(
    make_h5ad: Callable[..., Path], place: str, form: str
) -> None:
    kept: list[np.ndarray] = []

    def normalise(adata: anndata.AnnData) -> None:
        shape = {
            "csr": sparse.csr_matrix,
            "csc": sparse.csc_matrix,
            "dense": lambda x: x.toarray(),
        }[form]
        adata.X = shape(adata.X)
        kept.append(np.asarray(adata.X.sum(axis=1)).ravel())
        if place == "layer":
            adata.layers["counts"] = adata.X.copy()
        else:
            adata.raw = adata.copy()
        adata.obs["in_tissue"] = [0] + [1] * (adata.n_obs - 1)
        scanpy.pp.normalize_total(adata, target_sum=1e4)
        scanpy.pp.log1p(adata)

    raw = read(only(make_h5ad("S1", normalise)))
    assert (raw.counts.data == np.floor(raw.counts.data)).all()
    (warning,) = raw.warnings
    assert warning.startswith(
        "X holds no counts: they were taken from "
        + ("layers['counts']" if place == "layer" else "raw")
    )
    assert raw.totals().tolist() == kept[0][1:].tolist()


def test_features_that_are_no_genes_are_left_out_and_counted(
    make_h5ad: Callable[..., Path],
) -> None:
    def relabel(adata: anndata.AnnData) -> None:
        adata.var["feature_types"] = ["Gene Expression"] * 4 + ["Antibody Capture"]

    genes = read(only(make_h5ad("S1", relabel))).genes
    assert genes.names == ("TP53", "ERBB2", "PLCXD1")
    assert genes.other_features == {"Antibody Capture": 1}


def test_ensembl_names_find_their_symbols_and_stay_if_asked(make_h5ad: Callable[..., Path]) -> None:
    def swap(adata: anndata.AnnData) -> None:
        adata.var["symbol"] = ["TP53", "ERBB2", "PLCXD1", "PLCXD1", "HLA_A"]
        adata.var_names = [f"{name}.7" for name in adata.var.pop("gene_ids")]

    path = make_h5ad("S1", swap)
    by_symbol = read(only(path)).genes
    assert by_symbol.names == ("TP53", "ERBB2", "PLCXD1", "HLA-A")
    assert (by_symbol.report.versions, by_symbol.report.renamed, by_symbol.report.merged) == (
        5,
        1,
        1,
    )
    by_id = read(only(path), gene_ids="ensembl").genes
    assert by_id.names[0] == "ENSG00000141510"
    assert by_id.ids is not None
    assert by_id.ids[0] == "ENSG00000141510.7"


def test_the_user_s_image_takes_the_picture_s_place(
    make_h5ad: Callable[..., Path], tmp_path: Path
) -> None:
    path = make_h5ad()
    full = tmp_path / "visium" / "S1.png"
    done, _, _ = write_spots(
        path, tmp_path / "out", SpotsConfig(image=full, patch=PatchSize(16, 1.0))
    )
    assert done == ["S1"]
    image = np.asarray(Image.open(full))
    found = read_spots(tmp_path / "out" / "S1.h5ad")
    x, y = np.floor(found.adata.obsm["spatial"][0] - 7.5).astype(int)
    assert np.array_equal(read_patches(found.patches_path)[0], image[y : y + 16, x : x + 16])


def test_a_section_without_array_positions_is_measured_by_its_neighbours(
    make_h5ad: Callable[..., Path],
) -> None:
    def without(adata: anndata.AnnData) -> None:
        del adata.obs["array_row"]

    def of_visium(adata: anndata.AnnData) -> None:
        without(adata)
        as_barcodes(adata)

    assert read(only(make_h5ad("S1", of_visium))).mpp == pytest.approx(1.0, rel=1e-3)
    # Another tool sums cells over hexagons of any size, and names them as it likes.
    path = make_h5ad("S2", without)
    with pytest.raises(
        InputError, match=r"on a hexagonal lattice, 100 px apart, and nothing"
    ) as no:
        read(only(path))
    assert "--spot-pitch-um" in str(no.value.fix)


def as_barcodes(adata: anndata.AnnData) -> None:
    """Name spots as Space Ranger does."""
    digits = [np.base_repr(row, 4).zfill(16) for row in range(adata.n_obs)]
    table = str.maketrans("0123", "ACGT")
    adata.obs_names = [f"{name.translate(table)}-1" for name in digits]


def test_cellxgene_s_flag_is_no_library_and_its_full_picture_has_scale_one(
    make_h5ad: Callable[..., Path],
) -> None:
    path = make_h5ad("S1", as_cellxgene)
    raw = read(only(path))
    assert (raw.section, raw.patient) == ("S1", "D7")
    assert (raw.image.kind, raw.image.scale) == ("fullres image", 1.0)
    assert raw.image_mpp == pytest.approx(1.0, rel=1e-3)
    assert only(path, sections=["lib_S1"]).section == "S1"  # the name in the file is known as well


def test_a_file_without_pictures_is_read_with_the_user_s_image(
    make_h5ad: Callable[..., Path], tmp_path: Path
) -> None:
    def without(adata: anndata.AnnData) -> None:
        del adata.uns["spatial"]
        del adata.obs["array_row"]
        as_barcodes(adata)

    path = make_h5ad("S1", without)
    raw = read(only(path, image=tmp_path / "visium" / "S1.png"))
    assert (raw.section, raw.mpp) == ("S1", pytest.approx(1.0, rel=1e-3))
    with pytest.raises(InputError, match="holds no image") as caught:
        read(only(path))
    assert "--image" in str(caught.value.fix)


@pytest.mark.parametrize(
    ("yes", "no"), [("True", "False"), ("yes", "no"), ("1.0", "0.0"), (True, False), (1.0, None)]
)
def test_in_tissue_is_read_in_all_its_spellings(
    make_h5ad: Callable[..., Path], yes: object, no: object
) -> None:
    def spell(adata: anndata.AnnData) -> None:
        column = pd.Series([no, no] + [yes] * (adata.n_obs - 2), index=adata.obs_names)
        adata.obs["in_tissue"] = column.astype("category") if isinstance(yes, str) else column

    raw = read(only(make_h5ad("S1", spell)))
    reason = "in_tissue is empty" if no is None else "not under tissue (in_tissue 0)"
    assert [why for _, why in raw.dropped] == [reason] * 2


@pytest.mark.parametrize("names", [("pxl_row_in_fullres", "pxl_col_in_fullres"), ("y", "x")])
def test_positions_in_a_data_frame_are_read_by_their_names(
    make_h5ad: Callable[..., Path], names: tuple[str, str]
) -> None:
    def row_first(adata: anndata.AnnData) -> None:
        xy = np.asarray(adata.obsm["spatial"])
        adata.obsm["spatial"] = pd.DataFrame(
            {names[0]: xy[:, 1], names[1]: xy[:, 0]}, index=adata.obs_names
        )

    turned, plain = read(only(make_h5ad("S1", row_first))), read(only(make_h5ad("S2")))
    assert MIRRORED not in turned.warnings
    assert np.ptp(turned.centres()[:, 0]) == np.ptp(plain.centres()[:, 0])


@pytest.mark.parametrize(("layer", "taken"), [("raw_counts", True), ("spliced", False)])
def test_layers_are_counts_by_their_name_only(
    make_h5ad: Callable[..., Path], layer: str, taken: bool
) -> None:
    def normalised(adata: anndata.AnnData) -> None:
        adata.layers[layer] = adata.X.copy()
        scanpy.pp.normalize_total(adata, target_sum=1e4)

    source = only(make_h5ad("S1", normalised))
    if taken:
        assert f"taken from layers['{layer}']" in read(source).warnings[0]
        return
    with pytest.raises(InputError, match="is not a count"):
        read(source)


def test_the_column_that_names_the_libraries_is_told(make_h5ad: Callable[..., Path]) -> None:
    def second(adata: anndata.AnnData) -> None:
        adata.uns["spatial"]["lib_2"] = library_of(adata)
        adata.obs["sample"] = ["lib_S1", "lib_2"] * (adata.n_obs // 2) + ["lib_2"] * (
            adata.n_obs % 2
        )

    first, _ = find_section_sources(make_h5ad("S1", second))
    with pytest.raises(InputError, match=r"no obs\['library_id'\]") as caught:
        read(first)
    assert "rename the column sample of obs to library_id" in str(caught.value.fix)
