"""Read expression tables with samples along one axis and genes along the other.

``samples-by-genes`` has one row for each sample, ``genes-by-samples`` one row for each gene. For
``wide`` the ids tell which of the two it is.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import pandas as pd

from tcgn_mil.errors import InputError
from tcgn_mil.io.tables import parquet
from tcgn_mil.preprocessing.bulk.expression_table import ExpressionRequest, ExpressionTable
from tcgn_mil.preprocessing.bulk.readers.base import ExpressionReader, as_float32
from tcgn_mil.preprocessing.bulk.readers.gene_rows import ANNOTATION, gene_rows, is_annotation
from tcgn_mil.preprocessing.bulk.readers.text_matrix import (
    TextMatrix,
    header_of,
    read_text_matrix,
)
from tcgn_mil.preprocessing.gene_names import is_ensembl
from tcgn_mil.tcga_barcodes import parse_barcode, patient_of
from tcgn_mil.text import preview

WIDE, SAMPLES_DOWN, GENES_DOWN = "wide", "samples-by-genes", "genes-by-samples"
_OTHER_WAY = {SAMPLES_DOWN: GENES_DOWN, GENES_DOWN: SAMPLES_DOWN}


def is_wide(path: Path) -> bool:
    """Accept any table with columns; this layout is tried last."""
    if path.suffix.lower() in parquet.SUFFIXES:
        return bool(parquet.column_names(path))
    return bool(header_of(path))


def read_wide(path: Path, request: ExpressionRequest) -> ExpressionTable:
    """Read a table with samples along one axis and genes along the other.

    Raises
    ------
    InputError
        If the table cannot be read, a sample has no name, a cell holds text, or the ids do not tell
        samples from genes or contradict the layout asked for.
    """
    matrix = _read_matrix(path)
    across = matrix.columns[1:]
    if not across:
        raise InputError(
            "has one column only",
            path=path,
            fix="put ids into the first column and values into the others",
        )
    samples = [name for name in across if not is_annotation(name)] or across
    # A gene without a name is left out later; a sample without a name cannot be joined.
    if "" in matrix.ids and GENES_DOWN not in (
        request.layout,
        _told_by_ids(samples, matrix.ids, request.patients),
    ):
        raise InputError(
            f"row {matrix.ids.index('') + 2} has no id in column {matrix.columns[0] or 1!r}",
            path=path,
            fix="write an id in this row, or remove the row",
        )
    layout = _orientation(samples, matrix.ids, request, path)
    if layout == GENES_DOWN:
        return gene_rows(matrix, layout, path)
    values = matrix.cells.set_axis(pd.Index(across), axis=1).set_axis(matrix.ids, axis=0)
    return ExpressionTable(as_float32(values, path), layout)


def _read_matrix(path: Path) -> TextMatrix:
    if path.suffix.lower() not in parquet.SUFFIXES:
        return read_text_matrix(path, text_columns=ANNOTATION)
    columns = parquet.column_names(path)
    table = parquet.read_columns(path, range(1, len(columns)), ids=0)
    return TextMatrix(columns, list(table.index), table.set_axis(range(1, len(columns)), axis=1))


def _orientation(
    across: Sequence[str], rows: Sequence[str], request: ExpressionRequest, path: Path
) -> str:
    """Return the layout asked for if the ids do not contradict it, or the one that the ids tell."""
    patients, stated = request.patients, request.layout
    told = _told_by_ids(across, rows, patients)
    both = f"its rows are {preview(rows, most=2)}, its columns {preview(across, most=2)}"
    if stated == WIDE:
        if told is None:
            of = f" (the slides are of {preview(sorted(patients), most=2)})" if patients else ""
            raise InputError(
                f"its ids do not tell samples from genes: {both}, none of them a known patient{of}",
                path=path,
                fix="name samples by the patients of the slides, or give"
                f" --format {SAMPLES_DOWN} or {GENES_DOWN}",
            )
        return told
    if told not in (None, stated):
        raise InputError(
            f"is said to be {stated}, but {both}",
            path=path,
            fix=f"give --format {told}, or remove the option --format",
        )
    return stated


def _told_by_ids(
    across: Sequence[str], rows: Sequence[str], patients: Collection[str]
) -> str | None:
    """Return the layout that the ids tell; None if they do not.

    Three signs are counted along both axes, and the first that is unequal decides: ids of known
    patients and TCGA barcodes are where samples are, Ensembl ids are where genes are.
    """
    for is_sign, layout_if_across in (
        (lambda name: patient_of(name) in patients, GENES_DOWN),
        (lambda name: parse_barcode(name) is not None, GENES_DOWN),
        (is_ensembl, SAMPLES_DOWN),
    ):
        signs_across, signs_down = sum(map(is_sign, across)), sum(map(is_sign, rows))
        if signs_across != signs_down:
            if signs_across > signs_down:
                return layout_if_across
            return _OTHER_WAY[layout_if_across]
    return None


READER = ExpressionReader((WIDE, SAMPLES_DOWN, GENES_DOWN), is_wide, read_wide)
