"""Read bulk expression from AnnData files (.h5ad): samples x genes in X or in a layer."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
from scipy import sparse

from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.reading import describe_damage
from tcgn_mil.io.anndata_file import open_anndata
from tcgn_mil.io.hdf5 import open_hdf5
from tcgn_mil.io.tables.text_file import MAX_TABLE_BYTES
from tcgn_mil.preprocessing.bulk.expression_table import ExpressionRequest, ExpressionTable
from tcgn_mil.preprocessing.bulk.readers.base import ExpressionReader
from tcgn_mil.preprocessing.gene_names import is_ensembl
from tcgn_mil.tcga_barcodes import parse_barcode, patient_of
from tcgn_mil.text import preview
from tcgn_mil.types.units import LOG_FACTORS

H5AD = "h5ad"
SUFFIXES = (".h5ad",)
# Columns of var that may hold symbols, where var names are Ensembl ids.
_SYMBOLS = ("gene_symbols", "gene_symbol", "gene_name", "symbol")


def is_h5ad(path: Path) -> bool:
    """Return whether a file is an AnnData file, judged by its suffix."""
    return path.suffix.lower() in SUFFIXES


def read_h5ad(path: Path, request: ExpressionRequest) -> ExpressionTable:
    """Read an AnnData file whose obs names are samples and whose var names are genes.

    If the var names are Ensembl ids, symbols are taken from a column of var. A file with genes as
    observations is turned. If the obs names are no patients of the slides, such as numbers, a
    column of obs that names them is taken.

    Raises
    ------
    InputError
        If the file cannot be read, is too large, has no layer of this name, holds values that are
        not numbers, or states another logarithm than the declared one.
    """
    layer = request.layer
    if not path.is_file():
        raise InputError("no such file", path=path, fix="check the path")
    fix = "write the file again with AnnData.write_h5ad"
    with warnings.catch_warnings(), describe_damage(path, what="AnnData", fix=fix):
        _check_size(path)
        # Repeated names are merged later, and said then.
        warnings.filterwarnings("ignore", message=".*names are not unique")
        table = open_anndata(path, what="file", missing_fix="check the path", broken_fix=fix)
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
    if layer is None:
        _check_logarithm(table, request, path)
    notes = []
    if _is_turned(table, request.patients):
        notes.append(f"{path.name}: its observations are genes, so that it was turned")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*names are not unique")
            table = table.T
    values = _dense(table.X if layer is None else table.layers[layer], path)
    names, column = _sample_names(table, request.patients)
    if column:
        notes.append(f"{path.name}: samples are named by obs[{column!r}]")
    frame = pd.DataFrame(values, index=pd.Index(names), columns=_gene_names(table))
    return ExpressionTable(
        frame.rename_axis(index=None, columns=None),
        H5AD,
        symbols=_symbols(table),
        notes=tuple(notes),
    )


def _check_logarithm(table: anndata.AnnData, request: ExpressionRequest, path: Path) -> None:
    """Compare the logarithm that scanpy noted in ``uns["log1p"]`` with the declared one."""
    if request.unit is None or "log1p" not in table.uns:
        return
    base = dict(table.uns["log1p"]).get("base")
    # scanpy writes no base, or None, for its default, the natural logarithm.
    stated = {None: "ln", 2: "log2", 10: "log10"}.get(base, f"log to base {base}")
    if request.logarithm == stated:
        return
    right = f"declare --unit '{stated}({request.unit.base}+1)'" if stated in LOG_FACTORS else ""
    raise InputError(
        f"uns['log1p'] says that X holds {stated}(x + 1), but the declared unit is"
        f" {_declared(request)}",
        path=path,
        fix=f"{right}{', or ' * bool(right)}give a layer with the values before the logarithm to"
        " --layer; if X was replaced since, remove uns['log1p']",
    )


def _declared(request: ExpressionRequest) -> str:
    return str(request.unit).replace("log2(", f"{request.logarithm or 'log2'}(")


def _sign(names: Iterable[str], patients: Collection[str]) -> tuple[int, int]:
    """Count the names of patients of the slides, and those that are barcodes."""
    names = list(map(str, names))
    return (
        sum(patient_of(name) in patients for name in names),
        sum(parse_barcode(name) is not None for name in names),
    )


def _is_turned(table: anndata.AnnData, patients: Collection[str]) -> bool:
    return _sign(table.var_names, patients) > _sign(table.obs_names, patients)


def _sample_names(table: anndata.AnnData, patients: Collection[str]) -> tuple[list[str], str]:
    """Return the names of the samples, and the column of obs that they come from."""
    own = table.obs_names.astype(str)
    if any(_sign(own, patients)):
        return list(own), ""
    best, source = own, ""
    signs = (0, 0, 0)
    for column in table.obs.columns:
        names = table.obs[column].astype(str)
        # Names that state a sample type tell tumours from normal tissue.
        typed = sum(
            (each := parse_barcode(name)) is not None and each.sample_type is not None
            for name in names
        )
        if (found := (*_sign(names, patients), typed)) > signs:
            best, source, signs = names, str(column), found
    return list(best), source


def _check_size(path: Path) -> None:
    """Raise InputError for a matrix that is empty or would not fit into memory."""
    with open_hdf5(path, kind="AnnData") as file:
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


def _gene_names(table: anndata.AnnData) -> pd.Index:
    """Return the var names; Entrez numbers with the symbol in front, if a column of var has it."""
    names = table.var_names.astype(str)
    column = next((name for name in _SYMBOLS if name in table.var), None)
    if column is None or not all(name.isdigit() for name in names[:100]):
        return names
    symbols = table.var[column].astype(str)
    return pd.Index([f"{symbol}|{name}" for symbol, name in zip(symbols, names, strict=True)])


def _symbols(table: anndata.AnnData) -> tuple[str, ...] | None:
    """Return the symbols in a column of var, if the var names are Ensembl ids."""
    if not any(map(is_ensembl, map(str, table.var_names[:100]))):
        return None
    column = next((name for name in _SYMBOLS if name in table.var), None)
    return None if column is None else tuple(table.var[column].astype(str))


READER = ExpressionReader((H5AD,), is_h5ad, read_h5ad, has_layers=True)
