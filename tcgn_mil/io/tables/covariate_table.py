"""Read covariates of patients (age, purity, subtype, ...) and decide which can be used."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.reading import reads
from tcgn_mil.io.cohort_file import read_cohort, specimens_of
from tcgn_mil.io.tables.patient_table import PatientTable, read_patient_table
from tcgn_mil.io.tables.text_numbers import MISSING, ParsedColumn, numbers_or_text
from tcgn_mil.text import preview
from tcgn_mil.types.outcomes import MAX_LEVELS

# A level with fewer patients says nothing about a difference between levels.
MIN_PATIENTS_PER_LEVEL = 3


@reads("covariates", fix="check the file, and copy it again")
def read_covariates(
    path: str | Path,
    patients: Sequence[str],
    columns: Sequence[str] = (),
    *,
    zero_unknown: Iterable[str] = (),
) -> tuple[pd.DataFrame, list[str]]:
    """Read covariates of patients.

    A column of numbers is a numeric covariate, another column is a category. Levels of a category
    with fewer than `MIN_PATIENTS_PER_LEVEL` patients are set to missing.

    Parameters
    ----------
    path
        Table whose first column names the patients: CSV or TSV (also .gz or .zip), or Parquet. Or
        a cohort.h5ad, whose sample types and other facts about the tissue are the covariates.
    patients
        Patients of the analysis. The table must have at least one of them.
    columns
        Columns to read. If empty, all columns that can be used are read.
    zero_unknown
        Columns in which 0 means that the value is not known, as in published tumour purities.

    Returns
    -------
    covariates : DataFrame
        The index equals `patients`. Numbers are float64 and categories are text; NaN is missing.
    notes : list of str
        One sentence for each column that was left out, if `columns` is empty, for each column in
        which numbers are read as categories, and for rows that were left out.

    Raises
    ------
    InputError
        If the table cannot be read, has none of the patients, or lacks a column; or if a requested
        column has fewer than two levels, too many levels for a category, or text among its numbers.
    """
    path = Path(path)
    table, row_notes = _read(path)
    zero_unknown = tuple(zero_unknown)
    if missing := [name for name in (*columns, *zero_unknown) if name not in table.columns]:
        raise InputError(
            f"has no column {preview(missing)}",
            path=path,
            fix=f"choose from its columns: {preview([*table.columns])}",
        )
    if not (shared := table.index.intersection(pd.Index(patients))).size:
        raise InputError(
            f"has none of the patients: its first patient is {table.index[0]!r}, the first patient"
            f" of the expression is {patients[0]!r}",
            path=path,
            fix="name the patients in the first column as the expression file names them",
        )
    table = table.loc[shared]
    covariates, notes = {}, list(row_notes)
    for name in columns or table.columns:
        try:
            parsed = _covariate(table[name], name, zero=name in zero_unknown, path=path)
        except InputError as error:
            if columns:
                raise
            notes.append(f"{error.reason}: left out")
            continue
        covariates[name] = parsed.values
        notes += [parsed.note] if parsed.note else []
    if not covariates:
        raise InputError(
            "has no column that can be used",
            path=path,
            fix="give columns of numbers, or categories with few levels",
        )
    return pd.DataFrame(covariates, index=table.index).reindex(list(patients)), notes


def _read(path: Path) -> PatientTable:
    if path.suffix.lower() != ".h5ad":
        return read_patient_table(path)
    return PatientTable(specimens_of(read_cohort(path).obs).replace("not stated", ""), ())


def _covariate(column: pd.Series, name: str, *, zero: bool, path: Path) -> ParsedColumn:
    """Return a column as numbers or as categories, and a note on the cells it holds."""
    if column.isna().all() or column.astype(str).str.strip().str.lower().isin(MISSING).all():
        raise InputError(
            f"column {name} has no value for any of the {len(column)} patients of this cohort",
            path=path,
            fix="leave the column out, or give a table with its values",
        )
    values, note = numbers_or_text(column, name, path=path, only_numbers=zero)
    if pd.api.types.is_numeric_dtype(values):
        values = values.where(values != 0) if zero else values
        levels = values.nunique()
    else:
        values = values.mask(values.str.lower().isin(MISSING))
        counts = values.value_counts()
        values = values.where(values.isin(counts.index[counts >= MIN_PATIENTS_PER_LEVEL]))
        levels = values.nunique()
        if levels > MAX_LEVELS or (levels < 2 and len(counts) > MAX_LEVELS):
            raise InputError(
                f"column {name} holds {len(counts)} different texts, too many for a category",
                path=path,
                fix=f"group them into at most {MAX_LEVELS} categories, or leave the column out",
            )
    if levels < 2:
        raise InputError(
            f"column {name} has {levels or 'no'} level among these patients (categories with fewer"
            f" than {MIN_PATIENTS_PER_LEVEL} patients do not count)",
            path=path,
            fix="leave the column out, because nothing can vary with it",
        )
    return ParsedColumn(values, note)
