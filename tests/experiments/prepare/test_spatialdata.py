"""Stores of SpatialData hold what lies on a slide, and spatialdata and squidpy open them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from spot_sections import GENES, write_sections
from tile_sets import tile_set
from typer.testing import CliRunner

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.main import make_app
from tcgn_mil.experiments.predict.maps import SlideMap, write_slide_map
from tcgn_mil.io.expression_file import write_predictions
from tcgn_mil.io.tile_files import write_tiles
from tcgn_mil.preprocessing.interop.spatial_export import export_spatialdata
from tcgn_mil.preprocessing.sections.raw_section import ReadSettings
from tcgn_mil.preprocessing.sections.sources import find_section_sources
from tcgn_mil.types.genes import GenePanel
from tcgn_mil.types.tile_geometry import PatchSize, TileSpec

spatialdata = pytest.importorskip("spatialdata", reason="needs the extra [spatialdata]")
pytestmark = pytest.mark.filterwarnings("ignore")

SPEC = TileSpec.for_slide(PatchSize(112, 0.5), slide_mpp=0.5, level_downsamples=[1.0])
COORDS = np.array([[x, y] for y in range(0, 448, 112) for x in range(0, 560, 112)])


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    """Tiles of slide S1 and its map, and the slide itself."""
    write_tiles(tmp_path / "tiles" / "S1.h5", tile_set(COORDS, SPEC, "S1"), slide_file="S1.png")
    rng = np.random.default_rng(0)
    attention = rng.dirichlet(np.ones(len(COORDS))).astype(np.float32)
    scores = rng.normal(size=(len(COORDS), 2)).astype(np.float32)
    slide_map = SlideMap(
        "S1",
        "P1",
        COORDS,
        SPEC.level0_px,
        (1120, 896),
        attention=attention,
        patient_tiles=len(COORDS),
        genes=("CD3D", "ESR1"),
        scores=scores,
        signatures=("T cells",),
        signature_scores=scores[:, :1],
        thumbnail=np.full((56, 70, 3), 200, np.uint8),
    )
    write_slide_map(slide_map, tmp_path / "run" / "maps")
    pixels = rng.integers(150, 255, (896, 1120, 3), dtype=np.uint8)
    (tmp_path / "slides").mkdir()
    Image.fromarray(pixels).save(tmp_path / "slides" / "S1.png")
    return tmp_path


def export(*arguments: object) -> Any:
    return CliRunner().invoke(make_app(), ["export-spatialdata", *map(str, arguments)])


def test_tiles_and_maps_of_a_slide_come_into_one_store(slide: Path) -> None:
    out = slide / "out"
    done = export(slide / "tiles", slide / "run", "--out", out)
    assert (done.exit_code, "1 slide" in done.output) == (0, True), done.output
    data = spatialdata.read_zarr(out / "S1.zarr")
    assert set(data.shapes) == {"tiles", "map"}
    assert set(data.tables) == {"tiles_table", "map_table"}
    assert set(data.coordinate_systems) == {"global", "micrometer"}
    bounds = data.shapes["map"].bounds.to_numpy()
    assert np.allclose(bounds, np.column_stack([COORDS, COORDS + 112]))
    microns = spatialdata.transform(data.shapes["tiles"], to_coordinate_system="micrometer")
    assert np.allclose(microns.bounds.to_numpy(), bounds * 0.5)
    table = data.tables["map_table"]
    source = anndata.read_h5ad(slide / "run" / "maps" / "S1.h5ad")
    assert np.array_equal(table.X, source.X)
    assert np.array_equal(table.obs["attention"], source.obs["attention"])
    assert np.array_equal(table.obs["T_cells"], source.obs["T cells"])
    extent = spatialdata.get_extent(data.images["thumbnail"])
    assert extent["x"] == (0, pytest.approx(1120))
    matched, _ = spatialdata.match_element_to_table(data, "map", "map_table")
    assert list(matched["map"].index) == list(table.obs_names)


def test_squidpy_reads_the_neighbours_of_tiles(slide: Path) -> None:
    squidpy = pytest.importorskip("squidpy", reason="is not installed")
    export(slide / "run", "--out", slide / "out")
    data = spatialdata.read_zarr(slide / "out" / "S1.zarr")
    squidpy.gr.spatial_neighbors(
        data,
        elements_to_coordinate_systems={"map": "global"},
        table_key="map_table",
        coord_type="grid",
        n_neighs=4,
    )
    links = data.tables["map_table"].obsp["spatial_connectivities"]
    assert sorted(set(np.asarray(links.sum(axis=1)).ravel())) == [2, 3, 4]


def test_an_image_of_the_slide_is_written_where_slides_are_given(slide: Path) -> None:
    out, slides = slide / "out", slide / "slides"
    done = export(slide / "tiles", "--out", out, "--slides", slides, "--mpp", 0.5, "--image-mpp", 2)
    assert done.exit_code == 0, done.output
    image = spatialdata.read_zarr(out / "S1.zarr").images["image"]
    assert image.shape == (3, 224, 280)
    assert spatialdata.get_extent(image)["y"] == (0, pytest.approx(896))
    other = export(slide / "tiles", "--out", out, "--slides", slides, "--mpp", 0.25)
    assert "its files state 0.25 and 0.5 µm/px" in str(other.exception)
    again = export(slide / "tiles", slide / "tiles", "--out", out)
    assert "several files give the tiles of slide S1" in str(again.exception)


def test_spots_are_read_back_as_the_section_that_they_were(tmp_path: Path) -> None:
    folder = write_sections(tmp_path / "spots", {"A": "P1"}, side=5)
    written = anndata.read_h5ad(folder / "A.h5ad")
    written.uns["mpp"] = 2.0
    written.write_h5ad(folder / "A.h5ad")
    Image.new("RGB", (560, 560), "white").save(tmp_path / "A.png")
    done = export(folder, "--out", tmp_path / "out", "--slides", tmp_path / "A.png", "--mpp", 2)
    assert done.exit_code == 0, done.output
    store = tmp_path / "out" / "A.zarr"
    assert set(spatialdata.read_zarr(store).shapes["spots"].bounds.iloc[0]) == {34.0, 66.0}
    (source,) = find_section_sources(store)
    section = source.read(ReadSettings(PatchSize(16, 4.0)))
    assert (section.patient, section.mpp) == ("P1", 2.0 * 2)  # of the image, 4 µm per pixel
    assert np.array_equal(section.counts.toarray(), written.X)
    assert section.genes.names == GENES
    assert np.allclose(section.centres() * 2, written.obsm["spatial"])


def test_predicted_spots_are_points(tmp_path: Path) -> None:
    obs = pd.DataFrame({"section": "A", "patient": "P1"}, index=["1x1", "2x1"])
    panel = GenePanel(("CD3D", "ESR1"))
    centres = np.array([[10.0, 20.0], [30.0, 20.0]])
    values = np.ones((2, 2), np.float32)
    for name, more in (("predicted_A", {"obsm": {"spatial": centres}}), ("predicted", {})):
        write_predictions(tmp_path / "run" / f"{name}.h5ad", values, obs, panel, unit="z", **more)
    result = export_spatialdata([tmp_path / "run"], tmp_path / "out")
    assert (result.done, result.failures) == (["A"], [])
    assert [each.name for each in result.left_out] == ["predicted.h5ad"]
    data = spatialdata.read_zarr(tmp_path / "out" / "A.zarr")
    assert np.array_equal(data.points["predictions"].compute()[["x", "y"]], centres)
    assert list(data.tables["predictions_table"].obs_names) == ["1x1", "2x1"]


def test_what_is_no_export_is_not_replaced(slide: Path) -> None:
    out = slide / "out"
    assert export(slide / "tiles", "--out", out).exit_code == 0
    assert export(slide / "tiles", "--out", out).exit_code == 0  # its own store is
    for metadata in (out / "S1.zarr").glob("zarr.json"):
        metadata.write_text(json.dumps({"zarr_format": 3, "node_type": "group"}))
    refused = export(slide / "tiles", "--out", out)
    assert "no earlier export wrote it" in str(refused.exception)
    with pytest.raises(InputError, match="holds no spots, tiles or maps"):
        export_spatialdata([slide / "slides"], out)
