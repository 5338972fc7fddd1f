"""Univariable Cox regression of every gene at once, for exploration.

Newton's method on Cox's partial likelihood (J. R. Stat. Soc. B 1972) with Efron's ties, a few hundred genes at a time;
the numbers are those of lifelines' CoxPHFitter, gene by gene. Genes found so are found on the patients they are shown
on: a screen suggests, it does not show that a gene predicts.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from tcgn_mil.statistics.p_values import benjamini_hochberg
from tcgn_mil.survival.risk_sets import Array, RiskSets

_GENES_AT_ONCE = 128  # so that a step's arrays stay in the cache
_ITERATIONS = 40
_TOLERANCE = 1e-9  # of a step, in units of a gene's standard deviation
_LOST_INFORMATION = (
    1e-4  # of that at 0: the likelihood has become flat, since a gene separates the events
)
_MOST_EFFECT = (
    15.0  # log hazard ratio per sd; beyond it the order of the events is known but for rounding
)
_RELATIVE_SPREAD_FLOOR = 1e-9
_Z95 = float(norm.ppf(0.975))


class CoxScreen(NamedTuple):
    """Results of G genes, each (G,), NaN where a gene has none (constant, or the fit does not converge).

    ``coef`` and its standard error ``se`` per unit of the gene; ``sd`` of the gene; ``z``, ``p`` of Wald's two-sided
    test; ``q`` of Benjamini and Hochberg over the genes with a p; ``hazard_ratio`` per sd with its 95 % interval
    ``low`` to ``high``; ``separates``, where the coefficient runs away because the gene parts events from the rest.
    """

    coef: Array
    se: Array
    sd: Array
    z: Array
    p: Array
    q: Array
    hazard_ratio: Array
    low: Array
    high: Array
    separates: NDArray[np.bool_]


def cox_screen(
    values: NDArray[np.floating],
    time: Array,
    event: NDArray[np.bool_],
    *,
    entry: Array | None = None,
    covariates: NDArray[np.floating] | None = None,
) -> CoxScreen:
    """One Cox regression a column of `values` (M, G), each adjusted for `covariates` (M, c) if given.

    Parameters
    ----------
    time, event, entry
        (M,) as in :class:`tcgn_mil.types.outcomes.SurvivalTable`.
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
    beta, se = (np.where(separates | ~(sd > 0), np.nan, found) for found in (beta, se))
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


def _standardised(values: Array) -> tuple[Array, Array]:
    """Columns to mean 0 and sd 1, and their sd (0 where a column is constant, and then all zero)."""
    mean, sd = values.mean(axis=0), values.std(axis=0, ddof=1)
    varies = sd > _RELATIVE_SPREAD_FLOOR * np.maximum(np.abs(mean), 1e-300)
    sd = np.where(varies, sd, np.where(np.isnan(sd), np.nan, 0.0))
    return np.where(varies, (values - mean) / np.where(varies, sd, 1.0), 0.0), sd


def _newton(genes: Array, fixed: Array, risk: RiskSets) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Coefficient and se of each of `genes` (M, g) beside `fixed` (M, c), and whether it ran away.

    A step that lowers a gene's likelihood is halved, for that gene alone.
    """
    count, width = genes.shape[1], 1 + fixed.shape[1]
    beta, step = np.zeros((count, width)), np.zeros((count, width))
    value, information = np.full(count, -np.inf), np.zeros((count, width, width))
    at_zero = np.zeros(count)
    active, columns = np.arange(count), genes  # those that still move
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
    lost = (information[:, 0, 0] < _LOST_INFORMATION * at_zero) | (
        np.abs(beta[:, 0]) > _MOST_EFFECT
    )
    stuck = np.abs(step).max(axis=1) > 1e-6
    return beta[:, 0], np.sqrt(np.maximum(variance, 0)), (lost | stuck) & (at_zero > 0)


def _derivatives(
    beta: Array, genes: Array, fixed: Array, risk: RiskSets
) -> tuple[Array, Array, Array]:
    """Log-likelihood (g,), gradient (g, P) and information (g, P, P) at `beta` (g, P); gene first, then covariates."""
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
    usable = (
        np.isfinite(value)
        & np.isfinite(gradient).all(axis=1)
        & np.isfinite(information).all(axis=(1, 2))
    )
    value = np.where(usable, value, -np.inf)
    gradient = np.where(usable[:, None], gradient, 0.0)
    return value, gradient, np.where(usable[:, None, None], information, np.eye(width))
