"""``tcgn-mil bulk``: expression joined to slides by patient, with a report of every slide and sample.

TCGA names join on the patient (12 characters), and where both sides state a sample type, on 15: a tumour slide takes
tumour RNA. Of several samples of a patient, primary tumour (01) comes first, then the mean of replicates.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import anndata
import numpy as np
import pandas as pd

from tcgn_mil.artefacts import atomic_path, provenance
from tcgn_mil.contracts import preview
from tcgn_mil.data.cohort_files import KIND
from tcgn_mil.data.units import ExpressionUnit
from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.barcodes import parse_barcode, patient_of
from tcgn_mil.preprocessing.expression_tables import read_expression
from tcgn_mil.preprocessing.slide_table import SlideEntry

JOIN_REPORT = "join_report.csv"
_UNSTATED_TYPE = 1  # a name without sample type ranks with primary tumours


class JoinSummary(NamedTuple):
    """What the join kept, of what there was."""

    slides: int
    slides_kept: int
    samples: int
    patients: int
    genes: int
    unit: str
    key: str

    def __str__(self) -> str:
        return (
            f"{self.slides_kept} of {self.slides} slides and {self.samples} samples joined by {self.key}:"
            f" {self.patients} patients x {self.genes} genes ({self.unit})"
        )


def write_cohort(
    expression: Sequence[str | Path],
    slides: Sequence[SlideEntry],
    *,
    unit: str,
    out_path: str | Path,
    format: str = "auto",  # noqa: A002 - the option's name
) -> JoinSummary:
    """Write cohort.h5ad and, beside it, join_report.csv.

    Parameters
    ----------
    expression
        One table, or several (cohorts) whose genes in common are kept.
    slides
        The cohort's slides with their patients.
    unit
        Declared unit, checked against the values; see :class:`~tcgn_mil.data.units.ExpressionUnit`.
    format
        Layout of the tables.

    Raises
    ------
    InputError
        If a table is unusable, values do not fit the unit, or no patient has both a slide and expression.
    """
    declared = ExpressionUnit.parse(unit)
    patients_with_slides = {entry.patient_id for entry in slides}
    tables = [
        read_expression(path, layout=format, is_sample=lambda name: patient_of(name) in patients_with_slides)
        for path in expression
    ]
    for table, path in zip(tables, expression, strict=True):
        declared.check(table.to_numpy(), path=path)
    samples = _stack(tables, expression)
    profiles, sample_rows = _one_profile_a_patient(samples, patients_with_slides)
    slide_rows, kept = _join_slides(slides, set(profiles.index))
    if not kept:
        raise _nothing_in_common(samples, slides, expression)
    profiles = profiles.loc[sorted({entry.patient_id for entry in kept})]
    key = "TCGA patient (12 characters)" if all(map(parse_barcode, profiles.index)) else "patient id"
    summary = JoinSummary(len(slides), len(kept), len(samples), len(profiles), profiles.shape[1], str(declared), key)
    _write(Path(out_path), profiles, kept, slides, summary, expression)
    report = pd.DataFrame([*slide_rows, *sample_rows], columns=["kind", "id", "patient_id", "kept", "reason"])
    with atomic_path(Path(out_path).with_name(JOIN_REPORT)) as temporary:
        report.to_csv(temporary, index=False)
    return summary


def _stack(tables: Sequence[pd.DataFrame], paths: Sequence[str | Path]) -> pd.DataFrame:
    """Samples of all tables over the genes that all have, in the order of the first."""
    common = set.intersection(*(set(table.columns) for table in tables))
    shared = [gene for gene in tables[0].columns if gene in common]
    if not shared:
        raise InputError(
            f"its genes are in no other table: it names {preview(list(tables[-1].columns))}",
            path=paths[-1],
            fix="give tables with one kind of gene id",
        )
    return pd.concat([table[shared] for table in tables])


def _one_profile_a_patient(
    samples: pd.DataFrame, wanted: set[str]
) -> tuple[pd.DataFrame, list[tuple[str, str, str, bool, str]]]:
    """Mean of each patient's best samples: primary tumour, else the lowest other tumour type.

    Returns the profiles of patients in `wanted`, sorted, and a report row a sample.
    """
    names = [str(name) for name in samples.index]
    patients = np.array([patient_of(name) for name in names])
    barcodes = [parse_barcode(name) for name in names]
    kinds = np.array([_UNSTATED_TYPE if b is None or b.sample_type is None else b.sample_type for b in barcodes])
    tumour = np.array([barcode is None or barcode.is_tumour for barcode in barcodes])
    best = pd.Series(np.where(tumour, kinds, 1000)).groupby(patients).transform("min").to_numpy()
    has_slide = np.isin(patients, sorted(wanted))
    chosen = tumour & (kinds == best) & has_slide
    replicates = pd.Series(chosen).groupby(patients).transform("sum").to_numpy()
    reasons = np.select(
        [~has_slide, ~tumour, ~chosen, replicates > 1],
        ["no slide of this patient", "not a tumour sample", "a primary tumour sample is preferred", "mean of replicates"],
        default="",
    )
    rows = [
        ("sample", name, str(patient), bool(keep), str(reason))
        for name, patient, keep, reason in zip(names, patients, chosen, reasons, strict=True)
    ]
    profiles = samples[chosen].groupby(patients[chosen]).mean()
    return profiles.astype(np.float32), rows


def _join_slides(
    slides: Sequence[SlideEntry], patients: set[str]
) -> tuple[list[tuple[str, str, str, bool, str]], list[SlideEntry]]:
    """A report row a slide, and the slides kept."""
    rows, kept = [], []
    for entry in slides:
        barcode = parse_barcode(entry.slide_id)
        if barcode is not None and not barcode.is_tumour:
            reason = "not a slide of tumour tissue"
        elif entry.patient_id not in patients:
            reason = "no expression of this patient"
        else:
            reason = ""
            kept.append(entry)
        rows.append(("slide", entry.slide_id, entry.patient_id, not reason, reason))
    return rows, kept


def _nothing_in_common(
    samples: pd.DataFrame, slides: Sequence[SlideEntry], expression: Sequence[str | Path]
) -> InputError:
    return InputError(
        f"no patient in common with the slides: it names {preview([str(name) for name in samples.index], most=2)},"
        f" the slides are of {preview([entry.patient_id for entry in slides], most=2)}",
        path=expression[0],
        fix="use one kind of patient id, for example a slides table with a patient_id column",
    )


def _write(
    path: Path, profiles: pd.DataFrame, kept: Sequence[SlideEntry], slides: Sequence[SlideEntry], summary: JoinSummary,
    expression: Sequence[str | Path],
) -> None:  # fmt: skip
    """AnnData of the patients that have both."""
    table = pd.DataFrame({"slide_id": [e.slide_id for e in kept], "patient_id": [e.patient_id for e in kept]})
    counts = table.groupby("patient_id").size()
    obs = pd.DataFrame({"n_slides": counts.loc[profiles.index].to_numpy()}, index=pd.Index(profiles.index, name="patient_id"))
    sites = {entry.patient_id: entry.site or _site_of(entry.patient_id) for entry in slides}
    if all(sites.get(name) for name in profiles.index):
        obs["site"] = [str(sites[name]) for name in profiles.index]
    cohort = anndata.AnnData(profiles.to_numpy(np.float32), obs=obs, var=pd.DataFrame(index=profiles.columns.astype(str)))
    cohort.uns["slides"] = table
    cohort.uns["tcgn_mil"] = json.dumps(
        provenance(kind=KIND, join=summary._asdict(), unit=summary.unit, sources=[Path(p).name for p in expression])
    )
    with atomic_path(path) as temporary:
        cohort.write_h5ad(temporary, compression="gzip")


def _site_of(patient: str) -> str | None:
    barcode = parse_barcode(patient)
    return None if barcode is None else barcode.site
