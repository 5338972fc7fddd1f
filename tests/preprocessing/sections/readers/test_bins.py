"""Visium HD: the scale of bins is stated, never guessed, and bins are summed over blocks."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import anndata
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tenx_outputs import GENES, bin_table, paint_tissue, write_bins

from tcgn_mil.errors import InputError
from tcgn_mil.io.pyramid import write_pyramid
from tcgn_mil.io.spot_files import read_spots
from tcgn_mil.preprocessing.sections import writer as section_writer
from tcgn_mil.preprocessing.sections.config import SpotsConfig
from tcgn_mil.preprocessing.sections.lattice import Lattice
from tcgn_mil.preprocessing.sections.raw_section import RawSection, ReadSettings
from tcgn_mil.preprocessing.sections.readers.scale import Statement, choose_scale
from tcgn_mil.preprocessing.sections.readers.tenx import tenx_matrix
from tcgn_mil.preprocessing.sections.run import write_spots
from tcgn_mil.preprocessing.sections.sources import find_section_sources
from tcgn_mil.types.tile_geometry import PatchSize

SIDE, STEP_PX, FIRST_PX, MPP = 12, 32.0, 160.0, 0.5
PATCH = PatchSize(32, 2.0)  # 64 µm: four bins of 16 µm
STATED = {"bin_size_um": 16.0, "microns_per_pixel": MPP, "tissue_hires_scalef": 0.1}
COUNTS = np.random.default_rng(0).poisson(2, (SIDE * SIDE, len(GENES)))


@pytest.fixture(autouse=True)
def plain_overlays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the drawing, half a second per section."""
    monkeypatch.setattr(
        section_writer, "write_overlay", lambda path, *args, **kwargs: path.write_bytes(b"picture")
    )


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A full-resolution image that states no resolution."""
    Image.fromarray(paint_tissue(704, 704)).save(tmp_path / "image.png")
    return tmp_path / "image.png"


def bins(
    folder: Path, stated: dict[str, float] = STATED, *, parquet: bool = True, named: bool = True
) -> Path:
    table = bin_table(SIDE, 16, STEP_PX, FIRST_PX)
    if not named:
        table["barcode"] = [f"bin{i}" for i in range(len(table))]
    return write_bins(folder, table, COUNTS, stated, parquet=parquet)


def read(source: Path, image: Path, **settings: object) -> RawSection:
    (section,) = find_section_sources(source, image=image)
    return section.read(ReadSettings(PATCH, **settings))  # type: ignore[arg-type]


def h5ad(path: Path, *, array: bool, stated: dict[str, float] = STATED) -> Path:
    table = bin_table(SIDE, 16, STEP_PX, FIRST_PX).set_index("barcode")
    obs = table[["in_tissue", "array_row", "array_col"]] if array else table[["in_tissue"]]
    adata = anndata.AnnData(
        COUNTS.astype(np.float32), obs=obs, var=pd.DataFrame(index=[name for _, name in GENES])
    )
    adata.obsm["spatial"] = table[["pxl_col_in_fullres", "pxl_row_in_fullres"]].to_numpy()
    adata.uns["spatial"] = {"HD": {"images": {}, "scalefactors": dict(stated)}}
    adata.write_h5ad(path)
    return path


@pytest.mark.parametrize("place", ["outs", "outs/binned_outputs/square_016um"])
def test_blocks_of_whole_bins_are_summed_and_centred(
    tmp_path: Path, image: Path, place: str
) -> None:
    bins(tmp_path / "P7" / "outs" / "binned_outputs" / "square_016um")
    raw = read(tmp_path / "P7" / place, image)
    assert (raw.section, raw.mpp) == ("P7", MPP)
    blocks = COUNTS.reshape(3, 4, 3, 4, len(GENES)).sum(axis=(1, 3)).reshape(9, len(GENES))
    assert np.array_equal(raw.counts.toarray(), blocks)
    assert list(raw.spots[:2]) == ["pool_00000_00000", "pool_00000_00001"]
    first = FIRST_PX + 1.5 * STEP_PX  # the middle of four bins
    assert raw.centres()[:2] == pytest.approx(np.array([[first, first], [first + 128, first]]))
    (note,) = raw.warnings
    assert note.startswith("144 bins of 16 µm were summed over 9 blocks of 4 x 4 bins (64 µm")


def test_a_matrix_read_in_pieces_gives_the_same_sums(tmp_path: Path, image: Path) -> None:
    folder = bins(tmp_path / "S1")
    whole = read(folder, image)
    with patch.object(tenx_matrix, "PIECE", 7):
        assert np.array_equal(read(folder, image).counts.toarray(), whole.counts.toarray())


def test_blocks_with_few_bins_are_listed(tmp_path: Path, image: Path) -> None:
    table = bin_table(SIDE, 16, STEP_PX, FIRST_PX)
    edge = (table["array_row"] < 4) & (table["array_col"] < 4) & (table["array_row"] > 0)
    table.loc[edge, "in_tissue"] = 0
    write_bins(tmp_path / "S1", table, COUNTS, STATED)
    raw = read(tmp_path / "S1", image)
    assert raw.dropped == [
        ("pool_00000_00000", "fewer than half of its bins are under tissue and have counts")
    ]
    assert "4 bins lie in blocks that were left out" in raw.warnings[0]
    assert len(raw.spots) == 8


def test_another_size_is_asked_for_and_one_bin_stays_one_spot(tmp_path: Path, image: Path) -> None:
    folder = bins(tmp_path / "S1")
    assert len(read(folder, image, pool_um=33.0).spots) == 36
    alone = read(folder, image, pool_um=16.0)
    assert np.array_equal(alone.counts.toarray(), COUNTS)


@pytest.mark.parametrize("array", [True, False])
def test_an_h5ad_of_bins_has_the_stated_scale(tmp_path: Path, image: Path, array: bool) -> None:
    raw = read(h5ad(tmp_path / "hd.h5ad", array=array), image)
    assert raw.mpp == pytest.approx(MPP)
    assert raw.counts.shape == (9, 3)
    assert raw.centres()[0] == pytest.approx(np.full(2, FIRST_PX + 1.5 * STEP_PX))


@pytest.mark.parametrize("parquet", [True, False])
@pytest.mark.parametrize(
    "stated", [{"microns_per_pixel": MPP}, {"bin_size_um": 16.0}, {}], ids=["mpp", "bin", "name"]
)
def test_each_statement_alone_is_enough(
    tmp_path: Path, image: Path, parquet: bool, stated: dict[str, float]
) -> None:
    assert read(bins(tmp_path / "S1", stated, parquet=parquet), image).mpp == pytest.approx(MPP)


def test_a_square_grid_of_unknown_pitch_is_refused(tmp_path: Path, image: Path) -> None:
    """The pitch was once taken for the 200 µm of older arrays, 12.5 times too much."""
    folder = bins(tmp_path / "S1", {}, named=False)
    with pytest.raises(InputError, match=r"square grid, 32 px apart.*nothing states") as caught:
        read(folder, image)
    assert "--spot-pitch-um" in str(caught.value.fix)
    raw = read(folder, image, spot_pitch_um=16.0)
    assert (raw.mpp, raw.counts.shape) == (pytest.approx(MPP), (144, 3))
    assert read(folder, image, mpp=0.5).mpp == 0.5
    tagged = tmp_path / "tagged.tiff"
    write_pyramid(tagged, paint_tissue(704, 704), mpp=MPP, quality=90)
    assert read(folder, tagged).mpp == pytest.approx(MPP, rel=1e-3)


@pytest.mark.parametrize(
    ("stated", "settings", "reason"),
    [
        ({**STATED, "microns_per_pixel": 0.25}, {}, r"give 0.25 µm/px, but 0.5 is stated by its b"),
        ({**STATED, "bin_size_um": 8.0}, {}, r"bins of 8 µm, but the names of the bins say 16"),
        ({**STATED, "microns_per_pixel": "?"}, {}, r"has '\?' as microns_per_pixel"),
        (STATED, {"mpp": 0.52}, r"microns_per_pixel .* give 0.5 µm/px, but 0.52 is stated"),
        (STATED, {"spot_pitch_um": 200.0}, r"200 µm apart, give 6.25 µm/px, but 0.5 is stated"),
    ],
)
def test_statements_that_contradict_each_other_are_refused(
    tmp_path: Path,
    image: Path,
    stated: dict[str, float],
    settings: dict[str, float],
    reason: str,
) -> None:
    with pytest.raises(InputError, match=reason):
        read(bins(tmp_path / "S1", stated), image, **settings)


def test_the_user_may_override_and_it_is_recorded(tmp_path: Path, image: Path) -> None:
    folder, out = bins(tmp_path / "S1"), tmp_path / "out"
    config = SpotsConfig(image=str(image), patch=PATCH, mpp=0.6, override_mpp=True)
    done, failures, notes = write_spots(folder, out, config)
    assert (done, failures) == (["S1"], [])
    assert read_spots(out / "S1.h5ad").adata.uns["mpp"] == 0.6
    assert "give 0.5 µm/px, but 0.6 is stated by --mpp and used" in notes[0]
    assert "--override-mpp" in pd.read_csv(out / "sections.csv")["warnings"][0]


def test_a_table_states_the_pitch_of_each_section(tmp_path: Path, image: Path) -> None:
    bins(tmp_path / "S1", {}, named=False)
    (tmp_path / "t.csv").write_text("path,image,spot_pitch_um\nS1,image.png,16\n")
    (source,) = find_section_sources(tmp_path / "t.csv")
    assert source.read(ReadSettings(PATCH)).mpp == pytest.approx(MPP)


def test_spots_that_are_no_bins_are_not_pooled(tmp_path: Path, image: Path) -> None:
    rng = np.random.default_rng(0)
    adata = anndata.AnnData(
        COUNTS[:40].astype(np.float32), var=pd.DataFrame(index=[name for _, name in GENES])
    )
    adata.obsm["spatial"] = rng.uniform(150, 500, (40, 2))
    adata.write_h5ad(tmp_path / "cells.h5ad")
    with pytest.raises(InputError, match="span no lattice") as caught:
        read(tmp_path / "cells.h5ad", image)
    assert "--mpp" in str(caught.value.fix)
    assert len(read(tmp_path / "cells.h5ad", image, mpp=0.5).spots) == 40
    with pytest.raises(InputError, match="no square grid") as caught:
        read(tmp_path / "cells.h5ad", image, mpp=0.5, pool_um=50.0)
    assert caught.value.fix == "remove --pool-um"


def hexagonal(path: Path, step_px: float) -> Path:
    """Write an .h5ad of spots on a hexagonal lattice, without array positions and pictures."""
    row, column = (grid.ravel() for grid in np.mgrid[:10, :10])
    adata = anndata.AnnData(
        COUNTS[:100].astype(np.float32), var=pd.DataFrame(index=[name for _, name in GENES])
    )
    x = 130 + (column + row % 2 / 2) * step_px
    adata.obsm["spatial"] = np.column_stack([x, 130 + row * step_px * np.sqrt(0.75)])
    adata.write_h5ad(path)
    return path


def test_a_hexagonal_lattice_that_another_tool_made_is_not_taken_for_visium(
    tmp_path: Path, image: Path
) -> None:
    source, tagged = hexagonal(tmp_path / "hex.h5ad", 40.0), tmp_path / "tagged.tiff"
    write_pyramid(tagged, paint_tissue(704, 704), mpp=0.5, quality=90)
    assert read(source, tagged).mpp == pytest.approx(0.5, rel=1e-3)
    assert read(source, tagged, spot_pitch_um=20.0).mpp == pytest.approx(0.5, rel=1e-3)
    with pytest.raises(InputError, match="nothing states the distance in µm"):
        read(source, image)
    assert read(source, image, spot_pitch_um=100.0).mpp == pytest.approx(2.5)


def test_an_image_of_another_scale_is_not_called_too_coarse(tmp_path: Path) -> None:
    """The advice was once --allow-coarse, which writes patches of a wrong size."""
    visium, tagged = hexagonal(tmp_path / "hex.h5ad", 40.0), tmp_path / "tagged.tiff"
    adata = anndata.read_h5ad(visium)
    row, column = (grid.ravel() for grid in np.mgrid[:10, :10])
    adata.obs["array_row"], adata.obs["array_col"] = row, 2 * column + row % 2
    adata.write_h5ad(visium)
    write_pyramid(tagged, paint_tissue(704, 704), mpp=0.5, quality=90)
    config = SpotsConfig(image=str(tagged), patch=PatchSize(16, 0.5))
    done, (failure,), _ = write_spots(visium, tmp_path / "out", config)
    assert not done
    assert "tagged.tiff states 0.5 µm/px, its spots give 2.5" in failure.reason
    assert "allow-coarse" not in failure.likely_fix


@pytest.mark.parametrize(("stated", "note"), [(0.515, "2.9% from the 0.515"), (0.503, None)])
def test_sources_that_differ_a_little_are_named_in_the_summary(
    stated: float, note: str | None
) -> None:
    lattice = Lattice(200.0, 100.0, by_array=True, hexagonal=True)
    statements = (Statement(stated, "microns_per_pixel of a.json", preferred=True),)
    scale = choose_scale(lattice, ReadSettings(PATCH), statements, None, path=Path("a"))
    assert scale.mpp == stated
    assert len(scale.warnings) == (note is not None)
    assert note is None or note in scale.warnings[0]
