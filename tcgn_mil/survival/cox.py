"""Cox regression by lifelines, with errors that name the covariate, and likelihood-ratio tests."""

from __future__ import annotations

import contextlib
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2, norm

from tcgn_mil.errors import InputError
from tcgn_mil.survival.covariates import check_estimable
from tcgn_mil.survival.risk_sets import RiskSets
from tcgn_mil.types.arrays import Float64Array
from tcgn_mil.types.outcomes import SurvivalTable

if TYPE_CHECKING:
    import pandas as pd
    from lifelines import CoxPHFitter

# lifelines' default step size of Newton's method, and a smaller one for covariates with heavy
# tails, with which the default diverges.
_STEP_SIZES = (0.95, 0.3)
# Part of a warning of lifelines. It then returns the coefficients at which it stopped, and these do
# not maximise the likelihood.
_NOT_CONVERGED = "failed to converge"
_Z95 = float(norm.ppf(0.975))
_MAX_LOG_RATIO = 700.0  # exp of more than this is infinite in float64
# Column names that no covariate has.
_TIME, _EVENT, _ENTRY, _STRATUM = "__time_days", "__event", "__entry_days", "__stratum"


def fit_cox(
    table: SurvivalTable,
    design: pd.DataFrame,
    *,
    strata: NDArray[Any] | None = None,
    where: str = "",
) -> CoxPHFitter:
    """Fit an unpenalised Cox regression with lifelines (Efron's method for ties).

    Parameters
    ----------
    table
        Survival times of M patients.
    design
        (M, c) numeric covariates, for example from
        :func:`tcgn_mil.survival.covariates.design_matrix`.
    strata
        (M,) groups that have a baseline hazard each, such as folds.
    where
        Text to append to the message of an error, for example `` in fold 2``.

    Raises
    ------
    InputError
        If the regression does not converge. The message names the covariate that is the cause.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> rng = np.random.default_rng(0)
    >>> names = tuple(f"P{number}" for number in range(100))
    >>> design = pd.DataFrame({"age": rng.normal(60, 10, size=100)}, index=list(names))
    >>> time_days = rng.exponential(np.exp(-0.05 * (design["age"] - 60))) * 1000
    >>> table = SurvivalTable("OS", names, time_days, np.ones(100, bool), design)
    >>> hazard_ratios(fit_cox(table, design), design).round(2)[["covariate", "hazard_ratio"]]
      covariate  hazard_ratio
    0       age          1.07
    """
    from lifelines import CoxPHFitter
    from lifelines.exceptions import ConvergenceError

    check_estimable(design, table, where=where)
    frame = cox_frame(table, design)
    if strata is not None:
        frame[_STRATUM] = strata
    options = {
        "entry_col": _ENTRY if table.entry_days is not None else None,
        "strata": None if strata is None else [_STRATUM],
    }
    for step in _STEP_SIZES:
        with warnings.catch_warnings(record=True) as raised, contextlib.suppress(ConvergenceError):
            warnings.simplefilter("always")
            fitted = CoxPHFitter().fit(
                frame, _TIME, _EVENT, fit_options={"step_size": step}, **options
            )
            if not any(_NOT_CONVERGED in str(warning.message) for warning in raised):
                return fitted
    raise InputError(
        f"Cox regression does not converge on {', '.join(design.columns)}{where}: together these"
        " covariates separate the patients with an event from those without",
        fix="leave out one of these covariates, or merge levels",
    )


def cox_frame(table: SurvivalTable, design: pd.DataFrame) -> pd.DataFrame:
    """Join the columns of `design` to those of the outcome, as lifelines expects them."""
    frame = design.copy()
    frame[_TIME], frame[_EVENT] = table.time_days, table.event
    if table.entry_days is not None:
        frame[_ENTRY] = table.entry_days
    return frame


def log_likelihood(
    table: SurvivalTable, design: pd.DataFrame, *, strata: NDArray[Any] | None = None
) -> float:
    """Maximise the partial log-likelihood; without columns, return that of no effect.

    Parameters
    ----------
    table, design, strata
        As in :func:`fit_cox`.
    """
    if design.shape[1]:
        return float(fit_cox(table, design, strata=strata).log_likelihood_)
    groups = np.zeros(len(table), dtype=int) if strata is None else strata
    total = 0.0
    for group in np.unique(groups):
        part = table.take(groups == group)
        risk = RiskSets(part.time_days, part.event, part.entry_days)
        total += float(risk.log_likelihood(np.zeros((len(part), 1)))[0])
    return total


class LikelihoodRatio(NamedTuple):
    """Result of a likelihood-ratio test.

    Attributes
    ----------
    statistic
        Twice the gain in log-likelihood.
    freedom
        Degrees of freedom: the number of added columns.
    p
        P-value of the chi-squared distribution.
    """

    statistic: float
    freedom: int
    p: float


def likelihood_ratio(
    table: SurvivalTable,
    base: pd.DataFrame,
    added: pd.DataFrame,
    *,
    strata: NDArray[Any] | None = None,
) -> LikelihoodRatio:
    """Test whether covariates improve a Cox regression on other covariates.

    Parameters
    ----------
    table
        Survival times of M patients.
    base
        (M, c) covariates of the smaller model; may have no columns.
    added
        (M, k) covariates that the larger model has in addition.
    strata
        (M,) groups that have a baseline hazard each.
    """
    import pandas as pd

    both = pd.concat([base, added], axis=1)
    gain = 2 * (
        log_likelihood(table, both, strata=strata) - log_likelihood(table, base, strata=strata)
    )
    freedom = added.shape[1]
    return LikelihoodRatio(gain, freedom, float(chi2.sf(gain, freedom)))


def hazard_ratios(fitted: CoxPHFitter, design: pd.DataFrame) -> pd.DataFrame:
    """Return the coefficients and hazard ratios of a fit, one row for each covariate.

    Parameters
    ----------
    fitted
        Fit of :func:`fit_cox`.
    design
        (M, c) covariates of the fit.

    Returns
    -------
    Columns ``covariate``, ``coef``, ``se``, ``hazard_ratio``, ``low`` and ``high`` (95 % interval),
    all per unit of the covariate; ``sd``, its standard deviation; ``hazard_ratio_per_sd``,
    ``low_per_sd`` and ``high_per_sd``; ``z`` and ``p``. A ratio per unit is NaN if a computer
    cannot represent it, as that of a mutation rate per base: one unit is a million times more than
    any patient has.
    """
    import pandas as pd

    with np.errstate(over="ignore"):  # lifelines computes the ratio per unit as well
        summary = fitted.summary[["coef", "se(coef)", "z", "p"]]
    coef, se = (summary[name].to_numpy(dtype=np.float64) for name in ("coef", "se(coef)"))
    sd = design[list(summary.index)].std().to_numpy(dtype=np.float64)
    columns = {"covariate": [str(name) for name in summary.index], "coef": coef, "se": se}
    for suffix, unit in (("", np.ones_like(sd)), ("_per_sd", sd)):
        if suffix:
            columns["sd"] = sd
        for name, bound in (("hazard_ratio", 0.0), ("low", -_Z95), ("high", _Z95)):
            columns[name + suffix] = _representable((coef + bound * se) * unit)
    return pd.DataFrame(
        {**columns, "z": summary["z"].to_numpy(float), "p": summary["p"].to_numpy(float)}
    )


def _representable(log_ratio: Float64Array) -> Float64Array:
    """Return exp of the values; NaN where it is infinite or rounds to 0."""
    usable = np.abs(log_ratio) < _MAX_LOG_RATIO
    return np.where(usable, np.exp(np.where(usable, log_ratio, 0.0)), np.nan)
