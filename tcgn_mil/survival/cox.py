"""Survival of patients by what is known of them: Cox regression, its tests, and curves of two groups.

The fits are lifelines'. What is added: outcomes cut at a horizon, errors that name the column, and a log-rank test that
knows late entry.
"""

from __future__ import annotations

import contextlib
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from tcgn_mil.errors import InputError
from tcgn_mil.survival.covariates import check_estimable
from tcgn_mil.survival.risk_sets import RiskSets
from tcgn_mil.types.outcomes import SurvivalTable

if TYPE_CHECKING:
    import pandas as pd
    from lifelines import CoxPHFitter


_STEP_SIZES = (0.95, 0.3)  # lifelines' first, and one that a heavy tail does not throw off
_NOT_CONVERGED = (
    "failed to converge"  # in a warning: lifelines returns where it stopped, which is no maximum
)
_TIME, _EVENT, _ENTRY, _STRATUM = "__time_days", "__event", "__entry_days", "__stratum"


def fit_cox(
    table: SurvivalTable,
    design: pd.DataFrame,
    *,
    strata: NDArray[Any] | None = None,
    where: str = "",
) -> CoxPHFitter:
    """lifelines' unpenalised Cox regression on the columns of `design` (M, c), Efron's ties.

    Parameters
    ----------
    strata
        (M,) groups with a baseline hazard each, such as folds.
    where
        Put behind the message of an error, for example `` in fold 2``.

    Raises
    ------
    InputError
        If it does not converge, naming the column at fault.
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
        with warnings.catch_warnings(record=True) as said, contextlib.suppress(ConvergenceError):
            warnings.simplefilter("always")
            fitted = CoxPHFitter().fit(
                frame, _TIME, _EVENT, fit_options={"step_size": step}, **options
            )
            if not any(_NOT_CONVERGED in str(warning.message) for warning in said):
                return fitted
    raise InputError(
        f"Cox regression does not converge on {', '.join(design.columns)}{where}: together they separate patients with"
        " an event from those without",
        fix="leave one of them out, or merge levels",
    )


def cox_frame(table: SurvivalTable, design: pd.DataFrame) -> pd.DataFrame:
    """`design` beside the outcome, as lifelines takes it."""
    frame = design.copy()
    frame[_TIME], frame[_EVENT] = table.time_days, table.event
    if table.entry_days is not None:
        frame[_ENTRY] = table.entry_days
    return frame


def log_likelihood(
    table: SurvivalTable, design: pd.DataFrame, *, strata: NDArray[Any] | None = None
) -> float:
    """Maximal partial log-likelihood; without a column that of no effect at all."""
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
    """Twice the gain in log-likelihood, its degrees of freedom, and p from chi-squared."""

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
    """What the columns `added` (M, k) tell beyond those of `base` (M, c)."""
    import pandas as pd

    both = pd.concat([base, added], axis=1)
    gain = 2 * (
        log_likelihood(table, both, strata=strata) - log_likelihood(table, base, strata=strata)
    )
    freedom = added.shape[1]
    return LikelihoodRatio(gain, freedom, float(chi2.sf(gain, freedom)))


def log_rank(table: SurvivalTable, high: NDArray[np.bool_]) -> tuple[float, float]:
    """(chi-squared, p) of two groups, `high` (M,) and the rest; NaN where one is empty.

    Mantel, Cancer Chemother. Rep. 1966, with the hypergeometric variance; risk sets allow for late entry.
    """
    if not 0 < high.sum() < len(high):
        return float("nan"), float("nan")
    risk = RiskSets(table.time_days, table.event, table.entry_days)
    first = risk.fraction == 0  # one row for each distinct time
    ones = np.ones(len(table))
    count, in_high = risk.at_risk(ones)[first], risk.at_risk(high.astype(float))[first]
    deaths, deaths_high = risk.tied(ones)[first], risk.tied(high.astype(float))[first]
    share = in_high / count
    variance = deaths * share * (1 - share) * (count - deaths) / np.maximum(count - 1, 1)
    statistic = (
        float((deaths_high - deaths * share).sum() ** 2 / variance.sum())
        if variance.sum() > 0
        else float("nan")
    )
    return statistic, float(chi2.sf(statistic, 1))


PROPORTIONAL_ADVICE = (
    "Its hazard ratio changes over follow-up, and the one reported is an average over it. Read the curves; end"
    " follow-up earlier (horizon_days); or fit risk.csv with a baseline for each level of a covariate or an effect"
    " that changes with time. C and the curves need no proportional hazards."
)


def proportional_hazards(
    fitted: CoxPHFitter, table: SurvivalTable, design: pd.DataFrame
) -> pd.DataFrame:
    """Grambsch and Therneau's test by rank of time (Biometrika 1994): covariate, statistic, p, advice where p < 0.05.

    `fitted` is the unstratified fit of `design`. The test is lifelines'; so are residuals, but for late entrants.
    """
    import pandas as pd
    from lifelines.statistics import proportional_hazard_test

    residuals = None if table.entry_days is None else _scaled_schoenfeld(fitted, table, design)
    found = proportional_hazard_test(
        fitted, cox_frame(table, design), time_transform="rank", precomputed_residuals=residuals
    ).summary
    p = found["p"].to_numpy(dtype=np.float64)
    return pd.DataFrame(
        {
            "covariate": [str(name) for name in found.index],
            "statistic": found["test_statistic"].to_numpy(dtype=float),
            "p": p,
            "advice": np.where(p < 0.05, PROPORTIONAL_ADVICE, ""),
        }
    )


def _scaled_schoenfeld(
    fitted: CoxPHFitter, table: SurvivalTable, design: pd.DataFrame
) -> pd.DataFrame:
    """Residuals (E, c) of the events in the order of the fit, over risk sets that know late entry.

    An event's covariates less their mean over those at risk, which events at one time share (Schoenfeld, Biometrika
    1982), times the number of events and the coefficients' covariance.
    """
    import pandas as pd

    risk = RiskSets(table.time_days, table.event, table.entry_days)
    names = list(fitted.params_.index)
    x = design[names].to_numpy(dtype=np.float64)
    predictor = x @ fitted.params_.to_numpy(dtype=np.float64)
    hazard = np.exp(predictor - predictor.max())
    means = risk.efron(hazard[:, None] * x) / risk.efron(hazard)[:, None]
    _, first, tie, size = np.unique(
        table.time_days[risk.rows], return_index=True, return_inverse=True, return_counts=True
    )
    means = (np.add.reduceat(means, first, axis=0) / size[:, None])[tie]
    scaled = (
        len(risk)
        * (x[risk.rows] - means)
        @ fitted.variance_matrix_.loc[names, names].to_numpy(dtype=np.float64)
    )
    order = fitted.event_observed.index[fitted.event_observed.to_numpy(dtype=bool)]
    return pd.DataFrame(scaled, index=design.index[risk.rows], columns=names).loc[order]


def hazard_ratios(fitted: CoxPHFitter) -> pd.DataFrame:
    """One row a covariate: coef, se, hazard_ratio, low, high (95 %), z, p."""
    summary = fitted.summary
    found = summary[
        ["coef", "se(coef)", "exp(coef)", "exp(coef) lower 95%", "exp(coef) upper 95%", "z", "p"]
    ]
    found = found.set_axis(["coef", "se", "hazard_ratio", "low", "high", "z", "p"], axis=1)
    return found.rename_axis("covariate").reset_index()
