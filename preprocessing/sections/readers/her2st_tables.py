"""Read the count and position tables of her2st sections, and measure the image's resolution."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from tcgn_mil.errors import InputError
from tcgn_mil.io.tables.delimited import column_names, read_columns
from tcgn_mil.preprocessing.sections.genes import check_counts
from tcgn_mil.text import duplicates, preview
from tcgn_mil.types.tile_geometry import check_mpp

_POSITION_COLUMNS = ("x", "y", "pixel_x", "pixel_y")
_MEASURED_COLUMNS = ("new_x", "new_y")
_MAX_SHIFT = 1.0  # array steps between the nominal and the measured place of a spot
_MAX_UNEVEN = 0.02  # relative difference between the pitch along x and along y


def measure_mpp(positions: pd.DataFrame, spot_pitch_um: float, *, path: Path) -> float:
    """Measure the resolution of an image from the positions of its spots.

    A straight line is fitted through all spots, array position against pixel position, along each
    axis. Its slope is the pitch in pixels. The pitch in µm divided by it is the resolution.

    Measured array positions are used if there are any. Spots are not printed exactly at their
    nominal places. A fit on nominal places varies by 0.5 % between sections of one scanner, which
    is enough for the patches of some sections to be resampled by one pixel.

    Parameters
    ----------
    positions
        Columns x, y, array_x, array_y, pixel_x and pixel_y.
    spot_pitch_um
        Distance between neighbouring spots in µm.
    path
        The file, for messages.

    Returns
    -------
    float
        µm per pixel.

    Raises
    ------
    InputError
        If the spots span no grid, or the two axes differ by more than 2 %.
    """
    steps = []
    for axis in ("x", "y"):
        if positions[axis].nunique() < 2:
            raise InputError(
                f"all spots share one {axis}, so there is no distance to measure",
                path=path,
                fix="give the µm per pixel of the image with --mpp",
            )
        steps.append(
            abs(float(np.polyfit(positions[f"array_{axis}"], positions[f"pixel_{axis}"], 1)[0]))
        )
    if min(steps) < 1 or not 1 - _MAX_UNEVEN < steps[0] / steps[1] < 1 + _MAX_UNEVEN:
        raise InputError(
            f"spots are {steps[0]:.1f} px apart along x and {steps[1]:.1f} px along y",
            path=path,
            fix="check that pixel_x is the column and pixel_y the row of the image",
        )
    return check_mpp(spot_pitch_um / float(np.mean(steps)), what="measured resolution", path=path)


def read_counts(path: Path) -> tuple[sparse.csr_matrix, list[str], pd.Index]:
    """Read a table of counts.

    Returns
    -------
    counts : scipy.sparse.csr_matrix
        (S, F) raw counts.
    genes : list of str
        Names of the F columns, which may repeat.
    spots : pandas.Index
        Names of the S spots.
    """
    genes = column_names(path)[1:]
    if not genes or not all(genes):
        raise InputError(
            "has no gene column, or one without a name",
            path=path,
            fix="name each gene in the first row",
        )
    table = read_columns(path, range(1, len(genes) + 1), ids=0)
    _refuse_text(table, path)
    counts = check_counts(table.to_numpy(dtype=np.float64), list(table.index), genes, path=path)
    repeated = duplicates(table.index)
    if repeated:
        raise InputError(
            f"names spot {preview(repeated)} more than once",
            path=path,
            fix="keep one row for each spot",
        )
    return counts, genes, table.index


def _refuse_text(table: pd.DataFrame, path: Path) -> None:
    for column in np.flatnonzero(
        [not pd.api.types.is_numeric_dtype(kind) for kind in table.dtypes]
    ).tolist():
        cells = table.iloc[:, column]
        row = int(np.argmax(pd.to_numeric(cells, errors="coerce").isna().to_numpy()))
        raise InputError(
            f"gene {table.columns[column]}, spot {table.index[row]}:"
            f" {cells.iloc[row]!r} is not a count",
            path=path,
            fix="remove columns of text; counts are whole numbers",
        )


def read_positions(path: Path) -> tuple[pd.DataFrame, frozenset[str]]:
    """Read the positions of the spots.

    Returns
    -------
    positions : pandas.DataFrame
        Selected spots, indexed by ``{x}x{y}``: array position x, y, rounded because some files have
        fractions; measured array position array_x, array_y (``new_x``, ``new_y`` of the file);
        centre pixel_x (column), pixel_y (row) in pixels of the image.
    unselected : frozenset of str
        Names of the spots that are not selected as tissue.
    """
    names = column_names(path)
    absent = [column for column in _POSITION_COLUMNS if column not in names]
    if absent:
        raise InputError(
            f"has no column {', '.join(absent)}",
            path=path,
            fix="give a spot file with columns x, y, new_x, new_y, pixel_x, pixel_y",
        )
    wanted = [
        *_POSITION_COLUMNS,
        *(name for name in (*_MEASURED_COLUMNS, "selected") if name in names),
    ]
    table = read_columns(path, [names.index(column) for column in wanted]).apply(
        pd.to_numeric, errors="coerce"
    )
    needed = table.drop(columns=list(_MEASURED_COLUMNS), errors="ignore")
    unusable = ~np.isfinite(needed.to_numpy(dtype=np.float64)).all(axis=1)
    if unusable.any():
        row = int(np.argmax(unusable)) + 2
        raise InputError(
            f"line {row} has no number for a position", path=path, fix="correct or remove the line"
        )
    table[["array_x", "array_y"]] = _measured_positions(table)
    table[["x", "y"]] = table[["x", "y"]].round().astype(int)
    table.index = pd.Index([f"{x}x{y}" for x, y in zip(table["x"], table["y"], strict=True)])
    repeated = duplicates(table.index)
    if repeated:
        raise InputError(
            f"places spot {preview(repeated)} more than once",
            path=path,
            fix="keep one row for each spot",
        )
    selected = table["selected"] != 0 if "selected" in table else pd.Series(True, index=table.index)
    positions = table.loc[selected, [*_POSITION_COLUMNS, "array_x", "array_y"]]
    return positions, frozenset(table.index[~selected])


def _measured_positions(table: pd.DataFrame) -> NDArray[np.float64]:
    """Return (S, 2) measured array positions, or the nominal ones if those are implausible."""
    nominal = table[["x", "y"]].to_numpy(dtype=np.float64)
    if not set(_MEASURED_COLUMNS) <= set(table.columns):
        return nominal
    measured = table[list(_MEASURED_COLUMNS)].to_numpy(dtype=np.float64)
    near = np.abs(measured - nominal) < _MAX_SHIFT  # False for NaN
    return measured if near.all() else nominal
