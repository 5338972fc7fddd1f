"""Univariable Cox regression of every gene at once, for exploration.

Newton's method maximises Cox's partial likelihood (J. R. Stat. Soc. B 1972) with Efron's method for
ties, for some hundred genes at a time. The results are those of lifelines' CoxPHFitter, gene by
gene, but come much faster.

A gene that is found by this screen was selected on the patients on whom it is shown. The screen
suggests genes; it does not show that a gene predicts survival.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.stats import norm

from tcgn_mil.statistics.p_values import benjamini_hochberg
from tcgn_mil.statistics.variation import RELATIVE_SPREAD_FLOOR_FLOAT64
from tcgn_mil.survival.risk_sets import RiskSets
from tcgn_mil.types.arrays import BoolArray, Float64Array, FloatArray

_GENES_AT_ONCE = 128  # the arrays of a Newton step then stay in the processor's cache
_ITERATIONS = 40
_TOLERANCE = 1e-9  # of a step, in units of a gene's standard deviation
_STUCK = 1e-6  # step that is too large to count as converged after all iterations
# Information, as a share of that at a coefficient of 0, below which the likelihood is flat: the
# gene separates the patients with an event, and the coefficient runs to infinity.
_LOST_INFORMATION = 1e-4
# Log hazard ratio per standard deviation above which the gene determines the order of the events up
# to rounding.
_MAX_EFFECT = 15.0
_Z95 = float(norm.ppf(0.975))


class CoxScreen(NamedTuple):
    """Results of G genes; NaN where a gene is constant or its fit does not converge.

    Attributes
    ----------
    coef, se
        (G,) coefficient and standard error per unit of the gene.
    sd
        (G,) standard deviation of the gene.
    z, p
        (G,) Wald statistic and its two-sided p-value.
    q
        (G,) false discovery rate (Benjamini and Hochberg) over the genes with a p-value.
    hazard_ratio
        (G,) hazard ratio per standard deviation of the gene.
    low, high
        (G,) bounds of the 95 % interval of the hazard ratio.
    separates
        (G,) whether the coefficient is infinite, because the gene separates the patients with an
        event from those without.
    """

    coef: Float64Array
    se: Float64Array
    sd: Float64Array
    z: Float64Array
    p: Float64Array
    q: Float64Array
    hazard_ratio: Float64Array
    low: Float64Array
    high: Float64Array
    separates: BoolArray


def cox_screen(
    values: FloatArray,
    time: Float64Array,
    event: BoolArray,
    *,
    entry: Float64Array | None = None,
    covariates: FloatArray | None = None,
) -> CoxScreen:
    """Fit one Cox regression for each gene.

    Parameters
    ----------
    values
        (M, G) expression without missing values.
    time, event, entry
        (M,) each, as in :class:`tcgn_mil.types.outcomes.SurvivalTable`.
    covariates
        (M, c) numeric covariates that every regression is adjusted for.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> genes = rng.normal(size=(200, 2))
    >>> time = rng.exponential(np.exp(-genes[:, 0]))  # the first gene raises the hazard
    >>> cox_screen(genes, time, np.ones(200, bool)).hazard_ratio.round(1)
    array([2.7, 1. ])
    """
    risk = RiskSets(time, event, entry)
    genes = values.shape[1]
    beta, se, sd = (np.full(genes, np.nan) for _ in range(3))
    separates = np.zeros(genes, dtype=bool)
    adjusted = (
        np.empty((len(values), 0))
        if covariates is None
        else np.asarray(covariates, dtype=np.float64)
    )
    fixed = _standardised(adjusted)[0]
    for start in range(0, genes if len(risk) else 0, _GENES_AT_ONCE):
        chosen = slice(start, start + _GENES_AT_ONCE)
        scaled, sd[chosen] = _standardised(np.asarray(values[:, chosen], dtype=np.float64))
        beta[chosen], se[chosen], separates[chosen] = _newton(scaled, fixed, risk)
    beta, se = (np.where(separates | ~(sd > 0), np.nan, values) for values in (beta, se))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        z = beta / se
        p = 2 * norm.sf(np.abs(z))
        return CoxScreen(
            beta / sd,
            se / sd,
            sd,
            z,
            p,
            benjamini_hochberg(p),
            np.exp(beta),
            np.exp(beta - _Z95 * se),
            np.exp(beta + _Z95 * se),
            separates,
        )


def _standardised(values: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Bring columns to mean 0 and standard deviation 1, and return the latter as well.

    A constant column becomes 0, with a standard deviation of 0.
    """
    mean, sd = values.mean(axis=0), values.std(axis=0, ddof=1)
    varies = sd > RELATIVE_SPREAD_FLOOR_FLOAT64 * np.maximum(np.abs(mean), 1e-300)
    sd = np.where(varies, sd, np.where(np.isnan(sd), np.nan, 0.0))
    return np.where(varies, (values - mean) / np.where(varies, sd, 1.0), 0.0), sd


def _newton(
    genes: Float64Array, fixed: Float64Array, risk: RiskSets
) -> tuple[Float64Array, Float64Array, BoolArray]:
    """Return coefficient and standard error of each gene, and whether the former is infinite.

    Parameters
    ----------
    genes
        (M, g) standardised values.
    fixed
        (M, c) standardised covariates, the same for every gene.
    """
    # Newton's method for g problems of 1 + c parameters side by side: with the gradient u and the
    # information matrix I of the log-likelihood, the next step is I^-1 u. If a step lowered the
    # likelihood of a gene, it is taken back and halved, for that gene alone. Genes that have
    # converged leave the computation. 1e-12 keeps the matrix of a constant column invertible.
    count, width = genes.shape[1], 1 + fixed.shape[1]
    beta, step = np.zeros((count, width)), np.zeros((count, width))
    value, information = np.full(count, -np.inf), np.zeros((count, width, width))
    at_zero = np.zeros(count)
    active, columns = np.arange(count), genes  # genes that have not converged
    for iteration in range(_ITERATIONS):
        tried, gradient, curvature = _derivatives(beta[active] + step[active], columns, fixed, risk)
        better = tried >= value[active] - 1e-10 * np.abs(tried)
        kept = active[better]
        beta[kept] += step[kept]
        value[kept], information[kept] = tried[better], curvature[better]
        if not iteration:
            at_zero = information[:, 0, 0].copy()
        full = np.linalg.solve(curvature + 1e-12 * np.eye(width), gradient[..., None])[..., 0]
        step[active] = np.where(better[:, None], full, step[active] / 2)
        moving = np.abs(step[active]).max(axis=1) >= _TOLERANCE
        if not moving.any():
            break
        if not moving.all():
            active, columns = active[moving], columns[:, moving]
    variance = np.linalg.inv(information + 1e-12 * np.eye(width))[:, 0, 0]
    lost = (information[:, 0, 0] < _LOST_INFORMATION * at_zero) | (np.abs(beta[:, 0]) > _MAX_EFFECT)
    stuck = np.abs(step).max(axis=1) > _STUCK
    return beta[:, 0], np.sqrt(np.maximum(variance, 0)), (lost | stuck) & (at_zero > 0)


def _derivatives(
    beta: Float64Array, genes: Float64Array, fixed: Float64Array, risk: RiskSets
) -> tuple[Float64Array, Float64Array, Float64Array]:
    """Return log-likelihood (g,), gradient (g, P), information (g, P, P) at coefficients (g, P).

    The first parameter is the gene, the others are the covariates.
    """
    # With h = exp(x beta), and sums over the patients at risk at each event (less Efron's share),
    #     mean_a = sum(h x_a) / sum(h)
    #     log-likelihood = sum over events of x beta - log(sum(h))
    #     gradient_a = sum over events of x_a - mean_a
    #     information_ab = sum over events of sum(h x_a x_b) / sum(h) - mean_a mean_b.
    width = beta.shape[1]
    columns = [genes, *(fixed[:, [index]] for index in range(width - 1))]
    predictor = genes * beta[:, 0]
    if width > 1:
        predictor += fixed @ beta[:, 1:].T
    predictor -= predictor.max(axis=0)
    hazard = np.exp(predictor)
    with np.errstate(divide="ignore", invalid="ignore"):
        total = risk.efron(hazard)
        value = (predictor[risk.rows] - np.log(total)).sum(axis=0)
        weighted = [hazard * column for column in columns]
        means = [risk.efron(part) / total for part in weighted]
        gradient = np.stack(
            [(columns[a][risk.rows] - means[a]).sum(axis=0) for a in range(width)], axis=1
        )
        information = np.empty((genes.shape[1], width, width))
        for a in range(width):
            for b in range(a, width):
                second = risk.efron(weighted[a] * columns[b]) / total - means[a] * means[b]
                information[:, a, b] = information[:, b, a] = second.sum(axis=0)
    # Where exp underflows, the step is rejected: its likelihood counts as minus infinity.
    usable = (
        np.isfinite(value)
        & np.isfinite(gradient).all(axis=1)
        & np.isfinite(information).all(axis=(1, 2))
    )
    value = np.where(usable, value, -np.inf)
    gradient = np.where(usable[:, None], gradient, 0.0)
    return value, gradient, np.where(usable[:, None, None], information, np.eye(width))
