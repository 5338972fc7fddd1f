"""A slide's maps: a picture, QuPath objects, and AnnData in the layout that squidpy plots."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import anndata
import geojson
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tcgn_mil.errors import InputError
from tcgn_mil.experiments import main as cli
from tcgn_mil.experiments.predict import map_picture
from tcgn_mil.experiments.predict import maps as slide_maps
from tcgn_mil.experiments.predict.maps import (
    SlideMap,
    check_set_names,
    map_notes,
    write_slide_map,
)
from tcgn_mil.experiments.runs.predictability import Predictability
from tcgn_mil.experiments.runs.slide_map_figure import MapPanel
from tcgn_mil.io.geojson import read_record

COORDS = np.array([[0, 0], [155, 0], [0, 155], [310, 310]])


def slide_map(**changes: object) -> SlideMap:
    rng = np.random.default_rng(0)
    given = SlideMap(
        "S1",
        "P1",
        COORDS,
        154.6,
        (600, 900),
        attention=np.array([0.1, 0.2, 0.05, 0.15], np.float32),
        patient_tiles=8,
        genes=("CD8A", "HLA-A"),
        scores=rng.normal(size=(4, 2)).astype(np.float32),
        signatures=("T cells",),
        signature_scores=rng.normal(size=(4, 1)).astype(np.float32),
        thumbnail=rng.integers(0, 255, (90, 60, 3), dtype=np.uint8),
    )
    return replace(given, **changes)


def test_qupath_gets_squares_with_measurements_by_name(tmp_path: Path) -> None:
    given = slide_map()
    write_slide_map(given, tmp_path)
    features = geojson.loads((tmp_path / "S1.geojson").read_text(encoding="utf-8")).features
    corners = np.array([feature.geometry.coordinates[0] for feature in features])
    assert np.array_equal(corners[:, 0], COORDS)
    np.testing.assert_allclose(corners.max(axis=1) - corners.min(axis=1), 154.6, atol=0.01)
    assert {feature.properties["objectType"] for feature in features} == {"tile"}
    measured = pd.DataFrame([feature.properties["measurements"] for feature in features])
    assert [*measured] == ["Attention (1 = even)", "CD8A", "HLA-A", "T cells"]
    np.testing.assert_allclose(measured["Attention (1 = even)"], [0.8, 1.6, 0.4, 1.2])
    np.testing.assert_allclose(measured[["CD8A", "HLA-A"]], given.scores, atol=1e-4)
    np.testing.assert_allclose(measured["T cells"], given.signature_scores[:, 0], atol=1e-4)


def test_a_large_slide_keeps_the_tiles_of_highest_attention(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slide_maps, "MAX_FEATURES", 2)
    write_slide_map(slide_map(), tmp_path)
    features = geojson.loads((tmp_path / "S1.geojson").read_text(encoding="utf-8")).features
    assert [feature.geometry.coordinates[0][0] for feature in features] == [[155, 0], [310, 310]]
    assert anndata.read_h5ad(tmp_path / "S1.h5ad").n_obs == 4
    record = read_record(tmp_path / "S1.geojson")
    assert (record["tiles"], record["tiles_left_out"]) == (4, 2)
    (note,) = map_notes(slide_map())
    assert "S1: its GeoJSON has the 2 tiles of highest attention of 4" in note


def test_positions_count_from_the_corner_of_the_scanned_area(tmp_path: Path) -> None:
    moved = slide_map(origin=(100, 50))
    write_slide_map(moved, tmp_path)
    features = geojson.loads((tmp_path / "S1.geojson").read_text(encoding="utf-8")).features
    corners = np.array([feature.geometry.coordinates[0][0] for feature in features])
    assert np.array_equal(corners, COORDS - np.array([100, 50]))
    assert read_record(tmp_path / "S1.geojson")["origin_level0_px"] == [100, 50]
    np.testing.assert_allclose(
        anndata.read_h5ad(tmp_path / "S1.h5ad").obsm["spatial"], COORDS + 77.3
    )
    assert "given from 100, 50" in map_notes(moved)[0]
    assert map_notes(slide_map()) == []


def test_the_anndata_has_centres_image_and_scales_of_visium(tmp_path: Path) -> None:
    given = slide_map()
    write_slide_map(given, tmp_path)
    found = anndata.read_h5ad(tmp_path / "S1.h5ad")
    assert [*found.var_names] == ["CD8A", "HLA-A"]
    np.testing.assert_array_equal(found.X, given.scores)
    np.testing.assert_allclose(found.obsm["spatial"], COORDS + 77.3)
    np.testing.assert_array_equal(found.obs["attention"], given.attention)
    np.testing.assert_allclose(found.obs["attention_relative"], given.attention * 8)
    np.testing.assert_array_equal(found.obs["T cells"], given.signature_scores[:, 0])
    assert found.obs_names[1] == "x155_y0"
    (library,) = found.uns["spatial"]
    assert library == "S1"
    np.testing.assert_array_equal(found.uns["spatial"]["S1"]["images"]["hires"], given.thumbnail)
    assert found.uns["spatial"]["S1"]["scalefactors"] == {
        "spot_diameter_fullres": 154.6,
        "tissue_hires_scalef": 0.1,
    }
    made = json.loads(found.uns["tcgn_mil"])
    assert made["patient_id"] == "P1"
    assert "standardised" in made["X"]


@pytest.mark.parametrize("thumbnail", [None, np.zeros((3000, 2000, 3), np.uint8)])
def test_the_image_covers_the_slide_whatever_its_size(
    tmp_path: Path, thumbnail: np.ndarray | None
) -> None:
    write_slide_map(slide_map(thumbnail=thumbnail), tmp_path)
    spatial = anndata.read_h5ad(tmp_path / "S1.h5ad").uns["spatial"]["S1"]
    scale = spatial["scalefactors"]["tissue_hires_scalef"]
    height, width, _ = spatial["images"]["hires"].shape
    assert (width / scale, height / scale) == pytest.approx((600, 900), rel=0.002)
    assert spatial["metadata"]["image"] == ("blank" if thumbnail is None else "thumbnail")


def test_a_gene_that_no_model_of_the_patient_has_is_nan_and_not_drawn(tmp_path: Path) -> None:
    scores = np.array([[0.5, np.nan]] * 4, np.float32)
    write_slide_map(slide_map(thumbnail=None), tmp_path / "all")
    write_slide_map(slide_map(thumbnail=None, scores=scores), tmp_path / "one")
    pictures = [np.asarray(Image.open(tmp_path / name / "S1.png")) for name in ("all", "one")]
    assert pictures[0].shape[0] > pictures[1].shape[0]  # one row of panels, not two
    assert np.isnan(anndata.read_h5ad(tmp_path / "one" / "S1.h5ad").X[:, 1]).all()
    features = geojson.loads((tmp_path / "one" / "S1.geojson").read_text(encoding="utf-8")).features
    assert all("HLA-A" not in feature.properties["measurements"] for feature in features)


@pytest.mark.parametrize("name", ["CD8A", "attention", "T/NK cells"])
def test_a_signatures_name_that_stands_for_something_else_is_refused(name: str) -> None:
    check_set_names(("CD8A",), ("T cells",), path="sets.gmt")
    with pytest.raises(InputError, match=f"sets.gmt: gene set '{name}'"):
        check_set_names(("CD8A",), ("T cells", name), path="sets.gmt")


def test_a_slide_id_never_leaves_the_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be a file name"):
        write_slide_map(slide_map(slide_id="../S1"), tmp_path)


@pytest.fixture
def predict(demo: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Run ``tcgn-mil predict`` on the demo; the result is exit code and standard error."""

    def call(*options: object) -> tuple[int, str]:
        given = (
            "predict",
            "--model",
            demo / "slide-model",
            "--features",
            demo / "features",
            *options,
        )
        monkeypatch.setattr(sys, "argv", ["tcgn-mil", *map(str, given)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code or 0, capsys.readouterr().err

    return call


def test_predict_draws_gene_sets_and_writes_the_tables_asked_for(predict, tmp_path: Path) -> None:
    genes = ("SYN_IMMUNE_01", "SYN_IMMUNE_02")
    gmt = tmp_path / "sets.gmt"
    gmt.write_text(
        "Immune\tna\t" + "\t".join((*genes, "ABSENT")) + "\r\nAlien\tna\tX1\tX2\n", newline=""
    )
    out = tmp_path / "p"
    options = (
        "--map-signatures",
        gmt,
        "--map-gene",
        genes[0],
        "--map-gene",
        genes[1],
        "--out",
        out,
    )
    code, err = predict(*options, "--table-format", "parquet")
    assert code == 0
    assert "gene set Alien is not drawn: a model lacks 2 of 2 genes: X1, X2" in err
    assert not (out / "predicted.csv").exists()
    table = pd.read_parquet(out / "predicted.parquet")
    predicted = anndata.read_h5ad(out / "predicted.h5ad")
    np.testing.assert_array_equal(table.loc[predicted.obs_names, predicted.var_names], predicted.X)
    summary = json.loads((out / "summary.json").read_text())
    assert summary["signatures"] == ["Immune"]
    slides = sorted((out / "maps").glob("*.h5ad"))
    assert len(slides) == summary["slides"] == len([*(out / "maps").glob("*.geojson")])
    found = anndata.read_h5ad(slides[0])
    np.testing.assert_allclose(found.obs["Immune"], found.X.mean(axis=1), atol=1e-5)


def test_a_file_of_which_no_set_can_be_drawn_and_unknown_formats_are_refused(
    predict, tmp_path: Path
) -> None:
    gmt = tmp_path / "sets.gmt"
    gmt.write_text("Alien\tna\tX1\tX2\n")
    code, err = predict("--map-signatures", gmt, "--out", tmp_path / "a")
    assert code == 2
    assert "no gene set can be drawn; of Alien, a model lacks 2 of 2 genes: X1, X2" in err
    code, err = predict("--table-format", "xlsx", "--out", tmp_path / "b")
    assert code == 2
    assert "config key 'table_formats' is 'xlsx'" in err
    assert "choose one of 'csv' or 'parquet'" in err


def test_titles_say_how_well_a_gene_is_predicted_and_pale_colours_that_it_is_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    drawn: dict[str, MapPanel] = {}
    monkeypatch.setattr(
        map_picture,
        "slide_maps",
        lambda slide, panels, *_, **__: drawn.update({panel.title: panel for panel in panels}),
    )
    known = {"CD8A": Predictability("not predictable (r 0.02)", False)}
    write_slide_map(slide_map(predictability=known, mpp=0.5), tmp_path)
    assert list(drawn) == [
        "attention\nwhere the model looks",
        "CD8A\nnot predictable (r 0.02)",
        "HLA-A\nr not known",
        "T cells\ngene set, mean of its genes",
    ]
    assert "pale" in drawn["CD8A\nnot predictable (r 0.02)"].scale.colours.name
    assert drawn["attention\nwhere the model looks"].scale.low == 0


def test_attention_on_edges_is_a_note() -> None:
    grid = np.stack(np.meshgrid(np.arange(7), np.arange(7)), axis=-1).reshape(-1, 2) * 155
    edge = (grid.min(axis=1) == 0) | (grid.max(axis=1) == 6 * 155)
    for weight, noted in ((5.0, True), (1.0, False)):
        attention = np.where(edge, weight, 1.0).astype(np.float32)
        given = slide_map(
            coords=grid,
            attention=attention / attention.sum(),
            scores=np.zeros((49, 2), np.float32),
            signature_scores=np.zeros((49, 1), np.float32),
        )
        assert any("edge of the tissue" in note for note in map_notes(given)) == noted
