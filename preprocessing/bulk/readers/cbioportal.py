"""Read the mRNA files of cBioPortal, such as ``data_mrna_seq_v2_rsem.txt``.

A row is a gene. The first columns are ``Hugo_Symbol`` and ``Entrez_Gene_Id``, or one of them. A
gene without a symbol is named by its Entrez number, for which a gene map is needed.
"""

from __future__ import annotations

from pathlib import Path

from tcgn_mil.preprocessing.bulk.expression_table import ExpressionRequest, ExpressionTable
from tcgn_mil.preprocessing.bulk.readers.base import ExpressionReader
from tcgn_mil.preprocessing.bulk.readers.gene_rows import ANNOTATION, gene_rows
from tcgn_mil.preprocessing.bulk.readers.text_matrix import header_of, read_text_matrix

CBIOPORTAL = "cbioportal"
_COLUMNS = frozenset(("hugo_symbol", "entrez_gene_id"))


def is_cbioportal(path: Path) -> bool:
    """Return whether a file is cBioPortal's, judged by its first two columns."""
    return bool(_COLUMNS & {name.lower() for name in header_of(path)[:2]})


def read_cbioportal(path: Path, request: ExpressionRequest) -> ExpressionTable:
    """Read expression of cBioPortal."""
    return gene_rows(read_text_matrix(path, text_columns=ANNOTATION), CBIOPORTAL, path)


READER = ExpressionReader((CBIOPORTAL,), is_cbioportal, read_cbioportal)
