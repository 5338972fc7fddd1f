"""Find the positions and the size of imported tiles, from the file and from what the user gives.

Nothing is guessed. What a file does not say has to be given: CLAM's files give neither the encoder
nor the tile size, TRIDENT's give sizes in pixels, and STAMP's give positions in µm. Level-0 pixels
and µm are converted by the slide's µm per pixel, which none of these files holds.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.features.readers.base import TILE, ForeignFeatures
from tcgn_mil.types.features import LEVEL0, SCALED, UNKNOWN
from tcgn_mil.types.tile_geometry import PatchSize, TileSpec

# Relative tolerance between two statements of one tile size.
_SAME_SIZE = 0.02
# The same if one of them may be nominal: "20x" means 0.5 µm/px, a scanner may have 0.46.
_NOMINAL_SIZE = 0.1

# A vector of a slide is a bag of one tile without position. The tile has no size either; this one
# is the smallest that a feature file allows.
WITHOUT_TILES = TileSpec.for_slide(PatchSize(8, 1.0), slide_mpp=1.0, level_downsamples=[1.0])


class PlacedTiles(NamedTuple):
    """Positions and size of the tiles of one slide.

    Attributes
    ----------
    coords
        (N, 2) int64 top-left corners; -1 if there are no positions.
    spec
        Size of the tiles.
    positions
        Unit of the coords, as in :class:`~tcgn_mil.io.feature_files.FeatureInfo`.
    """

    coords: NDArray[np.int64]
    spec: TileSpec
    positions: str


def place(
    features: ForeignFeatures,
    *,
    mpp: float | None = None,
    patch_px: int | None = None,
    patch_mpp: float | None = None,
) -> PlacedTiles:
    """Find the positions and the size of the tiles of one slide.

    Parameters
    ----------
    features
        Features as their file describes them. The vector of a slide or patient needs no size.
    mpp
        µm per pixel of the slide's level 0, if known.
    patch_px, patch_mpp
        Size of a tile, if the file does not say. For a file that gives level-0 pixels, `patch_mpp`
        may be nominal, up to 10 % off the size that follows from `mpp`. Without `mpp`, the slide's
        resolution is computed from it.

    Raises
    ------
    InputError
        If a needed size is neither in the file nor given, or if both are there and disagree.

    Examples
    --------
    >>> clam = ForeignFeatures("clam", np.zeros((1, 8), np.float32), np.array([[512, 0]]))
    >>> tiles = place(clam, mpp=0.25, patch_px=256, patch_mpp=0.5)
    >>> tiles.positions, tiles.spec.level0_px
    ('level-0 pixels', 512.0)
    """
    if features.level != TILE:
        return PlacedTiles(_no_coords(features), WITHOUT_TILES, UNKNOWN)
    if features.patch_px is not None and patch_px not in (None, features.patch_px):
        raise InputError(
            f"says its tiles are of {features.patch_px} px, not {patch_px}",
            fix="remove the option --patch-px",
        )
    px = features.patch_px or patch_px
    if px is None:
        raise InputError(
            f"is of the layout {features.layout.upper()}, whose files do not give the tile size",
            fix="give --patch-px, the pixels of a tile as it was cut, and --patch-mpp",
        )
    patch = PatchSize(px, _patch_mpp(features, px, mpp, patch_mpp))
    # A tile of known µm and known level-0 pixels gives the resolution of the slide.
    slide_mpp = patch.um / features.level0_px if mpp is None and features.level0_px else mpp
    in_um = features.layout == "stamp"
    if slide_mpp is None and features.coords is not None and not in_um:
        raise InputError(
            "gives positions in level-0 pixels, but not the µm per pixel of level 0",
            fix="give --mpp, or a column mpp in the table of --patients",
        )
    spec = _spec(features, patch, slide_mpp)
    if features.coords is None:
        return PlacedTiles(_no_coords(features), spec, UNKNOWN)
    if not in_um:
        return PlacedTiles(features.coords.astype(np.int64), spec, LEVEL0)
    # Without the resolution of the slide, positions are given in pixels of the tiles.
    pixels = np.rint(features.coords.astype(np.float64) / spec.slide_mpp).astype(np.int64)
    return PlacedTiles(pixels, spec, SCALED if slide_mpp is None else LEVEL0)


def _no_coords(features: ForeignFeatures) -> NDArray[np.int64]:
    return np.full((len(features.features), 2), -1, dtype=np.int64)


def _spec(features: ForeignFeatures, patch: PatchSize, slide_mpp: float | None) -> TileSpec:
    """Return the geometry of the tiles.

    Our own tiles have a whole number of source pixels. Here the level-0 size of the file is kept as
    stated. Without `slide_mpp` the tile's own pixels stand in for level-0 pixels.
    """
    spec = TileSpec.for_slide(
        patch,
        slide_mpp=slide_mpp or patch.mpp,
        level_downsamples=[1.0],
        stride_px=features.stride_px,
    )
    if not features.level0_px:
        return spec
    step = spec.stride_px * features.level0_px / patch.px
    return replace(
        spec,
        level0_px=features.level0_px,
        read_px=max(1, round(features.level0_px)),
        level0_stride_px=step,
    )


def _patch_mpp(features: ForeignFeatures, px: int, mpp: float | None, given: float | None) -> float:
    """Return µm per pixel of a tile, as given or as the file says; refuse a contradiction."""
    side_um, tolerance = features.patch_um, _SAME_SIZE
    if features.level0_px and mpp is not None:
        side_um, tolerance = features.level0_px * mpp, _NOMINAL_SIZE
    if given is None and side_um is None:
        raise InputError(
            "does not give the size of its tiles in µm",
            fix="give --patch-mpp, the µm per pixel of a tile"
            + (", or the slide's --mpp" if features.level0_px else ""),
        )
    if given is None or side_um is None:
        return given if given is not None else (side_um or math.nan) / px
    if not math.isclose(given * px, side_um, rel_tol=tolerance):
        raise InputError(
            f"its tiles are {side_um:.1f} µm wide, but {px} px of {given:g} µm"
            f" are {given * px:.1f}",
            fix="check --patch-mpp and the slide's µm per pixel",
        )
    return given
