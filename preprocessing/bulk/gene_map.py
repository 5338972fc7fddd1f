"""Read a table that gives symbols to gene ids: a probe map of Xena, or a download of HGNC.

HGNC's complete set and its custom downloads (genenames.org) have approved and previous symbols and
the ids of Ensembl and of Entrez. A table derived from it is shipped with the package (see
:mod:`tcgn_mil.hgnc`) and is read where ``--gene-map`` gives no other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.reading import reads
from tcgn_mil.hgnc.gene_map import ApprovedGene, GeneMap, map_of_genes, shipped_gene_map
from tcgn_mil.io.tables.delimited import column_names, read_named_columns, read_text_columns
from tcgn_mil.io.tables.schema import check_table
from tcgn_mil.preprocessing.gene_names import without_version
from tcgn_mil.preprocessing.schemas import GENE_MAP
from tcgn_mil.text import duplicates, preview

SHIPPED, NO_MAP = "hgnc", "none"
# Columns of HGNC's complete set, and the names that they have in its custom downloads.
_HGNC_COLUMNS = {
    "symbol": "Approved symbol",
    "prev_symbol": "Previous symbols",
    "entrez_id": "NCBI Gene ID(supplied by NCBI)",
    "ensembl_gene_id": "Ensembl gene ID",
}
_HGNC_OPTIONAL = {"alias_symbol": "Alias symbols", "status": "Status"}
HGNC_FIX = (
    "give a table with the columns id and gene, or HGNC's complete set from genenames.org"
    " (hgnc_complete_set.txt), to --gene-map"
)


def choose_gene_map(choice: str | None) -> GeneMap:
    """Return the map that ``--gene-map`` asks for.

    Parameters
    ----------
    choice
        Path of a table; ``hgnc`` or None for the shipped map; or ``none`` for an empty map.

    Raises
    ------
    InputError
        If the table cannot be read.
    """
    if choice in (None, SHIPPED):
        return shipped_gene_map()
    return GeneMap() if choice == NO_MAP else read_gene_map(str(choice))


@reads("a gene map", fix="check the file")
def read_gene_map(path: str | Path) -> GeneMap:
    """Read a table of gene ids and symbols.

    Parameters
    ----------
    path
        A table with the columns id and gene, such as a probe map of UCSC Xena; or HGNC's complete
        set, or a custom download of HGNC.

    Returns
    -------
    GeneMap

    Raises
    ------
    InputError
        If the table lacks a column, an id is blank, or one id has two symbols.
    """
    path = Path(path)
    names = {*column_names(path)}
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if {*_HGNC_COLUMNS} <= names or {*_HGNC_COLUMNS.values()} <= names:
        return replace(map_of_genes(read_hgnc(path)), name=path.name, digest=digest)
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
    symbol_of = dict(zip(named["id"], named["gene"], strict=True))
    return GeneMap(symbol_of, name=path.name, digest=digest)


def read_hgnc(path: str | Path) -> list[ApprovedGene]:
    """Read the approved genes of HGNC's complete set, or of a custom download of HGNC.

    Parameters
    ----------
    path
        The table. Withdrawn entries are passed over. Aliases, where the table has them, decide
        which previous symbols are ambiguous.

    Returns
    -------
    list of ApprovedGene
        In the order of the table.
    """
    names = {*column_names(path)}
    wanted = _HGNC_COLUMNS | _HGNC_OPTIONAL
    if not {*_HGNC_COLUMNS} <= names:
        wanted = {theirs: ours for ours, theirs in wanted.items()}
    else:
        wanted = {ours: ours for ours in wanted}
    table = read_named_columns(Path(path), [name for name in wanted if name in names])
    table = table.rename(columns=wanted)
    if "status" in table:
        table = table[table["status"] == "Approved"]
    own = _owners(table["symbol"], table["prev_symbol"])
    aliases = _owners(table["symbol"], table["alias_symbol"]) if "alias_symbol" in table else {}
    approved = frozenset(table["symbol"])
    previous: dict[str, list[str]] = {}
    for name, genes in own.items():
        if len(genes) == 1 and name not in approved and aliases.get(name, genes) <= genes:
            previous.setdefault(next(iter(genes)), []).append(name)
    return [
        ApprovedGene(
            symbol, entrez, without_version(ensembl), tuple(sorted(previous.get(symbol, ())))
        )
        for symbol, entrez, ensembl in zip(
            table["symbol"], table["entrez_id"], table["ensembl_gene_id"], strict=True
        )
    ]


def _owners(symbols: Sequence[str], names: Sequence[str]) -> dict[str, set[str]]:
    """Return the approved symbols of the genes that each name is listed for."""
    owners: dict[str, set[str]] = {}
    for symbol, listed in zip(symbols, names, strict=True):
        # The complete set separates names by a bar, custom downloads by a comma and a blank.
        for name in listed.replace(", ", "|").split("|"):
            if name.strip():
                owners.setdefault(name.strip(), set()).add(symbol)
    return owners
