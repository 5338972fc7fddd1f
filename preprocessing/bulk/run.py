"""``tcgn-mil bulk``: expression joined to slides by patient, with a report of every slide and sample."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import anndata
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.io.atomic import atomic_path, write_csv, write_json
from tcgn_mil.io.clinical_file import endpoints_of, read_survival
from tcgn_mil.io.cohort_file import KIND
from tcgn_mil.io.failures import Failure, write_failures
from tcgn_mil.preprocessing.bulk.figure import draw_cohort
from tcgn_mil.preprocessing.bulk.genes import GENE_REPORT, write_gene_report
from tcgn_mil.preprocessing.bulk.patient_join import (
    JoinRow,
    join_patients,
    sample_specimens,
    slide_specimens,
)
from tcgn_mil.preprocessing.bulk.readers.gdc import GDC
from tcgn_mil.preprocessing.bulk.sources import ExpressionOptions, Samples, read_samples
from tcgn_mil.preprocessing.slides.table import SlideEntry
from tcgn_mil.provenance import provenance
from tcgn_mil.tcga_barcodes import parse_barcode, patient_of
from tcgn_mil.text import preview
from tcgn_mil.types.units import ExpressionUnit

JOIN_REPORT, JOIN_SUMMARY = "join_report.csv", "join_summary.json"


class JoinSummary(NamedTuple):
    """What the join kept, of what there was.

    ``outcomes`` gives patients and events by endpoint, where a clinical table was given; ``notes`` are on genes, and
    ``failures`` files of a source that were left out.
    """

    slides: int
    slides_kept: int
    samples: int
    samples_kept: int
    patients: int
    genes: int
    unit: str
    key: str
    outcomes: dict[str, dict[str, int]]
    notes: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()

    def totals(self) -> dict[str, Any]:
        """The numbers, the unit and the key, for a file."""
        return {
            name: value
            for name, value in self._asdict().items()
            if name not in ("notes", "failures")
        }

    def __str__(self) -> str:
        outcomes = "".join(
            f"; {name}: {count['patients']} of them with an outcome, {count['events']} events"
            for name, count in self.outcomes.items()
        )
        return (
            f"{self.slides_kept} of {self.slides} slides and {self.samples_kept} of {self.samples} samples joined by"
            f" {self.key}: {self.patients} patients x {self.genes} genes ({self.unit}){outcomes}"
        )


def write_cohort(
    expression: Sequence[str | Path],
    slides: Sequence[SlideEntry] | None,
    *,
    unit: str,
    out_path: str | Path,
    format: str = "auto",
    gene_ids: str = "symbol",
    gene_map: str | Path | None = None,
    layer: str | None = None,
    preparation: str = "any",
    clinical: str | Path | None = None,
) -> JoinSummary:
    """Write cohort.h5ad and, beside it, a figure, join_report.csv, join_summary.json and gene_report.csv.

    Parameters
    ----------
    expression
        One table, or several (cohorts) whose genes in common are kept; a table is a file, or a folder of GDC files.
    slides
        The cohort's slides with their patients; None for expression alone, where every patient with a tumour sample is
        kept.
    unit
        Declared unit, checked against the values; see :class:`~tcgn_mil.types.units.ExpressionUnit`.
    format
        Layout of the tables.
    gene_ids, gene_map
        What names genes, ``symbol`` or ``ensembl``, and a table of ids and symbols; repeated genes become one, see
        :mod:`~tcgn_mil.preprocessing.bulk.genes`.
    layer
        Of an AnnData, instead of X.
    preparation
        Slides to join: ``any``, ``diagnostic`` or ``frozen``.
    clinical
        A clinical.csv, for the number of events among the joined patients; it chooses none of them.

    Raises
    ------
    InputError
        If a table is unusable, values do not fit the unit, or no patient has both a slide and expression.
    """
    out_path = Path(out_path)
    if out_path.suffix != ".h5ad":
        raise InputError(
            "is not named .h5ad", path=out_path, fix="end the name of the cohort's file in .h5ad"
        )
    declared = ExpressionUnit.parse(unit)
    slide_names = None if slides is None else slide_specimens(slides)
    options = ExpressionOptions(
        format, gene_ids, None if gene_map is None else Path(gene_map), layer
    )
    samples = read_samples(
        expression, declared, options, {slide.patient_id for slide in slide_names or ()}
    )
    names = [str(name) for name in samples.values.index]
    contents = [
        hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in samples.values.to_numpy()
    ]
    slide_rows, sample_rows = join_patients(
        slide_names, sample_specimens(names, contents, samples.people), preparation=preparation
    )
    kept = np.array([row.kept for row in sample_rows], dtype=bool)
    if not kept.any():
        raise _nothing_in_common(names, sample_rows, slides or (), expression)
    patients = np.array([row.patient_id for row in sample_rows])[kept]
    profiles = average_by_patient(samples.values[kept], patients)
    known = profiles.notna().any(axis=0).to_numpy()
    profiles = profiles.loc[:, known]
    rows = [*slide_rows, *sample_rows]
    summary = JoinSummary(
        slides=len(slide_rows),
        slides_kept=sum(row.kept for row in slide_rows),
        samples=len(names),
        samples_kept=int(kept.sum()),
        patients=len(profiles),
        genes=profiles.shape[1],
        unit=str(declared),
        key=" and ".join(sorted({row.key for row in rows if row.kept})),
        outcomes={} if clinical is None else _outcomes(clinical, profiles.index),
        notes=tuple(note for table in samples.genes if (note := table.note())),
        failures=tuple(samples.failures),
    )
    obs = _describe_patients(
        profiles.index,
        [row for row in rows if row.kept],
        pd.Series(np.array(samples.sources)[kept]).groupby(patients),
        slides or (),
    )
    made_by = provenance(
        kind=KIND,
        join=summary.totals(),
        unit=summary.unit,
        sources=[Path(path).name for path in expression],
        layouts=samples.layouts,
        preparation=preparation,
        genes_left_out={
            "not in every table": samples.genes_not_shared,
            "without a value": int((~known).sum()),
        },
    )
    _write_reports(out_path, rows, samples, made_by)
    _write(out_path, profiles, obs, slide_rows, made_by)
    draw_cohort(out_path.with_suffix(".png"), rows, profiles, list(obs["source"]), declared)
    return summary


def average_by_patient(values: pd.DataFrame, patients: NDArray[np.str_]) -> pd.DataFrame:
    """Samples x genes -> patients (sorted) x genes, float32: the mean of a patient's samples, of the known values."""
    return values.groupby(patients).mean().astype(np.float32)


def _outcomes(clinical: str | Path, patients: pd.Index) -> dict[str, dict[str, int]]:
    """Patients of the cohort with an outcome, and events among them, by endpoint."""
    found = {}
    for endpoint in endpoints_of(clinical):
        table = read_survival(clinical, endpoint=endpoint)
        of_cohort = np.isin(table.patient_id, patients)
        found[endpoint] = {
            "patients": int(of_cohort.sum()),
            "events": int(table.event[of_cohort].sum()),
        }
    if not any(count["patients"] for count in found.values()):
        raise InputError(
            f"holds no outcome of the cohort's patients, {preview(list(patients), most=2)}",
            path=clinical,
            fix="give the clinical.csv of these patients",
        )
    return found


def _write_reports(
    out_path: Path, rows: Sequence[JoinRow], samples: Samples, made_by: dict[str, Any]
) -> None:
    """join_report.csv, join_summary.json, gene_report.csv, and failures.csv where a source has parts that can fail."""
    join = pd.DataFrame(rows, columns=JoinRow._fields)
    write_csv(out_path.with_name(JOIN_REPORT), join, digits=None)
    write_json(out_path.with_name(JOIN_SUMMARY), made_by | {"dropped": _reasons(rows)})
    write_gene_report(out_path.with_name(GENE_REPORT), samples.genes)
    if GDC in samples.layouts.values():
        write_failures(out_path.parent, samples.failures)


def _reasons(rows: Sequence[JoinRow]) -> dict[str, int]:
    """How many slides and samples were dropped, by reason."""
    return dict(Counter(f"{row.kind}: {row.reason}" for row in rows if not row.kept).most_common())


def _nothing_in_common(
    names: Sequence[str],
    rows: Sequence[JoinRow],
    slides: Sequence[SlideEntry],
    expression: Sequence[str | Path],
) -> InputError:
    met = [row for row in rows if row.reason != "no slide of this patient"]
    if met:
        return InputError(
            f"no sample can be used; {met[0].id}: {met[0].reason}",
            path=expression[0],
            fix="give expression and slides of the same tumour samples",
        )
    return InputError(
        f"no patient in common with the slides: it names {preview(list(dict.fromkeys(names)), most=2)},"
        f" the slides are of {preview(list(dict.fromkeys(entry.patient_id for entry in slides)), most=2)}",
        path=expression[0],
        fix="use one kind of patient id, for example a slides table with a patient_id column",
    )


def _describe_patients(
    patients: pd.Index, kept: Sequence[JoinRow], sources: Any, slides: Sequence[SlideEntry]
) -> pd.DataFrame:
    """obs: numbers of slides and samples, the keys that joined them, their tables, and the site where all have one."""
    rows = pd.DataFrame(kept, columns=JoinRow._fields).groupby(["kind", "patient_id"])
    counts = rows.size()
    keys = (
        pd.DataFrame(kept, columns=JoinRow._fields)
        .groupby("patient_id")["key"]
        .agg(lambda keys: " and ".join(sorted(set(keys))))
    )
    obs = pd.DataFrame(
        {
            "n_slides": [int(counts.get(("slide", name), 0)) for name in patients],
            "n_samples": counts["sample"].loc[patients].to_numpy(),
            "key": keys.loc[patients].to_numpy(),
            "source": sources.agg(lambda names: " and ".join(sorted(set(names))))
            .loc[patients]
            .to_numpy(),
        },
        index=pd.Index(patients, name="patient_id"),
    )
    sites = {patient_of(entry.patient_id): entry.site for entry in slides}
    of_patient = [sites.get(name) or _site_of(name) for name in patients]
    donors = {patient_of(entry.patient_id): entry.donor for entry in slides}
    if any(
        donors.get(name) for name in patients
    ):  # people whom patients share; folds group by it, or leak
        obs["donor"] = [str(donors.get(name) or name) for name in patients]
    if all(of_patient):
        obs["site"] = [str(site) for site in of_patient]
    return obs


def _write(
    path: Path,
    profiles: pd.DataFrame,
    obs: pd.DataFrame,
    slide_rows: Sequence[JoinRow],
    made_by: dict[str, Any],
) -> None:
    """AnnData of the patients that have both."""
    cohort = anndata.AnnData(
        profiles.to_numpy(np.float32), obs=obs, var=pd.DataFrame(index=profiles.columns.astype(str))
    )
    cohort.uns["slides"] = pd.DataFrame(
        [(row.id, row.patient_id) for row in slide_rows if row.kept],
        columns=["slide_id", "patient_id"],
    )
    cohort.uns["tcgn_mil"] = json.dumps(made_by)
    with atomic_path(path) as temporary:
        cohort.write_h5ad(temporary, compression="gzip")


def _site_of(patient: str) -> str | None:
    barcode = parse_barcode(patient)
    return None if barcode is None else barcode.site
