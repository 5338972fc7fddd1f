"""Choose the module that reads a table by the suffix of its file."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from tcgn_mil.io.tables import delimited, parquet


def table_module(path: str | Path) -> ModuleType:
    """Return the module whose `column_names` and `read_columns` read a table.

    Parameters
    ----------
    path
        The table.

    Returns
    -------
    module
        :mod:`~tcgn_mil.io.tables.parquet` for .parquet and .pq, else
        :mod:`~tcgn_mil.io.tables.delimited`.
    """
    return parquet if Path(path).suffix.lower() in parquet.SUFFIXES else delimited
