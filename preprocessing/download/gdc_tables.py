"""Write what the GDC says about files and patients as the tables that the other verbs read.

The manifest has the format of the GDC's data transfer tool, and the sample sheet the columns of the
GDC's portal, so that files can also be fetched by ``gdc-client`` and are then read in the same way.

Overall survival comes from the fields that the GDC's own survival analysis uses (API release 8.5,
2026). A patient who is dead has the time of death; one who is alive has the latest follow-up of any
diagnosis or visit; any other vital status says nothing. A patient who is dead without a time of
death keeps an empty time, which ``tcgn-mil clinical`` lists.

Variables of the diagnosis come from the one that is marked as primary, or from the only one;
several without a mark leave them empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from tcgn_mil.io.atomic import write_csv
from tcgn_mil.preprocessing.download.gdc_api import Case, Diagnosis, GdcFile
from tcgn_mil.tcga_barcodes import patient_of, site_of
from tcgn_mil.types.outcomes import DAYS_PER_YEAR

_SAMPLE_COLUMNS = {
    "Sample Type": "sample_type",
    "Tissue Type": "tissue_type",
    "Tumor Descriptor": "tumor_descriptor",
    "Specimen Type": "specimen_type",
    "Preservation Method": "preservation_method",
}
_DEAD, _ALIVE = "dead", "alive"


def write_manifest(path: Path, files: Sequence[GdcFile]) -> None:
    """Write a manifest for ``gdc-client download -m``."""
    rows = [(hit.file_id, hit.file_name, hit.md5sum, hit.file_size, hit.state) for hit in files]
    table = pd.DataFrame(rows, columns=["id", "filename", "md5", "size", "state"])
    write_csv(path, table, separator="\t")


def write_sample_sheet(path: Path, files: Sequence[GdcFile], project: str) -> None:
    """Write the sample sheet of some files, with the columns of the GDC's portal."""
    write_csv(path, pd.DataFrame([_sheet_row(hit, project) for hit in files]), separator="\t")


def _sheet_row(hit: GdcFile, project: str) -> dict[str, str | None]:
    samples = [sample for case in hit.cases for sample in case.samples]
    row = {
        "File ID": hit.file_id,
        "File Name": hit.file_name,
        "Data Category": hit.data_category,
        "Data Type": hit.data_type,
        "Project ID": project,
        "Case ID": _joined([case.submitter_id for case in hit.cases]),
        "Sample ID": _joined([sample.submitter_id for sample in samples]),
    }
    for column, key in _SAMPLE_COLUMNS.items():
        row[column] = _joined([getattr(sample, key) or "" for sample in samples])
    return row


def _joined(values: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(value for value in values if value))


def write_slides_table(path: Path, names: Sequence[str], files: Sequence[GdcFile]) -> None:
    """Write a table of slides that ``tile`` and ``bulk`` read, also where names are no barcodes.

    Parameters
    ----------
    path
        The .csv file to write.
    names
        Paths of the slides, relative to the table.
    files
        The files of these slides, in the same order.
    """
    patients = [patient_of(hit.cases[0].submitter_id) for hit in files]
    table = pd.DataFrame(
        {
            "path": list(names),
            "slide_id": [Path(name).stem for name in names],
            "patient_id": patients,
            "site": [site_of(patient) or "" for patient in patients],
        }
    )
    write_csv(path, table)


def write_clinical_table(path: Path, cases: Sequence[Case]) -> int:
    """Write survival and clinical variables, one row for each patient.

    Returns
    -------
    int
        Number of patients with a time and an event of overall survival.
    """
    table = pd.DataFrame([_clinical_row(case) for case in cases])
    write_csv(path, table, digits=10)
    return int(table[["OS", "OS.time"]].notna().all(axis=1).sum())


def _clinical_row(case: Case) -> dict[str, object]:
    died, days = overall_survival(case)
    person, diagnosis = case.demographic, primary_diagnosis(case)
    age = None if diagnosis is None else diagnosis.age_at_diagnosis
    return {
        "case_submitter_id": case.submitter_id,
        "case_id": case.case_id,
        "OS": None if died is None else str(int(died)),
        "OS.time": days,
        "vital_status": person and person.vital_status,
        "index_date": case.index_date,
        "age_at_diagnosis_years": None if age is None else round(age / DAYS_PER_YEAR, 2),
        "sex": person and person.sex_at_birth,
        "race": person and person.race,
        "ethnicity": person and person.ethnicity,
        "ajcc_pathologic_stage": diagnosis and diagnosis.ajcc_pathologic_stage,
        "tumor_grade": diagnosis and diagnosis.tumor_grade,
        "primary_diagnosis": diagnosis and diagnosis.primary_diagnosis,
        "primary_site": case.primary_site,
        "disease_type": case.disease_type,
    }


def overall_survival(case: Case) -> tuple[bool | None, float | None]:
    """Return whether a patient died, and the days to death or to the last follow-up.

    Examples
    --------
    >>> case = Case(
    ...     case_id="1f601832-eee3-48fb-acf5-80c4a454f26e",
    ...     submitter_id="TCGA-BH-A0EA",
    ...     demographic={"vital_status": "Alive"},
    ...     follow_ups=[{"days_to_follow_up": 400}, {"days_to_follow_up": 900}],
    ... )
    >>> overall_survival(case)
    (False, 900.0)
    """
    status = ((case.demographic and case.demographic.vital_status) or "").lower()
    if case.demographic is not None and status == _DEAD:
        return True, case.demographic.days_to_death
    if status != _ALIVE:
        return None, None
    seen = [diagnosis.days_to_last_follow_up for diagnosis in case.diagnoses]
    seen += [visit.days_to_follow_up for visit in case.follow_ups]
    return False, max((days for days in seen if days is not None), default=None)


def primary_diagnosis(case: Case) -> Diagnosis | None:
    """Return the diagnosis that is marked as primary, or the only one; None if neither is there."""
    for marked in (
        [item for item in case.diagnoses if _is(item.diagnosis_is_primary_disease, "true")],
        [item for item in case.diagnoses if _is(item.classification_of_tumor, "primary")],
        case.diagnoses,
    ):
        if len(marked) == 1:
            return marked[0]
    return None


def _is(value: object, word: str) -> bool:
    return str(value).lower() == word
