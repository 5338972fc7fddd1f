"""Tile geometry, panels and scalers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcgn_mil.errors import InputError
from tcgn_mil.types.genes import GenePanel, TargetScaler
from tcgn_mil.types.tile_geometry import PatchSize, TileSpec, check_mpp
from tcgn_mil.types.tiles import RejectedTiles, TileQuality, TileSet


@given(mpp=st.floats(0.1, 1.0), finest=st.floats(2.0, 4.1))
def test_tiles_of_every_scanner_cover_the_same_field(mpp: float, finest: float) -> None:
    patch = PatchSize()
    spec = TileSpec.for_slide(patch, slide_mpp=mpp, level_downsamples=[1.0, finest, finest**2])
    assert spec.level0_px * mpp == pytest.approx(patch.um)
    read_mpp = mpp * [1.0, finest, finest**2][spec.read_level]
    assert read_mpp <= max(patch.mpp, mpp) * 1.002  # the level read is finer, or level 0
    assert abs(spec.read_px * read_mpp - patch.um) <= read_mpp / 2 + 1e-9


def test_the_nearest_finer_level_is_read() -> None:
    spec = TileSpec.for_slide(
        PatchSize(112, 1.0), slide_mpp=0.25, level_downsamples=[1, 4.0002, 16]
    )
    assert (spec.read_level, spec.read_px) == (1, 112)
    assert (
        TileSpec.for_slide(
            PatchSize(112, 0.9), slide_mpp=0.25, level_downsamples=[1, 4, 16]
        ).read_level
        == 0
    )


def test_upsampling_is_bounded() -> None:
    assert TileSpec.for_slide(PatchSize(), slide_mpp=1.0, level_downsamples=[1]).read_px == 77
    with pytest.raises(InputError, match="too coarse"):
        TileSpec.for_slide(PatchSize(), slide_mpp=1.1, level_downsamples=[1])


@pytest.mark.parametrize("mpp", [0, -1, float("nan"), 50])
def test_implausible_resolutions_are_refused(mpp: float) -> None:
    with pytest.raises(InputError, match="is outside"):
        check_mpp(mpp)


def test_patch_sizes_match_by_field_and_sharpness() -> None:
    assert PatchSize(112, 0.69).matches(PatchSize(112, 0.6905))
    assert not PatchSize(112, 0.69).matches(PatchSize(224, 0.345))
    assert not PatchSize(112, 0.69).matches(PatchSize(224, 0.69))


def test_panel_finds_its_genes_and_names_missing_ones() -> None:
    panel = GenePanel(("B", "A"))
    assert panel.index_in(["A", "x", "B"]).tolist() == [2, 0]
    with pytest.raises(InputError, match="1 of 2 panel genes are missing: B"):
        panel.index_in(["A"])
    assert panel.hash != GenePanel(("A", "B")).hash
    with pytest.raises(InputError, match="repeats A"):
        GenePanel(("A", "A"))


def test_scaler_standardises_and_leaves_constant_genes_alone() -> None:
    values = np.column_stack([np.arange(10.0), np.full(10, 3.0)])
    scaler = TargetScaler.fit(values, transform="log1p")
    scaled = scaler.scale(values)
    np.testing.assert_allclose(scaled.std(0), [1, 0], atol=1e-6)
    np.testing.assert_allclose(scaler.unscale(scaled), values, atol=1e-5)


def test_tile_sets_check_their_arrays() -> None:
    spec = TileSpec.for_slide(PatchSize(), slide_mpp=0.5, level_downsamples=[1])
    with pytest.raises(InputError, match="1 tissue fractions"):
        TileSet("s", np.zeros((2, 2), np.int64), np.zeros(1, np.float32), spec, (10, 10))


def test_selected_tiles_keep_their_own_values() -> None:
    spec = TileSpec.for_slide(PatchSize(), slide_mpp=0.5, level_downsamples=[1])
    coords = np.arange(6, dtype=np.int64).reshape(3, 2)
    share = np.array([0.1, 0.2, 0.3], np.float32)
    quality = TileQuality(share, share, share, share)
    rejected = RejectedTiles(coords, share, quality, np.ones(3, np.uint8))
    tiles = TileSet("s", coords, share, spec, (10, 10), "p", quality, rejected, None, {"x": 1})
    for rows in ([2, 0], np.array([2, 0])):
        chosen = tiles.select(rows)
        assert chosen.coords.tolist() == [[4, 5], [0, 1]]
        assert chosen.tissue_fraction.tolist() == share[[2, 0]].tolist()
        assert chosen.quality is not None
        assert chosen.quality.pen.tolist() == share[[2, 0]].tolist()
        assert (chosen.rejected, chosen.patient_id, chosen.settings) == (None, "p", {"x": 1})
    assert tiles.select(slice(0, 1)).coords.tolist() == [[0, 1]]
    assert tiles.select(np.array([False, True, False])).coords.tolist() == [[2, 3]]
    assert len(tiles.select([])) == 0
