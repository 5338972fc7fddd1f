"""Measure the distance of neighbouring spots in an image, and tell the kind of their lattice.

An affine map ``pixel = array @ axes + offset`` is fitted by least squares over all spots, where
``array`` is the column and the row of a spot and ``axes`` (2, 2) holds the pixels for one column
and for one row. A rotated image therefore gives the same result, and a few displaced spots matter
little. The vector to a neighbour is the neighbour's array offset times ``axes``.

Visium's array is hexagonal. Its columns are counted in half steps, so that column + row is even for
every spot, and the neighbours are at offsets (2, 0), (1, 1) and (1, -1). Only this lattice has a
known pitch on the glass, 100 µm. Square lattices are of many kinds (older arrays with 200 µm, bins
of Visium HD with 2 to 16 µm, cells that were pooled on a grid), and other tools sum cells over
hexagons of any size, so the pitch of all others has to be stated.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from tcgn_mil.errors import InputError

VISIUM_PITCH_UM = 100.0
MIRRORED = (
    "its spots are mirrored against the array: are x and y swapped, or is the image flipped?"
    " look at the alignment figure"
)
# Array offsets of the neighbours, by whether the array is hexagonal.
_NEIGHBOURS = {True: ((2, 0), (1, 1), (1, -1)), False: ((1, 0), (0, 1))}
_MAX_UNEVEN = 1.05  # longest distance of neighbours, as a multiple of the shortest
_MAX_RESIDUAL = 0.1  # root mean square distance of spots from their places, as a share of the pitch
# Neighbours of a hexagonal lattice are at 1 and 1.73 pitches, of a square one at 1 and 1.41.
_NEAR = 1.2
# Programs that join sections put the name of the section before or after the barcode.
_VISIUM_BARCODE = re.compile(r"(?:^|[^A-Z])[ACGT]{16}-\d+(?:$|[^\d])")
# Both extents are of one shape if their sides differ by less than this. They are near each other if
# their corners are as near as the first share of the tissue's longer side, or, in sections of few
# spots, as near as a pitch, up to the second share.
_MAX_OTHER_SHAPE, _MAX_OFF_CORNER, _MAX_OFF_BY_PITCH = 0.1, 0.05, 0.1
_EXTENT_PERCENTILES = (0.5, 99.5)
_MIN_ORDER = 0.9  # mean of exp(i n angle) over pairs of neighbours; 1 on a perfect lattice


@dataclass(frozen=True)
class Lattice:
    """Lattice of spots in an image.

    Attributes
    ----------
    pitch_px
        Distance between neighbouring spots in pixels; None if the spots lie on no lattice.
    pitch_um
        The same in µm on the glass, which is known for the array of Visium only.
    mirrored
        Whether the lattice is a mirror image of the array (the determinant of ``axes`` is
        negative). Either x and y are swapped, or the image is flipped. False if array positions are
        unknown.
    by_array
        Whether the array positions are known. Without them a hexagonal lattice may also be one that
        another tool made, so that the image may contradict its pitch.
    hexagonal
        Whether the neighbours are those of hexagons, and not of squares.
    """

    pitch_px: float | None
    pitch_um: float | None
    mirrored: bool = False
    by_array: bool = False
    hexagonal: bool = False


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
        If the positions do not lie on a lattice, or two spots are at one place.

    Examples
    --------
    >>> array = np.array([[0, 0], [1, 0], [0, 1], [1, 1]])
    >>> lattice = fit_lattice(array, array * 290.0 + 50, path="spots.csv")
    >>> round(lattice.pitch_px), lattice.pitch_um, lattice.mirrored
    (290, None, False)
    """
    array, pixels = np.asarray(array, dtype=np.float64), np.asarray(pixels, dtype=np.float64)
    # Both sides are centred, so that the offset drops out of the fit.
    centred = array - array.mean(axis=0) if len(array) else array
    if len(array) < 3 or np.linalg.matrix_rank(centred) < 2:
        return Lattice(None, None)  # too few spots, or spots on one line, span no array
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
    refuse_shared_places(array, path=path)
    mirrored = bool(np.linalg.det(axes) < 0)
    return Lattice(
        pitch,
        VISIUM_PITCH_UM if hexagonal else None,
        mirrored,
        by_array=True,
        hexagonal=hexagonal,
    )


def refuse_shared_places(places: NDArray[np.floating], *, path: object) -> None:
    """Raise InputError if two spots are at one place, as when sections were merged into a file.

    Parameters
    ----------
    places
        (S, 2) positions in the array or in pixels.
    path
        The file, for messages.
    """
    # A complex number for each place, because np.unique is slow on rows.
    shared = len(places) - len(np.unique(places[:, 0] + 1j * places[:, 1]))
    if shared:
        raise InputError(
            f"{shared} of {len(places)} spots are at the place of another one: it seems to hold"
            " several sections",
            path=str(path),
            fix="write a file for each section, or name the section of each spot in"
            " obs['library_id'] of an .h5ad",
        )


def find_lattice(pixels: NDArray[np.floating]) -> Lattice:
    """Tell the lattice of spots whose array positions are unknown, from their neighbours.

    Each pair of neighbours has an angle. On a hexagonal lattice all angles are multiples of 60°, so
    that the mean of ``exp(6i angle)`` is 1 in size; on a square lattice this holds for
    ``exp(4i angle)``. Cells, and spots on a single line, have neither.

    Parameters
    ----------
    pixels
        (S, 2) x and y of each centre in pixels.

    Returns
    -------
    Lattice
        Without pitch if there are fewer than three spots, or they lie on no lattice. Its pitch in
        µm is not known; see :func:`of_visium`.

    Examples
    --------
    >>> rows, columns = np.mgrid[:6, :6]
    >>> square = np.column_stack([columns.ravel(), rows.ravel()]) * 40.0
    >>> find_lattice(square)
    Lattice(pitch_px=40.0, pitch_um=None, mirrored=False, by_array=False, hexagonal=False)
    >>> hexagonal = square + np.column_stack([20 * (rows.ravel() % 2), 0 * rows.ravel()])
    >>> find_lattice(hexagonal * [1, 0.75**0.5]).hexagonal
    True
    """
    pixels = np.asarray(pixels, dtype=np.float64)
    if len(pixels) < 3:
        return Lattice(None, None)
    tree = cKDTree(pixels)
    distances = tree.query(pixels, k=2)[0][:, 1]
    pitch = float(np.median(distances))
    # Nearest neighbours of cells are at any distance; those on a lattice are at one.
    if pitch <= 0 or np.mean(np.abs(distances / pitch - 1) < _MAX_RESIDUAL) < _MIN_ORDER:
        return Lattice(None, None)
    pairs = tree.query_pairs(_NEAR * pitch, output_type="ndarray")
    steps = pixels[pairs[:, 1]] - pixels[pairs[:, 0]]
    # Positions are rounded to pixels; the mean over all pairs is free of it, the median is not.
    pitch = float(np.linalg.norm(steps, axis=1).mean())
    angles = np.arctan2(steps[:, 1], steps[:, 0])
    line, square, hexagonal = (
        float(np.abs(np.exp(1j * fold * angles).mean())) for fold in (2, 4, 6)
    )
    if line > _MIN_ORDER or max(square, hexagonal) < _MIN_ORDER:
        return Lattice(None, None)
    return Lattice(pitch, None, hexagonal=hexagonal > square)


def of_visium(lattice: Lattice, names: Sequence[str]) -> Lattice:
    """Return a hexagonal lattice with the pitch of Visium, if the names of its spots are Visium's.

    Space Ranger names a spot by its barcode of 16 bases and a number. Hexagons over which another
    tool summed cells have names of their own.

    Examples
    --------
    >>> of_visium(Lattice(40.0, None, hexagonal=True), ["AAACAAGTATCTCCCA-1"]).pitch_um
    100.0
    >>> of_visium(Lattice(40.0, None, hexagonal=True), ["hexagon 7"]).pitch_um is None
    True
    """
    if not lattice.hexagonal or not all(_VISIUM_BARCODE.search(str(name)) for name in names):
        return lattice
    return replace(lattice, pitch_um=VISIUM_PITCH_UM)


def extent_scale(tissue: NDArray[np.bool_], centres: NDArray[np.floating]) -> float:
    """Return the factor of all positions that brings the spots' extent onto the tissue's.

    A picture is scaled about its corner, so that one factor has to fit all four sides. This keeps
    sections apart whose tissue is larger than the area with spots. Spots mark tissue to about one
    pitch, so that the factor of a sound section differs from 1 by some per cent.

    Parameters
    ----------
    tissue
        (H, W) True for pixels that show tissue.
    centres
        (S, 2) spot centres x, y in the same pixels, at least two.

    Returns
    -------
    float
        NaN if no factor fits, or there is no tissue.
    """
    rows, columns = np.nonzero(tissue)
    if len(rows) == 0:
        return float("nan")
    low, high = (
        np.array([np.percentile(axis, at) for axis in (columns, rows)])
        for at in _EXTENT_PERCENTILES
    )
    first, last = (np.percentile(centres, at, axis=0) for at in _EXTENT_PERCENTILES)
    # The outermost spots lie within one pitch of the tissue's edge, on average half of one.
    pitch = float(np.median(cKDTree(centres).query(centres, k=2)[0][:, 1]))
    first, last = first - pitch / 2, last + pitch / 2
    sides = (high - low) / (last - first)
    scale = float(np.sqrt(sides.prod()))
    if scale <= 0 or abs(sides[0] / sides[1] - 1) > _MAX_OTHER_SHAPE:
        return float("nan")
    off = max(np.abs(scale * first - low).max(), np.abs(scale * last - high).max())
    longest = float((high - low).max())
    allowed = np.clip(pitch * scale, _MAX_OFF_CORNER * longest, _MAX_OFF_BY_PITCH * longest)
    return scale if off <= allowed else float("nan")
