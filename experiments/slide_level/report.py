"""The report's sections on expression: from slides and from spots, and the maps of predictions.

A methods paragraph from what a run's config says, for a paper; it states what was done, not what was found.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tcgn_mil.experiments.runs.finished_run import (
    Run,
    pictures_of,
    table_of,
    warnings_of,
    where_figures_are,
)
from tcgn_mil.experiments.runs.glossary import PREDICTORS, counted, interval_text
from tcgn_mil.experiments.runs.page import Section
from tcgn_mil.experiments.runs.report_part import ReportPart
from tcgn_mil.experiments.slide_level.report_scatter import BUDGET_BYTES, read_scatter

GENE_ROWS = 40_000  # of the table to search for a gene
_R = ("r_model", "low_model", "high_model")


def slide_point(run: Run) -> str:
    """The headline of a run of slide-cv in a sentence."""
    rows = {row["predictor"]: row for row in run.summary.get("headline", ())}
    model = rows.get("model", {})
    said = (
        f"Expression from slides: {counted(run.summary['patients'], 'patient')}, {run.summary['predictable']} of"
        f" {run.summary['genes']} genes predictable"
    )
    if model.get("median_r") is None:
        return f"{said}; the test folds are too small for r within them."
    said += f"; median r over genes {model['median_r']:.2f}" + interval_text(
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
    return f"{said}; over all genes the model {verdict} (difference {best['model_above_by']:.3f}{interval_text(low, high)})."


def slide_sections(run: Run, share: float) -> list[Section]:
    """Headline beside baselines, the genes with a scatter, calibration; `share` of the page's room is this run's."""
    summary = run.summary
    coverage = summary.get("coverage") or {}
    headline = Section(
        run.title("Expression from slides: the headline"),
        [
            slide_point(run),
            f"{counted(summary['patients'], 'patient')} in {counted(summary['folds'], 'fold')},"
            f" {summary['genes']} genes, unit: {summary['unit']}. Every patient was predicted by a model that saw it"
            " in neither training nor validation.",
            where_figures_are(run),
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
        warnings=warnings_of(summary.get("labels")),
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


def _pooling(name: str) -> str:
    from tcgn_mil.models.aggregators import AGGREGATORS  # here, since it loads torch

    # A run may have used an aggregator of the user's own code, which is not imported here.
    return AGGREGATORS[name].sentence if name in AGGREGATORS else f"the aggregator {name!r}"


def methods(config: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    model, training = config["model"], config["training"]
    groups = (
        "tissue source sites kept together"
        if config["group_by"] == "site"
        else "patients kept together"
    )
    refits = config.get("refits", 0)
    p = (
        f"p-values were the share of {refits} refits on labels permuted over patients, pooled over genes, that reached"
        " a gene's combined z"
        if refits
        else "p-values took the null's standard deviation as the square root of 2 (approximate)"
    )
    return (
        f"Expression of {summary['genes']} genes ({summary['unit']}) was predicted from features of encoder"
        f" {summary['encoder']} by {_pooling(model['pooling'])} ({model['form']} head, {model['embedding']} values a"
        f" tile, dropout {model['dropout']}), trained for at most {training['epochs']} epochs with loss"
        f" {training['loss']}, batches of {training['batch_size']} patients, {training['optimizer']} at a peak rate of"
        f" {training['lr']:g} and weight decay {training['weight_decay']:g}, stopped early on a validation fold."
        f" Cross-validation had {summary['folds']} folds over {summary['patients']} patients, {groups}, seed"
        f" {config['seed']}; genes and scales were taken from training patients only. Pearson r was computed within"
        f" test folds and combined by Fisher z weighted by n - 3; intervals came from {config['replicates']}"
        f" resamplings of patients within folds; {p}; Benjamini-Hochberg over genes."
    )


def _command(run: Run) -> str:
    """Return the command that repeats a run; runs with refits were made by ``slide-cv``."""
    verb = "slide-cv" if run.made.get("config", {}).get("refits") else "finetune"
    return f"tcgn-mil {verb} --config {run.folder / 'config.yaml'} --out NEW"


REPORT = ReportPart(
    kind="finetune",
    position=1,
    sections=slide_sections,
    methods=methods,
    terms=frozenset(
        {"r", "out of fold", "95 % interval", "p and q", "baseline", "predictable gene", "unit"}
    ),
    sentence=slide_point,
    command=_command,
)
