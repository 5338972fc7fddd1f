"""Read PORPOISE's tables, with one row for each slide.

The column ``case_id`` names the patient, and genes are columns ``<gene>_rnaseq``.
"""

from __future__ import annotations

from pathlib import Path

from tcgn_mil.preprocessing.bulk.expression_table import ExpressionRequest, ExpressionTable
from tcgn_mil.preprocessing.bulk.readers.base import (
    ExpressionReader,
    column_names,
    read_gene_columns,
)

SUFFIX = "_rnaseq"


def is_porpoise(path: Path) -> bool:
    """Return whether a file is PORPOISE's, judged by ``case_id`` and ``<gene>_rnaseq``."""
    columns = column_names(path)
    return "case_id" in columns and any(name.endswith(SUFFIX) for name in columns)


def gene_of(column: str) -> str:
    """Return the gene that a column holds; empty if it holds none."""
    return column.removesuffix(SUFFIX) if column.endswith(SUFFIX) else ""


def read_porpoise(path: Path, request: ExpressionRequest) -> ExpressionTable:
    """Read expression from PORPOISE's table."""
    return read_gene_columns(
        path, request.layout, id_column="case_id", gene_of=gene_of, gene_columns=f"*{SUFFIX}"
    )


READER = ExpressionReader(("porpoise",), is_porpoise, read_porpoise)
