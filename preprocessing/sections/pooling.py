"""Sum the counts of bins or cells over squares of the size that an encoder sees.

A bin of Visium HD (2 to 16 µm) or a cell of Xenium has few counts, and a patch around it shows many
of its neighbours. Their counts are summed over squares of about the side of a patch, so that a
patch and its counts are of the same place. Bins are summed over whole blocks of the array, cells
over a grid in the image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from tcgn_mil.errors import InputError

MIN_FILLED = 0.5  # share of a block's bins that have counts
TOO_FEW_BINS = "fewer than half of its bins are under tissue and have counts"


@dataclass(frozen=True)
class Pooling:
    """Squares over which bins or cells are summed.

    Attributes
    ----------
    groups
        (S,) square of each bin or cell; -1 if it is in none.
    positions
        P rows, indexed by the name of a square. Columns x, y are its column and row, pixel_x and
        pixel_y its centre in pixels of the full-resolution image.
    dropped
        Squares that were left out, with the reason.
    note
        Message that is printed for the user.
    """

    groups: NDArray[np.int64]
    positions: pd.DataFrame
    dropped: list[tuple[str, str]]
    note: str

    def sum_rows(self, counts: sparse.csr_matrix) -> sparse.csr_matrix:
        """Return (P, F) sums of the (S, F) counts over the squares."""
        return sum_groups(counts, self.groups, len(self.positions))


def sum_groups(
    counts: sparse.csr_matrix, groups: NDArray[np.int64], number: int
) -> sparse.csr_matrix:
    """Sum rows by their group; rows of group -1 are left out.

    The sum is a product with the (P, S) matrix that has a 1 for each group and its rows.

    Examples
    --------
    >>> counts = sparse.csr_matrix([[1, 2], [3, 4], [5, 6]])
    >>> sum_groups(counts, np.array([0, -1, 0]), 1).toarray().tolist()
    [[6.0, 8.0]]
    """
    rows = np.flatnonzero(groups >= 0)
    members = sparse.csr_matrix(
        (np.ones(len(rows)), (groups[rows], rows)), shape=(number, counts.shape[0])
    )
    return sparse.csr_matrix(members @ counts)


def bins_in_a_block(bin_um: float, pool_um: float) -> int:
    """Return the bins along the side of a block: the whole number nearest to the size asked for.

    Examples
    --------
    >>> bins_in_a_block(8.0, 77.28)
    10
    """
    return max(1, round(pool_um / bin_um))


def pool_bins(positions: pd.DataFrame, bin_um: float, pool_um: float) -> Pooling:
    """Divide the array into blocks of whole bins.

    Parameters
    ----------
    positions
        Indexed by bin, S rows with counts. Columns x, y (column and row in the array), pixel_x and
        pixel_y.
    bin_um
        Side of a bin in µm.
    pool_um
        Side of a block that is asked for, in µm.

    Raises
    ------
    InputError
        If no block has half of its bins.
    """
    side = bins_in_a_block(bin_um, pool_um)
    array = positions[["x", "y"]].to_numpy(dtype=np.float64)
    pixels = positions[["pixel_x", "pixel_y"]].to_numpy(dtype=np.float64)
    groups, blocks, sizes = _group(array.astype(np.int64) // side)
    kept = sizes >= MIN_FILLED * side * side
    if not kept.any():
        raise InputError(
            f"none of {len(sizes)} blocks of {side} x {side} bins has half of its bins",
            fix="give a smaller size to --pool-um",
        )
    # The centre of a whole block, also where some of its bins are missing: by the affine map of the
    # array onto the image, which is exact for bins.
    design = np.column_stack([array, np.ones(len(array))])
    axes, *_ = np.linalg.lstsq(design, pixels, rcond=None)
    places = np.column_stack([blocks * side + (side - 1) / 2, np.ones(len(blocks))])
    centres = np.asarray(places @ axes, dtype=np.float64)
    names = [f"pool_{row:05d}_{column:05d}" for column, row in blocks.tolist()]
    number = np.cumsum(kept) - 1
    size = f"{side * bin_um:g} µm"
    summed = int(sizes[kept].sum())
    note = (
        f"{summed} bins of {bin_um:g} µm were summed over {int(kept.sum())} blocks of {side} x"
        f" {side} bins ({size}, option --pool-um)"
    )
    if summed < len(positions):
        note += f"; {len(positions) - summed} bins lie in blocks that were left out"
    return Pooling(
        np.where(kept[groups], number[groups], -1),
        _placed(names, blocks, centres, kept),
        [(name, TOO_FEW_BINS) for name, fine in zip(names, kept, strict=True) if not fine],
        note,
    )


def pool_points(
    pixels: NDArray[np.float64],
    mpp: float,
    pool_um: float,
    *,
    what: str,
    fewest: int = 1,
    corner: NDArray[np.float64] | None = None,
) -> Pooling:
    """Divide the image into squares, for cells or other points that lie on no array.

    Parameters
    ----------
    pixels
        (S, 2) x, y in pixels of the full-resolution image.
    mpp
        µm per pixel of the image.
    pool_um
        Side of a square in µm.
    what
        Name of the points, for messages.
    fewest
        Fewest points of a square. Squares with fewer are left out.
    corner
        Pixel x, y at which the first square begins; that of the image if None.

    Raises
    ------
    InputError
        If no square has so many points.
    """
    side_px = pool_um / mpp
    corner = np.zeros(2) if corner is None else corner
    groups, blocks, sizes = _group(np.floor((pixels - corner) / side_px).astype(np.int64))
    kept = sizes >= fewest
    if not kept.any():
        raise InputError(
            f"none of {len(sizes)} squares of {pool_um:.4g} µm has {fewest} {what}",
            fix="give another size to --pool-um",
        )
    names = [f"pool_{row:05d}_{column:05d}" for column, row in blocks.tolist()]
    centres = np.asarray((blocks + 0.5) * side_px + corner, dtype=np.float64)
    number, summed = np.cumsum(kept) - 1, int(sizes[kept].sum())
    note = (
        f"{summed} {what} were summed over {int(kept.sum())} squares of {pool_um:.4g} µm"
        " (option --pool-um)"
    )
    if summed < len(pixels):
        note += f"; {len(pixels) - summed} {what} lie in squares that were left out"
    return Pooling(
        np.where(kept[groups], number[groups], -1),
        _placed(names, blocks, centres, kept),
        [
            (name, f"has fewer than {fewest} {what}")
            for name, fine in zip(names, kept, strict=True)
            if not fine
        ],
        note,
    )


def _group(
    cells: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the group of each row, the (P, 2) distinct column and row, and the sizes."""
    # By row, then column, so that the order of squares is that of reading.
    swapped, groups, sizes = np.unique(
        cells[:, ::-1], axis=0, return_inverse=True, return_counts=True
    )
    return groups.reshape(-1).astype(np.int64), swapped[:, ::-1], sizes.astype(np.int64)


def _placed(
    names: list[str],
    blocks: NDArray[np.int64],
    centres: NDArray[np.float64],
    kept: NDArray[np.bool_],
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "x": blocks[:, 0],
            "y": blocks[:, 1],
            "pixel_x": centres[:, 0],
            "pixel_y": centres[:, 1],
        },
        index=pd.Index(names, dtype=object),
    )[kept]
