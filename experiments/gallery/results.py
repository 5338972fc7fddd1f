"""Examples of the figures that say how well genes are predicted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from tcgn_mil.experiments.gallery.entry import Entry
from tcgn_mil.experiments.runs import figures
from tcgn_mil.experiments.slide_level.compare_runs import draw_comparison
from tcgn_mil.experiments.slide_level.figures import draw_coverage, draw_headline, draw_null
from tcgn_mil.experiments.slide_level.uncertainty import draw_uncertainty
from tcgn_mil.experiments.spot_level.compare_runs import draw_comparison as draw_spot_comparison
from tcgn_mil.experiments.spot_level.evaluate import DETECTION_LABELS
from tcgn_mil.experiments.spot_level.figures import draw_detection, draw_headlines
from tcgn_mil.inference.out_of_distribution import OUT

GENES, PATIENTS = 200, 80


def _r() -> np.ndarray:
    return np.random.default_rng(0).normal(0.3, 0.2, GENES).clip(-0.3, 0.9)


def draw_distribution(path: Path) -> None:
    """Draw r of the genes for a model and a baseline."""
    r = _r()
    figures.gene_distributions(
        {"model": r, "ridge on colour": r - 0.15}, path, xlabel="r within test folds, combined"
    )


def draw_predictors(path: Path) -> None:
    """Draw the median r of a model and its baselines."""
    rows = [("model", 0.31, 0.25, 0.36), ("ridge_mean_features", 0.27, 0.21, 0.32)]
    rows.append(("ridge_colour", 0.12, 0.06, 0.18))
    draw_headline(pd.DataFrame(rows, columns=["predictor", "median_r", "low", "high"]), path)


def draw_scatter(path: Path) -> None:
    """Draw measured against predicted expression of four genes."""
    generator = np.random.default_rng(1)
    truth = generator.normal(8, 1, (PATIENTS, 4))
    predicted = 8 + 0.5 * (truth - 8) + generator.normal(0, 0.4, truth.shape)
    figures.gene_scatter(
        ["CD3E", "COL1A1", "EPCAM", "CD68"],
        truth,
        predicted,
        path,
        unit="log2(TPM + 1)",
        patients=[f"P{row}" for row in range(PATIENTS)],
    )


def draw_curves(path: Path) -> None:
    """Draw the training of two folds."""
    history = {
        f"fold {fold}": [
            {"loss": 0.6 + 0.6 * np.exp(-e / 8), "score": 0.3 - 0.3 * np.exp(-e / (6 + fold))}
            for e in range(40)
        ]
        for fold in range(2)
    }
    figures.training_curves(history, path, score="r")


def draw_groups(path: Path) -> None:
    """Draw r of three kinds of genes for two predictors."""
    r = _r()
    kinds = {"colour": r + 0.2, "morphology": r, "null": r - r.mean()}
    figures.grouped_points(
        {
            kind: {"model": values, "ridge on colour": values * (kind == "colour")}
            for kind, values in kinds.items()
        },
        path,
        ylabel="r within test folds",
    )


def draw_intervals(path: Path) -> None:
    """Draw the share of patients inside the intervals of the genes."""
    draw_coverage(np.random.default_rng(2).normal(0.905, 0.015, GENES), path, stated_coverage=0.9)


def draw_p_values(path: Path) -> None:
    """Draw ordered p-values, and z of refits on permuted labels."""
    generator = np.random.default_rng(3)
    p = np.concatenate([generator.uniform(0, 0.001, 80), generator.uniform(size=GENES - 80)])
    draw_null(p, generator.normal(0, 1.3, (20, GENES)), path)


def draw_patients(path: Path) -> None:
    """Draw coverage by gene and by site, and error against the out-of-distribution score."""
    generator = np.random.default_rng(4)
    score = generator.normal(size=PATIENTS)
    patients = pd.DataFrame(
        {
            "ood_score": score,
            "ood_state": np.where(score > 1.8, OUT, "in"),
            "squared_error": 0.7 + 0.1 * score + generator.uniform(0, 0.3, PATIENTS),
        },
        index=pd.Index([f"P{row}" for row in range(PATIENTS)], name="patient_id"),
    )
    groups = [("all", "all", 80, 0.91, 0.89, 0.93), ("site", "A7", 45, 0.92, 0.9, 0.94)]
    groups.append(("site", "BH", 35, 0.88, 0.85, 0.91))
    table = pd.DataFrame(groups, columns=["kind", "name", "patients", "coverage", "low", "high"])
    table.loc[3, ["kind", "name"]] = "spearman r with ood_score", "squared_error"
    table["r"], table["p"] = [np.nan] * 3 + [0.45], [np.nan] * 3 + [2e-5]
    draw_uncertainty(
        table, patients, generator.normal(0.905, 0.015, GENES), path, stated_coverage=0.9
    )


def draw_two_runs(path: Path) -> None:
    """Draw r of each gene in one run against another."""
    r = _r()
    other = r - 0.05 + np.random.default_rng(5).normal(0, 0.05, GENES)
    table = pd.DataFrame({"gene": [f"G{g}" for g in range(GENES)], "r_a": r, "r_b": other})
    draw_comparison(table, ("attention", "regression"), path)


def draw_sections(path: Path) -> None:
    """Draw the headline of two sections and three predictors."""
    rows = [
        (section, name, median, median - 0.03, median + 0.03)
        for section in ("A1", "B1")
        for name, median in (("model", 0.42), ("ridge_colour", 0.15), ("depth_control", -0.01))
    ]
    columns = ["section", "predictor", "headline", "headline_low", "headline_high"]
    draw_headlines(pd.DataFrame(rows, columns=columns), path)


def draw_seen(path: Path) -> None:
    """Draw the median r of predictors by the share of spots in which genes are seen."""
    rows = [
        (section, name, seen, top * place / 4, top * place / 5)
        for section in ("A1", "B1")
        for name, top in (("model", 0.45), ("ridge_colour", 0.2))
        for place, seen in enumerate(DETECTION_LABELS, start=1)
    ]
    columns = ["section", "predictor", "seen_in", "median_r", "median_depth_adjusted_r"]
    draw_detection(pd.DataFrame(rows, columns=columns), path)


def draw_two_spot_runs(path: Path) -> None:
    """Draw the depth-adjusted r of each gene in two runs, for two sections."""
    r = _r()
    table = pd.DataFrame({"r_a": r, "r_b": r + 0.04, "detection": 0.5})
    parts = [table.assign(section=name) for name in ("A1", "B1")]
    draw_spot_comparison(pd.concat(parts), ("tcgn_tiny", "resnet50"), path)


ENTRIES = (
    Entry(
        "distribution",
        "r of all genes",
        "`tcgn-mil finetune`, `slide-cv` and `spot-cv`, genes.png",
        "A curve further to the right is better. The median of each predictor is in the legend.",
        draw_distribution,
    ),
    Entry(
        "headline",
        "A model beside its baselines",
        "`tcgn-mil finetune` and `slide-cv`, headline.png",
        "The dot is the median r over genes. The line is its 95 % interval over patients.",
        draw_predictors,
    ),
    Entry(
        "scatter",
        "Measured and predicted expression",
        "`tcgn-mil finetune`, `slide-cv` and `associate`, scatter.png",
        "Each dot is a patient that the model was not trained on.",
        draw_scatter,
    ),
    Entry(
        "curves",
        "Training",
        "`tcgn-mil finetune`, `pretrain` and `spot-cv`, curves.png",
        "The dot marks the epoch whose weights are kept. It is chosen on validation data.",
        draw_curves,
    ),
    Entry(
        "groups",
        "Kinds of genes",
        "`tcgn-mil demo`, planted-truth/by_kind.png",
        "Each dot is a gene, and the bars are medians.",
        draw_groups,
    ),
    Entry(
        "coverage",
        "Coverage of the prediction intervals",
        "`tcgn-mil finetune` and `slide-cv`, coverage.png",
        "An interval of a gene that is stated for 90 % of the patients should hold as many.",
        draw_intervals,
    ),
    Entry(
        "null",
        "p-values and refits on permuted labels",
        "`tcgn-mil finetune` and `slide-cv`, null.png",
        "Points below the diagonal are smaller p-values than chance gives. The histogram shows"
        " what chance gave when the labels were permuted.",
        draw_p_values,
    ),
    Entry(
        "uncertainty",
        "Uncertainty by gene, site and patient",
        "`tcgn-mil finetune` and `slide-cv`, uncertainty.png",
        "The right panel tells whether patients that are unlike the training cohort are predicted"
        " worse.",
        draw_patients,
    ),
    Entry(
        "comparison",
        "Two slide-level runs",
        "`tcgn-mil slide-cv --compare`, comparison.png",
        "Each dot is a gene. Dots above the diagonal are predicted better by the first run.",
        draw_two_runs,
    ),
    Entry(
        "sections",
        "The headline of each section",
        "`tcgn-mil spot-cv`, headline.png",
        "The line is the 95 % interval of the median over genes.",
        draw_sections,
    ),
    Entry(
        "detection",
        "Rare and frequent genes",
        "`tcgn-mil spot-cv`, detection.png",
        "Genes that are seen in few spots are hard to predict. Plain r is on the left, and r"
        " adjusted for sequencing depth on the right.",
        draw_seen,
    ),
    Entry(
        "spot_comparison",
        "Two spot-level runs",
        "`tcgn-mil spot-cv --compare`, comparison.png",
        "Each dot is a gene in a section. Dots above the diagonal are better in run B.",
        draw_two_spot_runs,
    ),
)
