"""Measure the resolution of an image from the lattice of its spots.

The distance between neighbouring spots on the glass is known. Divided by their distance in pixels
it gives the µm per pixel.

An affine map ``pixel = array @ axes + offset`` is fitted by least squares over all spots, where
``array`` is the column and the row of a spot and ``axes`` (2, 2) holds the pixels for one column
and for one row. A rotated image therefore gives the same result, and a few displaced spots matter
little. The vector to a neighbour is the neighbour's array offset times ``axes``.

Visium's array is hexagonal. Its columns are counted in half steps, so that column + row is even for
every spot, and the neighbours are at offsets (2, 0), (1, 1) and (1, -1). The older arrays of
spatial transcriptomics are square, with neighbours at (1, 0) and (0, 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.sections.raw_section import MAX_DISAGREEMENT, ReadSettings
from tcgn_mil.types.tile_geometry import check_mpp

VISIUM_PITCH_UM = 100.0
SQUARE_PITCH_UM = 200.0
MIRRORED = (
    "its spots are mirrored against the array: are x and y swapped, or is the image flipped?"
    " look at the alignment figure"
)
# Array offsets of the neighbours, by whether the array is hexagonal.
_NEIGHBOURS = {True: ((2, 0), (1, 1), (1, -1)), False: ((1, 0), (0, 1))}
_MAX_UNEVEN = 1.05  # longest distance of neighbours, as a multiple of the shortest
_MAX_RESIDUAL = 0.1  # root mean square distance of spots from their places, as a share of the pitch


@dataclass(frozen=True)
class Lattice:
    """Lattice of spots in an image.

    Attributes
    ----------
    pitch_px
        Distance between neighbouring spots in pixels.
    pitch_um
        The same in µm on the glass, if the array is of the usual kind.
    mirrored
        Whether the lattice is a mirror image of the array (the determinant of ``axes`` is
        negative). Either x and y are swapped, or the image is flipped. False if array positions are
        unknown.
    """

    pitch_px: float
    pitch_um: float
    mirrored: bool = False


def fit_lattice(
    array: NDArray[np.floating], pixels: NDArray[np.floating], *, path: object
) -> Lattice:
    """Fit the lattice of spots.

    Parameters
    ----------
    array
        (S, 2) column and row of each spot in the array.
    pixels
        (S, 2) x and y of each centre in pixels.
    path
        The file, for messages.

    Raises
    ------
    InputError
        If the spots lie on one line, or the positions do not lie on a lattice.

    Examples
    --------
    >>> array = np.array([[0, 0], [1, 0], [0, 1], [1, 1]])
    >>> lattice = fit_lattice(array, array * 290.0 + 50, path="spots.csv")
    >>> round(lattice.pitch_px), lattice.pitch_um, lattice.mirrored
    (290, 200.0, False)
    """
    array, pixels = np.asarray(array, dtype=np.float64), np.asarray(pixels, dtype=np.float64)
    # Both sides are centred, so that the offset drops out of the fit.
    centred = array - array.mean(axis=0) if len(array) else array
    if len(array) < 3 or np.linalg.matrix_rank(centred) < 2:
        raise InputError(
            f"its {len(array)} spots span no array, so there is no distance to measure",
            path=str(path),
            fix="give the µm per pixel of the image with --mpp",
        )
    axes, *_ = np.linalg.lstsq(centred, pixels - pixels.mean(axis=0), rcond=None)
    # In a square array half of the sums of column and row are odd.
    hexagonal = bool((array.sum(axis=1) % 2 == 0).all())
    # All neighbours of a spot are at one distance. If the fit gives different distances, array
    # and pixel positions do not belong together.
    steps = np.linalg.norm(np.array(_NEIGHBOURS[hexagonal]) @ axes, axis=1)
    pitch = float(steps.mean())
    # Root mean square distance between the spots and the lattice that was fitted.
    off = float(
        np.sqrt(np.square(centred @ axes - pixels + pixels.mean(axis=0)).sum(axis=1).mean())
    )
    if steps.min() <= 0 or steps.max() / steps.min() > _MAX_UNEVEN or off > _MAX_RESIDUAL * pitch:
        shown = ", ".join(f"{step:.1f}" for step in steps)
        raise InputError(
            f"its positions lie on no lattice: neighbours are {shown} px apart, and spots are"
            f" {off:.1f} px off their places",
            path=str(path),
            fix="check that array and pixel positions are of one section, and that rows and columns"
            " are not swapped in one of them",
        )
    return Lattice(
        pitch, VISIUM_PITCH_UM if hexagonal else SQUARE_PITCH_UM, bool(np.linalg.det(axes) < 0)
    )


def nearest_spacing(pixels: NDArray[np.floating], *, path: object) -> Lattice:
    """Return a lattice whose pitch is the median distance to the nearest spot.

    For sources without array positions. The pitch in µm is taken to be Visium's.

    Raises
    ------
    InputError
        If there are fewer than three spots.
    """
    if len(pixels) < 3:
        raise InputError(
            "has too few spots to measure a distance",
            path=str(path),
            fix="give the µm per pixel of the image with --mpp",
        )
    distances, _ = cKDTree(pixels).query(pixels, k=2)
    return Lattice(float(np.median(distances[:, 1])), VISIUM_PITCH_UM)


def resolution(lattice: Lattice, settings: ReadSettings, *, path: Path) -> float:
    """Return µm per pixel, as stated and checked against the spots, or else as measured.

    Parameters
    ----------
    lattice
        Lattice of the spots.
    settings
        Stated µm per pixel, and the distance between neighbouring spots if it is not the usual one.
    path
        The file, for messages.

    Raises
    ------
    InputError
        If the stated value is more than 5 % off the measured one.
    """
    pitch_um = lattice.pitch_um if settings.spot_pitch_um is None else settings.spot_pitch_um
    measured = check_mpp(pitch_um / lattice.pitch_px, what="measured resolution", path=path)
    if settings.mpp is None:
        return measured
    stated = check_mpp(settings.mpp, what="given resolution", path=path)
    check_stated(stated, measured, pitch_um, path=path)
    return stated


def check_stated(mpp: float, measured: float, pitch_um: float, *, path: Path) -> None:
    """Raise InputError if the stated resolution is more than 5 % off the measured one."""
    if abs(measured / mpp - 1) > MAX_DISAGREEMENT:
        raise InputError(
            f"its spots, {pitch_um:g} µm apart, give {measured:.4g} µm/px, but {mpp:.4g} is stated",
            path=path,
            fix="remove the stated resolution, or give the true distance of spots to"
            " --spot-pitch-um",
        )
