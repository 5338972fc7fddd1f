"""Read bulk expression from AnnData files (.h5ad): samples x genes in X or in a layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
from scipy import sparse

from tcgn_mil.errors import InputError
from tcgn_mil.io.tables.text_file import MAX_TABLE_BYTES
from tcgn_mil.preprocessing.bulk.expression_table import ExpressionRequest, ExpressionTable
from tcgn_mil.preprocessing.bulk.readers.base import ExpressionReader
from tcgn_mil.preprocessing.gene_names import is_ensembl
from tcgn_mil.text import preview

H5AD = "h5ad"
SUFFIXES = (".h5ad",)
# Columns of var that may hold symbols, where var names are Ensembl ids.
_SYMBOLS = ("gene_symbols", "gene_symbol", "gene_name", "symbol")


def is_h5ad(path: Path) -> bool:
    """Return whether a file is an AnnData file, judged by its suffix."""
    return path.suffix.lower() in SUFFIXES


def read_h5ad(path: Path, request: ExpressionRequest) -> ExpressionTable:
    """Read an AnnData file whose obs names are samples and whose var names are genes.

    If the var names are Ensembl ids, symbols are taken from a column of var.

    Raises
    ------
    InputError
        If the file cannot be read, is too large, has no layer of this name, or holds values that
        are not numbers.
    """
    layer = request.layer
    if not path.is_file():
        raise InputError("no such file", path=path, fix="check the path")
    try:
        _check_size(path)
        table = anndata.read_h5ad(path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"cannot be read as AnnData ({str(error)[:200]})",
            path=path,
            fix="write the file again with AnnData.write_h5ad",
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
            fix="give one of its layers to --layer, or remove the option to read X",
        )
    values = _dense(table.X if layer is None else table.layers[layer], path)
    frame = pd.DataFrame(
        values, index=table.obs_names.astype(str), columns=table.var_names.astype(str)
    )
    return ExpressionTable(
        frame.rename_axis(index=None, columns=None), H5AD, symbols=_symbols(table)
    )


def _check_size(path: Path) -> None:
    """Raise InputError for a matrix that is empty or would not fit into memory."""
    with h5py.File(path, "r") as file:
        # The attribute _index of obs and of var names the dataset that holds their names.
        shape = [len(file[name][file[name].attrs["_index"]]) for name in ("obs", "var")]
    # 8 bytes: some steps hold the values as float64.
    if 8 * shape[0] * shape[1] > MAX_TABLE_BYTES:
        raise InputError(
            f"holds {shape[0]} x {shape[1]} values, too many to read at once",
            path=path,
            fix="write a file with fewer genes or samples",
        )
    if not all(shape):
        raise InputError(
            f"holds {shape[0]} samples and {shape[1]} genes",
            path=path,
            fix="write a file that holds both",
        )


def _dense(matrix: Any, path: Path) -> np.ndarray:
    if matrix is None:
        raise InputError("has no matrix X", path=path, fix="give one of its layers to --layer")
    try:
        values = (matrix.toarray() if sparse.issparse(matrix) else np.asarray(matrix)).astype(
            np.float32
        )
    except (TypeError, ValueError) as error:
        raise InputError(
            f"holds values that are not numbers ({error})",
            path=path,
            fix="write the file with numbers",
        ) from error
    if np.isinf(values).any():
        raise InputError("holds infinite values", path=path, fix="write missing values as NaN")
    return values


def _symbols(table: anndata.AnnData) -> tuple[str, ...] | None:
    """Return the symbols in a column of var, if the var names are Ensembl ids."""
    if not any(map(is_ensembl, map(str, table.var_names[:100]))):
        return None
    column = next((name for name in _SYMBOLS if name in table.var), None)
    return None if column is None else tuple(table.var[column].astype(str))


READER = ExpressionReader((H5AD,), is_h5ad, read_h5ad, has_layers=True)
