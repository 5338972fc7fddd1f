"""Correlation of two maps on one lattice of spots, with a p-value and an interval that heed spatial autocorrelation.

Neighbouring spots are alike, so S spots say less than S independent samples, and shuffling them gives p-values that are
far too small. The test is the modified t-test of Clifford, Richardson & Hemon (Biometrics 1989) as Dutilleul
(Biometrics 1993) has it: the variance of r between two independent autocorrelated maps follows from their
autocovariances, and gives the effective sample size of a t-test. The autocovariance of each map is a nonnegative mix of
a nugget and of exponential and Gaussian functions of distance, fitted to the mean products of residuals by distance
class. What taking the mean and sequencing depth out does to those products is in the fit, exactly: without that smooth
maps get p-values that are too small. All genes are tested at once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse, stats

from tcgn_mil.statistics.gene_metrics import depth_projection, pearson, spread, varies

Array = NDArray[np.floating]
MIN_SPOTS, MAX_SPOTS = 10, 10_000  # pairs of spots are held, 8 bytes each
_LEAST_EFFECTIVE = 3.0
_SCALES = (
    0.7,
    1.0,
    1.5,
    2.0,
    3.0,
    4.0,
    6.0,
    8.0,
    12.0,
    20.0,
)  # of the functions of distance, in lattice steps
_EXPLAINED = 1e-5  # of a map's spread is left once depth is out: it was a function of depth
BLOCK_SPOTS = 5


class SpatialCorrelation(NamedTuple):
    """Per gene, each (G,) float64: ``r`` once depth is out, ``effective_n`` samples, one-sided ``p`` of r > 0.

    NaN where the truth or its prediction is constant, or is a function of depth.
    """

    r: NDArray[np.float64]
    effective_n: NDArray[np.float64]
    p: NDArray[np.float64]


class SpatialTest:
    """The modified t-test on the spots of one section.

    Parameters
    ----------
    positions
        (S, 2) spot centres, in any unit.
    log_depth
        (S,) log of each spot's total count, whose cubic spline is taken out; None takes out the mean alone.

    Raises
    ------
    ValueError
        For fewer than :data:`MIN_SPOTS` spots, more than :data:`MAX_SPOTS`, or two at one place.
    """

    def __init__(self, positions: Array, log_depth: Array | None = None) -> None:
        if not MIN_SPOTS <= len(positions) <= MAX_SPOTS:
            raise ValueError(f"{len(positions)} spots; the test takes {MIN_SPOTS} to {MAX_SPOTS}")
        self._basis = _basis(len(positions), log_depth)
        self._classes, steps = _distance_classes(np.asarray(positions, dtype=np.float64))
        self._pairs = np.array([part.nnz for part in self._classes], dtype=np.float64)
        # With B = I - QQ', tr(B W_j) and tr(B W_j B W_k) need no matrix of S x S beside the sparse classes W.
        sums = np.stack([part @ self._basis for part in self._classes])  # W_j Q, (K, S, b)
        inner = np.einsum("sb,ksc->kbc", self._basis, sums)
        flat, square = sums.reshape(len(sums), -1), inner.reshape(len(sums), -1)
        self._cross = np.diag(self._pairs) - 2 * flat @ flat.T + square @ square.T
        self._trace = -np.trace(inner, axis1=1, axis2=2)
        self._trace[0] += len(positions)
        functions = [
            steps == 0,
            *(np.exp(-steps / c) for c in _SCALES),
            *(np.exp(-((steps / c) ** 2) / 2) for c in _SCALES),
        ]
        self._functions = np.stack(functions, axis=1).astype(np.float64)  # (K, 21)
        # What each function of distance adds to the expected products of residuals, class by class.
        self._expected = (self._cross @ self._functions) / np.sqrt(self._pairs)[:, None]

    def __call__(self, truth: Array, prediction: Array) -> SpatialCorrelation:
        """Test `truth` against `prediction`, both (S, G)."""
        left, right = self.residuals(truth), self.residuals(prediction)
        known = varies(truth) & varies(prediction)
        known &= (spread(left) > _EXPLAINED * spread(truth)) & (
            spread(right) > _EXPLAINED * spread(prediction)
        )
        r = np.where(known, pearson(left, right), np.nan)
        with np.errstate(divide="ignore", invalid="ignore"):
            a, b = self._autocorrelations(left), self._autocorrelations(right)
            variance = np.einsum("kg,kl,lg->g", a, self._cross, b) / (
                (self._trace @ a) * (self._trace @ b)
            )
            most = 1.0 + len(left) - self._basis.shape[1]
            effective = np.clip(
                np.where(variance > 0, 1 + 1 / variance, most), _LEAST_EFFECTIVE, most
            )
            t = r * np.sqrt((effective - 2) / (1 - np.square(r)))
        p = np.where(np.isfinite(r), stats.t.sf(t, effective - 2), np.nan)
        return SpatialCorrelation(r, np.where(np.isfinite(r), effective, np.nan), p)

    def residuals(self, values: Array) -> NDArray[np.float64]:
        """(S, G) once depth is taken out."""
        values = np.asarray(values, dtype=np.float64)
        return values - self._basis @ (self._basis.T @ values)

    def _autocorrelations(self, residuals: NDArray[np.float64]) -> NDArray[np.float64]:
        """(K, G) autocorrelation of each map by distance class, as fitted; 1 at distance 0."""
        from scipy.optimize import nnls

        products = np.stack(
            [np.einsum("sg,sg->g", residuals, part @ residuals) for part in self._classes]
        )
        scaled = products / products[0] * self._pairs[0] / np.sqrt(self._pairs)[:, None]
        fitted = np.full_like(products, np.nan)
        for gene in np.flatnonzero(np.isfinite(scaled).all(axis=0)).tolist():
            fitted[:, gene] = self._functions @ nnls(self._expected, scaled[:, gene])[0]
        return np.asarray(fitted / fitted[0])


def _basis(spots: int, log_depth: Array | None) -> NDArray[np.float64]:
    """What is taken out of maps: depth, or the mean; orthonormal columns."""
    return np.full((spots, 1), spots**-0.5) if log_depth is None else depth_projection(log_depth)


def _distance_classes(
    positions: NDArray[np.float64],
) -> tuple[list[sparse.csr_array], NDArray[np.float64]]:
    """Sparse 0/1 matrices (S, S) of pairs at 0, at up to 1.5, 2.5, ... lattice steps, and their mean distance in steps.

    Empty classes are left out.
    """
    from scipy.spatial.distance import pdist, squareform

    distances = pdist(positions)
    step = lattice_step(positions)
    if distances.min() < step / 100:
        raise ValueError("two spots lie at one place")
    classes = squareform(np.maximum(np.ceil(distances / step - 0.5), 1).astype(np.int32))
    rows, columns = np.divmod(np.argsort(classes, axis=None, kind="stable"), len(positions))
    counts = np.bincount(classes.ravel())
    sums = np.bincount(classes.ravel(), weights=squareform(distances / step).ravel())
    ends = np.cumsum(counts)
    parts = []
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        if end > start:
            ones = np.ones(end - start, dtype=np.float32)
            parts.append(
                sparse.csr_array((ones, (rows[start:end], columns[start:end])), shape=classes.shape)
            )
    return parts, sums[counts > 0] / counts[counts > 0]


def lattice_step(positions: Array) -> float:
    """Median distance of a spot to its nearest neighbour."""
    from scipy.spatial import KDTree

    return float(np.median(KDTree(positions).query(positions, k=2)[0][:, 1]))


def spatial_blocks(positions: Array, *, spots: int = BLOCK_SPOTS) -> NDArray[np.int64]:
    """(S,) number of the square block, `spots` lattice steps wide, in which each spot lies."""
    cells = np.floor(
        (positions - np.min(positions, axis=0)) / (spots * lattice_step(positions)) + 1e-9
    ).astype(np.int64)
    return np.unique(cells, axis=0, return_inverse=True)[1].reshape(-1)
