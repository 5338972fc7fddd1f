"""Write the files of a published encoder: its weights, and the description beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tcgn_mil.checkpoints import read_encoder_info
from tcgn_mil.checkpoints.file_format import copy_with_header
from tcgn_mil.experiments.publish.shareable import shareable
from tcgn_mil.experiments.runs.run_folder import RUN_FILE, SUMMARY_FILE
from tcgn_mil.experiments.spot_level.train_network import CHECKPOINT
from tcgn_mil.file_formats.csv_table import read_own_csv
from tcgn_mil.file_formats.json_file import read_json
from tcgn_mil.io.atomic import write_json
from tcgn_mil.settings.patient_names import NameTreatment

FOLDS = "folds.csv"


def write_encoder(run: Path, folder: Path, treatment: NameTreatment) -> None:
    """Write the files of an encoder into a folder.

    Nothing is ever looked up by the name of a section, so that hashed names would be of no use:
    ``hashed`` and ``removed`` both put numbers in their place.

    Parameters
    ----------
    run
        Folder of a finished run of ``pretrain``.
    folder
        Folder to write.
    treatment
        Treatment of names of sections.

    Raises
    ------
    InputError
        If the checkpoint cannot be read.
    """
    names = section_names(run, treatment)

    def change(header: dict[str, Any]) -> dict[str, Any]:
        changed: dict[str, Any] = shareable(header, names)
        return changed

    header = copy_with_header(run / CHECKPOINT, folder / CHECKPOINT, change)
    write_json((folder / CHECKPOINT).with_suffix(".json"), header)
    for name in (RUN_FILE, SUMMARY_FILE):
        stored = read_json(run / name, what="a file of a run", fix="run the command again")
        content = shareable(stored, names)
        for row in content.get("results", ()):
            row["section"] = names.get(row["section"], row["section"])
        if (leaking := content.get("patient_leakage")) and treatment != "kept":
            # These are patients and not sections; their number is what a reader has to know.
            content["patient_leakage"] = [f"patient-{n}" for n in range(1, len(leaking) + 1)]
        write_json(folder / name, content)


def section_names(run: Path, treatment: NameTreatment) -> dict[str, str]:
    """Return the name of each section of a run in the published files."""
    made = read_encoder_info(run / CHECKPOINT).provenance
    table = read_own_csv(
        run / FOLDS,
        what="the folds of a run",
        fix="run tcgn-mil pretrain again",
        needs=("id",),
        dtype=str,
        keep_default_na=False,
    )
    # A block of a section, on which an encoder may have been validated, has a name of its own.
    listed = [*table["id"], *made.get("trained_on", ()), *made.get("validated_on", ())]
    sections = list(dict.fromkeys(listed))
    if treatment == "kept":
        return {name: name for name in sections}
    return {name: f"section-{number}" for number, name in enumerate(sections, start=1)}
