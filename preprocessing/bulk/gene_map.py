"""Read a table that gives symbols to gene ids: a probe map of Xena, or the complete set of HGNC.

HGNC's complete set (genenames.org, public domain) has approved and previous symbols and the ids of
Ensembl and of Entrez. It is not shipped with this package; the file is given by ``--gene-map``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.reading import reads
from tcgn_mil.io.tables.delimited import column_names, read_named_columns, read_text_columns
from tcgn_mil.io.tables.schema import check_table
from tcgn_mil.preprocessing.gene_names import without_version
from tcgn_mil.preprocessing.schemas import GENE_MAP
from tcgn_mil.text import duplicates, preview

HGNC_COLUMNS = ("symbol", "prev_symbol", "entrez_id", "ensembl_gene_id")
HGNC_FIX = (
    "give a table with the columns id and gene, or HGNC's complete set from genenames.org"
    " (hgnc_complete_set.txt), to --gene-map"
)


@dataclass(frozen=True)
class GeneMap:
    """Symbols of gene ids.

    Attributes
    ----------
    symbol_of
        Symbol of each Ensembl id (without its version) or Entrez number.
    renamed
        Approved symbol of each previous symbol that belonged to one gene alone. Empty if the table
        does not state previous symbols.
    approved
        Approved symbols. Empty if the table does not state them.
    """

    symbol_of: Mapping[str, str] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)
    approved: frozenset[str] = frozenset()


@reads("a gene map", fix="check the file")
def read_gene_map(path: str | Path) -> GeneMap:
    """Read a table of gene ids and symbols.

    Parameters
    ----------
    path
        A table with the columns id and gene, such as a probe map of UCSC Xena; or HGNC's complete
        set.

    Returns
    -------
    GeneMap

    Raises
    ------
    InputError
        If the table lacks a column, an id is blank, or one id has two symbols.
    """
    path = Path(path)
    if {*HGNC_COLUMNS} <= {*column_names(path)}:
        return _hgnc(read_named_columns(path, HGNC_COLUMNS))
    table = read_text_columns(path).rename(columns=lambda name: name.removeprefix("#"))
    table = check_table(table, GENE_MAP, path=path)
    pairs = pd.DataFrame(
        {"id": table["id"].map(without_version), "gene": table["gene"]}
    ).drop_duplicates()
    named = pairs[pairs["gene"] != ""]
    if repeated := duplicates(named["id"]):
        raise InputError(
            f"gives {len(repeated)} ids more than one gene: {preview(repeated)}",
            path=path,
            fix="keep one row for each id",
        )
    return GeneMap(dict(zip(named["id"], named["gene"], strict=True)))


def _hgnc(table: pd.DataFrame) -> GeneMap:
    approved = frozenset(table["symbol"])
    symbol_of: dict[str, str] = {}
    for column in ("entrez_id", "ensembl_gene_id"):
        stated = table[table[column] != ""]
        symbol_of.update(zip(stated[column].map(without_version), stated["symbol"], strict=True))
    owners: dict[str, set[str]] = {}
    for symbol, previous in zip(table["symbol"], table["prev_symbol"], strict=True):
        for name in previous.split("|") if previous else ():
            owners.setdefault(name, set()).add(symbol)
    # A previous symbol of two genes, or one that is approved for another gene today, is ambiguous.
    renamed = {
        name: next(iter(genes))
        for name, genes in owners.items()
        if len(genes) == 1 and name not in approved
    }
    return GeneMap(symbol_of, renamed, approved)
