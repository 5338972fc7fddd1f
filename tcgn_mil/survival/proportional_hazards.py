"""Test the proportional-hazards assumption of a Cox regression, allowing for late entry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tcgn_mil.survival.cox import cox_frame
from tcgn_mil.survival.risk_sets import RiskSets
from tcgn_mil.types.outcomes import SurvivalTable

if TYPE_CHECKING:
    import pandas as pd
    from lifelines import CoxPHFitter

MIN_P_OF_PROPORTIONAL = 0.05  # below this, hazards do not look proportional
PROPORTIONAL_ADVICE = (
    "The hazard ratio of this covariate changes over follow-up, and the reported one is an average"
    " over it. Look at the curves, end follow-up earlier (horizon_days), or fit risk.csv with a"
    " baseline for each level of a covariate or with an effect that changes with time. C and the"
    " curves do not need proportional hazards."
)


def proportional_hazards(
    fitted: CoxPHFitter, table: SurvivalTable, design: pd.DataFrame
) -> pd.DataFrame:
    """Test each covariate for an effect that changes with time.

    The test is that of Grambsch and Therneau (Biometrika 1994) against the rank of time, as
    lifelines computes it. The residuals are lifelines' as well, unless patients enter late.

    Parameters
    ----------
    fitted
        Unstratified fit of `design`, from :func:`tcgn_mil.survival.cox.fit_cox`.
    table
        Survival times of M patients.
    design
        (M, c) covariates.

    Returns
    -------
    One row for each covariate with the columns ``covariate``, ``statistic``, ``p`` and ``advice``
    (text if p < 0.05, else empty).
    """
    import pandas as pd
    from lifelines.statistics import proportional_hazard_test

    # lifelines' residuals ignore entry times: their risk sets would contain patients who were not
    # yet under observation.
    residuals = (
        None if table.entry_days is None else scaled_schoenfeld_residuals(fitted, table, design)
    )
    summary = proportional_hazard_test(
        fitted, cox_frame(table, design), time_transform="rank", precomputed_residuals=residuals
    ).summary
    p = summary["p"].to_numpy(dtype=np.float64)
    return pd.DataFrame(
        {
            "covariate": [str(name) for name in summary.index],
            "statistic": summary["test_statistic"].to_numpy(dtype=float),
            "p": p,
            "advice": np.where(p < MIN_P_OF_PROPORTIONAL, PROPORTIONAL_ADVICE, ""),
        }
    )


def scaled_schoenfeld_residuals(
    fitted: CoxPHFitter, table: SurvivalTable, design: pd.DataFrame
) -> pd.DataFrame:
    """Compute scaled Schoenfeld residuals (Schoenfeld, Biometrika 1982), also with late entry.

    Parameters
    ----------
    fitted, table, design
        As in :func:`proportional_hazards`.

    Returns
    -------
    (E, c): one row for each event, in the order of the fit.
    """
    import pandas as pd

    # The residual of an event is the covariates of its patient minus their mean over the patients
    # at risk, each weighted by exp(x beta). Tied events share the average of their means. Scaled
    # residuals are E * residual * V, where V is the covariance of the coefficients and E the number
    # of events; their trend over time is the trend of beta.
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
