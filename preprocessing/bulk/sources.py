"""Expression of all sources of a cohort: each read, checked against its unit, its genes named; then put together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from tcgn_mil.errors import InputError
from tcgn_mil.io.failures import Failure
from tcgn_mil.preprocessing.bulk.genes import (
    TableGenes,
    merge_rule,
    name_table,
    read_gene_map,
    without_tallies,
)
from tcgn_mil.preprocessing.bulk.readers.gdc import GDC, read_gdc
from tcgn_mil.preprocessing.bulk.readers.h5ad import H5AD, read_h5ad_expression
from tcgn_mil.preprocessing.bulk.readers.tables import (
    LAYOUTS,
    ExpressionTable,
    Person,
    read_expression,
)
from tcgn_mil.preprocessing.gene_names import is_ensembl
from tcgn_mil.text import preview
from tcgn_mil.types.units import ExpressionUnit

ALL_LAYOUTS = (*LAYOUTS, GDC, H5AD)


@dataclass(frozen=True)
class ExpressionOptions:
    """How sources are read.

    Attributes
    ----------
    layout
        Of :data:`ALL_LAYOUTS`.
    gene_ids
        What names genes: ``symbol`` or ``ensembl``.
    gene_map
        Table of ids and symbols for sources that name genes by id alone.
    layer
        Layer of an AnnData, instead of its X.
    """

    layout: str = "auto"
    gene_ids: str = "symbol"
    gene_map: Path | None = None
    layer: str | None = None


class Samples(NamedTuple):
    """Samples of all sources over the genes they share.

    ``sources`` names the source of each sample, and ``people`` says whose it is, where the source does; ``layouts``
    says how each source was read, ``genes_not_shared`` how many genes were left out.
    """

    values: pd.DataFrame
    sources: list[str]
    people: list[Person | None]
    layouts: dict[str, str]
    genes: list[TableGenes]
    genes_not_shared: int
    failures: list[Failure]


def read_samples(
    sources: Sequence[str | Path],
    unit: ExpressionUnit,
    options: ExpressionOptions,
    patients: set[str],
) -> Samples:
    """Read and check the sources, and put their samples together over the genes that all have, in the first's order.

    Raises
    ------
    InputError
        If a source is unusable, its values do not fit the unit, or no gene is in all of them.
    """
    if not sources:
        raise InputError("no expression table is given", fix="name at least one")
    if options.layout not in ALL_LAYOUTS:
        raise InputError(
            f"unknown layout {options.layout!r}", fix=f"choose one of {', '.join(ALL_LAYOUTS)}"
        )
    symbols = None if options.gene_map is None else read_gene_map(options.gene_map)
    tables: list[ExpressionTable] = []
    genes = []
    for path in map(Path, sources):
        whole = _read_source(path, unit, options, patients)
        table = without_tallies(whole)
        if table.values.empty:
            raise InputError("names no gene", path=path, fix="give the whole table")
        unit.check(table.values.to_numpy(), path=path)
        known = table.symbols if symbols is None else symbols
        values, report = name_table(table.values, unit, known, by=options.gene_ids, path=path)
        tallies = whole.values.shape[1] - table.values.shape[1]
        genes.append(TableGenes(path.name, table.layout, report, merge_rule(unit), tallies))
        tables.append(table._replace(values=values, symbols=None))
    shared, lost = _shared_genes([table.values for table in tables], unit, sources)
    return Samples(
        values=pd.concat([_restricted(table.values, shared) for table in tables])
        if len(tables) > 1
        else tables[0][0],
        sources=[
            Path(path).name
            for path, table in zip(sources, tables, strict=True)
            for _ in range(len(table.values))
        ],
        people=[
            person for table in tables for person in table.people or [None] * len(table.values)
        ],
        layouts={
            Path(path).name: table.layout for path, table in zip(sources, tables, strict=True)
        },
        genes=genes,
        genes_not_shared=lost,
        failures=[failure for table in tables for failure in table.failures],
    )


def _read_source(
    path: Path, unit: ExpressionUnit, options: ExpressionOptions, patients: set[str]
) -> ExpressionTable:
    layout = options.layout
    if layout == GDC or (layout == "auto" and path.is_dir()):
        return read_gdc(path, unit)
    if layout == H5AD or (layout == "auto" and path.suffix.lower() == ".h5ad"):
        return read_h5ad_expression(path, layer=options.layer)
    if options.layer is not None:
        raise InputError("has no layers", path=path, fix="--layer is for .h5ad files")
    return read_expression(path, layout=layout, patients=patients)


def _restricted(values: pd.DataFrame, genes: list[str]) -> pd.DataFrame:
    return values if values.columns.tolist() == genes else values[genes]


def _shared_genes(
    tables: Sequence[pd.DataFrame], unit: ExpressionUnit, sources: Sequence[str | Path]
) -> tuple[list[str], int]:
    """Genes that all tables have, in the first's order, and how many the others are."""
    common = set.intersection(*(set(table.columns) for table in tables))
    shared = [gene for gene in tables[0].columns if gene in common]
    lost = len(set().union(*(table.columns for table in tables))) - len(shared)
    if not shared:
        kinds = {is_ensembl(str(table.columns[0])) for table in tables}
        raise InputError(
            f"its genes are in no other table: it names {preview(list(tables[-1].columns))}",
            path=sources[-1],
            fix="give tables with one kind of gene id"
            + ", or --gene-map with ids and symbols" * (len(kinds) > 1),
        )
    if lost and unit.base == "counts" and unit.is_linear:
        raise InputError(
            f"its genes are not those of the other tables ({lost} differ), but counts are scaled by their sum over all"
            " genes",
            path=sources[-1],
            fix="give tables counted over one annotation, or TPM",
        )
    return shared, lost
