"""Read GCT files of the Broad Institute (GSEA, GTEx, GenePattern), versions 1.2 and 1.3.

The first line is ``#1.2`` or ``#1.3``, the second the size of the table. Version 1.2 has the
columns ``Name`` and ``Description``; version 1.3 states how many columns describe genes, and how
many rows describe samples.
"""

from __future__ import annotations

from pathlib import Path

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.bulk.expression_table import ExpressionRequest, ExpressionTable
from tcgn_mil.preprocessing.bulk.readers.base import ExpressionReader
from tcgn_mil.preprocessing.bulk.readers.gene_rows import (
    ANNOTATION,
    SYMBOL_COLUMNS,
    gene_rows,
)
from tcgn_mil.preprocessing.bulk.readers.text_matrix import leading_lines, read_text_matrix
from tcgn_mil.preprocessing.gene_names import is_ensembl

GCT = "gct"
_VERSIONS = ("#1.2", "#1.3")


def is_gct(path: Path) -> bool:
    """Return whether a file is GCT, judged by its first line."""
    return any(line.strip() in _VERSIONS for line in leading_lines(path, 1))


def read_gct(path: Path, request: ExpressionRequest) -> ExpressionTable:
    """Read expression from a GCT file.

    Raises
    ------
    InputError
        If the size in the second line is not that of the table.
    """
    lines = leading_lines(path, 2)
    size = [int(cell) for cell in lines[-1].split() if cell.isdigit()]
    matrix = read_text_matrix(path, skip=2, text_columns=ANNOTATION)
    described = size[2] if len(size) == 4 else 1
    sample_rows = size[3] if len(size) == 4 else 0
    found = [len(matrix.ids) - sample_rows, len(matrix.columns) - 1 - described]
    if size[:2] != found:
        raise InputError(
            f"states {' x '.join(map(str, size[:2]))} values in its second line, but holds"
            f" {' x '.join(map(str, found))}",
            path=path,
            fix="copy the file again; it may be cut off",
        )
    columns = list(matrix.columns)
    names = [name.lower() for name in columns]
    for at in range(1, described + 1):
        is_symbol = names[at] in SYMBOL_COLUMNS or (
            names[at] == "description" and any(map(is_ensembl, matrix.ids[:100]))
        )
        columns[at] = "gene_symbol" if is_symbol else "description"
    kept = matrix._replace(
        columns=columns, ids=matrix.ids[sample_rows:], cells=matrix.cells.iloc[sample_rows:]
    )
    return gene_rows(kept, GCT, path)


READER = ExpressionReader((GCT,), is_gct, read_gct)
