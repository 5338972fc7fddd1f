"""Report on slide-level runs: predictors, single genes with a scatter plot, and calibration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tcgn_mil.experiments.runs.finished_run import (
    Run,
    pictures_of,
    table_of,
    warnings_of,
    where_figures_are,
)
from tcgn_mil.experiments.runs.glossary import PREDICTORS, interval_text
from tcgn_mil.experiments.runs.page import Section
from tcgn_mil.experiments.runs.report_part import ReportPart
from tcgn_mil.experiments.slide_level.report_scatter import BUDGET_BYTES, read_scatter
from tcgn_mil.text import counted

# Rows of the table in which the reader can search for a gene, over all runs of the page.
GENE_ROWS = 40_000


def slide_sentence(run: Run) -> str:
    """Return the headline of a slide-level run in a few sentences."""
    rows = {row["predictor"]: row for row in run.summary.get("headline", ())}
    model = rows.get("model", {})
    of_what = "genes" if run.summary.get("targets", "genes") == "genes" else "scores"
    by_site = " (folds by tissue source site)" if run.summary.get("folds_by") == "site" else ""
    sentence = (
        f"Expression from slides: {counted(run.summary['patients'], 'patient')}{by_site},"
        f" {run.summary['predictable']} of {run.summary['genes']} {of_what} predictable"
    )
    if model.get("median_r") is None:
        return f"{sentence}; the test folds are too small for r within them."
    interval = interval_text(model.get("low"), model.get("high"))
    sentence += f"; median r over genes {model['median_r']:.2f}{interval}."
    return f"{sentence}{_best_baseline(rows)}"


def slide_opening(run: Run) -> list[str]:
    """Return what a slide-level run found in three sentences that need no statistics."""
    summary = run.summary
    rows = {row["predictor"]: row for row in summary.get("headline", ())}
    r = rows.get("model", {}).get("median_r")
    if r is None:
        return []
    found = (
        f"From H&E slides alone, the expression of {counted(summary['genes'], 'gene')} was"
        f" predicted for {counted(summary['patients'], 'patient')}; no model had seen the patient"
        " that it predicted."
    )
    judged = (
        f"The correlation of predicted and measured expression, where 1 is perfect and 0 is none,"
        f" is {r:.2f} for the gene in the middle of the ranking."
    )
    beaten = (
        f"{counted(summary['predictable'], 'gene')}"
        f" {'is' if summary['predictable'] == 1 else 'are'} predicted better than by chance and"
        " better than by every simple method."
    )
    return [found, judged, f"{beaten}{_best_baseline(rows)}"]


def _best_baseline(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Return sentences that compare the model with its best baseline; empty without a baseline."""
    baselines = {
        name: row
        for name, row in rows.items()
        if name != "model" and row.get("median_r") is not None
    }
    if not baselines:
        return ""
    # A baseline may not know all genes, as zero-shot does not, so that medians over different genes
    # cannot be compared. The difference is taken over the genes that both know.
    name, best = min(baselines.items(), key=lambda item: _above_by(item[1], rows["model"]))
    fewer = best.get("genes", 0) < rows["model"].get("genes", 0)
    known = f" over the {best['genes']} genes that it knows" if fewer else ""
    sentence = (
        f" The best baseline, {PREDICTORS.get(name, name)}, has {best['median_r']:.2f}{known}."
    )
    low, high = best.get("model_above_low"), best.get("model_above_high")
    if low is None or high is None:
        return sentence
    verdict = "does not differ from it beyond chance"
    if low > 0:
        verdict = "is better"
    elif high < 0:
        verdict = "is worse"
    difference = f"{best['model_above_by']:.3f}{interval_text(low, high)}"
    return f"{sentence} Over all genes the model {verdict} (difference {difference})."


def _above_by(baseline: Mapping[str, Any], model: Mapping[str, Any]) -> float:
    """Return by how much the model is above a baseline in median r over the genes of both."""
    by = baseline.get("model_above_by")
    return float(model["median_r"] - baseline["median_r"] if by is None else by)


def slide_sections(run: Run, share: float) -> list[Section]:
    """Make the sections on a slide-level run.

    Parameters
    ----------
    run
        A finished run of ``finetune`` or ``slide-cv``.
    share
        Share of the page's room for interactive data that this run may use, 0 to 1.
    """
    return [_headline_section(run), _gene_section(run, share), _calibration_section(run)]


def _headline_section(run: Run) -> Section:
    summary = run.summary
    return Section(
        run.title("Expression from slides: the headline"),
        [
            f"There are {counted(summary['patients'], 'patient')} in"
            f" {counted(summary['folds'], 'fold')} and {summary['genes']} genes; the unit is"
            f" {summary['unit']}. Every patient was predicted by a model that saw the patient"
            " neither in training nor in validation.",
            where_figures_are(run),
        ],
        [
            *table_of(
                run,
                "headline.csv",
                "Median r over genes, for the model and its baselines",
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
                "splits.csv",
                "The same with folds by tissue source site and by patient",
                {
                    "folds by": "folds_by",
                    "predictor": "predictor",
                    "median r (95 % interval)": ("median_r", "low", "high"),
                    "model above by": ("model_above_by", "model_above_low", "model_above_high"),
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
                "headline.png": "Median of r over genes with its 95 % interval over patients, for"
                " the model and its baselines.",
                "genes.png": "Distribution of r over genes: for each r, the share of genes whose r"
                " is not higher. A curve further to the right is better.",
                "scatter.png": "The genes that are predicted best, out of fold. Each dot is a"
                " patient.",
            },
        ),
        warnings=warnings_of(summary.get("labels")),
    )


def _gene_section(run: Run, share: float) -> Section:
    stated = (run.summary.get("coverage") or {}).get("stated", 0.9)
    baselines = {
        f"r, {words}": f"r_{name}" for name, words in PREDICTORS.items() if name != "model"
    }
    return Section(
        run.title("Each gene, and its patients"),
        [
            "Each dot is a patient. If the dots rise from the lower left to the upper right, the"
            " expression of the gene can be predicted from the slide. If they form a round cloud,"
            " it cannot."
        ],
        table_of(
            run,
            "genes.csv",
            "Every gene",
            {
                "gene": "gene",
                "r (95 % interval)": ("r_model", "low_model", "high_model"),
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
            run.folder,
            unit=str(run.summary["unit"]),
            stated_coverage=stated,
            budget=share * BUDGET_BYTES,
        ),
    )


def _calibration_section(run: Run) -> Section:
    return Section(
        run.title("Calibration: are the intervals and p-values correct?"),
        [_coverage_sentence(run), _null_sentence(run)],
        figures=pictures_of(
            run,
            {
                "coverage.png": "Share of patients inside the interval of each gene. The dashed"
                " line is the share that should be inside.",
                "uncertainty.png": "Left: coverage by gene. Middle: by site and cohort; a point"
                " off the dashed line has intervals that are too narrow or too wide there. Right:"
                " how unlike the others each patient's slides are, and how wrong its prediction"
                " was.",
                "null.png": "Left: the p-values of all genes in order, against those that chance"
                " would give. A curve below the line has more small p-values than chance gives."
                " Right, if it is drawn: z of the genes with permuted labels, which give p.",
                "curves.png": "Training: the loss falls, and the epoch with the best score on"
                " validation patients is kept.",
            },
        ),
    )


def _coverage_sentence(run: Run) -> str:
    coverage = run.summary.get("coverage") or {}
    if coverage.get("measured") is None:
        return "There are too few patients to measure the coverage of the prediction intervals."
    return (
        f"Prediction intervals that should include {coverage['stated']:.0%} of the patients"
        f" included {coverage['measured']:.1%} of the out-of-fold values. The intervals of each"
        " fold were made without that fold."
    )


def _null_sentence(run: Run) -> str:
    null = run.summary.get("null") or {}
    if "share_below_0.05" not in null:
        return "No model was trained on permuted labels, so that p and q are approximate."
    return (
        f"The model was trained {null['refits']} times on expression that was assigned to the wrong"
        f" patients. Each of these models was judged by the others:"
        f" {null['share_below_0.05']:.1%} of the genes had p below 0.05 (5 % is correct), and"
        f" {null['runs_with_any_q_below_0.05']:.0%} of the models had a gene with q below 0.05 (at"
        " most 10 % is correct)."
    )


def _pooling(name: str) -> str:
    from tcgn_mil.models.aggregators import AGGREGATORS  # here, since it loads torch

    # A run may have used an aggregator of the user's own code, which is not imported here.
    return AGGREGATORS[name].sentence if name in AGGREGATORS else f"the aggregator {name!r}"


def methods(config: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    """Return the methods paragraph of a slide-level run."""
    split = summary.get("folds_by", config["group_by"])
    together = "patients of a tissue source site" if split == "site" else "each patient"
    targets = config.get("targets", "genes")
    what = "genes" if targets == "genes" else f"scores ({Path(targets).name})"
    return (
        f"Expression of {summary['genes']} {what} ({summary['unit']}) was predicted from features"
        f" of the encoder {summary['encoder']} by {_model_sentence(config, summary)}"
        " Cross-validation had"
        f" {summary['folds']} folds over {summary['patients']} patients (seed {config['seed']}),"
        f" and {together} stayed in one fold. Genes and scales were taken from training patients"
        " only. Pearson r was computed within test folds and combined by Fisher z with weights"
        " n - 3; its intervals come from a jackknife over patients within folds, and those of"
        f" medians over genes from {config['replicates']} random weightings of the patients."
        f" {_p_values(config.get('refits', 0))} The p-values were corrected over genes by"
        " the method of Benjamini and Hochberg."
    )


def _model_sentence(config: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    model, training = config["model"], config["training"]
    kind = summary.get("model", "attention")
    if kind != "attention":
        kernel = "linear" if kind == "ridge" else "Gaussian"
        return (
            f"kernel ridge regression ({kernel} kernel) of the first {model['components']}"
            " principal components of expression on the mean features of a patient, as normal"
            " scores of their ranks among the training patients. Each component was averaged over"
            " penalties, weighted by their leave-one-out errors."
        )
    return (
        f"{_pooling(model['pooling'])} ({model['form']} head, {model['embedding']} values per tile,"
        f" dropout {model['dropout']}). The model was trained for at most {training['epochs']}"
        f" epochs with the loss {training['loss']}, in batches of {training['batch_size']}"
        f" patients, with {training['optimizer']} at a peak learning rate of {training['lr']:g} and"
        f" a weight decay of {training['weight_decay']:g}; training was stopped early by the score"
        " on a validation fold."
    )


def _p_values(refits: int) -> str:
    if refits:
        return (
            f"The model was refitted {refits} times on labels permuted over patients; the p-value"
            " of a gene is the share of these refits, pooled over genes, whose combined z reached"
            " that of the gene."
        )
    return (
        "The p-values are approximate: the standard deviation of the combined z without any effect"
        " was taken as the square root of 2."
    )


def _verb(run: Run) -> str:
    """Return the verb of a run, which older runs do not state; refits are of ``slide-cv``."""
    return str(run.made.get("verb") or ("slide-cv" if run.made["config"]["refits"] else "finetune"))


def _command(run: Run) -> str:
    """Return the command that repeats a run."""
    return f"tcgn-mil {_verb(run)} --config {run.folder / 'config.yaml'} --out NEW"


REPORT = ReportPart(
    kind="finetune",
    position=1,
    sections=slide_sections,
    methods=methods,
    terms=frozenset(
        {"r", "out of fold", "95 % interval", "p and q", "baseline", "predictable gene", "unit"}
    ),
    sentence=slide_sentence,
    command=_command,
    opening=slide_opening,
    verb=_verb,
    files=("genes.csv", "headline.csv", "folds.csv", "predictable_genes.csv", "out_of_fold.h5ad"),
)
