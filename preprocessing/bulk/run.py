"""Join expression to slides by patient (``tcgn-mil bulk``)."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.io.clinical_file import endpoints_of, read_survival
from tcgn_mil.io.cohort_file import KIND
from tcgn_mil.io.failures import LeftOut, count_left_out, describe_left_out
from tcgn_mil.preprocessing.bulk.config import BulkConfig
from tcgn_mil.preprocessing.bulk.figure import draw_cohort
from tcgn_mil.preprocessing.bulk.patient_join import NO_SLIDE, JoinRow, join_patients
from tcgn_mil.preprocessing.bulk.reports import (
    JoinSummary,
    describe_patients,
    write_cohort_file,
    write_reports,
)
from tcgn_mil.preprocessing.bulk.sources import ExpressionOptions, Samples, read_samples
from tcgn_mil.preprocessing.bulk.specimen_types import (
    Kept,
    describe_specimens,
    specimen_notes,
)
from tcgn_mil.preprocessing.bulk.specimens import Specimen, sample_specimens, slide_specimens
from tcgn_mil.preprocessing.slides.table import SlideEntry
from tcgn_mil.provenance import provenance
from tcgn_mil.text import preview
from tcgn_mil.types.units import ExpressionUnit


def write_cohort(
    expression: Sequence[str | Path],
    slides: Sequence[SlideEntry] | None,
    out_path: str | Path,
    config: BulkConfig,
    *,
    files_left_out: Sequence[LeftOut] = (),
) -> JoinSummary:
    """Join expression to slides by patient and write the cohort.

    Beside the cohort, a figure and the files join_report.csv, join_summary.json and gene_report.csv
    are written.

    Parameters
    ----------
    expression
        One or several sources: tables, AnnData files or folders of GDC files. Genes that all
        sources have are kept.
    slides
        The slides of the cohort with their patients. None for expression alone; every patient with
        a tumour sample is then kept.
    out_path
        The .h5ad file to write.
    config
        Unit and other settings.
    files_left_out
        Files of the folder of slides that were left out, for the record.

    Returns
    -------
    JoinSummary
        Numbers of slides, samples, patients and genes.

    Raises
    ------
    InputError
        If a source cannot be used, the values do not fit the unit, or no patient has both a slide
        and expression.

    Examples
    --------
    >>> import tempfile
    >>> rows = ["id,CD3D,TP53", "TCGA-AA-0001-01A,2.5,1", "TCGA-AA-0001-11A,1,1"]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table, out = Path(folder, "bulk.csv"), Path(folder, "cohort.h5ad")
    ...     _ = table.write_text("\\n".join(rows))
    ...     summary = write_cohort([table], None, out, BulkConfig(unit="fpkm"))
    >>> summary.samples, summary.samples_kept, summary.genes  # 11A is normal tissue
    (2, 1, 2)
    """
    out_path = Path(out_path)
    if out_path.suffix != ".h5ad":
        raise InputError(
            "is not named .h5ad",
            path=out_path,
            fix="give --out a file name that ends in .h5ad",
        )
    unit, logarithm = ExpressionUnit.parse_declared(config.unit)
    slide_names = None if slides is None else slide_specimens(slides)
    samples = read_samples(
        expression,
        unit,
        _expression_options(config, logarithm),
        {slide.patient_id for slide in slide_names or ()},
    )
    names = [str(name) for name in samples.values.index]
    # The digest of the values distinguishes a replicate from a copied row.
    contents = [
        hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in samples.values.to_numpy()
    ]
    specimens = sample_specimens(names, contents, samples.people, path=expression[0])
    slide_rows, sample_rows = join_patients(slide_names, specimens, preparation=config.preparation)
    kept = np.array([row.kept for row in sample_rows], dtype=bool)
    if not kept.any():
        raise _nothing_in_common(names, sample_rows, slides or (), expression)
    patients = np.array([row.patient_id for row in sample_rows])[kept]
    profiles = average_by_patient(samples.values[kept], patients)
    measured = profiles.notna().any(axis=0).to_numpy()
    profiles = profiles.loc[:, measured]
    rows = [*slide_rows, *sample_rows]
    obs = describe_patients(
        profiles.index,
        [row for row in rows if row.kept],
        pd.Series(np.array(samples.sources)[kept]).groupby(patients),
        slides or (),
    )
    types = describe_specimens(
        list(profiles.index),
        Kept(_kept(slide_names or (), slide_rows), _kept(specimens, sample_rows)),
    )
    summary = JoinSummary(
        slides=len(slide_rows),
        slides_kept=sum(row.kept for row in slide_rows),
        samples=len(names),
        samples_kept=int(kept.sum()),
        patients=len(profiles),
        genes=profiles.shape[1],
        unit=str(unit),
        key=" and ".join(sorted({row.key for row in rows if row.kept})),
        outcomes={} if config.clinical is None else _outcomes(config.clinical, profiles.index),
        sample_types=_counts(types["sample_type"]),
        preservation=_counts(types["preservation"]),
        notes=(
            *describe_left_out(files_left_out),
            *samples.notes,
            *specimen_notes(types, list(obs["n_samples"])),
        ),
        failures=tuple(samples.failures),
    )
    made_by = provenance(
        kind=KIND,
        join=summary.totals(),
        unit=summary.unit,
        declared_unit=config.unit,
        sources=[Path(path).name for path in expression],
        layouts=samples.layouts,
        preparation=config.preparation,
        files_left_out=count_left_out(files_left_out),
        gene_map=samples.gene_map | _named_by_map(samples),
        genes_left_out={
            "not in every table": samples.genes_not_shared,
            "without a value": int((~measured).sum()),
            **Counter(
                f"the name {gene.reason}" for table in samples.genes for gene in table.left_out
            ),
        },
    )
    write_reports(out_path, rows, samples, made_by)
    write_cohort_file(out_path, profiles, obs.join(types), slide_rows, made_by)
    draw_cohort(out_path.with_suffix(".png"), rows, profiles, list(obs["source"]), unit)
    return summary


def _named_by_map(samples: Samples) -> dict[str, int]:
    """Count the genes that the gene map named, over all sources."""
    changes = [gene for table in samples.genes for gene in table.cleaned.renamed]
    return {
        "named_by_id": sum(table.cleaned.from_ids for table in samples.genes),
        "previous_symbols_replaced": sum(gene.renamed for gene in changes),
        "previous_symbols_kept": sum(not gene.renamed for gene in changes),
    }


def _kept(specimens: Sequence[Specimen], rows: Sequence[JoinRow]) -> list[Specimen]:
    return [specimen for specimen, row in zip(specimens, rows, strict=True) if row.kept]


def _counts(column: pd.Series) -> dict[str, int]:
    return {str(value): int(count) for value, count in column.value_counts().items()}


def average_by_patient(values: pd.DataFrame, patients: NDArray[np.str_]) -> pd.DataFrame:
    """Average the samples of each patient.

    Parameters
    ----------
    values
        Samples x genes.
    patients
        Patient of each sample.

    Returns
    -------
    pandas.DataFrame
        Patients, sorted, x genes, float32. A missing value does not count in the mean.

    Examples
    --------
    >>> samples = pd.DataFrame({"TP53": [1.0, 3.0, 5.0]})
    >>> average_by_patient(samples, np.array(["b", "b", "a"]))["TP53"].to_dict()
    {'a': 5.0, 'b': 2.0}
    """
    return values.groupby(patients).mean().astype(np.float32)


def _outcomes(clinical: str | Path, patients: pd.Index) -> dict[str, dict[str, int]]:
    """Count the cohort's patients with an outcome, and events among them, for each endpoint."""
    counts = {}
    for endpoint in endpoints_of(clinical):
        table = read_survival(clinical, endpoint=endpoint)
        of_cohort = np.isin(table.patient_id, patients)
        counts[endpoint] = {
            "patients": int(of_cohort.sum()),
            "events": int(table.event[of_cohort].sum()),
        }
    if not any(count["patients"] for count in counts.values()):
        raise InputError(
            f"holds no outcome of the cohort's patients, {preview(list(patients), most=2)}",
            path=clinical,
            fix="give the clinical.csv of these patients",
        )
    return counts


def _nothing_in_common(
    names: Sequence[str],
    rows: Sequence[JoinRow],
    slides: Sequence[SlideEntry],
    expression: Sequence[str | Path],
) -> InputError:
    of_slides = [row for row in rows if row.reason != NO_SLIDE]
    if of_slides:
        return InputError(
            f"no sample can be used; {of_slides[0].id}: {of_slides[0].reason}",
            path=expression[0],
            fix="give expression and slides of the same tumour samples",
        )
    slide_patients = list(dict.fromkeys(entry.patient_id for entry in slides))
    return InputError(
        "no patient in common with the slides: it names"
        f" {preview(list(dict.fromkeys(names)), most=2)}, the slides are of"
        f" {preview(slide_patients, most=2)}",
        path=expression[0],
        fix="use one kind of patient id, for example by a slides table with a column patient_id",
    )


def _expression_options(config: BulkConfig, logarithm: str) -> ExpressionOptions:
    return ExpressionOptions(
        config.format, config.gene_ids, config.gene_map, config.layer, logarithm
    )
