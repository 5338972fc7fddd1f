"""The report's sections on expression: from slides and from spots, and the maps of predictions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anndata

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.runs.finished_run import (
    OTHER_ROWS,
    Run,
    files_of,
    minds_of,
    pictures_of,
    table_of,
)
from tcgn_mil.experiments.runs.glossary import MEANINGS, PREDICTORS, spoken
from tcgn_mil.experiments.runs.page import Section, as_picture, as_table
from tcgn_mil.experiments.slide_level.report_scatter import BUDGET_BYTES, read_scatter

GENE_ROWS = 40_000  # of the table to search for a gene
_SHOWN_MAPS = 6
_R = ("r_model", "low_model", "high_model")


def slide_point(run: Run) -> str:
    """The headline of a run of slide-cv in a sentence."""
    rows = {row["predictor"]: row for row in run.summary.get("headline", ())}
    model = rows.get("model", {})
    said = (
        f"Expression from slides: {_counted(run.summary['patients'], 'patient')}, {run.summary['predictable']} of"
        f" {run.summary['genes']} genes predictable"
    )
    if model.get("median_r") is None:
        return f"{said}; the test folds are too small for r within them."
    said += f"; median r over genes {model['median_r']:.2f}" + _bounds(
        model.get("low"), model.get("high")
    )
    others = {
        name: row
        for name, row in rows.items()
        if name != "model" and row.get("median_r") is not None
    }
    if not others:
        return f"{said}."
    name, best = max(others.items(), key=lambda item: item[1]["median_r"])
    said += f". The best baseline, {PREDICTORS.get(name, name)}, has {best['median_r']:.2f}"
    low, high = best.get("model_above_low"), best.get("model_above_high")
    if low is None or high is None:
        return f"{said}."
    verdict = (
        "is better"
        if low > 0
        else "is worse"
        if high < 0
        else "does not differ from it beyond chance"
    )
    return f"{said}; over all genes the model {verdict} (difference {best['model_above_by']:.3f}{_bounds(low, high)})."


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _bounds(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f" (95 % interval {low:.3f} to {high:.3f})"


def slide_sections(run: Run, share: float) -> list[Section]:
    """Headline beside baselines, the genes with a scatter, calibration; `share` of the page's room is this run's."""
    summary = run.summary
    coverage = summary.get("coverage") or {}
    headline = Section(
        run.title("Expression from slides: the headline"),
        [
            slide_point(run),
            f"{_counted(summary['patients'], 'patient')} in {_counted(summary['folds'], 'fold')},"
            f" {summary['genes']} genes, unit: {summary['unit']}. Every patient was predicted by a model that saw it"
            " in neither training nor validation.",
            files_of(run),
        ],
        [
            *table_of(
                run,
                "headline.csv",
                "Median r over genes, the model beside its baselines",
                {
                    "predictor": "predictor",
                    "median r (95 % interval)": ("median_r", "low", "high"),
                    "model above by": ("model_above_by", "model_above_low", "model_above_high"),
                    "median pooled r (biased)": "median_pooled_r_biased",
                    "genes": "genes",
                },
            ),
            *table_of(
                run,
                "cohorts.csv",
                "The same among the patients of each source of expression",
                {
                    "source": "source",
                    "patients": "patients",
                    "predictor": "predictor",
                    "median r": "median_r",
                    "genes": "genes",
                },
            ),
        ],
        pictures_of(
            run,
            {
                "headline.png": "Median over genes of r, with its 95 % interval over patients: model and baselines.",
                "genes.png": "How r is distributed over genes: at each r, the share of genes that reach no more. A curve"
                " further to the right is better.",
                "scatter.png": "The genes that are predicted best, out of fold; a dot is a patient.",
            },
        ),
        minds=minds_of(summary.get("labels")),
    )
    stated = coverage.get("stated", 0.9)
    baselines = {
        f"r, {words}": f"r_{name}" for name, words in PREDICTORS.items() if name != "model"
    }
    genes = Section(
        run.title("Each gene, and its patients"),
        [
            "A dot is a patient. A cloud that rises from the left below to the right above is a gene that can be read off"
            " the slide; a round cloud is one that cannot."
        ],
        table_of(
            run,
            "genes.csv",
            "Every gene",
            {
                "gene": "gene",
                "r (95 % interval)": _R,
                "q": "q_model",
                "predictable": "predictable",
                **baselines,
                "pooled r (biased)": "pooled_r_model",
                "patients": "n",
                f"{stated:.0%} interval ±".replace("%", " %"): "interval_half_width",
                "inside": "interval_coverage",
                "p": "p_model",
            },
            sort="r_model",
            max_rows=int(GENE_ROWS * share),
        ),
        scatter=read_scatter(
            run.folder, unit=str(summary["unit"]), stated=stated, budget=share * BUDGET_BYTES
        ),
    )
    return [headline, genes, _calibration_section(run, coverage)]


def _calibration_section(run: Run, coverage: Mapping[str, Any]) -> Section:
    """Whether intervals and p-values hold what they promise."""
    lines, null = [], run.summary.get("null") or {}
    if coverage.get("measured") is not None:
        lines.append(
            f"Intervals that should hold {coverage['stated']:.0%} of patients held {coverage['measured']:.1%} of"
            " out-of-fold values, each fold judged by intervals made without it."
        )
    else:
        lines.append("Too few patients to say what share of values the prediction intervals hold.")
    if "share_below_0.05" in null:
        lines.append(
            f"The model was trained {null['refits']} times on expression dealt out to the wrong patients. Judged by one"
            f" another, these had {null['share_below_0.05']:.1%} of genes at p below 0.05 (5 % is right), and any gene"
            f" at q below 0.05 in {null['runs_with_any_q_below_0.05']:.0%} of them (at most 10 % is right)."
        )
    else:
        lines.append("No model was trained on permuted labels, so that p and q are approximate.")
    return Section(
        run.title("Calibration: do intervals and p-values keep their word"),
        lines,
        figures=pictures_of(
            run,
            {
                "coverage.png": "How many patients the intervals of each gene hold; dashed, what they should.",
                "null.png": "Left: p of all genes in order, against even ones; a curve under the line has more small p than"
                " chance gives. Right, if drawn: z of genes when labels are permuted, which p is read from.",
                "curves.png": "Training: the loss falls, and the score on validation patients chooses the epoch.",
            },
        ),
    )


def predict_sections(run: Run, share: float) -> list[Section]:
    """Who was predicted, and maps of the first slides."""
    summary = run.summary
    lines = [
        f"{_counted(summary['patients'], 'patient')}, {summary['slides']} slides, {summary['tiles']} tiles, predicted"
        f" by the models in {run.made.get('config', {}).get('model')}; unit {summary['unit']}."
    ]
    if odd := summary.get("out_of_distribution"):
        lines.append(
            f"Unlike the slides of training, so that predictions may not hold: {', '.join(odd)}."
        )
    maps = sorted((run.folder / "maps").glob("*.png"))
    if maps:
        lines.append(
            f"Maps of {min(len(maps), _SHOWN_MAPS)} of {len(maps)} slides: where the prediction comes from."
            " Attention is 1 where a tile counts as much as all do on average. Scores of a gene are in standard"
            " deviations of the training patients: tiles above 0 speak for more of it than the mean patient has; they"
            f" are no amounts of RNA in the tile. Every slide is in {run.folder.name}/maps as PNG, .geojson and .h5ad."
        )
    path = run.folder / "predicted.h5ad"
    try:
        obs = anndata.read_h5ad(path, backed="r").obs.reset_index()
    except OSError as error:
        raise InputError(f"cannot be read ({error})", path=path, fix="run predict again") from error
    columns = {
        "patient": "patient_id",
        "slides": "n_slides",
        "tiles": "n_tiles",
        "models": "n_models",
        "how predicted": "relation",
        "unlike training": "ood_score",
    }
    return [
        Section(
            run.title("Predictions, and maps of example slides"),
            lines,
            [as_table(spoken(obs, columns), "Patients", meanings=MEANINGS)],
            [
                as_picture(path, f"Slide {path.stem}: attention, and scores of genes.")
                for path in maps[:_SHOWN_MAPS]
            ],
            minds=minds_of(summary.get("notes")),
        )
    ]


def spot_sections(run: Run, share: float) -> list[Section]:
    """Each section and gene of a run of spot-cv."""
    r = ("depth_adjusted_r_model", "low_model", "high_model")
    row = {
        "predictor": "predictor",
        "headline": ("headline", "headline_low", "headline_high"),
        "median r, not depth-adjusted": "median_r_seen",
        "genes": "genes_seen",
        "q < 0.05": "significant",
        "predictable": "predictable",
    }
    return [
        Section(
            run.title("Spots: the encoder"),
            [str(run.summary["sentence"]), files_of(run)],
            [
                *table_of(run, "summary.csv", "Over sections: median depth-adjusted r", row),
                *table_of(
                    run,
                    "sections.csv",
                    "Each section",
                    {"section": "section", "spots": "spots", **row},
                ),
                *table_of(
                    run,
                    "genes.csv",
                    "Every gene",
                    {
                        "gene": "gene",
                        "seen in this share of spots": "detection",
                        "depth-adjusted r": r,
                        "q": "q_model",
                        "predictable": "predictable",
                        "r, not depth-adjusted": "r_model",
                        "depth-adjusted r, ridge on colour": "depth_adjusted_r_ridge_colour",
                        "depth-adjusted r, small network": "depth_adjusted_r_small_network",
                        "sections": "sections",
                    },
                    sort="depth_adjusted_r_model",
                    max_rows=OTHER_ROWS,
                ),
            ],
            pictures_of(
                run,
                {
                    "headline.png": "Median depth-adjusted r of each section and predictor, with 95 % intervals.",
                    "genes.png": "How depth-adjusted r is distributed over genes.",
                    "detection.png": "Median r by the share of spots in which a gene is seen.",
                    "curves.png": "Training curves.",
                },
            ),
            minds=minds_of(run.summary["labels"]),
        )
    ]
