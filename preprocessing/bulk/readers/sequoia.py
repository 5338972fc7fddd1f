"""Read SEQUOIA's reference table, with one row for each slide.

The column ``patient_id`` names the patient, and genes are columns ``rna_<gene>``.
"""

from __future__ import annotations

from pathlib import Path

from tcgn_mil.preprocessing.bulk.expression_table import ExpressionRequest, ExpressionTable
from tcgn_mil.preprocessing.bulk.readers.base import (
    ExpressionReader,
    column_names,
    read_gene_columns,
)

PREFIX = "rna_"


def is_sequoia(path: Path) -> bool:
    """Return whether a file is SEQUOIA's, judged by ``wsi_file_name`` and ``rna_<gene>``."""
    columns = column_names(path)
    return "wsi_file_name" in columns and any(name.startswith(PREFIX) for name in columns)


def gene_of(column: str) -> str:
    """Return the gene that a column holds; empty if it holds none."""
    return column.removeprefix(PREFIX) if column.startswith(PREFIX) else ""


def read_sequoia(path: Path, request: ExpressionRequest) -> ExpressionTable:
    """Read expression from SEQUOIA's table."""
    return read_gene_columns(
        path, request.layout, id_column="patient_id", gene_of=gene_of, gene_columns=f"{PREFIX}*"
    )


READER = ExpressionReader(("sequoia",), is_sequoia, read_sequoia)
