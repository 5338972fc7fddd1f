"""Write the report of the demo: data, results beside the baselines, and the truth behind them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import anndata
import numpy as np
import pandas as pd

from tcgn_mil.experiments.demo.synthetic import SyntheticPaths
from tcgn_mil.experiments.runs import figures
from tcgn_mil.experiments.runs.page import Section, as_picture, as_table, write_report
from tcgn_mil.experiments.runs.run_folder import finished_summary
from tcgn_mil.io.failures import Failure

BANNER = (
    "SYNTHETIC DATA. Slides and expression are simulated; nothing here says anything about"
    " patients."
)
_SHOWN_MAPS = 2


class Step(NamedTuple):
    """A command and the time that it took."""

    command: str
    seconds: float


def write_demo_report(
    out: Path, cohort: SyntheticPaths, steps: Sequence[Step], failures: Sequence[Failure]
) -> Path:
    """Write ``report.html`` from the files that the stages left in `out`."""
    sections = [
        _cohort_section(out, cohort, failures),
        _spot_section(out),
        _slide_section(out, cohort),
        _map_section(out),
        _explanation_section(out, cohort),
        _step_section(steps),
    ]
    configs = {
        name: finished_summary(out / name)
        for name in ("encoder", "slide-model", "predictions", "explanations")
    }
    return write_report(
        out / "report.html",
        title="tcgn_mil demo: from synthetic slides to predicted bulk expression",
        banner=BANNER,
        sections=sections,
        runs=configs,
    )


def _cohort_section(out: Path, cohort: SyntheticPaths, failures: Sequence[Failure]) -> Section:
    """Describe the data, and what failed on the way."""
    join = pd.read_csv(out / "join_report.csv")
    slides = join[join["kind"] == "slide"]
    predicted = json.loads((out / "predictions" / "summary.json").read_text())
    text = (
        f"The cohort has {len(slides)} slides, of which {int(slides['kept'].sum())} have"
        f" expression. Predictions were made for {predicted['genes']} genes of"
        f" {predicted['patients']} patients from {predicted['tiles']} tiles. {len(failures)} slides"
        " failed in a stage."
    )
    section = Section("The cohort", [text])
    if failures:
        section.tables.append(
            as_table(pd.DataFrame(failures), "Slides that failed, the reason, and the likely fix")
        )
    overlays = [
        path
        for path in sorted((out / "tiles").glob("*.jpg"))
        if not path.stem.endswith("_thumbnail")
    ]
    section.figures.append(as_picture(overlays[0], "Tissue (outlined) and tiles of one slide"))
    spots = sorted((out / "spots").glob("*_spots.png"))
    section.figures.append(
        as_picture(spots[0], "A spatial transcriptomics section: the patches that the encoder sees")
    )
    section.paragraphs.append(f"The truth behind the synthetic data is in {cohort.truth}.")
    return section


def _spot_section(out: Path) -> Section:
    """Describe pretraining: results on test sections beside the baselines."""
    encoder = out / "encoder"
    summary = finished_summary(encoder) or {}
    trained = summary["spots"]["train"] + summary["spots"]["val"]
    section = Section(
        "Spot level: the pretrained encoder",
        [
            f"{summary['model']} was trained on {trained} spots. Its settings were chosen before,"
            " on another cohort, so no part of this one was used to choose anything. It was tested"
            f" once on {summary['spots']['test']} spots of a patient whom it had not seen. The"
            " headline is the median depth-adjusted r over"
            " the genes seen in at least 20 % of the test spots. The depth control knows neither"
            " the gene nor the image and still reaches the plain r in its row; the headline is"
            " therefore the number to compare."
        ],
        [
            as_table(
                pd.DataFrame(summary["results"]), "Test sections, the model beside its baselines"
            )
        ],
        [as_picture(encoder / "curves.png", "Training curves")],
    )
    test = sorted({row["section"] for row in summary["results"]})[0]
    section.figures.append(
        as_picture(encoder / f"genes_{test}.png", f"Depth-adjusted r over genes, section {test}")
    )
    section.figures.append(
        as_picture(
            encoder / f"maps_{test}.png",
            f"Measured and predicted, each on its own scale, section {test}",
        )
    )
    return section


def _slide_section(out: Path, cohort: SyntheticPaths) -> Section:
    """Describe cross-validated bulk prediction, by the tissue that each gene truly follows."""
    run = out / "slide-model"
    table = pd.read_csv(run / "genes.csv")
    truth = pd.read_csv(
        cohort.truth / "genes.csv", keep_default_na=False
    )  # pandas would read the kind "null" as a missing value
    merged = table.merge(truth[["gene", "kind", "region"]], on="gene", how="left")
    best = (
        "r_model" if merged["r_model"].notna().any() else "pooled_r_model"
    )  # tiny cohorts have no fold with n > 3
    columns = [name for name in merged if name.startswith(best.removesuffix("model"))]
    by_kind = merged.groupby(["kind", "region"], dropna=False)[columns].median().reset_index()
    by_kind.insert(2, "genes", merged.groupby(["kind", "region"], dropna=False).size().to_numpy())
    summary = finished_summary(run) or {}
    patients_a_fold = summary["patients"] // summary["folds"]
    return Section(
        "Slide level: bulk expression out of fold",
        [
            f"There are {summary['patients']} patients in {summary['folds']} folds, and expression"
            f" is in {summary['unit']}. r is computed within each test fold of {patients_a_fold}"
            " patients and combined by Fisher's z. In folds that are this small, the combination"
            " raises high values of r, and single genes vary widely. Pooled r is biased downwards."
            " Morphology genes follow one of two tumour subtypes, which have the same colours and"
            " differ in their nuclei only, so that ridge on colour should have an r of about 0 for"
            " them. Null genes follow nothing.",
            _verdict(merged[merged["kind"] != "null"], best),
            _claims(summary),
        ],
        [
            as_table(
                pd.read_csv(run / "headline.csv"),
                "Median over genes, the model beside its baselines",
            ),
            as_table(by_kind, "Median r by what the gene truly follows (synthetic truth)"),
            as_table(merged.sort_values(best, ascending=False), "Per gene"),
        ],
        [
            as_picture(
                _by_kind_figure(merged, best, out / "figures" / "by_kind.png"),
                "r by what the gene truly follows",
            ),
            *(
                as_picture(run / name, caption)
                for name, caption in (
                    (
                        "headline.png",
                        "Median r of the model and its baselines, 95 % interval over patients",
                    ),
                    ("null.png", "p-values of all genes against those expected by chance"),
                )
                if (run / name).is_file()
            ),
            as_picture(run / "genes.png", "Distribution of r over genes"),
            as_picture(run / "scatter.png", "The best predicted genes"),
            as_picture(run / "curves.png", "Training curves of the folds"),
        ],
    )


def _claims(summary: dict[str, Any]) -> str:
    """Return the sentence on predictable genes and on prediction intervals."""
    coverage = summary["coverage"]
    intervals = (
        "too few patients for prediction intervals"
        if coverage["measured"] is None
        else (
            f"prediction intervals of {coverage['stated']:.0%} hold {coverage['measured']:.1%} of"
            " out-of-fold values"
        )
    )
    labels = f" ({'; '.join(summary['labels'])})" if summary["labels"] else ""
    return (
        f"{summary['predictable']} of {summary['genes']} genes are predictable: q below 0.05 and r"
        f" above every baseline{labels}; {intervals}."
    )


def _verdict(followed: pd.DataFrame, best: str) -> str:
    """Return the sentence that compares the model with its baselines, without the null genes."""
    prefix = best.removesuffix("model")
    medians = {
        column.removeprefix(prefix): followed[column].median()
        for column in followed.columns.astype(str)
        if column.startswith(prefix) and followed[column].notna().any()
    }
    own = medians.pop("model")
    others = ", ".join(
        f"{'above' if own > value else 'below'} {name.replace('_', ' ')} ({value:.2f})"
        for name, value in medians.items()
    )
    return f"Over the genes that follow a region, the model's median r is {own:.2f}: {others}."


def _by_kind_figure(merged: pd.DataFrame, best: str, path: Path) -> Path:
    """Draw the model beside the ridge baselines, one cluster of points for each kind of gene."""
    prefix = best.removesuffix("model")
    names = {
        "model": best,
        "ridge on colour": f"{prefix}ridge_colour",
        "ridge on mean features": f"{prefix}ridge_mean_features",
    }
    groups = {
        str(kind): {
            label: rows[column].to_numpy(float) for label, column in names.items() if column in rows
        }
        for kind, rows in merged.groupby("kind")
    }
    ylabel = "r within test folds, combined" if prefix == "r_" else "r pooled over folds (biased)"
    figures.grouped_points(groups, path, ylabel=ylabel)
    return path


def _map_section(out: Path) -> Section:
    """Show attention and tile scores of the first slides."""
    maps = sorted((out / "predictions" / "maps").glob("*.png"))[:_SHOWN_MAPS]
    predicted = anndata.read_h5ad(out / "predictions" / "predicted.h5ad")
    folds = int(np.median(predicted.obs["n_models"]))
    return Section(
        "Maps",
        [
            "The maps show attention and tile scores of models that did not see the patient"
            f" ({folds} for each patient). Tile scores are in standardised units: their"
            " attention-weighted mean is the prediction of the slide. They are not abundances."
        ],
        figures=[as_picture(path, path.stem) for path in maps],
    )


def _explanation_section(out: Path, cohort: SyntheticPaths) -> Section:
    """Show explanations of one spot for genes whose truth is known."""
    table = pd.read_csv(out / "explanations" / "explanations.csv")
    truth = pd.read_csv(cohort.truth / "genes.csv", keep_default_na=False).set_index("gene")
    first = table[table["picture"] == table["picture"].iloc[0]]
    regions = {gene: truth.loc[gene, "region"] for gene in first["gene"]}
    follows = {
        gene: f"the {region} region" if region else "nothing" for gene, region in regions.items()
    }
    shown = table[
        [
            "picture",
            "gene",
            "predicted",
            "measured",
            "cam_sum",
            "cam_against",
            "ig_change",
            "ig_delta",
        ]
    ]
    return Section(
        "Explanations",
        [
            f"The figures show a test spot as the encoder sees it ({first['where'].iloc[0]}), for"
            f" genes that in truth follow {' and '.join(follows.values())}. Grad-CAM shows what"
            " speaks for a gene. Integrated gradients add up to the change of its prediction from"
            " white glass. Edges and nodes are the patch graphs that the network chose, which are"
            " the same for all genes. The command python -m"
            " tcgn_mil.experiments.demo.explanation_check, followed by this folder, measures how"
            " much of the explanations lies in immune aggregates: for genes that follow them, for"
            " null genes, and for an untrained network."
        ],
        [
            as_table(
                shown,
                f"Values in {table['unit'].iloc[0]}; ig_delta is the error of the integration",
            )
        ],
        [
            as_picture(
                out / "explanations" / row.figure, f"{row.gene}, which follows {follows[row.gene]}"
            )
            for row in first.itertuples()
        ],
    )


def _step_section(steps: Sequence[Step]) -> Section:
    """List the commands that do the same as the demo."""
    table = pd.DataFrame(
        {"command": [step.command for step in steps], "seconds": [step.seconds for step in steps]}
    )
    total = (
        f"The steps took {sum(step.seconds for step in steps):.0f} seconds in all. A demo that was"
        " interrupted skips the files that are there already."
    )
    return Section(
        "The commands, and the time that each took",
        [total],
        tables=[as_table(table, "In this order")],
    )
