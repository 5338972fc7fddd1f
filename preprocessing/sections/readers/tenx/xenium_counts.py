"""Sum the cells or the transcripts of a Xenium section over squares of its H&E image.

``cells.parquet`` has the centre of each cell in µm. ``transcripts.parquet`` has a row for each
decoded transcript, with its place in µm. Most transcripts outside of cells are as real as those
within, and they are part of what a patch shows. Those of a quality below 20 are left out, as in the
matrix of cells that the instrument writes, and so are control probes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy import sparse

from tcgn_mil.errors import InputError
from tcgn_mil.io.tables.delimited import read_named_columns
from tcgn_mil.preprocessing.sections.genes import GENE_EXPRESSION
from tcgn_mil.preprocessing.sections.pooling import Pooling, pool_points
from tcgn_mil.preprocessing.sections.readers.tenx.tenx_matrix import (
    FeatureMatrix,
    read_barcodes,
    read_features,
    read_summed,
)
from tcgn_mil.text import preview

TRANSCRIPT_FILES = ("transcripts.parquet", "transcripts.csv.gz", "transcripts.csv")
MIN_QUALITY = 20.0  # Phred-scaled, of the instrument's own matrix
_PLACE = ["x_location", "y_location"]
_NUCLEUS = "overlaps_nucleus"
_CELL_COLUMNS = ("cell_id", "x_centroid", "y_centroid")
# Columns and rows are counted from -_FIRST, since a run may be larger than its H&E image.
_FIRST, _FEATURE_BITS = 1 << 20, 20
_PIECE = 2_000_000  # rows that are read at once
_AGAIN = "copy the file again from the same run"


class SquareGrid(NamedTuple):
    """Squares of an image.

    Attributes
    ----------
    to_pixels
        Function from (N, 2) places in µm to pixels of the H&E image.
    mpp
        µm per pixel of the H&E image.
    pool_um
        Side of a square in µm.
    """

    to_pixels: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    mpp: float
    pool_um: float


class SummedCounts(NamedTuple):
    """Counts of squares.

    Attributes
    ----------
    matrix
        Counts of the P squares.
    pooling
        The P squares.
    note
        Message that is printed for the user.
    """

    matrix: FeatureMatrix
    pooling: Pooling
    note: str


def sum_cells(path: Path, matrix_path: Path, grid: SquareGrid) -> SummedCounts:
    """Sum the counts of cells over the squares that hold their centres.

    Parameters
    ----------
    path
        Table of cells.
    matrix_path
        Counts of cells.
    grid
        The squares.

    Raises
    ------
    InputError
        If a file is damaged, or no cell has counts.
    """
    cells = _read_cells(path)
    counted = pd.Index(read_barcodes(matrix_path), dtype=object)
    rows = cells.index.get_indexer(counted)
    if not (rows >= 0).any():
        raise InputError(
            f"none of its {len(cells)} cells has counts: it names"
            f" {preview(list(cells.index), most=2)}, {matrix_path.name} names"
            f" {preview(list(counted), most=2)}",
            path=path,
            fix="check that cells and matrix are of one run",
        )
    placed = cells.to_numpy(dtype=np.float64)[rows[rows >= 0]]
    pooling = pool_points(grid.to_pixels(placed), grid.mpp, grid.pool_um, what="cells")
    groups = np.full(len(counted), -1, dtype=np.int64)
    groups[rows >= 0] = pooling.groups
    matrix = read_summed(matrix_path, groups, len(pooling.positions))
    return SummedCounts(matrix, pooling, pooling.note)


def sum_transcripts(
    path: Path, matrix_path: Path, grid: SquareGrid, *, in_nuclei: bool
) -> SummedCounts:
    """Sum transcripts over squares.

    Parameters
    ----------
    path
        The table, Parquet or CSV. It is read in pieces, because a section has up to some hundred
        million transcripts.
    matrix_path
        Counts of cells, whose genes are counted.
    grid
        The squares.
    in_nuclei
        Whether to count only transcripts that lie over a nucleus.

    Raises
    ------
    InputError
        If the table cannot be read, lacks a column, or has no transcript of these features.
    """
    columns = ["feature_name", *_PLACE, "qv", *([_NUCLEUS] if in_nuclei else [])]
    ids, symbols, types = read_features(matrix_path)
    genes = [at for at, kind in enumerate(types) if kind == GENE_EXPRESSION]
    ids, features, types = ([column[at] for at in genes] for column in (ids, symbols, types))
    number: dict[str, int] = {}
    for index, name in enumerate(features):
        number.setdefault(name, index)
    side_px = grid.pool_um / grid.mpp
    total = other = poor = outside = 0
    keys: list[NDArray[np.int64]] = []
    numbers: list[NDArray[np.int64]] = []
    for piece in _pieces(path, columns):
        total += len(piece)
        fine = piece["qv"].to_numpy(dtype=np.float64) >= MIN_QUALITY
        poor += int((~fine).sum())
        codes, names = pd.factorize(piece["feature_name"])
        known = np.array([number.get(_text(name), -1) for name in names], dtype=np.int64)
        feature = known[codes]
        other += int((fine & (feature < 0)).sum())
        fine &= feature >= 0
        if in_nuclei:
            within = pd.to_numeric(piece[_NUCLEUS], errors="coerce").to_numpy() == 1
            outside += int((fine & ~within).sum())
            fine &= within
        places = piece.loc[fine, _PLACE].to_numpy(dtype=np.float64)
        if not np.isfinite(places).all():
            raise InputError("has a transcript without a place", path=path, fix=_AGAIN)
        squares = np.floor(grid.to_pixels(places) / side_px).astype(np.int64)
        distinct, counted = np.unique(_packed(squares, feature[fine]), return_counts=True)
        keys.append(distinct)
        numbers.append(counted.astype(np.int64))
    summed = sum(int(counted.sum()) for counted in numbers)
    if not summed:
        raise InputError(
            f"none of its {total} transcripts is of the {len(features)} genes of the matrix, for"
            f" example {preview(list(features), most=2)}, of sound quality"
            + " and within a nucleus"
            * in_nuclei,
            path=path,
            fix="check that transcripts and matrix are of one run",
        )
    squares, feature = _unpacked(np.concatenate(keys))
    places, square = np.unique(squares, axis=0, return_inverse=True)
    pooling = pool_points((places + 0.5) * side_px, grid.mpp, grid.pool_um, what="squares")
    groups = pooling.groups[square.reshape(-1)]
    # Entries of one square and gene, from several pieces, are added.
    counts = sparse.csr_matrix(
        (np.concatenate(numbers).astype(np.float64), (groups, feature)),
        shape=(len(pooling.positions), len(features)),
    )
    left_out = [
        f"{count} {reason}"
        for count, reason in (
            (poor, f"of a quality below {MIN_QUALITY:g}"),
            (other, "of control probes and other features"),
            (outside, "outside of nuclei"),
        )
        if count
    ]
    note = (
        f"{summed} of {total} transcripts were summed over {len(pooling.positions)} squares of"
        f" {grid.pool_um:.4g} µm (option --pool-um)"
        + (f"; left out: {', '.join(left_out)}" if left_out else "")
    )
    matrix = FeatureMatrix(counts, list(pooling.positions.index), ids, features, types)
    return SummedCounts(matrix, pooling, note)


def _packed(squares: NDArray[np.int64], feature: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return one number for each (column, row, feature), because np.unique is slow on rows."""
    column, row = (squares + _FIRST).T
    return ((column * 2 * _FIRST + row) << _FEATURE_BITS) + feature


def _unpacked(keys: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the (N, 2) column and row, and the (N,) feature, of packed numbers."""
    square, feature = keys >> _FEATURE_BITS, keys & ((1 << _FEATURE_BITS) - 1)
    places = np.column_stack([square // (2 * _FIRST), square % (2 * _FIRST)]) - _FIRST
    return places, feature


def _text(name: object) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def _pieces(path: Path, columns: list[str]) -> Iterator[pd.DataFrame]:
    try:
        if path.suffix == ".parquet":
            table = pq.ParquetFile(path)
            _check_columns(table.schema_arrow.names, columns, path)
            for batch in table.iter_batches(batch_size=_PIECE, columns=columns):
                yield batch.to_pandas()
            return
        _check_columns(list(pd.read_csv(path, nrows=0).columns), columns, path)
        yield from pd.read_csv(path, usecols=columns, chunksize=_PIECE)
    except InputError:
        raise
    except (OSError, ValueError, EOFError, pa.ArrowException) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"cannot be read ({reason[:200]})", path=path, fix=_AGAIN) from error


def _check_columns(names: Sequence[str], columns: Sequence[str], path: Path) -> None:
    if absent := [name for name in columns if name not in names]:
        raise InputError(f"has no column {preview(absent)}", path=path, fix=_AGAIN)


def _read_cells(path: Path) -> pd.DataFrame:
    """Return the centres of cells in µm, indexed by cell."""
    table = read_named_columns(path, _CELL_COLUMNS)
    names = list(table["cell_id"])
    centres = table[["x_centroid", "y_centroid"]].apply(pd.to_numeric, errors="coerce")
    centres.index = pd.Index(names, dtype=object)
    if not centres.index.is_unique or not np.isfinite(centres.to_numpy()).all():
        raise InputError(
            "repeats a cell, or has a cell without a position",
            path=path,
            fix="copy the file again from the same run",
        )
    return centres
