"""Tables with one row for each gene: columns that describe the gene, and one for each sample.

Portals put ids, symbols and places of the genes beside the first column. These columns are no
samples, and ids and symbols among them name the genes. A symbol and an Entrez number are put
together as ``SYMBOL|ENTREZ``, which :mod:`~tcgn_mil.preprocessing.bulk.gene_symbols` reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.bulk.expression_table import ExpressionTable
from tcgn_mil.preprocessing.bulk.readers.base import as_float32
from tcgn_mil.preprocessing.bulk.readers.text_matrix import TextMatrix
from tcgn_mil.preprocessing.gene_names import is_ensembl

SYMBOL_COLUMNS = (
    "hugo_symbol",
    "gene_symbol",
    "gene symbol",
    "genesymbol",
    "hgnc_symbol",
    "gene_name",
    "genename",
    "symbol",
    "symbols",
    "external_gene_name",
)
ENTREZ_COLUMNS = ("entrez_gene_id", "entrez_id", "entrezid", "entrez", "ncbi_gene_id")
ENSEMBL_COLUMNS = ("ensembl_id", "ensembl_gene_id", "ensembl", "gene_id")
OTHER_COLUMNS = (
    "description",
    "gene_description",
    "gene_type",
    "gene_biotype",
    "biotype",
    "cytoband",
    "chr",
    "chrom",
    "chromosome",
    "seqnames",
    "start",
    "end",
    "strand",
    "length",
    "width",
    "gene_length",
    "transcript_id",
    "transcript_id(s)",
)
ANNOTATION = frozenset((*SYMBOL_COLUMNS, *ENTREZ_COLUMNS, *ENSEMBL_COLUMNS, *OTHER_COLUMNS))


def is_annotation(name: str) -> bool:
    """Return whether a column describes genes, judged by its name.

    Examples
    --------
    >>> is_annotation("Entrez_Gene_Id"), is_annotation("TCGA-AA-0001-01")
    (True, False)
    """
    return name.strip().lower() in ANNOTATION


def gene_rows(
    matrix: TextMatrix, layout: str, path: Path, notes: Sequence[str] = ()
) -> ExpressionTable:
    """Return the samples of a table whose rows are genes.

    Raises
    ------
    InputError
        If no column is a sample, or a cell of a sample is not a number.
    """
    names = matrix.columns[1:]
    samples = [at for at, name in enumerate(names, start=1) if not is_annotation(name)]
    if not samples:
        raise InputError(
            "has no column of a sample",
            path=path,
            fix="give a table with one column for each sample beside the names of the genes",
        )
    genes = _genes(matrix)
    values = matrix.cells[samples]
    values.columns = pd.Index([names[at - 1] for at in samples])
    values.index = pd.Index(genes)
    return ExpressionTable(as_float32(values, path).T, layout, notes=tuple(notes))


def _genes(matrix: TextMatrix) -> list[str]:
    """Return one name for each row, from the first column and the columns of names beside it."""
    first = matrix.columns[0].strip().lower()
    symbols, entrez = (_cells(matrix, names) for names in (SYMBOL_COLUMNS, ENTREZ_COLUMNS))
    if symbols is None and (entrez is None or any(map(is_ensembl, matrix.ids[:100]))):
        return matrix.ids
    if symbols is None:
        symbols = matrix.ids
    elif entrez is None and first in ENTREZ_COLUMNS:
        entrez = matrix.ids
    if entrez is not None:
        return [
            f"{symbol or '?'}|{number}" if number else symbol
            for symbol, number in zip(symbols, map(_whole, entrez), strict=True)
        ]
    if any(map(is_ensembl, matrix.ids[:100])):
        return [
            f"{symbol or '?'}|{name}" if is_ensembl(name) else symbol or name
            for symbol, name in zip(symbols, matrix.ids, strict=True)
        ]
    return symbols


def _cells(matrix: TextMatrix, names: Sequence[str]) -> list[str] | None:
    """Return the cells of the first of these columns that the table has."""
    for at, name in enumerate(matrix.columns[1:], start=1):
        if name.strip().lower() in names:
            return ["" if pd.isna(cell) else str(cell).strip() for cell in matrix.cells[at]]
    return None


def _whole(number: str) -> str:
    return number.removesuffix(".0") if number not in ("NA", "nan", "0", "-1") else ""
