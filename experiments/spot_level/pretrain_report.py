"""Report on the pretrained encoder: its test sections beside the baselines, and maps of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tcgn_mil.experiments.runs.finished_run import Run, pictures_of, table_of
from tcgn_mil.experiments.runs.page import Section
from tcgn_mil.experiments.runs.report_part import ReportPart
from tcgn_mil.experiments.spot_level import report
from tcgn_mil.text import counted

_SHOWN_SECTIONS = 2


def pretrain_sentence(run: Run) -> str:
    """Return what the run trained, and its headline on each section beside ridge on colour."""
    summary = run.summary
    spots = summary["spots"]
    # Validation spots train as well where the settings were chosen before.
    trained = spots["train"] + (spots["val"] if _joined(summary) else 0)
    sentence = f"Trained {summary['model']} on {counted(trained, 'spot')}."
    rows = summary["results"]
    ridge = {row["section"]: row["headline"] for row in rows if row["predictor"] == "ridge_colour"}
    told = [
        f"{row['section']} {row['headline']:.2f} ({ridge[row['section']]:.2f})"
        for row in rows
        if row["predictor"] == "model"
        and row["headline"] is not None
        and ridge.get(row["section"]) is not None
    ]
    if not told:
        return sentence
    return (
        f"{sentence} Median depth-adjusted r in {summary['results_on']} sections, and in brackets"
        f" that of ridge on colour: {', '.join(told)}."
    )


def _joined(summary: Mapping[str, Any]) -> bool:
    return str(summary["validation"]).startswith("none")


def pretrain_sections(run: Run, share: float) -> list[Section]:
    """Make the section on a run of ``pretrain``; it has no interactive data."""
    summary = run.summary
    sections = list(dict.fromkeys(row["section"] for row in summary["results"]))
    captions = {"curves.png": "Training loss, and validation score if there is one, by epoch."}
    for name in sections[:_SHOWN_SECTIONS]:
        captions[f"genes_{name}.png"] = f"Depth-adjusted r over genes, section {name}."
        captions[f"maps_{name}.png"] = (
            f"Section {name} beside measured and predicted expression, each on its own scale."
        )
    chosen = (
        "Its settings were chosen before, so no part of these data was used to choose anything."
        if _joined(summary)
        else f"The epoch was chosen on validation data ({summary['validation']})."
    )
    return [
        Section(
            run.title("Spots: the pretrained encoder"),
            [
                f"{chosen} The headline is the median depth-adjusted r over the genes seen in at"
                " least 20 % of the test spots. The depth control knows neither the gene nor the"
                " image, and what it reaches in the column of r that is not depth-adjusted is due"
                " to sequencing depth alone; the headline is therefore the number to compare."
            ],
            table_of(
                run,
                "results.csv",
                f"Each {summary['results_on']} section",
                {"section": "section", "spots": "spots", **report.PREDICTOR_COLUMNS},
            ),
            pictures_of(run, captions),
        )
    ]


def methods(config: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    """Return the methods paragraph of a run of ``pretrain``."""
    training, target = config["training"], config["target"]
    changes = [
        text
        for text, made in (
            ("sequencing depth was taken out of the targets", target["remove_depth"]),
            (f"they were projected on {target['rank']} principal components", target["rank"]),
        )
        if made
    ]
    divisor = report.NORMALISATIONS[config["normalisation"]]
    changed = f" {'; '.join(changes).capitalize()}." if changes else ""
    return (
        f"The network {config['model']} was trained to predict gene expression from the image patch"
        f" of each spot. Counts were divided by {divisor} and"
        f" log-transformed.{changed} Training used the loss '{training['loss']}', a peak learning"
        f" rate of {training['lr']:g}, batches of {training['batch_size']} spots and at most"
        f" {training['epochs']} epochs. The test sections were read once, at the end."
    )


REPORT = ReportPart(
    kind="pretrain",
    position=6,
    sections=pretrain_sections,
    methods=methods,
    terms=frozenset({"r", "95 % interval", "p and q", "baseline", "depth-adjusted r"}),
    sentence=pretrain_sentence,
    files=("encoder.safetensors", "results.csv", "folds.csv"),
)
