"""Decide whether the spots of a section are bins that are summed over blocks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.sections.lattice import Lattice
from tcgn_mil.preprocessing.sections.pooling import (
    MIN_FILLED,
    Pooling,
    bins_in_a_block,
    pool_bins,
    pool_points,
)
from tcgn_mil.preprocessing.sections.raw_section import CELLS, ReadSettings


def choose_pooling(
    positions: pd.DataFrame,
    lattice: Lattice,
    bin_um: float | None,
    mpp: float,
    settings: ReadSettings,
    *,
    path: Path,
) -> Pooling | None:
    """Return how to sum the spots; None if they stay as they are.

    Bins are summed over blocks of about the side of a patch, or of the size that is asked for.
    Other spots on a square grid are summed only if a size is given.

    Parameters
    ----------
    positions
        Positions of the spots in the array and in pixels.
    lattice
        Lattice of the spots.
    bin_um
        Side of the bins in µm, if the files say that the spots are bins.
    mpp
        µm per pixel of the full-resolution image.
    settings
        Size that is asked for, and the size of patches.
    path
        The file, for messages.

    Raises
    ------
    InputError
        If a size is asked for, and the spots lie on no square grid; or transcripts are asked for.
    """
    if settings.pool_from != CELLS:
        raise InputError(
            f"holds counts of spots or bins, and no {settings.pool_from} to sum",
            path=path,
            fix="remove --pool-from, which is for Xenium",
        )
    square = lattice.pitch_px is not None and not lattice.hexagonal
    if not square or lattice.pitch_px is None:
        if settings.pool_um is None:
            return None
        raise InputError(
            "its spots lie on no square grid and cannot be summed over squares",
            path=path,
            fix="remove --pool-um",
        )
    if bin_um is None and settings.pool_um is None:
        return None
    side_um = lattice.pitch_px * mpp if bin_um is None else bin_um
    pool_um = settings.patch.um if settings.pool_um is None else settings.pool_um
    side = bins_in_a_block(side_um, pool_um)
    if side == 1:
        return None
    if (positions["x"] < 0).all():  # the file has no array positions
        pixels = positions[["pixel_x", "pixel_y"]].to_numpy(dtype=np.float64)
        fewest = round(MIN_FILLED * side**2)
        corner = pixels.min(axis=0) - lattice.pitch_px / 2
        return pool_points(pixels, mpp, side * side_um, what="bins", fewest=fewest, corner=corner)
    return pool_bins(positions, side_um, pool_um)
