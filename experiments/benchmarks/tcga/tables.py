"""Tables of the study of TCGA cohorts, as rows of text for its pages."""

from __future__ import annotations

import pandas as pd

from tcgn_mil.statistics.p_values import MAX_Q

_NAMES = {
    "ridge_mean_features": "ridge",
    "kernel_mean_features": "kernel ridge",
    "site": "tissue source site",
}


def summary_table(genes: pd.DataFrame, sets: pd.DataFrame, scores: pd.DataFrame) -> list[list[str]]:
    """Return one row per cohort, with folds by tissue source site."""
    rows = [
        [
            "cohort",
            "patients",
            "genes: median r (95 % interval)",
            "strongest simple baseline",
            "predictable genes",
            "immune signatures: median r",
            "T cells",
            "90 % intervals cover",
        ]
    ]
    for row in genes[genes["folds by"] == "site"].to_dict("records"):
        inside = [
            table[(table["cohort"] == row["cohort"]) & (table["split"] == "site")]
            for table in (sets, scores)
        ]
        by_name = inside[0].set_index("signature")["directly"]
        rows.append(
            [
                str(row["cohort"]),
                str(row["patients"]),
                f"**{row['model']:.3f}** ({row['low']:.3f} to {row['high']:.3f})",
                f"{row[row['best']]:.3f}",
                f"{row['predictable']:,} of {row['genes']:,}",
                f"{by_name.median():.2f} ({len(by_name)})" if len(by_name) else "",
                f"{by_name['T_CELL_5']:.2f}" if len(by_name) else "",
                _percent(row["coverage"]),
            ]
        )
    return rows


def genes_table(table: pd.DataFrame) -> list[list[str]]:
    """Return the rows of the main table: the model beside ridge and kernel ridge."""
    rows = [
        [
            "cohort",
            "folds by",
            "patients",
            "model (95 % interval)",
            "ridge",
            "kernel ridge",
            "model above the better one (interval; range over seeds)",
            "predictable genes",
        ]
    ]
    for row in table.to_dict("records"):
        rows.append(
            [
                row["cohort"],
                _NAMES.get(row["folds by"], row["folds by"]),
                str(row["patients"]),
                f"**{row['model']:.3f}** ({row['low']:.3f} to {row['high']:.3f})",
                f"{row['ridge_mean_features']:.3f}",
                f"{row['kernel_mean_features']:.3f}",
                f"{row['above']:+.3f} ({row['above_low']:+.3f} to {row['above_high']:+.3f};"
                f" {row['lowest']:+.3f} to {row['highest']:+.3f})",
                f"{row['predictable']:,} of {row['genes']:,}",
            ]
        )
    return rows


def calibration_table(table: pd.DataFrame) -> list[list[str]]:
    """Return the coverage of the intervals and the calibration of the p-values."""
    rows = [
        [
            "cohort",
            "folds by",
            "90 % intervals cover",
            "null genes with p < 0.05",
            "null runs with a gene of q < 0.05",
        ]
    ]
    for row in table.to_dict("records"):
        rows.append(
            [
                row["cohort"],
                _NAMES.get(row["folds by"], row["folds by"]),
                _percent(row["coverage"]),
                _percent(row["null_share"]),
                f"{100 * row['null_hits']:.0f} %",
            ]
        )
    return rows


def models_table(table: pd.DataFrame) -> list[list[str]]:
    """Return the median r of each kind of model."""
    rows = [["cohort", "folds by", "`kernel`", "`ridge`", "`attention`"]]
    for row in table.to_dict("records"):
        rows.append(
            [
                row["cohort"],
                _NAMES.get(row["folds by"], row["folds by"]),
                *(f"{value:.3f}" for value in (row["kernel"], row["ridge"], row["attention"])),
            ]
        )
    return rows


def signatures_table(sets: pd.DataFrame, scores: pd.DataFrame) -> list[list[str]]:
    """Return median r of the shipped signatures and of the published scores."""
    rows = [
        [
            "cohort",
            "folds by",
            "shipped signatures",
            "through predicted genes",
            "predicted directly",
            "published scores, predicted directly",
        ]
    ]
    for (cohort, split), part in sets.groupby(["cohort", "split"], sort=False):
        own = scores[(scores["cohort"] == cohort) & (scores["split"] == split)]
        rows.append(
            [
                str(cohort),
                _NAMES.get(str(split), str(split)),
                str(len(part)),
                f"{part['through genes'].median():.3f}",
                f"{part['directly'].median():.3f}",
                f"{own['r_model'].median():.3f} ({len(own)})",
            ]
        )
    return rows


def scores_table(scores: pd.DataFrame, count: int = 8) -> list[list[str]]:
    """Return the published scores that are predicted best on average, with folds by site."""
    by_site = scores[scores["split"] == "site"]
    wide = by_site.pivot(index="gene", columns="cohort", values="r_model")
    best = wide.dropna().mean(axis=1).sort_values(ascending=False).index[:count]
    rows = [["score", *map(str, wide.columns)]]
    rows += [[str(name), *(f"{value:.2f}" for value in wide.loc[name])] for name in best]
    return rows


def transfer_table(table: pd.DataFrame) -> list[list[str]]:
    """Return how well models predict another cohort."""
    rows = [
        [
            "trained on",
            "target",
            "patients",
            "genes: median r",
            "own scale",
            "signatures: median r",
            "own scale",
            "90 % intervals cover",
            "flagged as out of distribution",
        ]
    ]
    for row in table.to_dict("records"):
        rows.append(
            [
                row["trained on"],
                row["target"],
                str(row["patients"]),
                f"{row['r']:.3f}",
                f"{row['r own scale']:.3f}",
                f"{row['signatures']:.3f}",
                f"{row['signatures own scale']:.3f}",
                _percent(row["coverage"]),
                f"{100 * row['flagged']:.0f} %",
            ]
        )
    return rows


def associations_table(table: pd.DataFrame) -> list[list[str]]:
    """Return how predicted and measured signature scores follow covariates."""
    rows = [
        [
            "cohort",
            "covariate",
            "predicted signatures with q < 0.05",
            "median effect of predicted scores",
            "median effect of measured scores",
            "strongest predicted score",
        ]
    ]
    for (cohort, covariate), part in table.groupby(["cohort", "covariate"], sort=False):
        predicted = part[part["source"] == "predicted"]
        measured = part[part["source"] == "measured"]
        best = predicted.loc[predicted["effect"].abs().idxmax()]
        rows.append(
            [
                str(cohort),
                str(covariate).replace("_", " "),
                f"{int((predicted['q'] < MAX_Q).sum())} of {len(predicted)}",
                f"{predicted['effect'].median():.2f}",
                f"{measured['effect'].median():.2f}",
                f"{best['name']} {best['effect']:.2f}",
            ]
        )
    return rows


def survival_table(table: pd.DataFrame) -> list[list[str]]:
    """Return C of the clinical model, of expression, and of both."""
    models = list(dict.fromkeys(table["model"]))
    rows = [
        [
            "cohort",
            "endpoint",
            "patients (events)",
            *models,
            "p of what predicted expression adds",
            "predicted, outcomes permuted (times)",
        ]
    ]
    for (cohort, endpoint), part in table.groupby(["cohort", "endpoint"], sort=False):
        by_model = part.set_index("model")
        cells = []
        for model in models:
            row = by_model.loc[model]
            cells.append(f"{row['c']:.3f} ({row['low']:.3f} to {row['high']:.3f})")
        first, permuted = part.iloc[0], by_model.loc["predicted", "permuted"]
        rows.append(
            [
                str(cohort),
                str(endpoint),
                f"{first['patients']} ({first['events']})",
                *cells,
                f"{first['adds_p']:.2g}",
                "" if pd.isna(permuted) else f"{permuted:.3f} ({first['permutations']})",
            ]
        )
    return rows


def uncertainty_table(table: pd.DataFrame) -> list[list[str]]:
    """Return coverage over genes, sites and unusual patients, and how errors follow the score."""
    rows = [
        [
            "cohort",
            "genes: 5th to 95th percentile",
            "sites: lowest to highest",
            "patients out of distribution",
            "other patients",
            "squared error and score, Spearman r (p)",
        ]
    ]
    for cohort, part in table.groupby("cohort", sort=False):
        by_kind = {kind: own.set_index("name") for kind, own in part.groupby("kind")}
        genes, sites = by_kind["gene quantile"]["coverage"], by_kind["site"]
        states, error = by_kind["ood_state"], by_kind["spearman r with ood_score"]
        cells = [f"{_percent(genes['0.05'])} to {_percent(genes['0.95'])}"]
        cells.append(
            f"{_percent(sites['coverage'].min())} to {_percent(sites['coverage'].max())}"
            f" ({len(sites)} sites)"
        )
        for state in ("out", "in"):
            cells.append(
                f"{_percent(states.loc[state, 'coverage'])} ({states.loc[state, 'patients']:.0f})"
                if state in states.index
                else "none"
            )
        row = error.loc["squared_error"]
        rows.append([str(cohort), *cells, f"{row['r']:.2f} ({row['p']:.1g})"])
    return rows


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
