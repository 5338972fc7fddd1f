"""Write the cohort file of a join and its reports.

The reports are join_report.csv, join_summary.json and gene_report.csv.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import anndata
import numpy as np
import pandas as pd

from tcgn_mil.io.anndata_file import write_anndata
from tcgn_mil.io.atomic import write_csv, write_json
from tcgn_mil.io.failures import Failure, write_failures
from tcgn_mil.preprocessing.bulk.genes import GENE_REPORT, write_gene_report
from tcgn_mil.preprocessing.bulk.patient_join import JoinRow
from tcgn_mil.preprocessing.bulk.readers.gdc import GDC
from tcgn_mil.preprocessing.bulk.sources import Samples
from tcgn_mil.preprocessing.slides.table import SlideEntry
from tcgn_mil.tcga_barcodes import patient_of, site_of

JOIN_REPORT, JOIN_SUMMARY = "join_report.csv", "join_summary.json"


class JoinSummary(NamedTuple):
    """Numbers of slides, samples, patients and genes that a join kept.

    Attributes
    ----------
    slides, slides_kept
        Number of slides, and of those that were joined.
    samples, samples_kept
        Number of samples, and of those that were joined.
    patients, genes
        Size of the cohort.
    unit
        Declared unit.
    key
        Names of the keys on which slides and samples were joined.
    outcomes
        Endpoint to numbers of patients and events, if a clinical table was given.
    sample_types, preservation
        Number of patients by sample type, and by preservation of the tissue.
    notes
        Lines for the user about gene ids and tissue.
    failures
        Files of a source that could not be read.
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
    sample_types: dict[str, int]
    preservation: dict[str, int]
    notes: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()

    def totals(self) -> dict[str, Any]:
        """Return all but the notes and the failures, for a file."""
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
            f"{self.slides_kept} of {self.slides} slides and {self.samples_kept} of {self.samples}"
            f" samples joined by {self.key}: {self.patients} patients x {self.genes} genes"
            f" ({self.unit}){outcomes}"
        )


def write_reports(
    out_path: Path, rows: Sequence[JoinRow], samples: Samples, made_by: dict[str, Any]
) -> None:
    """Write the reports beside `out_path`, and failures.csv if a source was a folder of files."""
    write_csv(out_path.with_name(JOIN_REPORT), pd.DataFrame(rows, columns=JoinRow._fields))
    write_json(out_path.with_name(JOIN_SUMMARY), made_by | {"dropped": _reasons(rows)})
    write_gene_report(out_path.with_name(GENE_REPORT), samples.genes)
    if GDC in samples.layouts.values():
        write_failures(out_path.parent, samples.failures)


def _reasons(rows: Sequence[JoinRow]) -> dict[str, int]:
    """Count the slides and samples that were left out by reason."""
    return dict(Counter(f"{row.kind}: {row.reason}" for row in rows if not row.kept).most_common())


def describe_patients(
    patients: pd.Index, kept: Sequence[JoinRow], sources: Any, slides: Sequence[SlideEntry]
) -> pd.DataFrame:
    """Describe the patients of a cohort, for ``obs`` of the cohort file.

    Parameters
    ----------
    patients
        Ids of the patients.
    kept
        Rows of the join report for slides and samples that were kept.
    sources
        Names of the sources of the kept samples, grouped by patient (a pandas SeriesGroupBy).
    slides
        Slides of the cohort.

    Returns
    -------
    pandas.DataFrame
        Columns n_slides, n_samples, key and source. The column donor is there if some slide names
        the person behind several patients, and site if a site is known for every patient.
    """
    rows = pd.DataFrame(kept, columns=JoinRow._fields)
    counts = rows.groupby(["kind", "patient_id"]).size()
    keys = rows.groupby("patient_id")["key"].agg(lambda keys: " and ".join(sorted(set(keys))))
    source_names = sources.agg(lambda names: " and ".join(sorted(set(names))))
    obs = pd.DataFrame(
        {
            "n_slides": [int(counts.get(("slide", name), 0)) for name in patients],
            "n_samples": counts["sample"].loc[patients].to_numpy(),
            "key": keys.loc[patients].to_numpy(),
            "source": source_names.loc[patients].to_numpy(),
        },
        index=pd.Index(patients, name="patient_id"),
    )
    sites = {patient_of(entry.patient_id): entry.site for entry in slides}
    of_patient = [sites.get(name) or site_of(name) for name in patients]
    donors = {patient_of(entry.patient_id): entry.donor for entry in slides}
    # Sections of one donor may count as patients of their own. Folds have to keep a donor together,
    # or the same person would be trained on and tested on.
    if any(donors.get(name) for name in patients):
        obs["donor"] = [str(donors.get(name) or name) for name in patients]
    if all(of_patient):
        obs["site"] = [str(site) for site in of_patient]
    return obs


def write_cohort_file(
    path: Path,
    profiles: pd.DataFrame,
    obs: pd.DataFrame,
    slide_rows: Sequence[JoinRow],
    made_by: dict[str, Any],
) -> None:
    """Write cohort.h5ad: patients x genes, with the joined slides in ``uns["slides"]``."""
    cohort = anndata.AnnData(
        profiles.to_numpy(np.float32), obs=obs, var=pd.DataFrame(index=profiles.columns.astype(str))
    )
    cohort.uns["slides"] = pd.DataFrame(
        [(row.id, row.patient_id) for row in slide_rows if row.kept],
        columns=["slide_id", "patient_id"],
    )
    cohort.uns["tcgn_mil"] = json.dumps(made_by)
    write_anndata(path, cohort)
