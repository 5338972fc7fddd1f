"""Write the files of a published slide model: what ``predict`` reads of a run, and nothing else.

====================== ===========================================================================
file                   content
====================== ===========================================================================
fold<k>.safetensors    model of each fold; its header is also in fold<k>.json
encoder<k>.safetensors encoder of each fold, if encoders were fine-tuned
reference.safetensors  training patients to which new ones are compared (no tile is in it)
genes.json             r, p, q and width of the interval of each gene
patients.json          how names of patients and slides are stored, and patients of the slides
run.json, summary.json config, versions and results of the run
====================== ===========================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tcgn_mil.checkpoints.file_format import SUFFIX, copy_with_header
from tcgn_mil.errors import InputError
from tcgn_mil.experiments.publish.shareable import shareable
from tcgn_mil.experiments.runs.run_folder import RUN_FILE, SUMMARY_FILE
from tcgn_mil.file_formats.json_file import read_json
from tcgn_mil.inference.fold_models import load_fold_models, patients_of_training_slides
from tcgn_mil.inference.reference_file import FILE as REFERENCE
from tcgn_mil.inference.reference_file import read_reference
from tcgn_mil.inference.training_names import (
    NAMES_FILE,
    StoredNames,
    names_to_store,
)
from tcgn_mil.io.atomic import write_json
from tcgn_mil.io.gene_list import read_model_genes, write_published_genes
from tcgn_mil.settings.patient_names import NameTreatment


def write_slide_model(run: Path, folder: Path, treatment: NameTreatment) -> None:
    """Write the files of a slide model into a folder.

    Parameters
    ----------
    run
        Folder of a finished run of ``finetune`` or ``slide-cv``.
    folder
        Folder to write.
    treatment
        Treatment of names of patients and slides.

    Raises
    ------
    InputError
        If the run has no models, or a file of it cannot be read.
    """
    folds = load_fold_models(run)
    if not folds:
        raise InputError(
            f"has no fold<k>{SUFFIX}, so there is no model to publish",
            path=run,
            fix="run the same tcgn-mil finetune or slide-cv command again",
        )
    patients = sorted(
        {name for fold in folds for part in fold.info.fold.parts().values() for name in part}
        | {*read_reference(run).patients}
    )
    names = names_to_store(patients, patients_of_training_slides(run), treatment)
    for fold in folds:
        source = f"fold{fold.info.fold.index}{SUFFIX}"
        _copy(run / source, folder / source, _of_fold(names))
    # Their headers hold the names of sections, of which a patient's model knows no more.
    for path in sorted(run.glob(f"encoder*{SUFFIX}")):
        _copy(path, folder / path.name, lambda header: shareable(header, names.patients))
    copy_with_header(run / REFERENCE, folder / REFERENCE, _of_reference(names))
    write_published_genes(folder, read_model_genes(run))
    write_json(folder / NAMES_FILE, names.as_json())
    for name in (RUN_FILE, SUMMARY_FILE):
        stored = read_json(run / name, what="a file of a run", fix="run the command again")
        content = shareable(stored, names.patients)
        if leaking := content.get("patient_leakage"):
            content["patient_leakage"] = [names.patients.get(each, each) for each in leaking]
        write_json(folder / name, content)


def _copy(source: Path, target: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Copy a checkpoint with a changed header, and write the header beside it."""
    write_json(target.with_suffix(".json"), copy_with_header(source, target, change))


def _of_fold(names: StoredNames) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def change(header: dict[str, Any]) -> dict[str, Any]:
        parts = {
            part: _renamed(members, names.patients) if isinstance(members, list) else members
            for part, members in header["fold"].items()
        }
        # The settings of the network are under "config" too, and hold no path.
        return {**shareable(header, names.patients), "config": header["config"], "fold": parts}

    return change


def _of_reference(names: StoredNames) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda header: {**header, "patients": _renamed(header["patients"], names.patients)}


def _renamed(members: list[str], names: Mapping[str, str]) -> list[str]:
    return [names[member] for member in members]
