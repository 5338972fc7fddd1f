"""Read series matrix files of GEO (``GSE*_series_matrix.txt.gz``).

Lines that begin with ``!`` describe the series and its samples. The table lies between
``!series_matrix_table_begin`` and ``!series_matrix_table_end``; its columns are GSM accessions. The
patients are often named in another line, such as the title or a characteristic. The line that names
most patients of the slides is taken.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Sequence
from pathlib import Path

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.bulk.expression_table import ExpressionRequest, ExpressionTable
from tcgn_mil.preprocessing.bulk.readers.base import ExpressionReader
from tcgn_mil.preprocessing.bulk.readers.gene_rows import gene_rows
from tcgn_mil.preprocessing.bulk.readers.text_matrix import leading_lines, read_text_matrix
from tcgn_mil.tcga_barcodes import parse_barcode, patient_of

GEO = "geo-series"
_BEGIN, _END = "!series_matrix_table_begin", "!series_matrix_table_end"
_MOST_LINES = 10_000  # above the table; a series has a few hundred


def is_geo_series(path: Path) -> bool:
    """Return whether a file is a series matrix, judged by its first lines."""
    return any(line.startswith(("!Series_", "!Sample_")) for line in leading_lines(path, 20))


def read_geo_series(path: Path, request: ExpressionRequest) -> ExpressionTable:
    """Read expression from a series matrix.

    Raises
    ------
    InputError
        If the file has no table, or the table has no row, as for most series of sequencing.
    """
    lines = leading_lines(path, _MOST_LINES)
    if _BEGIN not in lines or any(
        line.startswith(_END) for line in lines[lines.index(_BEGIN) + 1 :][:2]
    ):
        raise InputError(
            "holds no values: series of sequencing keep them in supplementary files",
            path=path,
            fix="give the supplementary table of counts, FPKM or TPM of this series",
        )
    begin = lines.index(_BEGIN)
    matrix = read_text_matrix(path, skip=begin + 1, end=_END)
    described = [_cells(line) for line in lines[:begin] if line.startswith("!Sample_")]
    samples, source = _names(described, matrix.columns[1:], request.patients)
    notes = [f"{path.name}: samples are named by {source}"] if source else []
    return gene_rows(matrix._replace(columns=[matrix.columns[0], *samples]), GEO, path, notes)


def _cells(line: str) -> list[str]:
    return next(csv.reader([line], delimiter="\t"))


def _names(
    described: Sequence[Sequence[str]], accessions: list[str], patients: Collection[str]
) -> tuple[list[str], str]:
    """Return the names of the samples, and the line that they come from."""

    def named(names: Sequence[str]) -> int:
        if patients:
            return sum(patient_of(name) in patients for name in names)
        return sum(parse_barcode(name) is not None for name in names)

    best, source = accessions, ""
    for line, *cells in described:
        # A characteristic is written "patient: 12".
        names = [cell.partition(": ")[2].strip() or cell.strip() for cell in cells]
        if len(names) == len(accessions) and named(names) > named(best):
            best, source = names, line.removeprefix("!")
    return best, source


READER = ExpressionReader((GEO,), is_geo_series, read_geo_series)
