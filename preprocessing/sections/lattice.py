"""Resolution from the lattice of spots: their distance on the glass is known, so their distance in pixels says µm/px.

The affine map from array positions to pixels is fitted over all spots, so that neither a rotated image nor single
displaced spots matter. Visium's array is hexagonal, with columns counted in half steps (odd in odd rows); the first ST
arrays are square.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from tcgn_mil.errors import InputError
from tcgn_mil.types.tile_geometry import check_mpp

VISIUM_PITCH_UM = 100.0
SQUARE_PITCH_UM = 200.0
_NEIGHBOURS = {True: ((2, 0), (1, 1), (1, -1)), False: ((1, 0), (0, 1))}  # by whether hexagonal
_MAX_UNEVEN = 1.05  # longest over shortest distance of neighbours
_MAX_RESIDUAL = 0.1  # of the distance


@dataclass(frozen=True)
class Lattice:
    """The array of spots in pixels.

    Attributes
    ----------
    pitch_px
        Distance of neighbouring spots.
    pitch_um
        What that is on the glass, if the array is of the usual kind.
    mirrored
        Whether the array's columns and rows turn the other way in the image: one of them is flipped, or x and y are
        swapped. False where array positions are not known.
    """

    pitch_px: float
    pitch_um: float
    mirrored: bool = False


def fit_lattice(
    array: NDArray[np.floating], pixels: NDArray[np.floating], *, path: object
) -> Lattice:
    """Fit the array of spots.

    Parameters
    ----------
    array
        (S, 2) column and row in the array.
    pixels
        (S, 2) x and y of the centres.

    Raises
    ------
    InputError
        If the spots span no lattice, or the positions do not lie on one.
    """
    array, pixels = np.asarray(array, dtype=np.float64), np.asarray(pixels, dtype=np.float64)
    centred = array - array.mean(axis=0) if len(array) else array
    if len(array) < 3 or np.linalg.matrix_rank(centred) < 2:
        raise InputError(
            f"its {len(array)} spots span no array: no distance to measure",
            path=str(path),
            fix="state the image's µm per pixel",
        )
    axes, *_ = np.linalg.lstsq(
        centred, pixels - pixels.mean(axis=0), rcond=None
    )  # (2, 2): pixels a column, a row
    hexagonal = bool((array.sum(axis=1) % 2 == 0).all())
    steps = np.linalg.norm(np.array(_NEIGHBOURS[hexagonal]) @ axes, axis=1)
    pitch = float(steps.mean())
    off = float(
        np.sqrt(np.square(centred @ axes - pixels + pixels.mean(axis=0)).sum(axis=1).mean())
    )
    if steps.min() <= 0 or steps.max() / steps.min() > _MAX_UNEVEN or off > _MAX_RESIDUAL * pitch:
        shown = ", ".join(f"{step:.1f}" for step in steps)
        raise InputError(
            f"its positions lie on no lattice: neighbours are {shown} px apart, spots {off:.1f} px off their places",
            path=str(path),
            fix="check that array and pixel positions are of one section, rows with rows and columns with columns",
        )
    return Lattice(
        pitch, VISIUM_PITCH_UM if hexagonal else SQUARE_PITCH_UM, bool(np.linalg.det(axes) < 0)
    )


def nearest_spacing(pixels: NDArray[np.floating], *, path: object) -> Lattice:
    """The median distance to the nearest spot, for sources without array positions; taken for Visium's pitch."""
    if len(pixels) < 3:
        raise InputError(
            "has too few spots to measure a distance", path=str(path), fix="state the µm per pixel"
        )
    distances, _ = cKDTree(pixels).query(pixels, k=2)
    return Lattice(float(np.median(distances[:, 1])), VISIUM_PITCH_UM)


def resolution(
    lattice: Lattice,
    *,
    spot_pitch_um: float | None,
    mpp: float | None,
    tolerance: float,
    path: object,
) -> float:
    """µm per pixel as given, checked against the spots, or else measured from them.

    Raises
    ------
    InputError
        If the given one is more than `tolerance` (relative) off the measured one.
    """
    pitch_um = lattice.pitch_um if spot_pitch_um is None else spot_pitch_um
    measured = check_mpp(pitch_um / lattice.pitch_px, what="measured resolution", path=path)
    if mpp is None:
        return measured
    check_mpp(mpp, what="given resolution", path=path)
    if abs(measured / mpp - 1) > tolerance:
        raise InputError(
            f"its spots, {pitch_um:g} µm apart, give {measured:.4g} µm/px, but {mpp:.4g} is stated",
            path=str(path),
            fix="leave the resolution out, or state the spots' true distance in µm",
        )
    return mpp
