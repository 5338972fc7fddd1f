"""Read count matrices of 10x Genomics: a file ``*_feature_bc_matrix.h5`` or a folder.

The folder holds matrix.mtx, features.tsv and barcodes.tsv. The .h5 is read by scanpy after its
parts were checked against each other. The folder is read by pandas: scanpy's ``read_10x_mtx`` needs
all three files compressed, needs a third column of features, which Cell Ranger 2 did not write, and
takes a gene that is named NA for a missing value.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.io import mminfo

from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.matrix_market import read_matrix_market
from tcgn_mil.file_formats.reading import describe_damage, reads
from tcgn_mil.io.hdf5 import open_hdf5
from tcgn_mil.io.tables.delimited import read_cells
from tcgn_mil.preprocessing.sections.genes import GENE_EXPRESSION, check_counts
from tcgn_mil.preprocessing.sections.pooling import sum_groups
from tcgn_mil.text import duplicates, preview

MAX_ENTRIES = 2_000_000_000  # stored counts; a standard section has about ten million
_H5_NEEDS = tuple(
    f"matrix/{name}"
    for name in (
        "barcodes",
        "data",
        "indices",
        "indptr",
        "shape",
        "features/id",
        "features/name",
        "features/feature_type",
    )
)
PIECE = 50_000  # bins that are read at once
_OUTSIDE = "its matrix points outside itself"
_AGAIN = "copy the file again: it may be cut off, or of another run"


@dataclass(frozen=True)
class FeatureMatrix:
    """Counts of a 10x matrix.

    Attributes
    ----------
    counts
        (S, F) float64 CSR, barcodes x features.
    barcodes
        Names of the S barcodes.
    ids, symbols, types
        Ids, symbols and types of the F features.
    """

    counts: sparse.csr_matrix
    barcodes: list[str]
    ids: list[str]
    symbols: list[str]
    types: list[str]


def matrix_files(path: Path) -> tuple[Path, ...]:
    """Return the files of a matrix: the .h5 itself, or the three files of a folder."""
    if path.suffix == ".h5":
        return (path,)
    return tuple(
        _part(path, *names)
        for names in (("matrix.mtx",), ("features.tsv", "genes.tsv"), ("barcodes.tsv",))
    )


@reads("a 10x matrix", fix="copy the file again")
def read_matrix(path: Path) -> FeatureMatrix:
    """Read a matrix from a file .h5 or from a folder.

    Raises
    ------
    InputError
        If a part is missing, cut off, or of another shape than the rest, or a value is not a count.
    """
    return _read_h5(path) if path.suffix == ".h5" else _read_mtx(path)


@reads("a 10x matrix", fix="copy the file again")
def read_barcodes(path: Path) -> list[str]:
    """Read the barcodes of a matrix, without its counts.

    Raises
    ------
    InputError
        If the file is damaged, or a barcode repeats.
    """
    if path.suffix == ".h5":
        with open_hdf5(path, kind="10x matrix", needs=_H5_NEEDS) as file:
            barcodes = _texts(file["matrix/barcodes"])
    else:
        barcodes = [str(name) for name in read_cells(matrix_files(path)[2])[0]]
    _refuse_repeated(barcodes, path)
    return barcodes


def read_features(path: Path) -> tuple[list[str], list[str], list[str]]:
    """Read ids, symbols and types of the features of a matrix, without its counts.

    Raises
    ------
    InputError
        If the file is damaged.
    """
    if path.suffix != ".h5":
        matrix = read_matrix(path)
        return matrix.ids, matrix.symbols, matrix.types
    with open_hdf5(path, kind="10x matrix", needs=_H5_NEEDS) as file:
        ids, symbols, types = (
            _texts(file[f"matrix/features/{name}"]) for name in ("id", "name", "feature_type")
        )
    return ids, symbols, types


@reads("a 10x matrix", fix="copy the file again")
def read_summed(path: Path, groups: NDArray[np.int64], number: int) -> FeatureMatrix:
    """Read a matrix and sum its barcodes by group.

    A section of Visium HD has hundreds of thousands of bins. A file .h5 is therefore read in pieces
    of :data:`PIECE` bins, so that memory holds one piece and the sums.

    Parameters
    ----------
    path
        File .h5, or a folder, which is read at once.
    groups
        Group of each barcode, in the order of :func:`read_barcodes`; -1 to leave it out.
    number
        Number of groups.

    Returns
    -------
    FeatureMatrix
        Its rows are the groups, and its barcodes their numbers as text.
    """
    names = [str(group) for group in range(number)]
    if path.suffix != ".h5":
        matrix = read_matrix(path)
        return replace(matrix, counts=sum_groups(matrix.counts, groups, number), barcodes=names)
    with open_hdf5(path, kind="10x matrix", needs=_H5_NEEDS) as file:
        _check_shapes(file["matrix"], path)
        ids, symbols, types = (
            _texts(file[f"matrix/features/{name}"]) for name in ("id", "name", "feature_type")
        )
        barcodes, total = file["matrix/barcodes"], sparse.csr_matrix((number, len(ids)))
        for start in range(0, len(groups), PIECE):
            stop = min(start + PIECE, len(groups))
            piece = check_counts(
                _read_piece(file["matrix"], start, stop, len(ids), path),
                _texts(barcodes, start, stop),
                ids,
                path=path,
            )
            total = total + sum_groups(piece, groups[start:stop], number)
    return FeatureMatrix(total, names, ids, symbols, types)


def _read_piece(
    group: h5py.Group, start: int, stop: int, features: int, path: Path
) -> sparse.csr_matrix:
    """Read the counts of the barcodes from `start` to `stop`."""
    ends = group["indptr"][start : stop + 1].astype(np.int64)
    first, last = int(ends[0]), int(ends[-1])
    if not 0 <= first <= last <= group["data"].shape[0] or (np.diff(ends) < 0).any():
        raise InputError(_OUTSIDE, path=path, fix=_AGAIN)
    indices = group["indices"][first:last]
    if len(indices) and not 0 <= indices.min() <= indices.max() < features:
        raise InputError(_OUTSIDE, path=path, fix=_AGAIN)
    return sparse.csr_matrix(
        (group["data"][first:last], indices, ends - first), shape=(stop - start, features)
    )


def _texts(dataset: h5py.Dataset, start: int = 0, stop: int | None = None) -> list[str]:
    stored = dataset[start:stop].tolist()
    return [name.decode() if isinstance(name, bytes) else str(name) for name in stored]


def _read_h5(path: Path) -> FeatureMatrix:
    _check_h5(path)
    import scanpy  # imported here, because it takes seconds

    try:
        with warnings.catch_warnings():
            # scanpy warns of repeated names; repeated barcodes are an error below, and repeated
            # symbols are summed later.
            warnings.filterwarnings(
                "ignore", message=".*names are not unique", category=UserWarning
            )
            table = scanpy.read_10x_h5(path, gex_only=False)
    except (OSError, ValueError, TypeError, LookupError, MemoryError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(
            f"cannot be read as a 10x matrix ({reason[:200]})", path=path, fix=_AGAIN
        ) from error
    return _matrix(
        table.X,
        [str(name) for name in table.obs_names],
        [str(name) for name in table.var["gene_ids"]],
        [str(name) for name in table.var_names],
        [str(kind) for kind in table.var["feature_types"]],
        path=path,
    )


def _check_h5(path: Path) -> None:
    """Raise InputError if the parts of the matrix do not fit each other.

    A sparse matrix whose indices point outside of it makes compiled code read foreign memory, so
    the indices are checked before the matrix is built.
    """
    with open_hdf5(path, kind="10x matrix", needs=_H5_NEEDS) as file:
        group = file["matrix"]
        shape, stored = _check_shapes(group, path)
        indices, indptr = group["indices"][:], group["indptr"][:]
    ordered = indptr[0] == 0 and indptr[-1] == stored and (np.diff(indptr) >= 0).all()
    if not ordered or (len(indices) and not 0 <= indices.min() <= indices.max() < shape[0]):
        raise InputError(_OUTSIDE, path=path, fix=_AGAIN)


def _check_shapes(group: h5py.Group, path: Path) -> tuple[tuple[int, ...], int]:
    """Return the shape of the matrix and the number of its stored counts, after comparing them."""
    barcodes = group["barcodes"].shape[0]
    features = {group[f"features/{name}"].shape[0] for name in ("id", "name", "feature_type")}
    shape = tuple(int(side) for side in group["shape"][:])
    stored, ends = group["data"].shape, group["indptr"].shape
    if (
        len(features) != 1
        or shape != (*features, barcodes)
        or ends != (barcodes + 1,)
        or stored != group["indices"].shape
    ):
        raise InputError(
            f"its matrix of {' x '.join(map(str, shape))} does not fit"
            f" {group['features/id'].shape[0]} features and {barcodes} barcodes",
            path=path,
            fix=_AGAIN,
        )
    _check_size(stored[0], path)
    return shape, stored[0]


def _read_mtx(folder: Path) -> FeatureMatrix:
    matrix_path, features_path, barcodes_path = matrix_files(folder)
    features, barcodes = read_cells(features_path), read_cells(barcodes_path)
    if features.shape[1] < 2:
        raise InputError(
            f"has {features.shape[1]} columns, not id, name and type",
            path=features_path,
            fix="give the features.tsv that Space Ranger wrote",
        )
    # Files of Cell Ranger 2 have no column of types; they hold genes only.
    types = features[2] if features.shape[1] > 2 else [GENE_EXPRESSION] * len(features)
    with describe_damage(matrix_path, what="a matrix", fix=_AGAIN):
        rows, columns, entries, *_ = mminfo(matrix_path)
        if (rows, columns) != (len(features), len(barcodes)):
            raise InputError(
                f"is a matrix of {rows} x {columns}, beside {len(features)} features and"
                f" {len(barcodes)} barcodes",
                path=matrix_path,
                fix=_AGAIN,
            )
        _check_size(entries, matrix_path)
        by_barcode = sparse.csr_matrix(read_matrix_market(matrix_path).T)
    return _matrix(
        by_barcode,
        list(barcodes[0]),
        list(features[0]),
        list(features[1]),
        list(types),
        path=matrix_path,
    )


def _matrix(
    counts: sparse.csr_matrix,
    barcodes: list[str],
    ids: list[str],
    symbols: list[str],
    types: Sequence[str],
    *,
    path: Path,
) -> FeatureMatrix:
    _refuse_repeated(barcodes, path)
    return FeatureMatrix(
        check_counts(counts, barcodes, ids, path=path), barcodes, ids, symbols, list(types)
    )


def _refuse_repeated(barcodes: list[str], path: Path) -> None:
    repeated = duplicates(barcodes)
    if repeated:
        raise InputError(
            f"names barcode {preview(repeated)} more than once",
            path=path,
            fix="give the matrix of one section",
        )


def _check_size(entries: int, path: Path) -> None:
    if not 0 <= entries <= MAX_ENTRIES:
        raise InputError(
            f"states {entries} counts, more than the {MAX_ENTRIES:.0e} that can be read at once",
            path=path,
            fix="give the matrix of one section",
        )


def _part(folder: Path, *names: str) -> Path:
    """Return the file, compressed as Space Ranger writes it, or not; Cell Ranger 2 wrote genes."""
    for name in names:
        for path in (folder / f"{name}.gz", folder / name):
            if path.is_file():
                return path
    raise InputError(
        f"has no {names[0]}.gz",
        path=folder,
        fix="give the whole filtered_feature_bc_matrix folder",
    )
