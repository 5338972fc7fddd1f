"""Read the expression of all sources of a cohort, over the genes that they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from tcgn_mil.errors import InputError
from tcgn_mil.io.failures import Failure
from tcgn_mil.preprocessing.bulk.expression_table import ExpressionTable, Person
from tcgn_mil.preprocessing.bulk.gene_map import choose_gene_map
from tcgn_mil.preprocessing.bulk.genes import (
    TableGenes,
    merge_rule,
    name_table,
    with_symbols,
    without_tallies,
)
from tcgn_mil.preprocessing.bulk.readers import AUTO, READERS, read_expression_table
from tcgn_mil.preprocessing.gene_names import is_ensembl
from tcgn_mil.text import preview
from tcgn_mil.types.units import LOG_FACTORS, ExpressionUnit


@dataclass(frozen=True)
class ExpressionOptions:
    """Settings for reading the sources.

    Attributes
    ----------
    layout
        ``auto`` or a key of :data:`~tcgn_mil.preprocessing.bulk.readers.READERS`.
    gene_ids
        Name genes by ``symbol`` or by ``ensembl`` id.
    gene_map
        Table of ids and symbols; ``hgnc`` or None for the shipped one, ``none`` for no table.
    layer
        Layer of an AnnData to read instead of X.
    logarithm
        Key of :data:`~tcgn_mil.types.units.LOG_FACTORS` if the values are logarithms, else empty.
    """

    layout: str = AUTO
    gene_ids: str = "symbol"
    gene_map: str | None = None
    layer: str | None = None
    logarithm: str = ""


class Samples(NamedTuple):
    """Samples of all sources over the genes that all sources have.

    Attributes
    ----------
    values
        Samples x genes, float32.
    sources
        Name of the source of each sample.
    people
        Patient and tissue of each sample, or None if its source does not state them.
    layouts
        Name of each source to the layout that it was read as.
    genes
        Report on the gene ids of each source.
    genes_not_shared
        Number of genes that were left out because some source lacks them.
    failures
        Parts of the sources that could not be read.
    notes
        Sentences about the sources, for the user.
    gene_map
        Name, version and digest of the table that named genes.
    """

    values: pd.DataFrame
    sources: list[str]
    people: list[Person | None]
    layouts: dict[str, str]
    genes: list[TableGenes]
    genes_not_shared: int
    failures: list[Failure]
    notes: list[str]
    gene_map: dict[str, str]


def read_samples(
    sources: Sequence[str | Path],
    unit: ExpressionUnit,
    options: ExpressionOptions,
    patients: set[str],
) -> Samples:
    """Read and check the sources, and put their samples together.

    Parameters
    ----------
    sources
        Files or folders, at least one.
    unit
        Declared unit. The values of each source are checked against it.
    options
        Settings for reading.
    patients
        Patients of the slides; see
        :func:`~tcgn_mil.preprocessing.bulk.readers.read_expression_table`.

    Returns
    -------
    Samples
        All samples, over the genes that all sources have, in the order of the first source.

    Raises
    ------
    InputError
        If a source cannot be used, its values do not fit the unit, or no gene is in all sources.
    """
    if not sources:
        raise InputError("no expression table is given", fix="give at least one")
    if options.layout not in (AUTO, *READERS):
        raise InputError(
            f"unknown layout {options.layout!r}", fix=f"choose one of {', '.join((AUTO, *READERS))}"
        )
    paths = [Path(path) for path in sources]
    gene_map = choose_gene_map(options.gene_map)
    tables: list[ExpressionTable] = []
    genes = []
    for path in paths:
        whole = read_expression_table(
            path,
            layout=options.layout,
            unit=unit,
            logarithm=options.logarithm,
            layer=options.layer,
            patients=patients,
        )
        table = without_tallies(whole)
        if table.values.empty:
            raise InputError("names no gene", path=path, fix="give the whole table")
        if options.logarithm:
            table = table._replace(values=table.values * np.float32(LOG_FACTORS[options.logarithm]))
        unit.check(table.values.to_numpy(), path=path)
        tallies = whole.values.shape[1] - table.values.shape[1]
        table, cleaned = with_symbols(table, gene_map, by=options.gene_ids, path=path)
        # The shipped map has added its symbols to those of the table.
        given = {} if gene_map.is_shipped else gene_map.symbol_of
        symbols = given or table.symbols
        values, report = name_table(table.values, unit, symbols, by=options.gene_ids, path=path)
        genes.append(
            TableGenes(path.name, table.layout, report, merge_rule(unit), tallies, cleaned)
        )
        tables.append(table._replace(values=values, symbols=None))
    shared, lost = _shared_genes([table.values for table in tables], unit, paths)
    restricted = [_restricted(table.values, shared) for table in tables]
    return Samples(
        values=pd.concat(restricted) if len(tables) > 1 else tables[0].values,
        sources=[
            path.name
            for path, table in zip(paths, tables, strict=True)
            for _ in range(len(table.values))
        ],
        people=[
            person for table in tables for person in table.people or [None] * len(table.values)
        ],
        layouts={path.name: table.layout for path, table in zip(paths, tables, strict=True)},
        genes=genes,
        genes_not_shared=lost,
        failures=[failure for table in tables for failure in table.failures],
        notes=[
            note
            for table, names in zip(tables, genes, strict=True)
            for note in (*table.notes, *names.notes())
        ],
        gene_map=gene_map.as_record(),
    )


def _restricted(values: pd.DataFrame, genes: list[str]) -> pd.DataFrame:
    return values if values.columns.tolist() == genes else values[genes]


def _shared_genes(
    tables: Sequence[pd.DataFrame], unit: ExpressionUnit, paths: Sequence[Path]
) -> tuple[list[str], int]:
    """Return the genes that all tables have, in the first one's order, and the number of others.

    Counts are later divided by their sum over all genes. If tables were counted over different
    annotations, that sum differs between them, so differing genes are an error for counts.
    """
    common = set.intersection(*(set(table.columns) for table in tables))
    shared = [gene for gene in tables[0].columns if gene in common]
    lost = len(set().union(*(table.columns for table in tables))) - len(shared)
    if not shared:
        kinds = {is_ensembl(str(table.columns[0])) for table in tables}
        raise InputError(
            f"its genes are in no other table: it names {preview(list(tables[-1].columns))}",
            path=paths[-1],
            fix="give tables with one kind of gene id"
            + ", or give ids and symbols to --gene-map" * (len(kinds) > 1),
        )
    if lost and unit.base == "counts" and unit.is_linear:
        raise InputError(
            f"its genes are not those of the other tables ({lost} differ), but counts are scaled by"
            " their sum over all genes",
            path=paths[-1],
            fix="give tables counted over one annotation, or give TPM",
        )
    return shared, lost
