"""Collect the facts for the model card of a spot encoder from the files of its run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tcgn_mil.checkpoints import read_encoder_info
from tcgn_mil.experiments.publish.card import citation, code, head_of, shown_genes, write_card
from tcgn_mil.experiments.publish.config import PublishConfig
from tcgn_mil.experiments.publish.encoder_files import FOLDS, section_names
from tcgn_mil.experiments.publish.shareable import without_folders
from tcgn_mil.experiments.runs.finished_run import Run
from tcgn_mil.experiments.runs.glossary import PREDICTORS
from tcgn_mil.experiments.spot_level.inputs.folds import ON_TEST
from tcgn_mil.experiments.spot_level.pretrain_report import methods, pretrain_sentence
from tcgn_mil.experiments.spot_level.train_network import CHECKPOINT
from tcgn_mil.text import counted, preview

FEW_SECTIONS = 20
_NAMES = {
    "kept": "The names of the sections are stored as they are.",
    "hashed": "Numbers stand for the names of the sections; nothing is looked up by these names.",
}


def write_encoder_card(run: Run, folder: Path, config: PublishConfig, source: str) -> None:
    """Write the card of an encoder; the parameters are those of a slide model's card."""
    made = run.made["config"]
    info = read_encoder_info(run.folder / CHECKPOINT)
    assert info.panel is not None  # pretrain trains a head
    names = section_names(run.folder, config.names)
    results = [
        {
            **row,
            "name": PREDICTORS.get(row["predictor"], row["predictor"]),
            "section": names.get(row["section"], row["section"]),
        }
        for row in run.summary["results"]
    ]
    parts = run.frame(FOLDS)["part"].value_counts().to_dict()
    renamed = Run(run.folder, run.made, {**run.summary, "results": results})
    facts = {
        "head": head_of(config.licence, ["encoder", "spatial-transcriptomics"]),
        "title": source.removeprefix("hf-hub:"),
        "source": source,
        "summary": run.summary,
        "sentence": pretrain_sentence(renamed),
        "patch": info.patch,
        "input_px": info.input_spec.size_px,
        "sections": {part: int(parts.get(part, 0)) for part in ("train", "val", "test")},
        "spots": without_folders(str(made["spots"])),
        "licence": config.licence,
        "data_licence": config.data_licence,
        "started": _started_from(info.provenance.get("started_from") or {}),
        "first_genes": shown_genes(info.panel.genes),
        "methods": methods(made, run.summary),
        "seed": made["training"]["seed"],
        "results": results,
        "limits": _limits(run.summary, made, results, sum(parts.values())),
        "names_words": _NAMES["kept" if config.names == "kept" else "hashed"],
        "cite": citation(code(source.removeprefix("hf-hub:"))),
    }
    write_card(folder, "encoder.md", facts)


def _started_from(record: Mapping[str, str]) -> str | None:
    """Return the weights that training started from, with their licence; None if not recorded.

    A network that was trained further is made of these weights, so that their licence goes with it.
    """
    source = record.get("source")
    if source is None:
        return None
    if source == "random":
        return "random weights"
    revision = f", revision {record['revision']}" if "revision" in record else ""
    licence = record.get("licence", "not known to the run")
    cited = f"; cite {record['citation']}" if "citation" in record else ""
    return f"{code(source)}{revision}, whose licence is {licence}{cited}"


def _limits(
    summary: Mapping[str, Any],
    made: Mapping[str, Any],
    results: list[dict[str, Any]],
    sections: int,
) -> list[str]:
    """Return what a reader must know before trusting the encoder, each as a sentence."""
    limits = []
    if leaking := len(summary.get("patient_leakage") or ()):
        limits.append(
            f"Patient leakage: {counted(leaking, 'patient')} of the tested sections also trained or"
            " validated, so that the results are too good."
        )
    if made.get("select_on_test") or summary["validation"] == ON_TEST:
        limits.append("The epoch was chosen on the test sections; the results are too good.")
    if made.get("train") == "none" and not made.get("pretrained") and not made.get("checkpoint"):
        limits.append("The layers below the head were not trained: their weights are random.")
    if sections < FEW_SECTIONS:
        limits.append(
            f"It saw {counted(sections, 'section')} in all. Results of so few vary much from"
            " section to section."
        )
    if below := _sections_below_colour(results):
        limits.append(
            "Ridge regression on colour has at least the headline of the network in"
            f" {preview(below)}."
        )
    limits.append(
        "It was tested on sections of its own data set only, and not on those of another"
        " laboratory, scanner or stain."
    )
    return limits


def _sections_below_colour(results: list[dict[str, Any]]) -> list[str]:
    """Return the sections in which the network does not reach a ridge regression on colour."""
    headline = {(row["section"], row["predictor"]): row["headline"] for row in results}
    return [
        section
        for section in dict.fromkeys(row["section"] for row in results)
        if (own := headline.get((section, "model"))) is not None
        and (colour := headline.get((section, "ridge_colour"))) is not None
        and own <= colour
    ]
