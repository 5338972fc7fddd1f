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
5. With a gene map that states previous symbols, these become the approved ones.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.bulk.gene_map import HGNC_FIX, GeneMap
from tcgn_mil.preprocessing.gene_names import is_ensembl, without_version
from tcgn_mil.preprocessing.spreadsheet_dates import genes_of_date
from tcgn_mil.text import preview

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
        Number of previous symbols that were replaced.
    note
        Sentence on names that are no symbols; empty if they look like symbols.
    """

    names: list[str]
    left_out: tuple[LeftOutGene, ...] = ()
    from_ids: int = 0
    renamed: int = 0
    note: str = ""


def clean_names(
    ids: Sequence[str], gene_map: GeneMap, *, by: str = "symbol", path: str | Path
) -> CleanNames:
    """Apply the rules of this module to the names of a table.

    Parameters
    ----------
    ids
        Names in the file.
    gene_map
        Symbols of ids; an empty map if the user gave none.
    by
        ``symbol``; or ``ensembl`` to prefer an Ensembl id that stands beside the symbol.
    path
        The file, for messages.

    Raises
    ------
    InputError
        If no name is left, or most names are Entrez numbers without a gene map.

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
    names, left_out, from_ids, renamed = [], [], 0, 0
    for name in ids:
        symbol, number = _parts(name)
        if by == "ensembl" and is_ensembl(number):
            symbol = without_version(number)
        likely = genes_of_date(symbol, serials=not by_number)
        if likely is not None:
            symbol = ""
        elif _ENTREZ.fullmatch(symbol):
            symbol, number = "", symbol
        looked_up = ""
        if not symbol and number:
            match = _ENTREZ.fullmatch(number)
            plain = match["id"] if match else without_version(number)
            looked_up = gene_map.symbol_of.get(plain, "")
            # An Ensembl id is a name by itself.
            looked_up = looked_up or (plain if is_ensembl(number) else "")
            from_ids += bool(looked_up)
        chosen = symbol or looked_up
        if not chosen:
            reason = NO_SYMBOL if likely is None else DATE
            left_out.append(LeftOutGene(path.name, name, reason, ";".join(likely or ())))
        elif chosen in gene_map.renamed:
            chosen, renamed = gene_map.renamed[chosen], renamed + 1
        names.append(chosen)
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
    return CleanNames(names, tuple(left_out), from_ids, renamed, note)


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
