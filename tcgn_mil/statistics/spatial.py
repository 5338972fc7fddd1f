"""Test the correlation of two maps of spots, allowing for spatial autocorrelation.

Neighbouring spots are alike, so S spots carry less information than S independent samples, and
p-values from shuffled spots are far too small. This module implements the modified t-test of
Clifford, Richardson & Hemon (Biometrics 1989) as Dutilleul (Biometrics 1993) corrected it: the
variance of r between two independent autocorrelated maps follows from their autocovariances, and
it gives the effective sample size of an ordinary t-test. All genes are tested at once.

One thing is added to the published test. Each map is replaced by its residuals on the mean, or on a
spline of sequencing depth, and residuals are less autocorrelated than the map itself. The
autocovariance is fitted with this effect included exactly; without it, smooth maps get p-values
that are too small.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse, stats

from tcgn_mil.statistics.gene_metrics import pearson
from tcgn_mil.statistics.sequencing_depth import depth_projection
from tcgn_mil.statistics.variation import MIN_SPREAD_LEFT, spread, varies
from tcgn_mil.types.arrays import Float64Array, FloatArray, IntArray

MIN_SPOTS = 10
MAX_SPOTS = 10_000  # all pairs of spots are held in memory, 8 bytes each
BLOCK_SPOTS = 5
_MIN_EFFECTIVE = 3.0  # a t-test needs at least one degree of freedom
# Length scales of the autocovariance functions, in lattice steps.
_SCALES = (0.7, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 20.0)


class SpatialCorrelation(NamedTuple):
    """Test results of G genes.

    All values are NaN where the truth or the prediction is constant, or a function of depth.

    Attributes
    ----------
    r
        (G,) Pearson correlation of the residuals.
    effective_n
        (G,) effective sample size, at most the number of spots.
    p
        (G,) one-sided p-value of r > 0.
    """

    r: Float64Array
    effective_n: Float64Array
    p: Float64Array


class SpatialTest:
    """The modified t-test on the spots of one section.

    Parameters
    ----------
    positions
        (S, 2) centres of the spots, in any unit.
    log_depth
        (S,) log of each spot's total count, whose cubic spline is regressed out of all maps. None
        removes the mean only.

    Raises
    ------
    ValueError
        If there are fewer than :data:`MIN_SPOTS` spots, more than :data:`MAX_SPOTS`, or two spots
        at one place.

    Examples
    --------
    >>> import numpy as np
    >>> rows, columns = np.divmod(np.arange(400), 20)
    >>> test = SpatialTest(np.stack([rows, columns], axis=1))
    >>> smooth = np.sin(rows / 4)[:, None]  # neighbouring spots are alike
    >>> result = test(smooth, smooth + 0.1 * np.cos(columns)[:, None])
    >>> bool(result.effective_n[0] < 40)
    True
    """

    # Notation. Y is a map with covariance C, and B = I - QQ' takes its residuals, where Q is the
    # orthonormal basis of what is removed. W_j is the 0/1 matrix of the pairs of spots in distance
    # class j, and W_0 = I. A covariance that depends on distance alone is C = sum_j c_j W_j.
    #
    # Test. If C_x = sum a_j W_j and C_y = sum b_j W_j are the covariances of two independent maps,
    # the variance of r between their residuals is approximately
    #     tr(B C_x B C_y) / (tr(B C_x) tr(B C_y)),
    # that is  sum_jk a_j b_k T_jk / ((sum a_j t_j) (sum b_j t_j))
    # with T_jk = tr(B W_j B W_k) (`_cross`) and t_j = tr(B W_j) (`_trace`). The effective sample
    # size is 1 + 1 / variance, and t = r sqrt((n - 2) / (1 - r^2)) is compared with Student's t.
    #
    # Covariance fit. The products of residuals in class k, summed, have the expectation
    #     E[y' B W_k B y] = sum_j T_kj c_j.
    # c is written as a nonnegative mixture of 21 functions of distance (a nugget, ten exponential
    # and ten Gaussian functions), which keeps C positive definite. Nonnegative least squares
    # finds the mixture, each class weighted by 1 / sqrt(number of pairs).

    def __init__(self, positions: FloatArray, log_depth: FloatArray | None = None) -> None:
        if not MIN_SPOTS <= len(positions) <= MAX_SPOTS:
            raise ValueError(
                f"the section has {len(positions)} spots, but the spatial test needs {MIN_SPOTS}"
                f" to {MAX_SPOTS}"
            )
        self._basis = _basis(len(positions), log_depth)
        self._classes, steps = _distance_classes(np.asarray(positions, dtype=np.float64))
        self._pairs = np.array([part.nnz for part in self._classes], dtype=np.float64)
        # B is a dense S x S matrix, but the traces do not need it:
        #     tr(B W_j B W_k) = tr(W_j W_k) - 2 tr(Q' W_j W_k Q) + tr(Q' W_j Q Q' W_k Q).
        sums = np.stack([part @ self._basis for part in self._classes])  # W_j Q, (K, S, b)
        inner = np.einsum("sb,ksc->kbc", self._basis, sums)  # Q' W_j Q, (K, b, b)
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
        self._expected = (self._cross @ self._functions) / np.sqrt(self._pairs)[:, None]

    def __call__(self, truth: FloatArray, prediction: FloatArray) -> SpatialCorrelation:
        """Test each gene of `truth` against the same gene of `prediction`, both (S, G)."""
        left, right = self.residuals(truth), self.residuals(prediction)
        defined = varies(truth) & varies(prediction)
        defined &= (spread(left) > MIN_SPREAD_LEFT * spread(truth)) & (
            spread(right) > MIN_SPREAD_LEFT * spread(prediction)
        )
        r = np.where(defined, pearson(left, right), np.nan)
        with np.errstate(divide="ignore", invalid="ignore"):
            a, b = self._autocorrelations(left), self._autocorrelations(right)
            variance = np.einsum("kg,kl,lg->g", a, self._cross, b) / (
                (self._trace @ a) * (self._trace @ b)
            )
            most = 1.0 + len(left) - self._basis.shape[1]
            effective = np.clip(
                np.where(variance > 0, 1 + 1 / variance, most), _MIN_EFFECTIVE, most
            )
            t = r * np.sqrt((effective - 2) / (1 - np.square(r)))
        p = np.where(np.isfinite(r), stats.t.sf(t, effective - 2), np.nan)
        return SpatialCorrelation(r, np.where(np.isfinite(r), effective, np.nan), p)

    def residuals(self, values: FloatArray) -> Float64Array:
        """Return values (S, G) from which depth, or the mean, is removed."""
        values = np.asarray(values, dtype=np.float64)
        return values - self._basis @ (self._basis.T @ values)

    def _autocorrelations(self, residuals: Float64Array) -> Float64Array:
        """Fit the autocorrelation (K, G) of each map by distance class; it is 1 at distance 0."""
        from scipy.optimize import nnls

        products = np.stack(
            [np.einsum("sg,sg->g", residuals, part @ residuals) for part in self._classes]
        )
        scaled = products / products[0] * self._pairs[0] / np.sqrt(self._pairs)[:, None]
        fitted = np.full_like(products, np.nan)
        for gene in np.flatnonzero(np.isfinite(scaled).all(axis=0)).tolist():
            fitted[:, gene] = self._functions @ nnls(self._expected, scaled[:, gene])[0]
        return np.asarray(fitted / fitted[0])


def _basis(spots: int, log_depth: FloatArray | None) -> Float64Array:
    """Return orthonormal columns of what is removed from maps: a spline of depth, or the mean."""
    return np.full((spots, 1), spots**-0.5) if log_depth is None else depth_projection(log_depth)


def _distance_classes(
    positions: Float64Array,
) -> tuple[list[sparse.csr_array], Float64Array]:
    """Return sparse 0/1 matrices of pairs of spots by distance, and each class's mean distance.

    The classes end at distances of 0, 1.5, 2.5, 3.5, ... lattice steps. Together the matrices hold
    each pair once, so sorting all pairs by class makes them in one pass. Empty classes are left
    out. Distances are in lattice steps.
    """
    from scipy.spatial.distance import pdist, squareform

    distances = pdist(positions)
    step = lattice_step(positions)
    if distances.min() < step / 100:
        raise ValueError("two spots have the same position; the spatial test needs distinct ones")
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


def lattice_step(positions: FloatArray) -> float:
    """Return the median distance of spots to their nearest neighbour, in the unit of positions."""
    from scipy.spatial import KDTree

    return float(np.median(KDTree(positions).query(positions, k=2)[0][:, 1]))


def spatial_blocks(positions: FloatArray, *, spots: int = BLOCK_SPOTS) -> IntArray:
    """Return the number of the square block in which each spot lies.

    Parameters
    ----------
    positions
        (S, 2) centres of the spots, in any unit.
    spots
        Width of a block in lattice steps.

    Returns
    -------
    (S,) int64, for :func:`tcgn_mil.statistics.bootstrap.block_bootstrap`.
    """
    # 1e-9 keeps a spot that lies exactly on a border from falling to either side by rounding.
    cells = np.floor(
        (positions - np.min(positions, axis=0)) / (spots * lattice_step(positions)) + 1e-9
    ).astype(np.int64)
    return np.unique(cells, axis=0, return_inverse=True)[1].reshape(-1)
