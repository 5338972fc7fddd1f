"""Base of the expression readers, and the checks that all tables of expression share."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tcgn_mil.errors import InputError
from tcgn_mil.io.tables.formats import table_module
from tcgn_mil.preprocessing.bulk.expression_table import ExpressionRequest, ExpressionTable

_DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+")


@dataclass(frozen=True)
class ExpressionReader:
    """A layout of expression files.

    Attributes
    ----------
    layouts
        Names of the layout for ``--format``. Several names ask for variants of one layout.
    is_layout
        Returns whether a file or folder is of this layout. It may raise InputError for a file that
        cannot be opened.
    read
        Reads a file or folder.
    has_layers
        Whether files of this layout have layers to choose from.
    """

    layouts: tuple[str, ...]
    is_layout: Callable[[Path], bool]
    read: Callable[[Path, ExpressionRequest], ExpressionTable]
    has_layers: bool = False


def column_names(path: Path) -> list[str]:
    """Return the column names of a CSV, TSV or Parquet file."""
    return list(table_module(path).column_names(path))


def read_gene_columns(
    path: Path, layout: str, *, id_column: str, gene_of: Callable[[str], str], gene_columns: str
) -> ExpressionTable:
    """Read a table with one row for each sample, whose genes are some of its columns.

    Parameters
    ----------
    layout
        Name of the layout.
    id_column
        Column that names the samples.
    gene_of
        Function from the name of a column to the gene that it holds; empty if it holds none.
    gene_columns
        Description of the gene columns for messages, such as ``rna_*``.

    Raises
    ------
    InputError
        If the id column or the gene columns are missing, or a cell is not a number.
    """
    columns = column_names(path)
    if id_column not in columns:
        raise InputError(
            f"has no column {id_column}", path=path, fix="give the layout of this table to --format"
        )
    genes = {position: gene for position, name in enumerate(columns) if (gene := gene_of(name))}
    if not genes:
        raise InputError(
            f"has no column {gene_columns}",
            path=path,
            fix="give the layout of this table to --format",
        )
    names = list(genes.values())
    table = table_module(path).read_columns(path, list(genes), ids=columns.index(id_column))
    return ExpressionTable(as_float32(table, path).set_axis(pd.Index(names), axis=1), layout)


def as_float32(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Return the table as float32 under the same names.

    Raises
    ------
    InputError
        If a cell holds text or an infinite value; the message names its row and column.
    """
    values = np.empty(table.shape, dtype=np.float32)
    for position, column in enumerate(table.columns):  # by position, because names may repeat
        cells = table.iloc[:, position]
        if pd.api.types.is_bool_dtype(cells) or not pd.api.types.is_numeric_dtype(cells):
            numbers = pd.to_numeric(cells.astype(object).map(_bool_as_text), errors="coerce")
            text = (numbers.isna() & cells.notna()).to_numpy()
            if text.any():
                row = int(np.argmax(text))
                raise InputError(
                    f"column {column}, row {table.index[row]}: {str(cells.iloc[row])[:60]!r}"
                    " is not a number",
                    path=path,
                    fix="write decimals with a point"
                    if _DECIMAL_COMMA.fullmatch(str(cells.iloc[row]).strip())
                    else "remove columns that hold no expression, and write missing values as NA",
                )
            cells = numbers
        values[:, position] = cells.to_numpy(dtype=np.float64, na_value=np.nan)
    # Infinity often is the logarithm of zero. One such value would spoil every mean and rank.
    if np.isinf(values).any():
        row, column_at = np.argwhere(np.isinf(values))[0]
        raise InputError(
            f"column {table.columns[column_at]}, row {table.index[row]} is infinite",
            path=path,
            fix="write missing values as NA",
        )
    return pd.DataFrame(values, index=table.index, columns=table.columns)


def _bool_as_text(cell: object) -> object:
    """Return booleans as text, because pandas would take them for 0 and 1."""
    return str(cell) if isinstance(cell, (bool, np.bool_)) else cell
