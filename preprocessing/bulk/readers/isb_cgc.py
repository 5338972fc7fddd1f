"""Read the result of a query of ISB-CGC (the ISB Cancer Gateway in the Cloud).

A row is a sample. Some columns describe it, and all others are genes.
"""

from __future__ import annotations

from pathlib import Path

from tcgn_mil.preprocessing.bulk.expression_table import ExpressionRequest, ExpressionTable
from tcgn_mil.preprocessing.bulk.readers.base import (
    ExpressionReader,
    column_names,
    read_gene_columns,
)

# Columns of the tables in BigQuery that hold no gene.
SAMPLE_COLUMNS = frozenset(
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


def is_isb_cgc(path: Path) -> bool:
    """Return whether a file is ISB-CGC's, judged by ``case_barcode`` and ``sample_barcode``."""
    return {"case_barcode", "sample_barcode"} <= set(column_names(path))


def gene_of(column: str) -> str:
    """Return the gene that a column holds; empty if it holds none."""
    return "" if column in SAMPLE_COLUMNS else column


def read_isb_cgc(path: Path, request: ExpressionRequest) -> ExpressionTable:
    """Read expression from a query of ISB-CGC."""
    return read_gene_columns(
        path, request.layout, id_column="sample_barcode", gene_of=gene_of, gene_columns="of a gene"
    )


READER = ExpressionReader(("isb-cgc",), is_isb_cgc, read_isb_cgc)
