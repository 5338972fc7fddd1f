"""Give each gene of an expression table one name, and merge columns of one gene.

The rules for names are those of :mod:`~tcgn_mil.preprocessing.gene_names`. How the columns of one
gene are merged follows from the unit. Counts and linear units are summed, because the reads of two
annotations of one gene are reads of that gene. Logarithms are summed on the linear scale, with the
offset of the unit, and z-scores are averaged.

HTSeq and STAR write numbers of reads without a gene (``N_unmapped``) among the genes. They are left
out, because they would change sums over all genes.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from tcgn_mil.errors import InputError
from tcgn_mil.hgnc.gene_map import GeneMap
from tcgn_mil.io.atomic import write_csv
from tcgn_mil.preprocessing.bulk.expression_table import ExpressionTable
from tcgn_mil.preprocessing.bulk.gene_symbols import (
    COPY,
    CleanNames,
    LeftOutGene,
    RenamedGene,
    approved_names,
    clean_names,
)
from tcgn_mil.preprocessing.gene_names import (
    GeneReport,
    is_ensembl,
    merge_repeated,
    name_genes,
    without_version,
)
from tcgn_mil.text import counted, preview
from tcgn_mil.types.units import ZSCORE, ExpressionUnit

GENE_REPORT, LEFT_OUT = "gene_report.csv", "genes_left_out.csv"
RENAMED = "genes_renamed.csv"
# Two rows of fewer values may be equal by chance.
_MIN_SAMPLES_OF_COPY = 3
TALLIES = frozenset(
    (
        "N_unmapped",
        "N_multimapping",
        "N_noFeature",
        "N_ambiguous",
        "__no_feature",
        "__ambiguous",
        "__too_low_aQual",
        "__not_aligned",
        "__alignment_not_unique",
    )
)


class TableGenes(NamedTuple):
    """Report on the gene ids of one table.

    Attributes
    ----------
    table
        Name of the file.
    layout
        Layout that it was read as.
    report
        Counts of ids that were renamed, merged and so on.
    merged_by
        Rule by which columns of one gene were merged.
    tallies
        Number of columns that were left out because they count reads without a gene.
    cleaned
        What became of the names of portals: those left out, looked up by an id, and renamed.
    """

    table: str
    layout: str
    report: GeneReport
    merged_by: str
    tallies: int = 0
    cleaned: CleanNames = CleanNames([])

    @property
    def left_out(self) -> tuple[LeftOutGene, ...]:
        """Columns that were left out because they name no gene, or repeat one."""
        return self.cleaned.left_out

    def as_row(self) -> dict[str, object]:
        """Return the table's row of gene_report.csv."""
        return {
            "table": self.table,
            "layout": self.layout,
            **self.report.as_dict(),
            "merged_by": self.merged_by if self.report.merged else "",
            "tallies": self.tallies,
            "from_ids": self.cleaned.from_ids,
            "previous_symbols": sum(gene.renamed for gene in self.cleaned.renamed),
            "left_out": len(self.cleaned.left_out),
            "left_out_names": ";".join(gene.gene for gene in self.cleaned.left_out[:20]),
        }

    def notes(self) -> list[str]:
        """Return lines for the user about gene ids that were changed or left out."""
        report, cleaned = self.report, self.cleaned
        lines = []
        if (
            report.versions
            or report.merged
            or report.renamed
            or self.tallies
            or (report.named_by_id and report.named_by_symbol)
        ):
            rule = f" (by {self.merged_by})" if report.merged else ""
            tallies = (
                f"; {self.tallies} counts of reads without a gene left out" if self.tallies else ""
            )
            lines.append(f"{self.table}: genes: {report}{rule}{tallies}")
        if cleaned.from_ids:
            named = counted(cleaned.from_ids, "gene")
            lines.append(f"{self.table}: {named} named by looking up their id")
        lines += [f"{self.table}: {note}; all are in {RENAMED}" for note in cleaned.rename_notes()]
        for reason, genes in itertools.groupby(
            sorted(cleaned.left_out, key=lambda gene: gene.reason), key=lambda gene: gene.reason
        ):
            rows = [
                gene.gene + f" (perhaps {gene.likely.replace(';', ' or ')})" * bool(gene.likely)
                for gene in genes
            ]
            lines.append(
                f"{self.table}: {counted(len(rows), 'row')} left out, because the name {reason}:"
                f" {preview([row or '(blank)' for row in rows])}; all are in {LEFT_OUT}"
            )
        if cleaned.note:
            lines.append(f"{self.table}: {cleaned.note}")
        return lines


def without_tallies(table: ExpressionTable) -> ExpressionTable:
    """Remove the columns that count reads without a gene."""
    genes = ~table.values.columns.isin(TALLIES)
    if genes.all():
        return table
    symbols = None if table.symbols is None else tuple(np.array(table.symbols, dtype=object)[genes])
    return table._replace(values=table.values.loc[:, genes], symbols=symbols)


def with_symbols(
    table: ExpressionTable, gene_map: GeneMap, *, by: str, path: Path
) -> tuple[ExpressionTable, CleanNames]:
    """Name the columns of a table by symbols, and remove those that name no gene.

    An Ensembl id stays the name of its column. Its symbol is in the table's ``symbols``, from the
    table itself or, where that has no approved one, from the shipped map.
    """
    cleaned = clean_names(list(map(str, table.values.columns)), gene_map, by=by, path=path)
    copies = _copies(table.values)
    rows = [LeftOutGene(path.name, str(table.values.columns[at]), COPY) for at in sorted(copies)]
    cleaned = dataclasses.replace(cleaned, left_out=(*cleaned.left_out, *rows))
    named = [bool(name) and at not in copies for at, name in enumerate(cleaned.names)]
    names = [name for name, kept in zip(cleaned.names, named, strict=True) if kept]
    values = table.values.loc[:, named].set_axis(names, axis=1)
    symbols = table.symbols
    if symbols is not None:
        symbols = tuple(symbol for symbol, kept in zip(symbols, named, strict=True) if kept)
    table = table._replace(values=values, symbols=symbols)
    return _symbols_of_ids(table, cleaned, gene_map, by=by, path=path)


def _symbols_of_ids(
    table: ExpressionTable, cleaned: CleanNames, gene_map: GeneMap, *, by: str, path: Path
) -> tuple[ExpressionTable, CleanNames]:
    """Give symbols to the Ensembl ids that name columns.

    A map that the user gave decides by itself (see :func:`name_table`). The shipped one adds the
    symbols that the source lacks, and replaces those that are not approved today.
    """
    ids = [str(name) for name in table.values.columns]
    if not gene_map.is_shipped or by != "symbol" or not any(map(is_ensembl, ids)):
        return table, cleaned
    own = [str(symbol).strip() for symbol in table.symbols or [""] * len(ids)]
    of_ids = [gene_map.symbol_of.get(without_version(name), "") for name in ids]
    renamed = approved_names(own, of_ids, gene_map, table=path.name)
    changed = {gene.gene: gene.symbol for gene in renamed if gene.renamed}
    symbols = tuple(
        changed.get(symbol, symbol) or of_id for symbol, of_id in zip(own, of_ids, strict=True)
    )
    looked_up = sum(not symbol and bool(of_id) for symbol, of_id in zip(own, of_ids, strict=True))
    return table._replace(symbols=symbols), dataclasses.replace(
        cleaned,
        from_ids=cleaned.from_ids + looked_up,
        renamed=(*cleaned.renamed, *renamed),
    )


def _copies(values: pd.DataFrame) -> set[int]:
    """Return the columns that repeat an earlier one of the same name with the same values.

    Such a column is a copy: the sum of both would double the gene.
    """
    array, names = values.to_numpy(), values.columns.to_numpy()
    copies: set[int] = set()
    if len(array) < _MIN_SAMPLES_OF_COPY:
        return copies
    for at in np.flatnonzero(values.columns.duplicated(keep="first")).tolist():
        earlier = np.flatnonzero(names[:at] == names[at])
        if any(np.array_equal(array[:, at], array[:, other], equal_nan=True) for other in earlier):
            copies.add(at)
    return copies


def merge_rule(unit: ExpressionUnit) -> str:
    """Return the rule by which values of this unit are merged.

    See :func:`~tcgn_mil.preprocessing.gene_names.merge_repeated`.

    Examples
    --------
    >>> merge_rule(ExpressionUnit.parse("log2(tpm+1)"))
    'sum of logs'
    """
    if unit.base == ZSCORE:
        return "mean"
    return "sum" if unit.is_linear else "sum of logs"


def name_table(
    values: pd.DataFrame,
    unit: ExpressionUnit,
    symbols: Sequence[str] | Mapping[str, str] | None = None,
    *,
    by: str = "symbol",
    path: str | Path,
) -> tuple[pd.DataFrame, GeneReport]:
    """Name the genes of a table and merge columns of one gene.

    Parameters
    ----------
    values
        Samples x ids.
    unit
        Unit of the values; it decides how columns are merged.
    symbols
        Symbols of the ids, in their order, or a mapping from id to symbol.
    by
        Name genes by ``symbol`` or by ``ensembl`` id.
    path
        The file, for messages.

    Returns
    -------
    values : pandas.DataFrame
        Samples x genes with distinct names.
    report : GeneReport
        Counts of ids that were renamed, merged and so on.

    Raises
    ------
    InputError
        If Ensembl ids are asked for and the table has none, or the mapping has none of its Ensembl
        ids.
    """
    ids = [str(name) for name in values.columns]
    if by == "ensembl" and not any(map(is_ensembl, ids)):
        raise InputError(
            f"names no gene by Ensembl id, but {preview(ids, most=3)}",
            path=path,
            fix="use --gene-ids symbol",
        )
    if isinstance(symbols, Mapping):
        plain = {without_version(name) for name in symbols}
        ensembl = [name for name in ids if is_ensembl(name)]
        unknown = ensembl and not any(without_version(name) in plain for name in ensembl)
        if by == "symbol" and unknown:
            raise InputError(
                f"the gene map names none of its ids: they are {preview(ensembl, most=3)},"
                f" the map's {preview(list(symbols), most=3)}",
                path=path,
                fix="give a map with the ids of this table to --gene-map",
            )
    named = name_genes(ids, symbols, by=by, path=path)
    # log2(x + c) of a sum of x needs the offset c of the unit.
    offset = unit.log_offset or 0.0
    merged = merge_repeated(
        values.set_axis(pd.Index(named.names), axis=1), how=merge_rule(unit), log_offset=offset
    )
    return merged, named.report


def write_gene_report(path: str | Path, tables: Sequence[TableGenes]) -> None:
    """Write gene_report.csv with one row for each table, and two lists of genes beside it."""
    path = Path(path)
    write_csv(path, pd.DataFrame([table.as_row() for table in tables]), digits=None)
    rows = [gene for table in tables for gene in table.cleaned.left_out]
    write_csv(
        path.with_name(LEFT_OUT), pd.DataFrame(rows, columns=LeftOutGene._fields), digits=None
    )
    renamed = [gene for table in tables for gene in table.cleaned.renamed]
    write_csv(
        path.with_name(RENAMED), pd.DataFrame(renamed, columns=RenamedGene._fields), digits=None
    )
