"""Collect the facts for the model card of a slide model from the files of its run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tcgn_mil.checkpoints.file_format import SUFFIX
from tcgn_mil.checkpoints.slide_models import SlideModelInfo, read_slide_model_info
from tcgn_mil.experiments.publish.card import (
    citation,
    code,
    head_of,
    licence_of_encoder,
    shown_genes,
    write_card,
)
from tcgn_mil.experiments.publish.config import PublishConfig
from tcgn_mil.experiments.publish.shareable import without_folders
from tcgn_mil.experiments.runs.finished_run import Run
from tcgn_mil.experiments.runs.glossary import PREDICTORS
from tcgn_mil.experiments.slide_level.report import methods, slide_sentence
from tcgn_mil.inference.fold_models import patients_of_training_slides
from tcgn_mil.inference.reference_file import read_reference
from tcgn_mil.io.gene_list import read_model_genes
from tcgn_mil.tcga_barcodes import site_of
from tcgn_mil.text import counted, preview
from tcgn_mil.types.features import describes_slides

# Below this number, results vary much from cohort to cohort; the card says so.
FEW_PATIENTS = 100
_NAMES = {
    "hashed": "The names of patients and slides are stored as salted scrypt hashes. The model"
    " recognises its training patients by them, predicts each by the fold that did not see the"
    " patient, and says so. The names cannot be read, but someone who guesses a name can test it.",
    "kept": "The names of the training patients and slides are stored as they are. The model"
    " recognises its training patients by them, predicts each by the fold that did not see the"
    " patient, and says so.",
    "removed": "The names of patients and slides were removed. The model cannot recognise its"
    " training patients: it predicts them like new ones, better than it could if they were new, and"
    " says that their relation to the training cohort is not known.",
}


def write_slide_model_card(run: Run, folder: Path, config: PublishConfig, source: str) -> None:
    """Write the card of a slide model.

    Parameters
    ----------
    run
        The run of ``finetune`` or ``slide-cv``.
    folder
        Folder of the published model.
    config
        What the run does not know.
    source
        Name under which the card tells readers to open the model.
    """
    summary, made = run.summary, run.made["config"]
    info = _first_model(run.folder)
    patients = read_reference(run.folder).patients
    slides = patients_of_training_slides(run.folder)
    sites = [site for name in patients if (site := site_of(name)) is not None]
    what = "genes" if summary.get("targets", "genes") == "genes" else "scores"
    shared = dict(made) | {"targets": without_folders(str(made.get("targets", "genes")))}
    facts = {
        "head": head_of(config.licence, ["slide-model"]),
        "title": source.removeprefix("hf-hub:"),
        "source": source,
        "summary": summary,
        "what": what,
        "sentence": slide_sentence(run),
        "patch": None if describes_slides(info.encoder) else info.patch,
        "stain": info.stain,
        "slides": len(slides) or "an unknown number of",
        "cohort": without_folders(str(made["cohort"])),
        "barcodes": len(sites),
        "sites": len(set(sites)),
        "sources": _sources(run),
        "licence": config.licence,
        "data_licence": config.data_licence,
        "encoder_licence": licence_of_encoder(summary["encoder"]),
        "first_genes": shown_genes(read_model_genes(run.folder).index.tolist()),
        "methods": methods(shared, summary),
        "headline": [
            {**row, "name": PREDICTORS.get(row["predictor"], row["predictor"])}
            for row in summary["headline"]
        ],
        "beside": _beside(summary),
        "limits": _limits(summary, len(patients)),
        "names_words": _names_words(config.names, summary.get("model", "attention")),
        "cite": citation(code(source.removeprefix("hf-hub:"))),
    }
    write_card(folder, "slide_model.md", facts)


def _names_words(treatment: str, kind: str) -> str:
    """Return what the files hold of the training patients."""
    if kind not in ("ridge", "kernel"):
        return (
            f"{_NAMES[treatment]} No features and no expression of single patients are stored. Of"
            " each training patient the files hold the distance from the others, with which new"
            " patients are compared."
        )
    return (
        f"{_NAMES[treatment]} A model of kind {kind} holds the mean features of each training"
        " patient, as normal scores of their ranks. It holds no expression of single patients, but"
        " weights that were computed from it."
    )


def _first_model(folder: Path) -> SlideModelInfo:
    paths = sorted(folder.glob(f"fold*{SUFFIX}"))
    return read_slide_model_info(paths[0])


def _sources(run: Run) -> list[dict[str, Any]]:
    """Return the number of patients of each expression table; nothing if there was only one."""
    table = run.frame("cohorts.csv")
    if not len(table):
        return []
    one_each = table.drop_duplicates("source")
    return [
        {"source": without_folders(str(source)), "patients": int(patients)}
        for source, patients in zip(one_each["source"], one_each["patients"], strict=True)
    ]


def _beside(summary: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the model's row of the headline with folds by patient, if there was such a run."""
    rows = (summary.get("by_patient") or {}).get("headline", ())
    return next((row for row in rows if row["predictor"] == "model"), None)


def _limits(summary: Mapping[str, Any], patients: int) -> list[str]:
    """Return what a reader must know before trusting the model, each as a sentence."""
    limits = [f"{label[0].upper()}{label[1:].rstrip('.')}." for label in summary["labels"]]
    if leaking := len(summary.get("patient_leakage") or ()):
        are = "is a section" if leaking == 1 else "are sections"
        limits.append(
            f"Patient leakage: {counted(leaking, 'test patient')} {are} of a person who also"
            " trained or validated, so that the results are too good."
        )
    if patients < FEW_PATIENTS:
        limits.append(
            f"It was trained on {patients} patients. Results of so few patients vary much from"
            " cohort to cohort."
        )
    if summary.get("folds_by", "patient") != "site":
        limits.append(
            "Patients of one hospital were in several folds, so that a part of the result may come"
            " from differences between hospitals."
        )
    if reason := _untrained(summary["encoder"]):
        limits.append(reason)
    if weak := _not_beaten(summary):
        limits.append(
            f"The median r of the model is not above that of {preview(weak)} beyond chance."
        )
    if not summary["predictable"]:
        limits.append("No single gene passed the criterion for a predictable gene.")
    limits.append(
        "It was tested on patients of its own cohort only, and not on those of another hospital,"
        " scanner or stain."
    )
    return limits


def _untrained(encoder: str) -> str | None:
    """Return a limit if the weights of the encoder are random, or may be."""
    if "untrained" in encoder:
        return f"The encoder {code(encoder)} was not trained: its weights are random."
    if encoder.startswith("timm:"):
        return (
            f"The encoder {code(encoder)} is a model of timm. Runs that were made before random"
            " weights were labelled do not tell whether its weights were trained."
        )
    return None


def _not_beaten(summary: Mapping[str, Any]) -> list[str]:
    """Return the baselines that the model is not better than: the interval does not exclude 0."""
    return [
        PREDICTORS.get(row["predictor"], row["predictor"])
        for row in summary["headline"]
        if row["predictor"] != "model"
        and row.get("model_above_low") is not None
        and row["model_above_low"] <= 0
    ]
