"""Gene ids of many sources under one name each: Ensembl versions, symbols, repeated names, with a count of each.

The rules, in this order:

1. The version of an Ensembl id (``ENSG00000141510.17``) is taken off, and the mark of GENCODE's second copy of a
   pseudoautosomal gene (``_PAR_Y``), which then is a repeated name.
2. A gene is named by its symbol where the source has one, else by its id; ``by="ensembl"`` keeps the id.
3. ``HLA_A`` and ``HLA.A``, as R and some portals write it, become ``HLA-A``.
4. Names that a spreadsheet turned into dates (``1-Mar``, ``Sep-02``) are kept and counted: the gene is lost.
5. Repeated names are one gene: counts and linear values are summed, logs are summed on the linear scale, z-scores are
   averaged, by :func:`merge_repeated`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tcgn_mil.errors import InputError

BY = ("symbol", "ensembl")
_ENSEMBL = re.compile(r"(?P<id>ENS[A-Z]{0,4}G\d{11})(?:\.\d+)?(?P<copy>_PAR_Y)?")
_HLA = re.compile(r"HLA[._](?=[A-Z])")
_MONTHS = "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec"
_DATE = re.compile(
    rf"(?:\d{{1,2}}-(?:{_MONTHS})|(?:{_MONTHS})-\d{{1,2}}|\d{{4}}-\d{{2}}-\d{{2}}.*)", re.IGNORECASE
)
_NOTHING = frozenset({"", "nan", "na", "none", "?"})


@dataclass(frozen=True)
class GeneReport:
    """What became of a source's gene ids.

    Attributes
    ----------
    ids, genes
        Ids read, and genes they name.
    versions
        Ensembl ids whose version was taken off.
    named_by_symbol, named_by_id
        Genes by what names them.
    renamed
        Symbols that changed by rule 3.
    dates
        Names that look like a spreadsheet's dates.
    merged
        Ids that were put together with an earlier one of the same name.
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
        """Plain numbers, for a table or an attribute."""
        return asdict(self)

    def __str__(self) -> str:
        parts = [f"{self.ids} ids, {self.genes} genes"]
        for number, what in (
            (self.versions, "Ensembl versions taken off"),
            (self.merged, "ids of a repeated name merged"),
            (self.renamed, "HLA names written with a hyphen"),
            (self.named_by_id if self.named_by_symbol else 0, "without a symbol, named by id"),
            (self.dates, "names that look like a spreadsheet's dates"),
        ):
            if number:
                parts.append(f"{number} {what}")
        return "; ".join(parts)


@dataclass(frozen=True)
class GeneNames:
    """One name for each id, in the order of the ids (names may repeat), and the report."""

    names: tuple[str, ...]
    report: GeneReport


def is_ensembl(name: str) -> bool:
    """Whether a name is an Ensembl gene id, with or without version, of any species."""
    return _ENSEMBL.fullmatch(name.strip()) is not None


def without_version(name: str) -> str:
    """An Ensembl id without version and copy mark; any other name stays."""
    found = _ENSEMBL.fullmatch(name.strip())
    return name.strip() if found is None else found["id"]


def name_genes(
    ids: Sequence[str],
    symbols: Sequence[str] | Mapping[str, str] | None = None,
    *,
    by: str = "symbol",
    path: object = None,
) -> GeneNames:
    """Name genes by the rules above.

    Parameters
    ----------
    ids
        As the source names them: Ensembl ids or symbols.
    symbols
        Symbol of each id, in their order; or id (with or without version) -> symbol; blank where there is none.
    by
        ``symbol`` or ``ensembl``.
    path
        The file, for errors.

    Raises
    ------
    InputError
        For an unknown `by`, or an id without a name.
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
    if isinstance(symbols, Mapping):
        known = {without_version(str(key)): value for key, value in symbols.items()}
        found = [_symbol(known.get(name, "")) for name in plain]
    else:
        found = [""] * len(plain) if symbols is None else [_symbol(symbol) for symbol in symbols]
    if len(found) != len(plain):
        raise InputError(
            f"has {len(plain)} gene ids, but {len(found)} symbols",
            path=where,
            fix="give one for each",
        )
    names, by_symbol, renamed = [], 0, 0
    for own, symbol in zip(plain, found, strict=True):
        ensembl = is_ensembl(own)
        chosen = own if by == "ensembl" and ensembl else symbol or own
        by_symbol += not is_ensembl(chosen)
        hyphened = _HLA.sub("HLA-", chosen) if _HLA.match(chosen) else chosen
        renamed += hyphened != chosen
        names.append(hyphened)
    report = GeneReport(
        ids=len(plain),
        genes=len(set(names)),
        versions=sum(own != str(name).strip() for own, name in zip(plain, ids, strict=True)),
        named_by_symbol=by_symbol,
        named_by_id=len(names) - by_symbol,
        renamed=renamed,
        dates=sum(_DATE.fullmatch(name) is not None for name in names),
        merged=len(names) - len(set(names)),
    )
    return GeneNames(tuple(names), report)


def _symbol(cell: object) -> str:
    text = "" if cell is None else str(cell).strip()
    return "" if text.lower() in _NOTHING else text


def merge_repeated(values: pd.DataFrame, *, how: str, log_offset: float = 0.0) -> pd.DataFrame:
    """Put columns of the same name together, in the order of their first ones.

    Parameters
    ----------
    values
        Samples x genes; NaN where missing.
    how
        ``sum`` (counts and linear units), ``sum of logs`` (log2(x + `log_offset`), summed on the linear scale) or
        ``mean`` (z-scores).

    Returns
    -------
    Samples x distinct genes, float32; a value is missing where all its parts are. Columns that do not repeat keep their
    values bit for bit.
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
