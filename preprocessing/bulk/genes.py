"""Genes of expression tables under one name each: repeated ones merged by the unit's rule, and a report of each table.

A gene of several names in a table is one gene: counts and linear units are summed, logs summed on the linear scale with
their own offset, z-scores averaged. What names a gene is stated in :mod:`~tcgn_mil.preprocessing.gene_names`. Numbers
of reads on no gene, which HTSeq and STAR write among the genes, are none and are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from tcgn_mil.errors import InputError
from tcgn_mil.io.atomic import write_csv
from tcgn_mil.io.tables.delimited import read_text_columns
from tcgn_mil.io.tables.schema import check_table
from tcgn_mil.preprocessing.bulk.readers.tables import ExpressionTable
from tcgn_mil.preprocessing.gene_names import (
    GeneReport,
    is_ensembl,
    merge_repeated,
    name_genes,
    without_version,
)
from tcgn_mil.preprocessing.schemas import GENE_MAP
from tcgn_mil.text import duplicates, preview
from tcgn_mil.types.units import ZSCORE, ExpressionUnit

GENE_REPORT = "gene_report.csv"
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
    """What became of one table's gene ids; `merged_by` is the rule for repeated ones, `tallies` were left out."""

    table: str
    layout: str
    report: GeneReport
    merged_by: str
    tallies: int = 0

    def as_row(self) -> dict[str, object]:
        """One row of gene_report.csv."""
        return {
            "table": self.table,
            "layout": self.layout,
            **self.report.as_dict(),
            "merged_by": self.merged_by if self.report.merged else "",
            "tallies": self.tallies,
        }

    def note(self) -> str | None:
        """One line where something happened to the genes, else None."""
        report = self.report
        mixed = report.named_by_id and report.named_by_symbol
        if not (
            report.versions
            or report.merged
            or report.renamed
            or report.dates
            or mixed
            or self.tallies
        ):
            return None
        rule = f" (by {self.merged_by})" if report.merged else ""
        tallies = f"; {self.tallies} numbers of reads on no gene left out" if self.tallies else ""
        return f"{self.table}: genes: {report}{rule}{tallies}"


def without_tallies(table: ExpressionTable) -> ExpressionTable:
    """The table without numbers of reads on no gene."""
    genes = ~table.values.columns.isin(TALLIES)
    if genes.all():
        return table
    symbols = None if table.symbols is None else tuple(np.array(table.symbols, dtype=object)[genes])
    return table._replace(values=table.values.loc[:, genes], symbols=symbols)


def merge_rule(unit: ExpressionUnit) -> str:
    """How repeated genes of this unit become one, as :func:`~tcgn_mil.preprocessing.gene_names.merge_repeated` says."""
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
    """Samples x ids -> samples x genes of distinct names, and what became of the ids.

    Parameters
    ----------
    symbols
        Of the ids, in their order; or id -> symbol, of a gene map.
    by
        ``symbol`` or ``ensembl``.

    Raises
    ------
    InputError
        If ids are asked for that the table lacks, or the gene map knows none of its ids.
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
        if by == "symbol" and not any(without_version(name) in plain for name in ids):
            raise InputError(
                f"the gene map names none of its ids: they are {preview(ids, most=3)},"
                f" the map's {preview(list(symbols), most=3)}",
                path=path,
                fix="give the map of this table's ids to --gene-map",
            )
    named = name_genes(ids, symbols, by=by, path=path)
    offset = unit.log_offset or 0.0
    merged = merge_repeated(
        values.set_axis(pd.Index(named.names), axis=1), how=merge_rule(unit), log_offset=offset
    )
    return merged, named.report


def read_gene_map(path: str | Path) -> dict[str, str]:
    """Id -> symbol of a table with columns id and gene, such as a Xena probe map; ids without their version.

    Raises
    ------
    InputError
        If the table lacks a column, an id is blank, or one id has two symbols.
    """
    path = Path(path)
    table = read_text_columns(path).rename(columns=lambda name: name.removeprefix("#"))
    table = check_table(table, GENE_MAP, path=path)
    pairs = pd.DataFrame(
        {"id": table["id"].map(without_version), "gene": table["gene"]}
    ).drop_duplicates()
    repeated = duplicates(
        [name for name, gene in zip(pairs["id"], pairs["gene"], strict=True) if gene]
    )
    if repeated:
        raise InputError(
            f"gives {len(repeated)} ids more than one gene: {preview(repeated)}",
            path=path,
            fix="keep one row an id",
        )
    return {name: gene for name, gene in zip(pairs["id"], pairs["gene"], strict=True) if gene}


def write_gene_report(path: str | Path, tables: Sequence[TableGenes]) -> None:
    """gene_report.csv: a row a table."""
    write_csv(path, pd.DataFrame([table.as_row() for table in tables]), digits=None)
