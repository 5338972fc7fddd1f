"""Tiles have the same physical size on slides of all scanners."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcgn_mil.errors import InputError
from tcgn_mil.types.tile_geometry import PatchSize, TileSpec, check_mpp


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
