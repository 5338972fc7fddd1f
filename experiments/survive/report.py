"""The report's sections on what follows from expression: immune signatures and survival."""

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
from tcgn_mil.experiments.runs.page import Section
from tcgn_mil.experiments.runs.report_part import ReportPart


def survive_sections(run: Run, share: float) -> list[Section]:
    """Concordance, curves, hazard ratios, and the screen for exploration."""
    c = {
        "model": "model",
        "C (95 % interval)": ("c", "low", "high"),
        "above clinical": ("above_clinical", "above_low", "above_high"),
        "pairs": "pairs",
        "folds": "folds",
        "folds without a score": "folds_without_a_score",
    }
    ratio = ("hazard_ratio", "low", "high")
    screen = {
        "gene": "gene",
        "hazard ratio per sd": ("hazard_ratio_per_sd", "low", "high"),
        "p": "p",
        "q": "q",
        "adjusted hazard ratio": ("adjusted_hazard_ratio_per_sd", "adjusted_low", "adjusted_high"),
        "adjusted q": "adjusted_q",
    }
    return [
        Section(
            run.title(f"Survival: {run.summary.get('endpoint', '')}"),
            [str(run.summary["sentence"]), where_figures_are(run)],
            [
                *table_of(run, "concordance.csv", "Concordance (C) of risk scores, out of fold", c),
                *table_of(
                    run,
                    "likelihood_ratio.csv",
                    "What a score adds to what is known (likelihood-ratio test)",
                    {"added": "added", "to": "to", "statistic": "statistic", "p": "p"},
                ),
                *table_of(
                    run,
                    "hazard_ratios.csv",
                    "Hazard ratios: covariates per unit, scores per training sd",
                    {
                        "model": "model",
                        "covariate": "covariate",
                        "hazard ratio (95 % interval)": ratio,
                        "p": "p",
                    },
                ),
                *table_of(
                    run,
                    "groups.csv",
                    "Patients above and below the training median of the score",
                    {
                        "model": "model",
                        "above": "high",
                        "events above": "high_events",
                        "below": "low",
                        "events below": "low_events",
                        "hazard ratio (95 % interval)": ("hazard_ratio", "hr_low", "hr_high"),
                        "log-rank p": "p",
                    },
                ),
                *table_of(
                    run,
                    "proportional_hazards.csv",
                    "Does a hazard ratio hold over time, and what to do if not",
                    {
                        "model": "model",
                        "covariate": "covariate",
                        "p": "p",
                        "advice": "advice",
                    },
                ),
                *(
                    table
                    for source in ("predicted", "measured")
                    for table in table_of(
                        run,
                        f"signatures_{source}.csv",
                        f"Each signature of {source} expression by itself",
                        {"signature": "signature"}
                        | {key: column for key, column in screen.items() if key != "gene"},
                    )
                ),
                *(
                    table
                    for source in ("predicted", "measured")
                    for table in table_of(
                        run,
                        f"exploratory_screen_{source}.csv",
                        f"For exploration only: each gene by itself, {source}"
                        " expression, judged on the patients it was found on",
                        screen,
                        max_rows=OTHER_ROWS,
                    )
                ),
            ],
            pictures_of(
                run,
                {
                    "kaplan_meier.png": "The share of patients without the event over time (Kaplan-Meier), above and below the"
                    " training median of each risk score, with 95 % bands; below, how many are still under observation.",
                    "concordance.png": "C of each model with its 95 % interval; 0.5, dotted, is a coin toss.",
                    "forest.png": "Hazard ratios with 95 % intervals; one that crosses 1, dotted, fits no effect.",
                    "accuracy.png": "Accuracy over time: AUC (0.5 is a coin toss) and Brier score (lower is better).",
                    "exploratory_screen_predicted.png": "For exploration only: each predicted gene by itself.",
                },
            ),
            warnings=warnings_of(
                label
                for label in run.summary.get("labels", ())
                if not label.startswith("exploratory")
            ),
        )
    ]


def methods(config: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    risk = config["risk"]
    covariates = ", ".join(config.get("covariates") or ()) or "none"
    return (
        f"Risk of {summary['endpoint']} ({summary['patients']} patients, {summary['events']} events) was predicted out"
        f" of fold by Cox regression with an elastic net on {risk['features']}, its penalty chosen by"
        f" {risk['inner_folds']} inner folds; covariates: {covariates}. Harrell's C counts pairs within folds only,"
        f" with {config['replicates']} resamplings of patients; groups were cut at the training median."
    )


REPORT = ReportPart(
    kind="survive",
    position=4,
    sections=survive_sections,
    methods=methods,
    terms=frozenset({"out of fold", "95 % interval", "p and q", "C", "hazard ratio"}),
)
