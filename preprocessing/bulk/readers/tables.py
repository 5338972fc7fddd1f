"""Bulk expression tables of several layouts, read into samples x genes.

``samples-by-genes`` and ``genes-by-samples``: ids along one axis, genes along the other; ``wide`` is either of them,
told by its ids; ``sequoia``: ``patient_id`` and ``rna_<gene>`` columns; ``porpoise``: ``case_id`` and ``<gene>_rnaseq``
columns, one row a slide; ``isb-cgc``: a query of the Cancer Gateway in the Cloud, ``case_barcode``, ``sample_barcode``
and others that describe the sample, then genes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pandas as pd

from tcgn_mil.errors import InputError
from tcgn_mil.io.failures import Failure
from tcgn_mil.io.tables import delimited as table_files
from tcgn_mil.io.tables import parquet as parquet_files
from tcgn_mil.preprocessing.gene_names import is_ensembl
from tcgn_mil.tcga_barcodes import parse_barcode, patient_of
from tcgn_mil.text import preview

SAMPLES_DOWN, GENES_DOWN = "samples-by-genes", "genes-by-samples"
_OTHER_WAY = {SAMPLES_DOWN: GENES_DOWN, GENES_DOWN: SAMPLES_DOWN}
LAYOUTS = ("auto", "wide", SAMPLES_DOWN, GENES_DOWN, "sequoia", "porpoise", "isb-cgc")
_SEQUOIA_PREFIX, _PORPOISE_SUFFIX = "rna_", "_rnaseq"
_ID_COLUMNS = {"sequoia": "patient_id", "porpoise": "case_id", "isb-cgc": "sample_barcode"}
_ISB_CGC_SAMPLE = frozenset(
    (
        "project_short_name",
        "program_name",
        "case_barcode",
        "case_gdc_id",
        "sample_barcode",
        "sample_gdc_id",
        "sample_type",
        "sample_type_name",
        "aliquot_barcode",
        "aliquot_gdc_id",
        "primary_site",
    )
)
_PARQUET_SUFFIXES = (".parquet", ".pq")


class Person(NamedTuple):
    """Whose a sample is, and what of, where its source says so beside its name; the type is TCGA's code."""

    patient_id: str
    is_tumour: bool
    sample_type: int | None = None


class ExpressionTable(NamedTuple):
    """A table as read.

    ``values`` are samples (index, as named in the file; may repeat) x genes (as named; may repeat), float32, NaN where
    missing; ``layout`` is the one it was read as. Where the source says so, ``symbols`` names the genes, ``people``
    says whose each sample is; ``failures`` are the parts of it that were left out.
    """

    values: pd.DataFrame
    layout: str
    symbols: tuple[str, ...] | None = None
    people: tuple[Person, ...] | None = None
    failures: tuple[Failure, ...] = ()


def read_expression(
    path: str | Path, *, layout: str = "auto", patients: Collection[str] = ()
) -> ExpressionTable:
    """Read one table.

    Parameters
    ----------
    path
        CSV or TSV, also .gz or .zip, or Parquet (which needs pyarrow).
    layout
        ``auto`` tells the layouts apart by their columns, and the two wide ones by their ids.
    patients
        Those known, of the slides; their ids or samples tell samples x genes from genes x samples in a wide table,
        where TCGA barcodes or Ensembl ids do otherwise.

    Raises
    ------
    InputError
        For an unreadable table, unnamed genes, text among the values, or a layout that does not fit or cannot be told.
    """
    path = Path(path)
    if layout not in LAYOUTS:
        raise InputError(f"unknown layout {layout!r}", fix=f"choose one of {', '.join(LAYOUTS)}")
    columns = _source(path).column_names(path)
    if layout == "auto":
        layout = _guess_layout(columns)
    if layout in ("wide", SAMPLES_DOWN, GENES_DOWN):
        return _read_wide(path, columns, layout, patients)
    id_column = _ID_COLUMNS[layout]
    if id_column not in columns:
        raise InputError(f"has no column {id_column}", path=path, fix="give another --format")
    genes = [
        (position, gene)
        for position, column in enumerate(columns)
        if (gene := _gene_of(column, layout))
    ]
    if not genes:
        mark = {"sequoia": f"{_SEQUOIA_PREFIX}*", "porpoise": f"*{_PORPOISE_SUFFIX}"}.get(
            layout, "of a gene"
        )
        raise InputError(f"has no column {mark}", path=path, fix="give another --format")
    names = [gene for _, gene in genes]
    _check_genes(names, path)
    table = _source(path).read_columns(
        path, [position for position, _ in genes], ids=columns.index(id_column)
    )
    return ExpressionTable(_numbers(table, path).set_axis(pd.Index(names), axis=1), layout)


def _source(path: Path) -> ModuleType:
    """The module that reads files of this kind."""
    return parquet_files if path.suffix.lower() in _PARQUET_SUFFIXES else table_files


def _guess_layout(columns: Sequence[str]) -> str:
    if "wsi_file_name" in columns and any(column.startswith(_SEQUOIA_PREFIX) for column in columns):
        return "sequoia"
    if "case_id" in columns and any(column.endswith(_PORPOISE_SUFFIX) for column in columns):
        return "porpoise"
    if {"case_barcode", "sample_barcode"} <= set(columns):
        return "isb-cgc"
    return "wide"


def _gene_of(column: str, layout: str) -> str:
    """The gene that a column of `layout` holds, empty if it holds something else."""
    if layout == "sequoia":
        return column.removeprefix(_SEQUOIA_PREFIX) if column.startswith(_SEQUOIA_PREFIX) else ""
    if layout == "isb-cgc":
        return "" if column in _ISB_CGC_SAMPLE else column
    return column.removesuffix(_PORPOISE_SUFFIX) if column.endswith(_PORPOISE_SUFFIX) else ""


def _read_wide(
    path: Path, columns: Sequence[str], layout: str, patients: Collection[str]
) -> ExpressionTable:
    """A table with ids along one axis."""
    across = list(columns[1:])
    if not across:
        raise InputError(
            "has one column only", path=path, fix="ids go in the first column, values in the others"
        )
    table = _source(path).read_columns(path, range(1, len(columns)), ids=0)
    layout = _orientation(across, list(table.index), layout, patients, path)
    _check_genes(list(table.index) if layout == GENES_DOWN else across, path)
    table = _numbers(table, path)
    return ExpressionTable(table.T if layout == GENES_DOWN else table, layout)


def _orientation(
    across: Sequence[str], rows: Sequence[str], stated: str, patients: Collection[str], path: Path
) -> str:
    """The wide layout that is stated, or else that the ids tell; they may not contradict what is stated."""
    told = _told_by_ids(across, rows, patients)
    both = f"its rows are {preview(rows, most=2)}, its columns {preview(across, most=2)}"
    if stated == "wide":
        if told is None:
            known = f" (the slides are of {preview(sorted(patients), most=2)})" if patients else ""
            raise InputError(
                f"its ids do not tell samples from genes: {both}, none of them a known patient{known}",
                path=path,
                fix=f"name samples as the slides' patients are, or say which they are: --format {SAMPLES_DOWN} or"
                f" {GENES_DOWN}",
            )
        return told
    if told not in (None, stated):
        raise InputError(
            f"is said to be {stated}, but {both}",
            path=path,
            fix=f"give --format {told}, or leave --format out",
        )
    return stated


def _told_by_ids(
    across: Sequence[str], rows: Sequence[str], patients: Collection[str]
) -> str | None:
    """Where more ids of known patients are; if as many, where TCGA barcodes are; then where no Ensembl ids are."""
    for hits, found_across in (
        (lambda name: patient_of(name) in patients, GENES_DOWN),
        (lambda name: parse_barcode(name) is not None, GENES_DOWN),
        (is_ensembl, SAMPLES_DOWN),
    ):
        hits_across, hits_rows = sum(map(hits, across)), sum(map(hits, rows))
        if hits_across != hits_rows:
            return found_across if hits_across > hits_rows else _OTHER_WAY[found_across]
    return None


def _check_genes(genes: Sequence[str], path: Path) -> None:
    if "" in genes:
        raise InputError(
            f"gene {list(genes).index('') + 1} has no name",
            path=path,
            fix="name it, or remove its empty column",
        )


def _numbers(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """float32 values under the same names; text is an error that names its place."""
    values = np.empty(table.shape, dtype=np.float32)
    for position, column in enumerate(table.columns):  # by position, since samples may repeat
        cells = table.iloc[:, position]
        if pd.api.types.is_bool_dtype(cells) or not pd.api.types.is_numeric_dtype(cells):
            numbers = pd.to_numeric(cells.astype(object).map(_plain), errors="coerce")
            text = (numbers.isna() & cells.notna()).to_numpy()
            if text.any():
                row = int(np.argmax(text))
                raise InputError(
                    f"column {column}, row {table.index[row]}: {str(cells.iloc[row])[:60]!r} is no number",
                    path=path,
                    fix="remove columns that hold no expression, and mark missing values as NA",
                )
            cells = numbers
        values[:, position] = cells.to_numpy(dtype=np.float64, na_value=np.nan)
    if np.isinf(values).any():
        row, column_at = np.argwhere(np.isinf(values))[0]
        raise InputError(
            f"column {table.columns[column_at]}, row {table.index[row]} is infinite",
            path=path,
            fix="mark missing values as NA",
        )
    return pd.DataFrame(values, index=table.index, columns=table.columns)


def _plain(cell: object) -> object:
    """Booleans as text, so that they are not taken for 0 and 1."""
    return str(cell) if isinstance(cell, (bool, np.bool_)) else cell
