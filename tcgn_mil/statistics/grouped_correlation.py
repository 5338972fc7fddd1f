"""Pearson r of many genes within groups of samples at once, in single precision: what null replicates spend time on.

One pass over memory: a block of few samples and many genes, so wide that a page of memory is not looked up anew for
each of its rows, is centred in a core's cache, where all sums are taken, in threads. Sums are about a pivot near the
mean, in float32 within a block and in float64 over blocks, so that r lies within 1e-5 of that in double precision;
where it would not, the answer says so.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Rows = slice | NDArray[np.int64]
_BLOCK_ROWS, _BLOCK_GENES, _PIVOT_ROWS, _MOST_THREADS = 32, 4096, 16, 8
_LEAST_SAMPLES = 3
_LEAST_SPREAD = 1e-6  # standard deviation in units of the pivot: less may be rounding
_LEAST_LEFT = 0.02  # of a sum of squares once the pivot's distance from the mean is out


class GroupedR(NamedTuple):
    """``r`` (groups, G) float64, and ``exact`` (groups, G): whether it is known to 1e-5, so finite too."""

    r: NDArray[np.float64]
    exact: NDArray[np.bool_]


def rows_by_group(group_of: NDArray[np.int64]) -> list[Rows]:
    """Rows of each group, in the order of their numbers; a slice where they lie together, which need not be copied."""
    found: list[Rows] = []
    for group in np.unique(group_of):
        rows = np.flatnonzero(group_of == group)
        together = rows[-1] - rows[0] + 1 == len(rows)
        found.append(slice(int(rows[0]), int(rows[-1]) + 1) if together else rows)
    return found


def grouped_pearson(
    truth: NDArray[np.float32], prediction: NDArray[np.float32], groups: Sequence[Rows]
) -> GroupedR:
    """Pearson r per gene within each group.

    Parameters
    ----------
    truth, prediction
        (S, G); a gene with a missing value in a group is not exact there.
    groups
        Of :func:`rows_by_group`.
    """
    genes = truth.shape[1]
    found = GroupedR(
        np.full((len(groups), genes), np.nan), np.zeros((len(groups), genes), dtype=np.bool_)
    )
    blocks = -(-genes // _BLOCK_GENES)
    threads = min(blocks, os.cpu_count() or 1, _MOST_THREADS)
    width = max(
        1, -(-genes // max(1, -(-blocks // max(1, threads)) * threads))
    )  # as many blocks for each thread

    def correlate(start: int) -> None:
        chosen = slice(start, start + width)
        left, right = truth[:, chosen], prediction[:, chosen]
        buffers = np.empty((2, _BLOCK_ROWS, left.shape[1]), dtype=np.float32)
        for number, rows in enumerate(groups):
            with np.errstate(all="ignore"):  # what is not finite is not exact
                found.r[number, chosen], found.exact[number, chosen] = _pearson(
                    left, right, rows, buffers
                )

    starts = range(0, genes, width)
    if threads < 2:
        list(map(correlate, starts))
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(correlate, starts))
    return found


def _pearson(
    left: NDArray[np.float32], right: NDArray[np.float32], rows: Rows, buffers: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """r (G,) within a group, of a block of genes, and whether it is exact."""
    parts, samples = _parts(rows)
    pivots = np.stack([values[parts[0]][:_PIVOT_ROWS].mean(axis=0) for values in (left, right)])
    sums, products = np.zeros((2, left.shape[1])), np.zeros((3, left.shape[1]))
    for part in parts:
        x, y = buffers[:, : len(left[part])]
        np.subtract(left[part], pivots[0], out=x)
        np.subtract(right[part], pivots[1], out=y)
        for total, values in zip(sums, (x, y), strict=True):
            total += np.add.reduce(values, axis=0)
        for total, one, other in zip(products, (x, y, x), (x, y, y), strict=True):
            total += np.einsum("sg,sg->g", one, other)
    centred = products - np.stack([sums[0] ** 2, sums[1] ** 2, sums[0] * sums[1]]) / samples
    least = np.maximum(
        _LEAST_LEFT * products[:2], samples * np.square(_LEAST_SPREAD * pivots.astype(np.float64))
    )
    exact = (centred[:2] > least).all(axis=0) & (samples >= _LEAST_SAMPLES)
    r = centred[2] / np.sqrt(centred[0] * centred[1])
    return np.clip(r, -1, 1), exact & np.isfinite(r)


def _parts(rows: Rows) -> tuple[list[Rows], int]:
    """A group's rows, `_BLOCK_ROWS` at a time, and how many they are."""
    if isinstance(rows, slice):
        starts = range(rows.start, rows.stop, _BLOCK_ROWS)
        return [
            slice(start, min(start + _BLOCK_ROWS, rows.stop)) for start in starts
        ], rows.stop - rows.start
    return [rows[start : start + _BLOCK_ROWS] for start in range(0, len(rows), _BLOCK_ROWS)], len(
        rows
    )
