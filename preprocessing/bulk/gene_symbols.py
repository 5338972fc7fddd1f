"""Turn the gene names of portals into symbols, and list those that name no gene.

Portals write a symbol with an id (``TP53|7157`` in Firehose, ``CD3D (915)`` in DepMap), an id
alone, or ``?`` where a gene had no symbol. The rules, in this order:

1. ``SYMBOL|ID``, ``ID|SYMBOL`` and ``SYMBOL (ID)`` are named by the symbol, where the id is an
   Entrez number or an Ensembl id. If the symbol is ``?``, blank or a date, the id is looked up in
   the gene map.
2. A date of a spreadsheet names no gene. The rows of two dates are never merged, because 1-Mar may
   be MARCHF1 or MTARC1.
3. A number is an Entrez id, and is looked up in the gene map. Among symbols, a number of five
   digits is taken for a date.
4. Names that are left without a symbol are left out and listed in genes_left_out.csv.
5. A previous symbol becomes the approved one, if most names of the table are symbols of HGNC. An id
   that stands beside it decides, where there is one. A name that is approved today stays. A
   previous symbol also stays where the table has the approved one too, or a second previous symbol
   of that gene, because the two rows would become one; and where its rows have ids of several
   genes. All changes are in genes_renamed.csv.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tcgn_mil.errors import InputError
from tcgn_mil.hgnc.gene_map import GeneMap
from tcgn_mil.preprocessing.bulk.gene_map import HGNC_FIX
from tcgn_mil.preprocessing.gene_names import is_ensembl, without_version
from tcgn_mil.preprocessing.spreadsheet_dates import genes_of_date
from tcgn_mil.text import counted, preview

_ENTREZ = re.compile(r"(?P<id>\d+)(?:\.0+)?")
_WITH_BAR = re.compile(r"(?P<first>[^|]*)\|(?P<second>[^|]+)")
_WITH_BRACKETS = re.compile(r"(?P<first>[^()]*?)\s*\((?P<second>\d+|ENS[A-Z]*G\d{11}(?:\.\d+)?)\)")
_NO_NAME = frozenset({"", "?", "nan", "na", "none", "null", "---"})
# A table names genes by numbers if more names than this share are numbers.
_MOSTLY = 0.5
NO_SYMBOL = "has no symbol"
COPY = "repeats an earlier row of the same values"
DATE = "is a date that a spreadsheet made of a symbol"
# Names of probes, transcripts and mouse genes, which no gene set knows.
_OTHER_NAMES = {
    "probes of Affymetrix": re.compile(r"(?:\d+|AFFX.*)_(?:[a-z]_)?at|TC\d+\.hg\.\d+", re.ASCII),
    "probes of Illumina": re.compile(r"ILMN_\d+", re.ASCII),
    "probes of Agilent": re.compile(r"A_\d+_P\d+", re.ASCII),
    "RefSeq transcripts": re.compile(r"[NX][MR]_\d+(?:\.\d+)?", re.ASCII),
    "Ensembl transcripts": re.compile(r"ENS[A-Z]*T\d{11}(?:\.\d+)?", re.ASCII),
    "ids of UCSC": re.compile(r"uc\d{3}[a-z]{3}(?:\.\d+)?", re.ASCII),
    "symbols of mouse or rat": re.compile(r"[A-Z][a-z]+[a-z0-9]*\d*", re.ASCII),
}


class LeftOutGene(NamedTuple):
    """A row of genes_left_out.csv.

    Attributes
    ----------
    table
        Name of the file.
    gene
        Name in the file.
    reason
        Why it names no gene.
    likely
        Symbols that it may stand for, separated by ``;``.
    """

    table: str
    gene: str
    reason: str
    likely: str = ""


class RenamedGene(NamedTuple):
    """A row of genes_renamed.csv.

    Attributes
    ----------
    table
        Name of the file.
    gene
        Name in the file.
    symbol
        Approved symbol; several, separated by ``;``, if rows of the name have ids of several genes.
    renamed
        False if the name stays, because two rows of the table would become one gene, or its rows
        are of several genes.
    """

    table: str
    gene: str
    symbol: str
    renamed: bool


@dataclass(frozen=True)
class CleanNames:
    """Names of the columns of a table.

    Attributes
    ----------
    names
        Name of each column; empty if it is left out.
    left_out
        The columns that are left out.
    from_ids
        Number of names that were looked up by an id.
    renamed
        Previous symbols that were replaced, and those that were not because two rows would become
        one gene.
    note
        Sentence on names that are no symbols; empty if they look like symbols.
    """

    names: list[str]
    left_out: tuple[LeftOutGene, ...] = ()
    from_ids: int = 0
    renamed: tuple[RenamedGene, ...] = ()
    note: str = ""

    def rename_notes(self) -> list[str]:
        """Return sentences on previous symbols that were replaced, and on those that stayed."""
        made = [f"{gene.gene} to {gene.symbol}" for gene in self.renamed if gene.renamed]
        apart = [f"{gene.gene} ({gene.symbol})" for gene in self.renamed if not gene.renamed]
        notes = []
        if made:
            notes.append(
                f"{counted(len(made), 'gene')} of a previous symbol named by the approved one:"
                f" {preview(made)}"
            )
        if apart:
            notes.append(
                f"{counted(len(apart), 'previous symbol')} not replaced, because another row of the"
                f" table is of the same gene, or rows of this name are of several: {preview(apart)}"
            )
        return notes


def clean_names(
    ids: Sequence[str], gene_map: GeneMap, *, by: str = "symbol", path: str | Path
) -> CleanNames:
    """Apply the rules of this module to the names of a table.

    Parameters
    ----------
    ids
        Names in the file.
    gene_map
        Symbols of ids, and approved symbols of previous ones; it may be empty.
    by
        ``symbol``; or ``ensembl`` to prefer an Ensembl id that stands beside the symbol.
    path
        The file, for messages.

    Raises
    ------
    InputError
        If no name is left, or most names are numbers that the gene map does not have.

    Examples
    --------
    >>> names = ["TP53|7157", "CD3D (915)", "?|100130426", "1-Mar"]
    >>> cleaned = clean_names(names, GeneMap(), path="table.csv")
    >>> cleaned.names
    ['TP53', 'CD3D', '', '']
    >>> [(gene.gene, gene.likely) for gene in cleaned.left_out]
    [('?|100130426', ''), ('1-Mar', 'MARCHF1;MTARC1')]
    """
    path = Path(path)
    ids = [str(name).strip() for name in ids]
    numbers = sum(_ENTREZ.fullmatch(name) is not None for name in ids)
    by_number = numbers > _MOSTLY * len(ids)
    if by_number and gene_map.is_shipped:
        _check_entrez(ids, gene_map, path)
    names, of_ids, left_out, from_ids = [], [], [], 0
    for name in ids:
        symbol, number = _parts(name)
        if by == "ensembl" and is_ensembl(number):
            symbol = without_version(number)
        likely = genes_of_date(symbol, serials=not by_number)
        if likely is not None:
            symbol = ""
        elif _ENTREZ.fullmatch(symbol):
            symbol, number = "", symbol
        match = _ENTREZ.fullmatch(number)
        plain = match["id"] if match else without_version(number)
        of_id = gene_map.symbol_of.get(plain, "")
        looked_up = ""
        if not symbol and number:
            # An Ensembl id is a name by itself.
            looked_up = of_id or (plain if is_ensembl(number) else "")
            from_ids += bool(looked_up)
        chosen = symbol or looked_up
        if not chosen:
            reason = NO_SYMBOL if likely is None else DATE
            left_out.append(LeftOutGene(path.name, name, reason, ";".join(likely or ())))
        names.append(chosen)
        of_ids.append(of_id)
    if not any(names) or (by_number and not from_ids):
        raise InputError(
            f"names genes by Entrez numbers ({preview(ids, most=3)})"
            + (", and the gene map has none of them" if gene_map.symbol_of else "")
            if by_number
            else f"names no gene that can be read: {preview(ids, most=3)}",
            path=path,
            fix=HGNC_FIX,
        )
    note = _no_symbols([name for name in names if name], gene_map)
    renamed = approved_names(names, of_ids, gene_map, table=path.name)
    changed = {gene.gene: gene.symbol for gene in renamed if gene.renamed}
    names = [changed.get(name, name) for name in names]
    return CleanNames(names, tuple(left_out), from_ids, renamed, note)


def approved_names(
    names: Sequence[str], of_ids: Sequence[str], gene_map: GeneMap, *, table: str
) -> tuple[RenamedGene, ...]:
    """Find the approved symbols of previous ones (rule 5 of this module).

    Parameters
    ----------
    names
        Symbols; an empty one, and an Ensembl id, is passed over.
    of_ids
        Symbol of the id that stands beside each name; empty where there is none.
    gene_map
        Approved and previous symbols.
    table
        Name of the file.

    Examples
    --------
    >>> hgnc = GeneMap(renamed={"MARS": "MARS1"}, approved=frozenset(["MARS1", "TP53"]))
    >>> approved_names(["MARS", "TP53"], ["", ""], hgnc, table="a.csv")
    (RenamedGene(table='a.csv', gene='MARS', symbol='MARS1', renamed=True),)
    """
    symbols: dict[str, set[str]] = {}
    for name, of_id in zip(names, of_ids, strict=True):
        if name and not is_ensembl(name):
            symbols.setdefault(name, set()).add(of_id)
    known = sum(
        name in gene_map.approved or name in gene_map.renamed or any(own)
        for name, own in symbols.items()
    )
    # T is the gene Tbxt in a table of mouse genes, and a previous symbol of TBXT in a human one.
    if not gene_map.approved or known <= _MOSTLY * len(symbols):
        return ()
    wanted: dict[str, list[str]] = {}
    for name, own in symbols.items():
        if name not in gene_map.approved:
            # Rows of one name may have ids of several genes, such as those of SLC35E2.
            by_id = sorted(own - {""})
            wanted[name] = by_id or [gene_map.renamed.get(name, "")]
    wanted = {name: genes for name, genes in wanted.items() if genes not in ([""], [name])}
    rivals = Counter(gene for genes in wanted.values() for gene in genes)
    return tuple(
        RenamedGene(
            table,
            name,
            ";".join(genes),
            len(symbols[name]) == 1 and genes[0] not in symbols and rivals[genes[0]] == 1,
        )
        for name, genes in wanted.items()
    )


def _check_entrez(ids: Sequence[str], gene_map: GeneMap, path: Path) -> None:
    """Check that numbers are Entrez ids, because the user did not say so by giving a map.

    Raises
    ------
    InputError
        If they count from 0 or 1, as the columns of an unnamed table do, or most are no ids of
        human genes.
    """
    numbers = [match["id"] for match in map(_ENTREZ.fullmatch, ids) if match]
    values = sorted(map(int, numbers))
    if (
        len(values) > 1
        and values[0] in (0, 1)
        and values == list(range(values[0], values[0] + len(values)))
    ):
        raise InputError(
            f"names genes by numbers that count from {values[0]} to {values[-1]}, which are"
            " positions and no Entrez ids",
            path=path,
            fix="name the genes by their symbols or ids",
        )
    unknown = [number for number in numbers if number not in gene_map.symbol_of]
    if len(unknown) > _MOSTLY * len(numbers):
        raise InputError(
            f"names genes by numbers, and {len(unknown)} of {len(numbers)} of them are no Entrez"
            f" ids of human genes, for example {preview(unknown, most=3)}",
            path=path,
            fix=HGNC_FIX,
        )


def _parts(name: str) -> tuple[str, str]:
    """Return the symbol and the id of a name; either may be empty."""
    match = _WITH_BAR.fullmatch(name) or _WITH_BRACKETS.fullmatch(name)
    if match is None:
        return ("" if name.lower() in _NO_NAME else name), ""
    first, second = match["first"].strip(), match["second"].strip()
    if is_ensembl(first) and not is_ensembl(second):
        first, second = second, first
    if not (_ENTREZ.fullmatch(second) or is_ensembl(second)):
        return name, ""  # some other use of the bar
    return ("" if first.lower() in _NO_NAME else first), second


def _no_symbols(names: Sequence[str], gene_map: GeneMap) -> str:
    """Return a sentence if most names are no symbols; empty otherwise."""
    others = [name for name in names if not is_ensembl(name)]
    if not others:
        return ""
    kinds = Counter(
        next((kind for kind, form in _OTHER_NAMES.items() if form.fullmatch(name)), "")
        for name in others
    )
    del kinds[""]
    for kind, number in kinds.most_common(1):
        if number > _MOSTLY * len(others):
            return (
                f"its names are no gene symbols but {kind} ({preview(others, most=3)}), so that"
                " gene sets find none of them; rename them by the annotation of the platform"
            )
    unknown = [name for name in others if name not in gene_map.approved]
    if gene_map.approved and len(unknown) > _MOSTLY * len(others):
        return (
            f"{len(unknown)} of {len(others)} names are no approved symbols, for example"
            f" {preview(unknown, most=3)}"
        )
    return ""
