"""Pearson correlation of many genes within groups of samples, in single precision.

Null replicates spend most of their time on these correlations, so they are computed in one pass
over memory and in threads. The result is within 1e-5 of that in double precision; where it might
not be, it is marked as not exact and the caller computes it again.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.statistics.gene_metrics import MAX_THREADS, MIN_SAMPLES
from tcgn_mil.types.arrays import BoolArray, Float64Array, IntArray

Rows = slice | NDArray[np.int64]
# A block of 32 samples by 4096 genes of float32 has 512 KiB and fits into a core's cache, where all
# sums are taken. Matrices are stored row by row: with 4096 genes a block reads 16 KiB of each row
# in one piece, which spares the processor a page lookup for every row.
_BLOCK_ROWS, _BLOCK_GENES = 32, 4096
_PIVOT_ROWS = 16
_MIN_SPREAD = 1e-6  # standard deviation in units of the pivot; a smaller one may be rounding
_MIN_SHARE_LEFT = 0.02  # share of a sum of squares that must remain once the mean is subtracted


class GroupedR(NamedTuple):
    """Correlation of each gene within each group.

    Attributes
    ----------
    r
        (groups, G) float64.
    exact
        (groups, G) whether `r` is finite and within 1e-5 of the value in double precision.
    """

    r: Float64Array
    exact: BoolArray


def rows_by_group(group_of: IntArray) -> list[Rows]:
    """Return the rows of each group, in the order of the groups' numbers.

    Parameters
    ----------
    group_of
        (S,) number of each sample's group.

    Returns
    -------
    A slice for a group whose rows are contiguous, since a slice is not copied; else row numbers.
    """
    groups: list[Rows] = []
    for group in np.unique(group_of):
        rows = np.flatnonzero(group_of == group)
        contiguous = rows[-1] - rows[0] + 1 == len(rows)
        groups.append(slice(int(rows[0]), int(rows[-1]) + 1) if contiguous else rows)
    return groups


def grouped_pearson(
    truth: NDArray[np.float32], prediction: NDArray[np.float32], groups: Sequence[Rows]
) -> GroupedR:
    """Compute the Pearson correlation of each gene within each group.

    Parameters
    ----------
    truth, prediction
        (S, G) float32. A gene with a missing value in a group is not exact there.
    groups
        Rows of each group, from :func:`rows_by_group`.
    """
    genes = truth.shape[1]
    result = GroupedR(
        np.full((len(groups), genes), np.nan), np.zeros((len(groups), genes), dtype=np.bool_)
    )
    # The number of blocks is rounded up to a multiple of the threads, so that all have equal work.
    blocks = -(-genes // _BLOCK_GENES)
    threads = min(blocks, os.cpu_count() or 1, MAX_THREADS)
    width = max(1, -(-genes // max(1, -(-blocks // max(1, threads)) * threads)))

    def correlate(start: int) -> None:
        chosen = slice(start, start + width)
        left, right = truth[:, chosen], prediction[:, chosen]
        buffers = np.empty((2, _BLOCK_ROWS, left.shape[1]), dtype=np.float32)
        for number, rows in enumerate(groups):
            with np.errstate(all="ignore"):  # values that are not finite are marked as not exact
                result.r[number, chosen], result.exact[number, chosen] = _pearson(
                    left, right, rows, buffers
                )

    starts = range(0, genes, width)
    if threads < 2:
        list(map(correlate, starts))
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(correlate, starts))
    return result


def _pearson(
    left: NDArray[np.float32], right: NDArray[np.float32], rows: Rows, buffers: NDArray[np.float32]
) -> tuple[Float64Array, BoolArray]:
    """Compute r (G,) of a block of genes within one group, and whether it is exact."""
    # With a pivot c near the mean, x = left - c and y = right - d are small numbers, and
    #     sum (x - mean x)(y - mean y) = sum x y - (sum x)(sum y) / n
    # loses few digits. Sums are float32 within 32 rows and float64 over blocks of rows. If the
    # second term is almost as large as the first (the pivot was far from the mean) or the spread
    # is near rounding, digits are lost and the gene is not exact.
    parts, samples = _parts(rows)
    pivots = np.stack([values[parts[0]][:_PIVOT_ROWS].mean(axis=0) for values in (left, right)])
    sums, products = np.zeros((2, left.shape[1])), np.zeros((3, left.shape[1]))
    for part in parts:
        x, y = buffers[:, : len(left[part])]
        np.subtract(left[part], pivots[0], out=x)
        np.subtract(right[part], pivots[1], out=y)
        for total, values in zip(sums, (x, y), strict=True):
            total += np.add.reduce(values, axis=0)
        for total, first, second in zip(products, (x, y, x), (x, y, y), strict=True):
            total += np.einsum("sg,sg->g", first, second)
    centred = products - np.stack([sums[0] ** 2, sums[1] ** 2, sums[0] * sums[1]]) / samples
    least = np.maximum(
        _MIN_SHARE_LEFT * products[:2], samples * np.square(_MIN_SPREAD * pivots.astype(np.float64))
    )
    exact = (centred[:2] > least).all(axis=0) & (samples >= MIN_SAMPLES)
    r = centred[2] / np.sqrt(centred[0] * centred[1])
    return np.clip(r, -1, 1), exact & np.isfinite(r)


def _parts(rows: Rows) -> tuple[list[Rows], int]:
    """Return the rows of a group in parts of `_BLOCK_ROWS`, and their number."""
    if isinstance(rows, slice):
        starts = range(rows.start, rows.stop, _BLOCK_ROWS)
        slices: list[Rows] = [slice(start, min(start + _BLOCK_ROWS, rows.stop)) for start in starts]
        return slices, rows.stop - rows.start
    return [rows[start : start + _BLOCK_ROWS] for start in range(0, len(rows), _BLOCK_ROWS)], len(
        rows
    )
