"""Sections of SpatialData stores: spots are brought to the image, and nothing is guessed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from zarr_stores import write_ngff

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.sections import writer as section_writer
from tcgn_mil.preprocessing.sections.config import SpotsConfig
from tcgn_mil.preprocessing.sections.raw_section import RawSection, ReadSettings, SectionSource
from tcgn_mil.preprocessing.sections.run import write_spots
from tcgn_mil.preprocessing.sections.sources import detect_format, find_section_sources
from tcgn_mil.types.tile_geometry import PatchSize

spatialdata = pytest.importorskip("spatialdata", reason="needs the extra [spatialdata]")
models = pytest.importorskip("spatialdata.models")
transformations = pytest.importorskip("spatialdata.transformations")
pytestmark = pytest.mark.filterwarnings("ignore")

PATCH = PatchSize(16, 4.0)  # 64 µm
MPP, PITCH_PX = 2.0, 50.0  # a hexagonal array of 100 µm
GENES = ["CD3D", "CD8A", "ESR1"]


def hexagonal(columns: int = 8, rows: int = 6) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return array positions and centres in pixels of spots."""
    array = np.array([(2 * c + r % 2, r) for r in range(rows) for c in range(columns)])
    return array, 60 + array * [PITCH_PX / 2, PITCH_PX * 0.75**0.5]


def picture(places: NDArray[np.float64], size: tuple[int, int] = (520, 360)) -> NDArray[np.uint8]:
    """Paint tissue under the spots, (H, W, 3)."""
    image = np.full((size[1], size[0], 3), 235, dtype=np.uint8)
    for x, y in places.astype(int):
        image[max(y - 26, 0) : y + 26, max(x - 26, 0) : x + 26] = (190, 90, 160)
    return image


def image_of(pixels: NDArray[np.uint8], **into: Any) -> Any:
    return models.Image2DModel.parse(
        np.moveaxis(pixels, 2, 0),
        dims=("c", "y", "x"),
        c_coords=["r", "g", "b"],
        transformations=into or {"global": transformations.Identity()},
    )


def shapes_of(places: NDArray[np.float64], names: list[str], **into: Any) -> Any:
    return models.ShapesModel.parse(
        places,
        geometry=0,
        radius=10.0,
        index=pd.Index(names),
        transformations=into or {"global": transformations.Identity()},
    )


def counts_of(
    regions: dict[str, list[str]], obs: pd.DataFrame | None = None, **more: Any
) -> anndata.AnnData:
    names = [name for spots in regions.values() for name in spots]
    rng = np.random.default_rng(0)
    adata = anndata.AnnData(
        rng.poisson(3, (len(names), 3)).astype(np.float32),
        obs=pd.DataFrame(index=[f"row_{name}" for name in names]),
        var=pd.DataFrame(index=GENES),
    )
    if obs is not None:
        adata.obs = obs.set_index(adata.obs_names)
    adata.obs["region"] = pd.Categorical([key for key, spots in regions.items() for _ in spots])
    adata.obs["spot"] = names
    adata.uns.update(more)
    return models.TableModel.parse(
        adata, region=list(regions), region_key="region", instance_key="spot"
    )


@pytest.fixture
def make_store(tmp_path: Path) -> Callable[..., Path]:
    """Write a Visium section into a store; arguments add or replace elements."""

    def write(name: str = "S1", **elements: dict[str, Any]) -> Path:
        array, places = hexagonal()
        names = [f"b{i}" for i in range(len(places))]
        obs = pd.DataFrame({"array_col": array[:, 0], "array_row": array[:, 1], "in_tissue": 1})
        given = {
            "images": {"he": image_of(picture(places))},
            "shapes": {"spots": shapes_of(places, names)},
            "tables": {"table": counts_of({"spots": names}, obs)},
        } | elements
        spatialdata.SpatialData(**given).write(tmp_path / f"{name}.zarr")
        return tmp_path / f"{name}.zarr"

    return write


def read(source: SectionSource, **settings: Any) -> RawSection:
    return source.read(ReadSettings(PATCH, **settings))


def only(path: Path, **options: Any) -> SectionSource:
    (source,) = find_section_sources(path, **options)
    return source


def test_a_visium_section_gives_its_spots_counts_and_resolution(
    make_store: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        section_writer, "write_overlay", lambda path, *args, **kwargs: path.write_bytes(b"picture")
    )
    store = make_store()
    assert detect_format(store) == "spatialdata"
    section = read(only(store))
    assert (section.section, section.mpp) == ("S1", pytest.approx(MPP, rel=1e-6))
    assert np.allclose(section.centres(), hexagonal()[1])
    stored = spatialdata.read_zarr(store).tables["table"]
    assert np.array_equal(section.counts.toarray(), stored.X)
    assert list(section.spots) == list(stored.obs_names)
    assert section.genes.names == tuple(GENES)
    assert section.warnings == ()
    result = write_spots(store, tmp_path / "out", SpotsConfig(patch=PATCH))
    assert (result.done, result.failures) == (["S1"], [])
    written = anndata.read_h5ad(tmp_path / "out" / "S1.h5ad")
    assert written.n_obs == 48
    with pytest.raises(InputError, match="but 1 is stated"):
        read(only(store), mpp=1.0)


def test_transformations_bring_spots_to_the_pixels_of_a_turned_image(
    make_store: Callable[..., Path],
) -> None:
    _, places = hexagonal()
    names = [f"b{i}" for i in range(len(places))]
    # Spots are stored in µm; the image is turned by 90 degrees and twice as fine as `global`.
    turned = transformations.Affine(
        np.array([[0, -0.5, 300], [0.5, 0, 0], [0, 0, 1]]), ("x", "y"), ("x", "y")
    )
    scaled = transformations.Scale([1 / MPP, 1 / MPP], ("x", "y"))
    image = image_of(np.full((720, 700, 3), 230, np.uint8), **{"global": turned})
    store = make_store(
        images={"he": image}, shapes={"spots": shapes_of(places * MPP, names, **{"global": scaled})}
    )
    section = read(only(store))
    # x = -0.5 v + 300 and y = 0.5 u, so that u = 2 y and v = 600 - 2 x.
    expected = np.column_stack([2 * places[:, 1], 600 - 2 * places[:, 0]])
    assert np.allclose(section.centres(), expected)
    assert section.mpp == pytest.approx(MPP / 2)
    stretched = transformations.Scale([1.0, 1.3], ("x", "y"))
    bad = make_store("S2", images={"he": image_of(picture(places), **{"global": stretched})})
    with pytest.raises(InputError, match="stretch the image"):
        read(only(bad))


def test_several_sections_and_a_broken_one_cost_one_row(
    make_store: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        section_writer, "write_overlay", lambda path, *args, **kwargs: path.write_bytes(b"picture")
    )
    array, places = hexagonal()
    sections = {key: [f"{key}_{i}" for i in range(len(places))] for key in ("A", "B", "C")}
    obs = pd.DataFrame(np.tile(array, (3, 1)), columns=["array_col", "array_row"])
    systems = {key: {key: transformations.Identity()} for key in sections}
    store = make_store(
        images={f"{key}_he": image_of(picture(places), **systems[key]) for key in ("A", "B")},
        shapes={key: shapes_of(places, names, **systems[key]) for key, names in sections.items()},
        tables={"table": counts_of(sections, obs)},
    )
    result = write_spots(store, tmp_path / "out", SpotsConfig(patch=PATCH))
    assert result.done == ["A", "B"]
    (failure,) = result.failures
    assert failure.slide == "C"
    assert "has no H&E image for C" in failure.reason
    (source,) = find_section_sources(store, sections=["B"])
    section = read(source)
    assert section.image.path.name == "B_he"
    assert [name[:5] for name in section.spots] == ["row_B"] * 48


def test_images_and_tables_are_chosen_and_not_guessed(make_store: Callable[..., Path]) -> None:
    _, places = hexagonal()
    names = [f"b{i}" for i in range(len(places))]
    half = transformations.Scale([2.0, 2.0], ("x", "y"))
    full = picture(places)
    pyramid = {"he": image_of(full), "hires": image_of(full[::2, ::2], **{"global": half})}
    section = read(only(make_store(images=pyramid)), mpp=2.0)
    assert section.image.path.name == "he"
    assert section.warnings == ("the image he is read, and not the coarser hires",)
    twins = make_store("S2", images={"he": image_of(full), "other": image_of(full)})
    with pytest.raises(InputError, match="several images for spots: he, other"):
        read(only(twins))
    section = read(only(twins, image=twins / "images" / "other"), spot_pitch_um=100.0)
    assert section.image.path.name == "other"
    table = counts_of({"spots": names})
    two = make_store("S3", tables={"counts": table, "other": table.copy()})
    with pytest.raises(InputError, match="several tables for one section: counts, other"):
        read(only(two))
    assert read(only(two / "tables" / "other"), spot_pitch_um=100.0).section == "S3"
    with pytest.raises(InputError, match="has no H&E image"):
        read(only(make_store("S4", images={})))
    dapi = models.Image2DModel.parse(full[None, ..., 0], dims=("c", "y", "x"), c_coords=["DAPI"])
    with pytest.raises(InputError, match=r"has no H&E image for spots: stain .has one channel"):
        read(only(make_store("S8", images={"stain": dapi})))
    with pytest.raises(InputError, match="has no table whose rows belong to shapes"):
        read(only(make_store("S5", tables={})))
    bins = {f"x_square_{size}um": names for size in ("008", "016")}
    hd = make_store(
        "S6",
        shapes={key: shapes_of(places, names) for key in bins},
        tables={key[2:]: counts_of({key: names}) for key in bins},
    )
    with pytest.raises(InputError, match="several tables for one section"):
        read(only(hd))
    (hd.parent / "S7.h5ad").touch()
    with pytest.raises(InputError, match=r"holds stores of SpatialData and \.h5ad files"):
        find_section_sources(hd.parent)


def test_the_scale_is_stated_or_asked_for(make_store: Callable[..., Path]) -> None:
    rng = np.random.default_rng(1)
    cells = rng.uniform(20, 340, (400, 2))
    names = [f"c{i}" for i in range(400)]
    to_pixels = transformations.Scale([0.5, 0.5], ("x", "y"))
    elements = {
        "shapes": {"cells": shapes_of(cells * 2, names, **{"global": to_pixels})},
        "tables": {"table": counts_of({"cells": names})},
    }
    store = make_store(**elements)
    with pytest.raises(InputError, match="nothing states the µm per pixel") as caught:
        read(only(store))
    assert "its pixels have 2 µm if that unit is 1 µm" in str(caught.value)
    section = read(only(store), mpp=2.0)
    assert 20 < len(section.spots) < 400
    assert section.totals().sum() == spatialdata.read_zarr(store).tables["table"].X.sum()
    assert "400 cells were summed over" in section.warnings[-1]
    stated = {"S1": {"scalefactors": {"microns_per_pixel": 0.5}}}
    same = {"shapes": {"cells": shapes_of(cells, names)}}
    table = counts_of({"cells": names}, spatial=stated)
    assert read(only(make_store("S2", tables={"table": table}, **same))).mpp == 0.5


def test_rows_without_a_shape_are_listed(make_store: Callable[..., Path]) -> None:
    _, places = hexagonal()
    names = [f"b{i}" for i in range(len(places))]
    store = make_store(
        shapes={"spots": shapes_of(places[:-2], [*names[1:-2], "extra"])},
        tables={"table": counts_of({"spots": names})},
    )
    section = read(only(store), mpp=2.0)
    assert [name for name, _ in section.dropped] == ["row_b0", "row_b46", "row_b47"]
    assert "1 shapes of spots have no counts" in section.warnings
    strange = make_store("S2", shapes={"spots": shapes_of(places, [f"z{n}" for n in names])})
    with pytest.raises(InputError, match="names b0, b1, but the shapes of spots are zb0, zb1"):
        read(only(strange))


def test_an_image_file_beside_the_store_and_a_slide_of_ome_zarr(
    make_store: Callable[..., Path], tmp_path: Path
) -> None:
    store = make_store(images={})
    slide = write_ngff(tmp_path / "he.ome.zarr", picture(hexagonal()[1]), pixel=(MPP, MPP))
    section = read(only(store, image=slide))
    assert section.image.path == slide
    assert "are taken as its pixels" in section.warnings[0]


@pytest.mark.parametrize(
    ("part", "change", "reason"),
    [
        ("tables/table/X", {"shape": [10**7, 10**5]}, "claims 4000.0 GB"),
        ("tables/table/obs/spot", "link", "a link that leads out of the store"),
        ("shapes/spots", "cut", "element spots is missing or damaged"),
    ],
)
def test_a_store_that_is_unsafe_or_damaged_is_refused(
    make_store: Callable[..., Path], tmp_path: Path, part: str, change: Any, reason: str
) -> None:
    folder = make_store() / part
    if change == "link":
        chunk = next(path for path in folder.rglob("0") if path.is_file())
        chunk.rename(tmp_path / "elsewhere")
        chunk.symlink_to(tmp_path / "elsewhere")
    elif change == "cut":
        (folder / "shapes.parquet").write_bytes(b"PAR1")
    else:
        metadata = json.loads((folder / "zarr.json").read_text())
        (folder / "zarr.json").write_text(json.dumps(metadata | change))
    with pytest.raises(InputError, match=reason):
        read(only(tmp_path / "S1.zarr"))


def test_without_the_extra_the_error_says_what_to_install(
    make_store: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store()
    monkeypatch.setitem(sys.modules, "spatialdata", None)
    with pytest.raises(InputError, match=r"pip install 'tcgn-mil\[spatialdata\]'"):
        read(only(store))
