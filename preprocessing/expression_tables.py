"""Bulk expression tables of several layouts, read into samples x genes.

``wide``: ids in the first column (or row) and genes along the other axis; ``sequoia``: ``patient_id`` and
``rna_<gene>`` columns; ``porpoise``: ``case_id`` and ``<gene>_rnaseq`` columns, one row a slide.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from tcgn_mil.contracts import duplicates, preview
from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.barcodes import patient_of

Layout = Literal["auto", "wide", "sequoia", "porpoise"]
LAYOUTS = ("auto", "wide", "sequoia", "porpoise")
_MAX_TABLE_BYTES = 8 * 2**30
_SEQUOIA_PREFIX, _PORPOISE_SUFFIX = "rna_", "_rnaseq"


def read_expression(
    path: str | Path, *, layout: str = "auto", is_sample: Callable[[str], bool] | None = None
) -> pd.DataFrame:
    """Read one table.

    Parameters
    ----------
    path
        CSV or TSV, also .gz or .zip, or Parquet.
    layout
        ``auto`` tells the layouts apart by their columns.
    is_sample
        Whether an id belongs to a known patient; tells samples x genes from genes x samples in a wide table.

    Returns
    -------
    Samples (index, as named in the file; may repeat) x genes, float32.

    Raises
    ------
    InputError
        For an unreadable table, repeated genes, text among the values, or a layout that does not fit.
    """
    path = Path(path)
    if layout not in LAYOUTS:
        raise InputError(f"unknown layout {layout!r}", fix=f"choose one of {', '.join(LAYOUTS)}")
    columns = _columns(path)
    if layout == "auto":
        layout = _guess_layout(columns)
    if layout == "wide":
        return _read_wide(path, columns, is_sample or (lambda name: False))
    id_column = "patient_id" if layout == "sequoia" else "case_id"
    if id_column not in columns:
        raise InputError(f"has no column {id_column}", path=path, fix="give another --format")
    genes = {column: gene for column in columns if (gene := _gene_of(column, layout)) is not None}
    if not genes:
        mark = f"{_SEQUOIA_PREFIX}*" if layout == "sequoia" else f"*{_PORPOISE_SUFFIX}"
        raise InputError(f"has no column {mark}", path=path, fix="give another --format")
    _refuse_repeated(list(genes.values()), path)
    table = _read(path, usecols=[id_column, *genes]).set_index(id_column).rename(columns=genes)
    return _numbers(table, path)


def _guess_layout(columns: Sequence[str]) -> str:
    if "wsi_file_name" in columns and any(column.startswith(_SEQUOIA_PREFIX) for column in columns):
        return "sequoia"
    if "case_id" in columns and any(column.endswith(_PORPOISE_SUFFIX) for column in columns):
        return "porpoise"
    return "wide"


def _gene_of(column: str, layout: str) -> str | None:
    if layout == "sequoia":
        return column.removeprefix(_SEQUOIA_PREFIX) if column.startswith(_SEQUOIA_PREFIX) else None
    return column.removesuffix(_PORPOISE_SUFFIX) if column.endswith(_PORPOISE_SUFFIX) else None


def _read_wide(path: Path, columns: Sequence[str], is_sample: Callable[[str], bool]) -> pd.DataFrame:
    """A table with ids along one axis; which one is told by the ids of known patients, else by TCGA barcodes."""
    table = _read(path, index_col=0)
    rows, across = [str(name) for name in table.index], list(columns[1:])
    table.index, table.columns = pd.Index(rows), pd.Index(across)

    def hits(names: Sequence[str]) -> int:
        return sum(is_sample(name) or patient_of(name) != name for name in names)

    if hits(across) > hits(rows):
        _refuse_repeated(rows, path)
        return _numbers(table, path).T
    _refuse_repeated(across, path)
    return _numbers(table, path)


def _refuse_repeated(genes: Sequence[str], path: Path) -> None:
    repeated = duplicates(genes)
    if repeated:
        raise InputError(
            f"names {len(repeated)} genes more than once: {preview(repeated)}",
            path=path,
            fix="sum, average or rename the repeated genes",
        )


def _numbers(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """float32 values; text is an error that names its place."""
    for column in table.columns[[not pd.api.types.is_numeric_dtype(kind) for kind in table.dtypes]]:
        numbers = pd.to_numeric(table[column], errors="coerce")
        text = numbers.isna() & table[column].notna()
        if text.any():
            row = int(np.flatnonzero(text)[0])
            raise InputError(
                f"column {column}, row {table.index[row]}: {table[column].iloc[row]!r} is no number",
                path=path,
                fix="remove columns that hold no expression, and mark missing values as NA",
            )
        table[column] = numbers
    if not np.isfinite(table.to_numpy(dtype=np.float64, na_value=0.0)).all():
        raise InputError("holds infinite values", path=path, fix="mark missing values as NA")
    return table.astype(np.float32)


def _columns(path: Path) -> list[str]:
    """Column names as written (pandas renames repeated ones)."""
    if path.suffix.lower() == ".parquet":
        return [str(name) for name in _read(path).reset_index().columns]
    return [str(name) for name in _read(path, header=None, nrows=1, dtype=str, index_col=None).iloc[0]]


def _read(path: Path, **options: object) -> pd.DataFrame:
    if not path.is_file():
        raise InputError("no such expression table", path=path, fix="check the path")
    _bound_size(path)
    try:
        if path.suffix.lower() == ".parquet":
            table = pd.read_parquet(path)
            wanted = options.get("usecols")
            return table if wanted is None else table.reset_index()[list(wanted)]  # type: ignore[call-overload]
        separator = "\t" if {".tsv", ".txt"} & {suffix.lower() for suffix in path.suffixes} else ","
        return pd.read_csv(path, **{"sep": separator, "low_memory": False, "encoding": "utf-8-sig", **options})
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(
            f"cannot be read as a table ({error})", path=path, fix="give CSV, TSV (also .gz, .zip) or Parquet"
        ) from error


def _bound_size(path: Path) -> None:
    """Refuse archives that unpack to more than memory holds."""
    if path.suffix.lower() != ".zip":
        return
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
    except zipfile.BadZipFile as error:
        raise InputError("is no ZIP archive", path=path, fix="copy it again") from error
    if size > _MAX_TABLE_BYTES:
        raise InputError(f"unpacks to {size / 2**30:.0f} GiB", path=path, fix="unpack it and select columns")
