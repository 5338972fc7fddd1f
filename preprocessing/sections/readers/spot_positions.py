"""Read the positions of spots or bins that Space Ranger wrote, as CSV or as Parquet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.reading import reads
from tcgn_mil.io.tables import parquet
from tcgn_mil.io.tables.delimited import read_cells
from tcgn_mil.preprocessing.sections.readers.obs_columns import read_flags
from tcgn_mil.text import duplicates, preview

POSITION_COLUMNS = (  # in the order of files without a header
    "barcode",
    "in_tissue",
    "array_row",
    "array_col",
    "pxl_row_in_fullres",
    "pxl_col_in_fullres",
)
_NUMBERS = POSITION_COLUMNS[2:]
_COLUMNS = f"give a file with the columns {', '.join(POSITION_COLUMNS)}"


@reads("positions of spots", fix="copy the file again")
def read_positions(path: Path) -> pd.DataFrame:
    """Read the positions of all spots of the array.

    Returns
    -------
    pandas.DataFrame
        Indexed by barcode: in_tissue (bool), the reason if a spot is not in tissue, array position
        x (column), y (row), and centre pixel_x (column), pixel_y (row) in pixels of the
        full-resolution image.

    Raises
    ------
    InputError
        If the file cannot be read, lacks a column, repeats a barcode, or a row is not a position.
    """
    table, first_line = _read_parquet(path) if path.suffix == ".parquet" else _read_csv(path)
    numbers = table[list(_NUMBERS)].apply(pd.to_numeric, errors="coerce").astype(np.float64)
    flags = read_flags(table["in_tissue"])
    fine = np.isfinite(numbers.to_numpy()).all(axis=1) & ~flags.unknown
    if not fine.all():
        row = int(np.argmin(fine))
        shown = preview([str(cell) for cell in table.iloc[row][list(POSITION_COLUMNS)]], most=6)
        raise InputError(
            f"line {row + first_line} is not a position: {shown}",
            path=path,
            fix="correct or remove the line; in_tissue is 1 or 0",
        )
    repeated = duplicates(table["barcode"])
    if repeated:
        raise InputError(
            f"places spot {preview(repeated)} more than once",
            path=path,
            fix="keep one row for each spot",
        )
    return pd.DataFrame(
        {
            "in_tissue": flags.under,
            "reason": flags.reasons(),
            "x": numbers["array_col"].to_numpy(dtype=np.int64),
            "y": numbers["array_row"].to_numpy(dtype=np.int64),
            "pixel_x": numbers["pxl_col_in_fullres"].to_numpy(),
            "pixel_y": numbers["pxl_row_in_fullres"].to_numpy(),
        },
        index=pd.Index(table["barcode"].astype(str).to_numpy(dtype=object), dtype=object),
    )


def _read_csv(path: Path) -> tuple[pd.DataFrame, int]:
    """Return the table, and the line of the file in which its first row is."""
    cells = read_cells(path)
    # Space Ranger 1 wrote no header. The first cell then is a barcode, never the word.
    has_header = "barcode" in {str(cell).lower() for cell in cells.iloc[0]}
    names = [str(cell) for cell in cells.iloc[0]] if has_header else list(POSITION_COLUMNS)
    if not has_header and cells.shape[1] != len(POSITION_COLUMNS):
        raise InputError(f"has {cells.shape[1]} columns and no header", path=path, fix=_COLUMNS)
    _check_columns(names, path)
    return cells.iloc[int(has_header) :].set_axis(names, axis=1), 1 + has_header


def _read_parquet(path: Path) -> tuple[pd.DataFrame, int]:
    table = parquet.read_text_columns(path)
    _check_columns([str(name) for name in table.columns], path)
    return table, 1


def _check_columns(names: list[str], path: Path) -> None:
    absent = [name for name in POSITION_COLUMNS if name not in names]
    if absent:
        raise InputError(f"has no column {', '.join(absent)}", path=path, fix=_COLUMNS)
