"""Bulk expression in AnnData: samples x genes, as X or one of its layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
from scipy import sparse

from tcgn_mil.errors import InputError
from tcgn_mil.io.tables.delimited import MAX_TABLE_BYTES
from tcgn_mil.preprocessing.bulk.readers.tables import ExpressionTable
from tcgn_mil.preprocessing.gene_names import is_ensembl
from tcgn_mil.text import preview

H5AD = "h5ad"
_SYMBOLS = ("gene_symbols", "gene_symbol", "gene_name", "symbol")


def read_h5ad_expression(path: str | Path, *, layer: str | None = None) -> ExpressionTable:
    """Read an AnnData file: obs names are samples, var names genes; symbols of a column of var, where ids name them.

    Parameters
    ----------
    layer
        Instead of X.

    Raises
    ------
    InputError
        If it cannot be read, is too large, lacks the layer, or holds values that are no numbers.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError("no such file", path=path, fix="check the path")
    try:
        _bound(path)
        table = anndata.read_h5ad(path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"cannot be read as AnnData ({str(error)[:200]})", path=path, fix="write it again"
        ) from error
    if layer is not None and layer not in table.layers:
        has = (
            f"its layers are {preview(sorted(table.layers))}"
            if len(table.layers)
            else "it has none"
        )
        raise InputError(
            f"has no layer {layer}; {has}",
            path=path,
            fix="give another --layer, or leave it out for X",
        )
    values = _dense(table.X if layer is None else table.layers[layer], path)
    frame = pd.DataFrame(
        values, index=table.obs_names.astype(str), columns=table.var_names.astype(str)
    )
    return ExpressionTable(
        frame.rename_axis(index=None, columns=None), H5AD, symbols=_symbols(table)
    )


def _bound(path: Path) -> None:
    """Refuse a file whose matrix would not fit, before it is read."""
    with h5py.File(path, "r") as file:
        shape = [len(file[name][file[name].attrs["_index"]]) for name in ("obs", "var")]
    if 8 * shape[0] * shape[1] > MAX_TABLE_BYTES:
        raise InputError(
            f"holds {shape[0]} x {shape[1]} values, too many",
            path=path,
            fix="select genes or samples",
        )
    if not all(shape):
        raise InputError(
            f"holds {shape[0]} samples and {shape[1]} genes", path=path, fix="write it with both"
        )


def _dense(matrix: Any, path: Path) -> np.ndarray:
    if matrix is None:
        raise InputError("has no X", path=path, fix="name one of its layers with --layer")
    try:
        values = (matrix.toarray() if sparse.issparse(matrix) else np.asarray(matrix)).astype(
            np.float32
        )
    except (TypeError, ValueError) as error:
        raise InputError(
            f"holds values that are no numbers ({error})", path=path, fix="write numbers"
        ) from error
    if np.isinf(values).any():
        raise InputError("holds infinite values", path=path, fix="mark missing values as NaN")
    return values


def _symbols(table: anndata.AnnData) -> tuple[str, ...] | None:
    """Symbols that a column of var gives, where var names are ids."""
    if not any(map(is_ensembl, map(str, table.var_names[:100]))):
        return None
    column = next((name for name in _SYMBOLS if name in table.var), None)
    return None if column is None else tuple(table.var[column].astype(str))
