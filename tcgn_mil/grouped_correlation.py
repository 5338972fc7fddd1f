"""Pearson r of many genes within groups of samples at once, in single precision: what null replicates spend time on.

One pass over memory: a block of genes that fits a core's cache is centred once a group and all sums are taken there, in
threads. Sums are about a pivot near the mean, in float32 over at most 512 samples and in float64 beyond, so that r lies
within 1e-5 of that in double precision; where it would not, the answer says so.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Rows = slice | NDArray[np.int64]
_CACHED_VALUES, _MOST_ROWS, _PIVOT_ROWS, _MOST_THREADS = 2**17, 512, 16, 8
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


def grouped_pearson(truth: NDArray[np.float32], prediction: NDArray[np.float32], groups: Sequence[Rows]) -> GroupedR:
    """Pearson r per gene within each group.

    Parameters
    ----------
    truth, prediction
        (S, G); a gene with a missing value in a group is not exact there.
    groups
        Of :func:`rows_by_group`.
    """
    genes = truth.shape[1]
    found = GroupedR(np.full((len(groups), genes), np.nan), np.zeros((len(groups), genes), dtype=np.bool_))
    most = max((_length(rows) for rows in groups), default=0)
    copied = any(not isinstance(rows, slice) for rows in groups)
    width = max(1, _CACHED_VALUES // (1 + copied) // max(1, min(most, _MOST_ROWS)))

    def correlate(start: int) -> None:
        chosen = slice(start, start + width)
        left, right = truth[:, chosen], prediction[:, chosen]
        buffers = np.empty((2, min(most, _MOST_ROWS), left.shape[1]), dtype=np.float32)
        for number, rows in enumerate(groups):
            with np.errstate(all="ignore"):  # what is not finite is not exact
                found.r[number, chosen], found.exact[number, chosen] = _pearson(left[rows], right[rows], buffers)

    starts = range(0, genes if most else 0, width)
    threads = min(len(starts), os.cpu_count() or 1, _MOST_THREADS)
    if threads < 2:
        list(map(correlate, starts))
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(correlate, starts))
    return found


def _length(rows: Rows) -> int:
    return rows.stop - rows.start if isinstance(rows, slice) else len(rows)


def _pearson(
    left: NDArray[np.float32], right: NDArray[np.float32], buffers: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """r (G,) of a block, and whether it is exact."""
    samples = len(left)
    first = np.float32(min(samples, _PIVOT_ROWS))
    pivots = np.stack([np.add.reduce(part[:_PIVOT_ROWS], axis=0) / first for part in (left, right)])
    sums, products = np.zeros((2, left.shape[1])), np.zeros((3, left.shape[1]))
    for start in range(0, samples, _MOST_ROWS):
        rows = slice(start, start + _MOST_ROWS)
        x, y = buffers[:, : len(left[rows])]
        np.subtract(left[rows], pivots[0], out=x)
        np.subtract(right[rows], pivots[1], out=y)
        sums += np.add.reduce(x, axis=0), np.add.reduce(y, axis=0)
        products += [np.einsum("sg,sg->g", one, other) for one, other in ((x, x), (y, y), (x, y))]
    centred = products - np.stack([sums[0] ** 2, sums[1] ** 2, sums[0] * sums[1]]) / samples
    least = np.maximum(_LEAST_LEFT * products[:2], samples * np.square(_LEAST_SPREAD * pivots.astype(np.float64)))
    exact = (centred[:2] > least).all(axis=0) & (samples >= _LEAST_SAMPLES)
    r = centred[2] / np.sqrt(centred[0] * centred[1])
    return np.clip(r, -1, 1), exact & np.isfinite(r)
