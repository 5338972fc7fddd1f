"""Bring the gene ids of different sources to one name a gene, and count the changes.

The rules, in this order:

1. The version of an Ensembl id (``ENSG00000141510.17``) is removed. So is ``_PAR_Y``, by which
   GENCODE marks the copy of a pseudoautosomal gene on chromosome Y; the id then is a repeated name.
2. A gene is named by its symbol if the source has one, and by its id otherwise. With
   ``by="ensembl"`` the id is kept.
3. ``HLA_A`` and ``HLA.A``, as R and some portals write them, become ``HLA-A``.
4. A symbol that a spreadsheet turned into a date (``1-Mar``, ``Sep-02``) counts as none, so that
   the gene is named by its id. Without an id the date is kept and counted, and equal dates are
   numbered (``1-Mar (2)``): MARCH1 and MARC1 became the same date, and must not be merged. ``bulk``
   leaves such names out (see :mod:`~tcgn_mil.preprocessing.bulk.gene_symbols`).
5. Columns with the same name are one gene. :func:`merge_repeated` sums counts and linear values,
   sums logarithms on the linear scale, and averages z-scores.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.spreadsheet_dates import genes_of_date

BY = ("symbol", "ensembl")
_ENSEMBL = re.compile(r"(?P<id>ENS[A-Z]{0,4}G\d{11})(?:\.\d+)?(?P<copy>_PAR_Y)?")
_HLA = re.compile(r"HLA[._](?=[A-Z])")
_NOTHING = frozenset({"", "nan", "na", "none", "?"})


@dataclass(frozen=True)
class GeneReport:
    """Counts of the changes that were made to a source's gene ids.

    Attributes
    ----------
    ids
        Ids that were read.
    genes
        Genes that they name.
    versions
        Ensembl ids whose version was removed.
    named_by_symbol, named_by_id
        Genes that are named by their symbol, and by their Ensembl id.
    renamed
        HLA names that were given a hyphen (rule 3).
    dates
        Names that look like a spreadsheet's dates (rule 4).
    merged
        Ids that were merged with an earlier id of the same name (rule 5).
    """

    ids: int
    genes: int
    versions: int
    named_by_symbol: int
    named_by_id: int
    renamed: int
    dates: int
    merged: int

    def as_dict(self) -> dict[str, int]:
        """Return the counts by name, to be stored in a table or a file."""
        return asdict(self)

    def __str__(self) -> str:
        parts = [f"{self.ids} ids, {self.genes} genes"]
        for number, what in (
            (self.versions, "Ensembl versions removed"),
            (self.merged, "ids merged with another of the same name"),
            (self.renamed, "HLA names written with a hyphen"),
            (self.named_by_id if self.named_by_symbol else 0, "without a symbol, named by id"),
            (self.dates, "names that look like a spreadsheet's dates"),
        ):
            if number:
                parts.append(f"{number} {what}")
        return "; ".join(parts)


@dataclass(frozen=True)
class GeneNames:
    """Names of genes.

    Attributes
    ----------
    names
        One name for each id, in the order of the ids. Names may repeat.
    report
        Counts of the changes.
    """

    names: tuple[str, ...]
    report: GeneReport


def is_ensembl(name: str) -> bool:
    """Return whether a name is an Ensembl gene id of any species, with or without version.

    Examples
    --------
    >>> is_ensembl("ENSG00000141510.17"), is_ensembl("TP53")
    (True, False)
    """
    return _ENSEMBL.fullmatch(name.strip()) is not None


def without_version(name: str) -> str:
    """Remove version and copy mark from an Ensembl id; any other name is returned as it is.

    Examples
    --------
    >>> without_version("ENSG00000141510.17"), without_version("TP53")
    ('ENSG00000141510', 'TP53')
    """
    match = _ENSEMBL.fullmatch(name.strip())
    return name.strip() if match is None else match["id"]


def name_genes(
    ids: Sequence[str],
    symbols: Sequence[str] | Mapping[str, str] | None = None,
    *,
    by: str = "symbol",
    path: object = None,
) -> GeneNames:
    """Name genes by the rules of this module.

    Parameters
    ----------
    ids
        Ensembl ids or symbols, as the source has them.
    symbols
        Symbol of each id: a sequence in the order of `ids`, or a mapping from id (with or without
        version) to symbol. A blank symbol counts as none.
    by
        ``symbol`` or ``ensembl``.
    path
        File of the ids, for error messages.

    Returns
    -------
    GeneNames

    Raises
    ------
    InputError
        If `by` is unknown, an id is blank, or there is not one symbol for each id.

    Examples
    --------
    >>> named = name_genes(["ENSG00000141510.17", "HLA_A"], {"ENSG00000141510": "TP53"})
    >>> named.names
    ('TP53', 'HLA-A')
    >>> print(named.report)
    2 ids, 2 genes; 1 Ensembl versions removed; 1 HLA names written with a hyphen
    """
    where = None if path is None else str(path)
    if by not in BY:
        raise InputError(
            f"genes cannot be named by {by!r}", path=where, fix=f"choose {' or '.join(BY)}"
        )
    plain = [without_version(str(name)) for name in ids]
    for position, name in enumerate(plain):
        if name.lower() in _NOTHING:
            raise InputError(
                f"gene {position + 1} has no name", path=where, fix="name it, or remove it"
            )
    known_symbols = _symbols_of(plain, symbols)
    if len(known_symbols) != len(plain):
        raise InputError(
            f"has {len(plain)} gene ids, but {len(known_symbols)} symbols",
            path=where,
            fix="give one symbol for each id",
        )
    names, by_symbol, renamed = [], 0, 0
    for own, symbol in zip(plain, known_symbols, strict=True):
        chosen = own if by == "ensembl" and is_ensembl(own) else symbol or own
        by_symbol += not is_ensembl(chosen)
        hyphened = _HLA.sub("HLA-", chosen) if _HLA.match(chosen) else chosen
        renamed += hyphened != chosen
        names.append(hyphened)
    names = _apart(names)
    report = GeneReport(
        ids=len(plain),
        genes=len(set(names)),
        versions=sum(own != str(name).strip() for own, name in zip(plain, ids, strict=True)),
        named_by_symbol=by_symbol,
        named_by_id=len(names) - by_symbol,
        renamed=renamed,
        dates=sum(genes_of_date(name.partition(" (")[0]) is not None for name in names),
        merged=len(names) - len(set(names)),
    )
    return GeneNames(tuple(names), report)


def _apart(names: list[str]) -> list[str]:
    """Number equal dates, so that the genes behind them are not merged."""
    seen: Counter[str] = Counter()
    apart = []
    for name in names:
        seen[name] += 1
        is_again = seen[name] > 1 and genes_of_date(name) is not None
        apart.append(f"{name} ({seen[name]})" if is_again else name)
    return apart


def _symbols_of(ids: Sequence[str], symbols: Sequence[str] | Mapping[str, str] | None) -> list[str]:
    """List the symbol of each id (without version), empty where there is none."""
    if symbols is None:
        return [""] * len(ids)
    if isinstance(symbols, Mapping):
        plain = {without_version(str(key)): value for key, value in symbols.items()}
        return [_symbol(plain.get(name, "")) for name in ids]
    return [_symbol(symbol) for symbol in symbols]


def _symbol(cell: object) -> str:
    text = "" if cell is None else str(cell).strip()
    return "" if text.lower() in _NOTHING or genes_of_date(text) is not None else text


def merge_repeated(values: pd.DataFrame, *, how: str, log_offset: float = 0.0) -> pd.DataFrame:
    """Merge columns of the same name.

    Parameters
    ----------
    values
        Samples x genes, NaN where a value is missing.
    how
        ``sum`` for counts and linear units; ``sum of logs`` for log2(x + `log_offset`), which is
        summed on the linear scale; ``mean`` for z-scores.
    log_offset
        Offset in the logarithm.

    Returns
    -------
    DataFrame of float32
        Samples x distinct genes, in the order in which the names first appear. A value is missing
        if all its parts are missing. Columns that do not repeat keep their values bit for bit.

    Examples
    --------
    >>> counts = pd.DataFrame([[1, 2, 3]], columns=["TP53", "MYC", "TP53"])
    >>> merge_repeated(counts, how="sum").to_dict("records")
    [{'TP53': 4.0, 'MYC': 2.0}]
    """
    names = pd.Index(values.columns)
    if names.is_unique:
        return values
    codes, distinct = pd.factorize(names)
    array = values.to_numpy(dtype=np.float32)
    out = array[:, np.unique(codes, return_index=True)[1]].copy()
    repeated = np.flatnonzero(np.bincount(codes) > 1)
    for gene in repeated.tolist():
        out[:, gene] = _merge(array[:, codes == gene].astype(np.float64), how, log_offset)
    return pd.DataFrame(out, index=values.index, columns=distinct)


def _merge(parts: NDArray[np.float64], how: str, log_offset: float) -> NDArray[Any]:
    missing = np.isnan(parts).all(axis=1)
    if how == "mean":
        merged = np.nansum(parts, axis=1) / np.maximum((~np.isnan(parts)).sum(axis=1), 1)
    elif how == "sum":
        merged = np.nansum(parts, axis=1)
    elif how == "sum of logs":
        merged = np.log2(np.nansum(np.exp2(parts) - log_offset, axis=1) + log_offset)
    else:
        raise ValueError(f"cannot merge by {how!r}")
    return np.where(missing, np.nan, merged)
