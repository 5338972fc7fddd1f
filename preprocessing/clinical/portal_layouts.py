"""Read the clinical tables that the GDC portal and cBioPortal give for download.

GDC's ``clinical.tsv`` has a row for each treatment of a patient and two columns of times: the dead
have days_to_death, the living have days_to_last_follow_up. Older files name the columns alone,
newer ones with the entity before a dot (``demographic.vital_status``). TCGA's biotab files
(``nationwidechildrens.org_clinical_patient_brca.txt``) have the same content under other names.

cBioPortal's ``data_clinical_patient.txt`` begins with lines that start with ``#``. Each endpoint
has a column of months and one of status, such as ``OS_MONTHS`` and ``OS_STATUS``. The table that
the page of a study gives has the same columns under display names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tcgn_mil.preprocessing.clinical.layouts import UNIT_DAYS, ClinicalLayout, EndpointColumns

if TYPE_CHECKING:
    from tcgn_mil.preprocessing.clinical.detect_layout import TableHeader

# Names of GDC's columns, the newest first.
_GDC_PATIENT = (
    "cases.submitter_id",
    "case_submitter_id",
    "submitter_id",
    "bcr_patient_barcode",
)
_GDC_STATUS = ("demographic.vital_status", "vital_status")
_GDC_DEATH = ("demographic.days_to_death", "days_to_death", "death_days_to")
_GDC_FOLLOW_UP = (
    "diagnoses.days_to_last_follow_up",
    "days_to_last_follow_up",
    "days_to_last_followup",
    "last_contact_days_to",
)
_DEAD = frozenset({"dead", "deceased"})

_CBIOPORTAL_PATIENT = ("PATIENT_ID", "Patient ID", "SAMPLE_ID", "Sample ID")
_MONTHS, _STATUS = "_MONTHS", "_STATUS"
_DISPLAYED = (
    EndpointColumns("OS", "Overall Survival (Months)", "Overall Survival Status"),
    EndpointColumns(
        "DSS", "Months of disease-specific survival", "Disease-specific Survival status"
    ),
    EndpointColumns("DFS", "Disease Free (Months)", "Disease Free Status"),
    EndpointColumns("PFS", "Progress Free Survival (Months)", "Progression Free Status"),
)


def is_gdc_portal(header: TableHeader) -> bool:
    """Return whether a table has the columns of GDC's clinical.tsv."""
    return _gdc_columns(header) is not None


def gdc_portal(header: TableHeader) -> ClinicalLayout:
    """Return the layout of GDC's clinical.tsv: overall survival from two columns of days."""
    columns = _gdc_columns(header) or tuple(
        names[0] for names in (_GDC_PATIENT, _GDC_STATUS, _GDC_DEATH, _GDC_FOLLOW_UP)
    )
    patient, status, death, follow_up = columns
    endpoint = EndpointColumns("OS", death, status, follow_up)
    # A table without these columns gets an endpoint that names those it should have.
    present = set(header.columns) >= set(columns)
    return ClinicalLayout(
        "gdc-portal",
        patient,
        header.endpoints((endpoint,)) if present else (endpoint,),
        event_values=_DEAD,
        covariates=header.covariates(),
    )


def _gdc_columns(header: TableHeader) -> tuple[str, ...] | None:
    choices = (_GDC_PATIENT, _GDC_STATUS, _GDC_DEATH, _GDC_FOLLOW_UP)
    chosen = [next((name for name in names if name in header.columns), "") for names in choices]
    return tuple(chosen) if all(chosen) else None


def is_cbioportal(header: TableHeader) -> bool:
    """Return whether a table has a patient of cBioPortal and an endpoint in months."""
    return bool(_cbioportal_patient(header) and _cbioportal_endpoints(header))


def cbioportal(header: TableHeader) -> ClinicalLayout:
    """Return the layout of a clinical table of cBioPortal.

    Its studies do not state the length of a month. It is that of the calendar (30.44 days), unless
    ``--months`` gives another.
    """
    endpoints = _cbioportal_endpoints(header) or (EndpointColumns("OS", "OS_MONTHS", "OS_STATUS"),)
    return ClinicalLayout(
        "cbioportal",
        _cbioportal_patient(header) or _CBIOPORTAL_PATIENT[0],
        header.endpoints(endpoints),
        unit_days=header.options.month_days or UNIT_DAYS["months"],
        unit="months",
        coding="status",
        covariates=header.covariates(),
    )


def _cbioportal_patient(header: TableHeader) -> str | None:
    return next((name for name in _CBIOPORTAL_PATIENT if name in header.columns), None)


def _cbioportal_endpoints(header: TableHeader) -> tuple[EndpointColumns, ...]:
    names = [name.removesuffix(_MONTHS) for name in header.columns if name.endswith(_MONTHS)]
    coded = [
        # An endpoint has no underscore in its name, since clinical.csv adds suffixes to it.
        EndpointColumns(name.replace("_", "-"), name + _MONTHS, name + _STATUS)
        for name in names
        if name and name + _STATUS in header.columns
    ]
    displayed = [
        endpoint for endpoint in _DISPLAYED if set(endpoint.columns) <= set(header.columns)
    ]
    return (*coded, *displayed)
