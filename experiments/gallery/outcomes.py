"""Examples of the figures about cohorts, survival, and associations with other data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from tcgn_mil.experiments.associate.associations import KRUSKAL, SPEARMAN
from tcgn_mil.experiments.associate.cell_types import draw_cell_types
from tcgn_mil.experiments.associate.figures import (
    draw_agreement,
    draw_covariates,
    draw_enrichment,
    draw_volcano,
)
from tcgn_mil.experiments.gallery.entry import Entry
from tcgn_mil.experiments.survive.figures import (
    draw_accuracy,
    draw_concordance,
    draw_curves,
    draw_forest,
    draw_screen,
)
from tcgn_mil.preprocessing.bulk.figure import draw_cohort
from tcgn_mil.preprocessing.bulk.patient_join import JoinRow
from tcgn_mil.preprocessing.clinical.figure import draw_survival
from tcgn_mil.types.outcomes import DAYS_PER_YEAR, SurvivalTable
from tcgn_mil.types.units import ExpressionUnit

PATIENTS, GENES = 120, 200
_TITLE = "OS, n = 120 patients, 78 events"
_SETS = ("T_CELLS", "B_CELLS", "MACROPHAGES", "STROMA")


def _outcome(risk: np.ndarray) -> SurvivalTable:
    """Return survival times that are shorter at a higher risk, censored after up to 8 years."""
    generator = np.random.default_rng(0)
    years = generator.exponential(4 * np.exp(-0.6 * risk))
    end = generator.uniform(1, 8, len(risk))
    names = tuple(f"P{row}" for row in range(len(risk)))
    days = np.maximum(np.minimum(years, end) * DAYS_PER_YEAR, 1)
    return SurvivalTable("OS", names, days, years <= end, pd.DataFrame(index=list(names)))


def _risk() -> np.ndarray:
    return np.random.default_rng(1).normal(size=PATIENTS)


def draw_endpoint(path: Path) -> None:
    """Draw the survival curve of one endpoint."""
    draw_survival(path, [_outcome(_risk())])


def draw_joined_cohort(path: Path) -> None:
    """Draw what was kept of a cohort, and the values of its patients."""
    rows = [JoinRow("slide", f"S{i}", "", "", i % 9 > 0, "", "no sample") for i in range(90)]
    rows += [JoinRow("sample", f"X{i}", "", "", i % 6 > 0, "", "no slide") for i in range(80)]
    profiles = pd.DataFrame(np.random.default_rng(2).normal(6, 2, (60, 50)).clip(0))
    sources = ["first.csv"] * 30 + ["second.csv"] * 30
    draw_cohort(path, rows, profiles, sources, ExpressionUnit.parse("log2(TPM + 1)"))


def draw_survival_groups(path: Path) -> None:
    """Draw survival of patients above and below the median risk, for two models."""
    risk = _risk()
    weak = risk + np.random.default_rng(3).normal(0, 3, PATIENTS)
    groups = pd.DataFrame(
        {
            "model": ["clinical", "predicted"],
            "p": [0.21, 2e-6],
            "hazard_ratio": [1.3, 2.9],
            "hr_low": [0.8, 1.8],
            "hr_high": [2.1, 4.6],
        }
    )
    draw_curves(_outcome(risk), {"clinical": weak, "predicted": risk}, groups, path)


def draw_c(path: Path) -> None:
    """Draw C of three models."""
    rows = [("clinical", 0.58, 0.51, 0.65), ("predicted", 0.66, 0.6, 0.72)]
    rows.append(("clinical + predicted", 0.68, 0.62, 0.74))
    draw_concordance(pd.DataFrame(rows, columns=["model", "c", "low", "high"]), path, title=_TITLE)


def draw_ratios(path: Path) -> None:
    """Draw hazard ratios with three kinds of units."""
    rows = [
        ("clinical", "age", 1.02, 1.01, 1.03, 11.0, 1.24, 1.12, 1.38, 0.001, "sd"),
        ("clinical", "stage[III]", 2.2, 1.2, 4.0, 0.4, 1.4, 1.1, 1.8, 0.01, "unit"),
        ("predicted", "predicted risk score", 1.8, 1.4, 2.3, 1.1, 1.9, 1.4, 2.5, 2e-6, "unit"),
    ]
    columns = ["model", "covariate", "hazard_ratio", "low", "high", "sd"]
    columns += ["hazard_ratio_per_sd", "low_per_sd", "high_per_sd", "p", "per"]
    draw_forest(pd.DataFrame(rows, columns=columns), path, title=_TITLE)


def draw_times(path: Path) -> None:
    """Draw AUC and Brier score of two models at three times."""
    rows = [
        (model, years * DAYS_PER_YEAR, auc - 0.02 * years, 0.1 + 0.02 * years, 0.12 + 0.02 * years)
        for model, auc in (("clinical", 0.62), ("predicted", 0.71))
        for years in (1, 3, 5)
    ]
    columns = ["model", "days", "auc", "brier", "brier_null"]
    draw_accuracy(pd.DataFrame(rows, columns=columns), path)


def _screened() -> pd.DataFrame:
    generator = np.random.default_rng(4)
    effect = generator.normal(0, 0.3, GENES)
    p = np.exp(-((effect / 0.12) ** 2))
    table = pd.DataFrame({"gene": [f"G{g}" for g in range(GENES)], "effect": effect, "p": p})
    return table.assign(q=(2 * table["p"]).clip(upper=1)).sort_values("p")


def draw_gene_screen(path: Path) -> None:
    """Draw the hazard ratio of every gene."""
    table = _screened()
    draw_screen(table.assign(hazard_ratio_per_sd=np.exp(table["effect"])), path, source="predicted")


def draw_signatures(path: Path) -> None:
    """Draw the agreement of predicted and measured signatures."""
    table = pd.DataFrame({"signature": _SETS})
    for place, measure in enumerate(("pearson", "spearman")):
        r = np.array([0.6, 0.4, 0.35, 0.1]) - 0.03 * place
        table[f"{measure}_r"], table[f"{measure}_low"] = r, r - 0.12
        table[f"{measure}_high"] = r + 0.1
    draw_agreement(table, path, title=f"{PATIENTS} patients, r within folds, combined")


def draw_covariate_map(path: Path) -> None:
    """Draw signatures against two numbers and a category."""
    generator = np.random.default_rng(5)
    rows = [
        ("predicted", "signature", name, covariate, test, effect, effect**2 < 0.04)
        for name in _SETS
        for covariate, test in (("age", SPEARMAN), ("purity", SPEARMAN), ("subtype", KRUSKAL))
        for effect in [generator.uniform(0 if test == KRUSKAL else -0.6, 0.6)]
    ]
    columns = ["source", "kind", "name", "covariate", "test", "effect", "weak"]
    table = pd.DataFrame(rows, columns=columns)
    draw_covariates(table.assign(q=np.where(table["weak"], 0.4, 0.001), n=PATIENTS), path)


def draw_sets(path: Path) -> None:
    """Draw the enrichment of gene sets among predictable genes."""
    table = pd.DataFrame({"set": _SETS, "in_panel": (14, 20, 31, 25), "p": (0.001, 0.01, 0.2, 0.6)})
    table["q"] = 2 * table["p"]
    draw_enrichment(
        table.assign(fold=[2.4, 1.8, 1.2, 0.8]), table.assign(nes=[2.1, 1.7, 1.1, -1.3]), path
    )


def draw_followers(path: Path) -> None:
    """Draw the genes that follow a score."""
    table = _screened().rename(columns={"effect": "r"})
    table["part_of_score"] = table["gene"].isin(list(table["gene"].iloc[:3]))
    draw_volcano(table, path, score="T_CELLS (predicted)", title=f"{GENES} predicted genes")


def draw_types(path: Path) -> None:
    """Draw which genes follow which cell type."""
    generator = np.random.default_rng(6)
    rows = [
        ("A1", gene, kind, *(generator.uniform(-0.4, 0.6) * np.array([1.0, 0.7])))
        for gene in ("CD3E", "CD2", "MS4A1", "CD68", "COL1A1")
        for kind in ("T cells", "fibroblasts")
    ]
    columns = ["section", "gene", "cell_type", "r_predicted", "r_measured"]
    draw_cell_types(pd.DataFrame(rows, columns=columns), path)


ENTRIES = (
    Entry(
        "endpoint",
        "An endpoint of the clinical table",
        "`tcgn-mil clinical`, clinical.png",
        "A wrong unit of time or a wrong coding of the events is seen at once. Ticks are censored"
        " patients. The curve ends where fewer than five patients, or fewer than a tenth, are at"
        " risk.",
        draw_endpoint,
    ),
    Entry(
        "cohort",
        "A joined cohort",
        "`tcgn-mil bulk`, cohort.png",
        "The left panel shows what was lost and why. A patient or a table in another unit stands"
        " out in the right panel.",
        draw_joined_cohort,
    ),
    Entry(
        "kaplan_meier",
        "Survival above and below the median risk",
        "`tcgn-mil survive`, kaplan_meier.png",
        "Scores are out of fold, and the cut is the median of the training patients. The numbers"
        " below are the patients at risk.",
        draw_survival_groups,
    ),
    Entry(
        "concordance",
        "Concordance",
        "`tcgn-mil survive`, concordance.png",
        "The dotted line is a coin toss.",
        draw_c,
    ),
    Entry(
        "forest",
        "Hazard ratios",
        "`tcgn-mil survive`, forest.png",
        "Each row names the difference between patients that its ratio is for: a standard"
        " deviation of a number (with its size), or a level against the most common one.",
        draw_ratios,
    ),
    Entry(
        "accuracy",
        "Accuracy over time",
        "`tcgn-mil survive`, accuracy.png",
        "A useful model has an AUC above 0.5, and a Brier score below that of the survival curve"
        " of all patients.",
        draw_times,
    ),
    Entry(
        "screen",
        "Every gene by itself",
        "`tcgn-mil survive`, exploratory_screen_SOURCE.png",
        "This figure is for exploration: genes are judged on the patients they were found on.",
        draw_gene_screen,
    ),
    Entry(
        "signatures",
        "Predicted and measured signatures",
        "`tcgn-mil associate`, signatures.png",
        "The lines are 95 % intervals over patients.",
        draw_signatures,
    ),
    Entry(
        "covariates",
        "Signatures and covariates",
        "`tcgn-mil associate`, covariates.png",
        "A number is written where q is below 0.05. Numbers and categories have tests and colours"
        " of their own.",
        draw_covariate_map,
    ),
    Entry(
        "enrichment",
        "Gene sets among the predictable genes",
        "`tcgn-mil associate`, enrichment.png",
        "Dark bars have q below 0.05. The number of the set's genes in the panel is in brackets.",
        draw_sets,
    ),
    Entry(
        "follow",
        "Genes that follow a score",
        "`tcgn-mil associate`, follow.png",
        "Genes of the score itself have a ring, because they follow it by construction.",
        draw_followers,
    ),
    Entry(
        "cell_types",
        "Genes and cell types",
        "`tcgn-mil associate`, cell_types.png",
        "A gene should follow the same cell type in predicted and in measured values.",
        draw_types,
    ),
)
