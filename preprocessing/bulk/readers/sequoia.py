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
    """Tell by the columns ``wsi_file_name`` and ``rna_<gene>``."""
    columns = column_names(path)
    return "wsi_file_name" in columns and any(name.startswith(PREFIX) for name in columns)


def read_sequoia(path: Path, request: ExpressionRequest) -> ExpressionTable:
    """Read expression from SEQUOIA's table."""
    genes = {
        position: name.removeprefix(PREFIX)
        for position, name in enumerate(column_names(path))
        if name.startswith(PREFIX) and name != PREFIX
    }
    return read_gene_columns(
        path, request.layout, id_column="patient_id", genes=genes, gene_columns=f"{PREFIX}*"
    )


READER = ExpressionReader(("sequoia",), is_sequoia, read_sequoia)
