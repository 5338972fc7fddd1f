"""Read gene sums of recount3, which begin with lines such as ``##annotation=G026``.

A gene sum is the coverage of all bases of a gene. It is proportional to the number of reads, and is
declared as counts, because counts are scaled by their sum.
"""

from __future__ import annotations

import re
from pathlib import Path

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.bulk.expression_table import ExpressionRequest, ExpressionTable
from tcgn_mil.preprocessing.bulk.readers.base import ExpressionReader
from tcgn_mil.preprocessing.bulk.readers.gene_rows import ANNOTATION, gene_rows
from tcgn_mil.preprocessing.bulk.readers.text_matrix import leading_lines, read_text_matrix

RECOUNT3 = "recount3"
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def is_recount3(path: Path) -> bool:
    """Return whether a file is of recount3, judged by its comment lines."""
    return any(line.startswith("##annotation=") for line in leading_lines(path, 5))


def read_recount3(path: Path, request: ExpressionRequest) -> ExpressionTable:
    """Read gene sums of recount3.

    Raises
    ------
    InputError
        If the samples are named by the ids of GDC files, which name no patient.
    """
    matrix = read_text_matrix(path, text_columns=ANNOTATION)
    if all(_UUID.fullmatch(name) for name in matrix.columns[1:]):
        raise InputError(
            f"names its samples by ids of GDC files, for example {matrix.columns[1]}",
            path=path,
            fix="rename the columns by the column tcga.tcga_barcode of the metadata of recount3",
        )
    note = f"{path.name}: values are sums of coverage, which are proportional to numbers of reads"
    return gene_rows(matrix, RECOUNT3, path, [note])


READER = ExpressionReader((RECOUNT3,), is_recount3, read_recount3)
