"""Test groups of patients, out-of-fold scores, covariates and single genes against the outcome."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tcgn_mil.experiments.survive.cohort import SurvivalCohort
from tcgn_mil.experiments.survive.cross_validate import CvRepeat, with_clinical
from tcgn_mil.experiments.survive.sources import CLINICAL
from tcgn_mil.survival.cox import fit_cox, hazard_ratios, likelihood_ratio
from tcgn_mil.survival.gene_screen import cox_screen
from tcgn_mil.survival.log_rank import log_rank
from tcgn_mil.survival.proportional_hazards import proportional_hazards
from tcgn_mil.types.outcomes import SurvivalTable

SCORE = "risk score"
EXPLORATORY = "exploratory: genes are judged on the patients they were found on"


def group_table(table: SurvivalTable, repeat: CvRepeat) -> pd.DataFrame:
    """Compare patients above and below the training median of the score, one row per model.

    The cut is that of the training patients, because a cut chosen on the patients on whom it is
    reported makes random scores look prognostic.
    """
    rows = []
    for name, risk in repeat.risk.items():
        high = risk > 0
        statistic, p = log_rank(table, high)
        row = {
            "model": name,
            "high": int(high.sum()),
            "high_events": int(table.event[high].sum()),
            "low": int((~high).sum()),
            "low_events": int(table.event[~high].sum()),
            "log_rank": statistic,
            "p": p,
        }
        if row["high_events"] and row["low_events"]:
            group = pd.DataFrame({"high": high.astype(float)}, index=list(table.patient_id))
            ratio = hazard_ratios(fit_cox(table, group), group).iloc[0]
            row |= {
                "hazard_ratio": ratio["hazard_ratio"],
                "hr_low": ratio["low"],
                "hr_high": ratio["high"],
            }
        rows.append(row)
    return pd.DataFrame(rows)


def regression_tables(
    cohort: SurvivalCohort, repeat: CvRepeat
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Fit Cox regressions on covariates and out-of-fold scores.

    Scores are per standard deviation of the training patients. Hazard ratios and likelihood ratios
    are stratified by fold, because scores of different folds are not comparable: each fold has a
    baseline hazard of its own. Proportional hazards are tested without strata.

    Returns
    -------
    Hazard ratios, likelihood-ratio tests of what each score adds to the covariates, and tests of
    proportional hazards.
    """
    table, design = cohort.table, cohort.design
    adjusted = design.shape[1] > 0
    ratios, tests, assumptions = [], [], []
    blocks = {CLINICAL: design} if adjusted else {}
    for name in cohort.sources:
        risk = repeat.risk[name]
        if not np.ptp(risk) > 0:  # nothing was chosen in any fold
            continue
        score = pd.DataFrame({f"{name} {SCORE}": risk}, index=design.index)
        blocks[name] = score
        if adjusted:
            blocks[with_clinical(name)] = pd.concat([design, score], axis=1)
        test = likelihood_ratio(table, design, score, strata=repeat.fold)
        tests.append(
            {
                "added": f"{name} {SCORE}",
                "to": ", ".join(design.columns) or "nothing",
                **test._asdict(),
            }
        )
    for model, columns in blocks.items():
        # Covariates are on one scale in all folds, so that the clinical model needs no strata.
        strata = None if model == CLINICAL else repeat.fold
        fitted = hazard_ratios(fit_cox(table, columns, strata=strata), columns)
        ratios.append(fitted.assign(model=model, per=_unit_to_draw(columns)))
        assumptions.append(
            proportional_hazards(fit_cox(table, columns), table, columns).assign(model=model)
        )
    return (
        _joined(ratios),
        pd.DataFrame(tests, columns=["added", "to", "statistic", "freedom", "p"]),
        _joined(assumptions),
    )


def _unit_to_draw(columns: pd.DataFrame) -> list[str]:
    """Return for each column whether its ratio is best read per ``unit`` or per ``sd``.

    Covariates have units of all sizes, so that only ratios per standard deviation can be compared.
    Groups of patients have no other unit than 1, and scores come in standard deviations.
    """
    return [
        "unit" if str(name).endswith(SCORE) or columns[name].nunique() <= 2 else "sd"
        for name in columns.columns
    ]


def _joined(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the rows of all models, with the model as first column."""
    if not parts:
        return pd.DataFrame(columns=["model", "covariate"])
    frame = pd.concat(parts, ignore_index=True)
    return frame[["model", *(name for name in frame.columns if name != "model")]]


def screen_table(
    values: NDArray[np.floating],
    genes: Sequence[str],
    table: SurvivalTable,
    design: pd.DataFrame,
) -> pd.DataFrame:
    """Fit a Cox regression for each gene, alone and adjusted for the covariates.

    Parameters
    ----------
    values
        (M, G) expression, or scores of gene sets.
    genes
        Names of the G columns.
    table
        Outcome of the M patients.
    design
        (M, c) covariates as numbers. Without columns, the adjusted regression is left out.

    Returns
    -------
    One row per gene, those with the smallest p first.
    """
    outcome = (table.time_days, table.event)
    screens = {"": cox_screen(values, *outcome, entry=table.entry_days)}
    if design.shape[1]:
        screens["adjusted_"] = cox_screen(
            values, *outcome, entry=table.entry_days, covariates=design.to_numpy()
        )
    columns: dict[str, Any] = {"gene": list(genes)}
    for prefix, screen in screens.items():
        columns |= {
            f"{prefix}hazard_ratio_per_sd": screen.hazard_ratio,
            f"{prefix}low": screen.low,
            f"{prefix}high": screen.high,
            f"{prefix}coef": screen.coef,
            f"{prefix}se": screen.se,
            f"{prefix}z": screen.z,
            f"{prefix}p": screen.p,
            f"{prefix}q": screen.q,
        }
    frame = pd.DataFrame(columns).assign(label=EXPLORATORY)
    return frame.sort_values(["p", "gene"], kind="stable").reset_index(drop=True)
