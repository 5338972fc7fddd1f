"""Symbols of gene ids, and approved symbols of previous ones.

A previous symbol has an approved one here only where nothing is ambiguous: it was the symbol of one
gene alone, is no approved symbol today, and is no alias of another gene. DBC1, for example, was the
symbol of BRINP1, but many authors mean CCAR2 by it; it is left as it is.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

TABLE, ORIGIN = "approved_genes.tsv.gz", "approved_genes.json"
COLUMNS = ("symbol", "entrez_id", "ensembl_gene_id", "prev_symbol")


class ApprovedGene(NamedTuple):
    """An approved gene.

    Attributes
    ----------
    symbol
        Approved symbol.
    entrez_id, ensembl_gene_id
        Ids of NCBI and of Ensembl; empty where HGNC states none.
    previous
        Previous symbols that belonged to this gene without doubt.
    """

    symbol: str
    entrez_id: str
    ensembl_gene_id: str
    previous: tuple[str, ...]


@dataclass(frozen=True)
class GeneMap:
    """Symbols of gene ids.

    Attributes
    ----------
    symbol_of
        Symbol of each Ensembl id (without its version) or Entrez number.
    renamed
        Approved symbol of each previous symbol that belonged to one gene without doubt. Empty if
        the table does not state previous symbols.
    approved
        Approved symbols. Empty if the table does not state them.
    name
        Name of the table, for the record; empty if there is none.
    version
        Its date, if it is known.
    digest
        SHA-256 of its content.
    is_shipped
        Whether it is the map of this package, which the user did not choose.
    """

    symbol_of: Mapping[str, str] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)
    approved: frozenset[str] = frozenset()
    name: str = ""
    version: str = ""
    digest: str = ""
    is_shipped: bool = False

    def as_record(self) -> dict[str, str]:
        """Return what a file states about the map that named its genes."""
        if not self.name:
            return {"name": "none"}
        return {"name": self.name, "version": self.version, "sha256": self.digest}


def map_of_genes(genes: Iterable[ApprovedGene]) -> GeneMap:
    """Make a map of approved genes.

    Examples
    --------
    >>> made = map_of_genes([ApprovedGene("MARS1", "4141", "ENSG00000166986", ("MARS",))])
    >>> made.symbol_of["4141"], made.renamed["MARS"]
    ('MARS1', 'MARS1')
    """
    symbol_of: dict[str, str] = {}
    renamed: dict[str, str] = {}
    approved = []
    for gene in genes:
        approved.append(gene.symbol)
        symbol_of |= {name: gene.symbol for name in (gene.entrez_id, gene.ensembl_gene_id) if name}
        renamed |= dict.fromkeys(gene.previous, gene.symbol)
    return GeneMap(symbol_of, renamed, frozenset(approved))


@cache
def shipped_gene_map() -> GeneMap:
    """Return the map that is shipped with the package.

    Examples
    --------
    >>> hgnc = shipped_gene_map()
    >>> hgnc.symbol_of["7157"], hgnc.renamed["MARCH1"], "TP53" in hgnc.approved
    ('TP53', 'MARCHF1', True)
    """
    folder = Path(__file__).parent
    content = gzip.decompress((folder / TABLE).read_bytes())
    origin = json.loads((folder / ORIGIN).read_text(encoding="utf-8"))
    rows = csv.reader(io.StringIO(content.decode()), delimiter="\t")
    next(rows)
    genes = (
        ApprovedGene(symbol, entrez, ensembl, tuple(previous.split("|")) if previous else ())
        for symbol, entrez, ensembl, previous in rows
    )
    return replace(
        map_of_genes(genes),
        name=origin["name"],
        version=origin["date"],
        digest=hashlib.sha256(content).hexdigest(),
        is_shipped=True,
    )
