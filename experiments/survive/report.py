"""Report on survival runs: concordance, survival curves, hazard ratios, and the screen of genes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tcgn_mil.experiments.runs.finished_run import (
    OTHER_ROWS,
    Run,
    pictures_of,
    table_of,
    warnings_of,
    where_figures_are,
)
from tcgn_mil.experiments.runs.page import Section, Table
from tcgn_mil.experiments.runs.report_part import ReportPart

# Plain names of columns, and the columns of the tables; three columns are a value and its bounds.
Columns = dict[str, str | tuple[str, str, str]]

_CONCORDANCE: Columns = {
    "model": "model",
    "C (95 % interval)": ("c", "low", "high"),
    "above clinical": ("above_clinical", "above_low", "above_high"),
    "pairs": "pairs",
    "folds": "folds",
    "folds without a score": "folds_without_a_score",
}
_ADDED: Columns = {"added": "added", "to": "to", "statistic": "statistic", "p": "p"}
_RATIOS: Columns = {
    "model": "model",
    "covariate": "covariate",
    "hazard ratio per unit (95 % interval)": ("hazard_ratio", "low", "high"),
    "sd": "sd",
    "hazard ratio per sd (95 % interval)": ("hazard_ratio_per_sd", "low_per_sd", "high_per_sd"),
    "p": "p",
}
_GROUPS: Columns = {
    "model": "model",
    "above": "high",
    "events above": "high_events",
    "below": "low",
    "events below": "low_events",
    "hazard ratio (95 % interval)": ("hazard_ratio", "hr_low", "hr_high"),
    "log-rank p": "p",
}
_ASSUMPTIONS: Columns = {"model": "model", "covariate": "covariate", "p": "p", "advice": "advice"}
_SCREEN: Columns = {
    "hazard ratio per sd": ("hazard_ratio_per_sd", "low", "high"),
    "p": "p",
    "q": "q",
    "adjusted hazard ratio": ("adjusted_hazard_ratio_per_sd", "adjusted_low", "adjusted_high"),
    "adjusted q": "adjusted_q",
}
_CAPTIONS = {
    "kaplan_meier.png": "Share of patients without the event over time (Kaplan-Meier curves), for"
    " patients with a risk score above and below the training median, with 95 % bands. Below the"
    " curves: the number of patients still under observation. A curve ends where fewer than 5"
    " patients, or fewer than 10 % of its group, are at risk; ticks are censored patients.",
    "concordance.png": "C of each model with its 95 % interval. The dotted line at 0.5 is a coin"
    " toss.",
    "forest.png": "Hazard ratios with 95 % intervals. An interval that includes 1 (dotted line) is"
    " compatible with no effect.",
    "accuracy.png": "Accuracy over time: AUC (0.5 is a coin toss) and Brier score (lower is"
    " better).",
    "exploratory_screen_predicted.png": "For exploration only: each predicted gene by itself.",
}


def survive_sections(run: Run, share: float) -> list[Section]:
    """Make the section on a survival run; it has no interactive data and does not use `share`."""
    labels = run.summary.get("labels", ())
    return [
        Section(
            run.title(f"Survival: {run.summary.get('endpoint', '')}"),
            [where_figures_are(run)],
            [*_model_tables(run), *_screen_tables(run)],
            pictures_of(run, _CAPTIONS),
            # That the screen is exploratory is said in its title and need not be repeated.
            warnings=warnings_of(label for label in labels if not label.startswith("exploratory")),
        )
    ]


def _model_tables(run: Run) -> list[Table]:
    titles: dict[str, tuple[str, Columns]] = {
        "concordance.csv": ("Concordance (C) of risk scores, out of fold", _CONCORDANCE),
        "likelihood_ratio.csv": (
            "Does a score add to what is known already? (likelihood-ratio test)",
            _ADDED,
        ),
        "hazard_ratios.csv": (
            "Hazard ratios, per unit and per standard deviation (sd) of the patients; the unit of a"
            " score is the sd of the training patients",
            _RATIOS,
        ),
        "groups.csv": ("Patients above and below the training median of the score", _GROUPS),
        "proportional_hazards.csv": (
            "Is a hazard ratio the same over time, and what to do if it is not",
            _ASSUMPTIONS,
        ),
    }
    return [
        table
        for file, (title, columns) in titles.items()
        for table in table_of(run, file, title, columns)
    ]


def _screen_tables(run: Run) -> list[Table]:
    tables = []
    for source in ("predicted", "measured"):
        tables += table_of(
            run,
            f"signatures_{source}.csv",
            f"Each signature of {source} expression by itself",
            {"signature": "signature", **_SCREEN},
        )
    for source in ("predicted", "measured"):
        tables += table_of(
            run,
            f"exploratory_screen_{source}.csv",
            f"For exploration only: each gene by itself, {source} expression, judged on the"
            " patients it was found on",
            {"gene": "gene", **_SCREEN},
            max_rows=OTHER_ROWS,
        )
    return tables


def methods(config: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    """Return the methods paragraph of a survival run."""
    risk = config["risk"]
    covariates = ", ".join(config.get("covariates") or ())
    known = f"The covariates were {covariates}." if covariates else "There were no covariates."
    return (
        f"Risk scores of {summary['endpoint']} ({summary['patients']} patients,"
        f" {summary['events']} events) were computed out of fold by Cox regression with an elastic"
        f" net on {risk['features']}; the penalty was chosen by {risk['inner_folds']} folds within"
        f" the training patients. {known} Harrell's C was computed over pairs of patients within"
        f" folds, and its interval over {config['replicates']} resamples of patients. Patients were"
        " divided into two groups at the median score of the training patients."
    )


REPORT = ReportPart(
    kind="survive",
    position=4,
    sections=survive_sections,
    methods=methods,
    terms=frozenset({"out of fold", "95 % interval", "p and q", "C", "hazard ratio"}),
    files=("concordance.csv", "groups.csv", "risk.csv"),
)
