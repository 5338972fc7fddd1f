"""10x Genomics count matrices: ``*_feature_bc_matrix.h5``, or the folder of matrix.mtx, features.tsv, barcodes.tsv."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from scipy import sparse
from scipy.io import mminfo, mmread

from tcgn_mil.errors import InputError
from tcgn_mil.io.hdf5 import open_hdf5
from tcgn_mil.io.tables.delimited import read_cells
from tcgn_mil.preprocessing.sections.genes import check_counts
from tcgn_mil.text import duplicates, preview

MAX_ENTRIES = 2_000_000_000  # stored counts; a standard section has some ten million
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
_AGAIN = "copy the file again: it may be cut off, or of another run"


@dataclass(frozen=True)
class FeatureMatrix:
    """Counts as 10x writes them.

    Attributes
    ----------
    counts
        (S, F) float64 CSR, barcodes x features.
    barcodes
        S names.
    ids, symbols, types
        Of the F features.
    """

    counts: sparse.csr_matrix
    barcodes: list[str]
    ids: list[str]
    symbols: list[str]
    types: list[str]


def matrix_files(path: Path) -> tuple[Path, ...]:
    """The files of a matrix: the .h5 itself, or the three of a folder."""
    if path.suffix == ".h5":
        return (path,)
    return tuple(_part(path, name) for name in ("matrix.mtx", "features.tsv", "barcodes.tsv"))


def read_matrix(path: Path) -> FeatureMatrix:
    """Read either form.

    Raises
    ------
    InputError
        If a part is missing, cut off, of another shape than the rest, or holds values that are no counts.
    """
    return _read_h5(path) if path.suffix == ".h5" else _read_mtx(path)


def _read_h5(path: Path) -> FeatureMatrix:
    with open_hdf5(path, kind="10x matrix", needs=_H5_NEEDS) as file:
        group = file["matrix"]
        barcodes, *features = (
            _text(group[name])
            for name in ("barcodes", "features/id", "features/name", "features/feature_type")
        )
        shape = tuple(int(side) for side in group["shape"][:])
        stored, ends = group["data"].shape, group["indptr"].shape
        if (
            shape != (len(features[0]), len(barcodes))
            or len({len(part) for part in features}) != 1
            or ends != (len(barcodes) + 1,)
            or stored != group["indices"].shape
        ):
            raise InputError(
                f"its matrix of {' x '.join(map(str, shape))} does not fit {len(features[0])} features and"
                f" {len(barcodes)} barcodes",
                path=path,
                fix=_AGAIN,
            )
        _check_size(stored[0], path)
        data, indices, indptr = (group[name][:] for name in ("data", "indices", "indptr"))
    ordered = (
        len(indptr) and indptr[0] == 0 and indptr[-1] == len(data) and (np.diff(indptr) >= 0).all()
    )
    if not ordered or (len(indices) and not 0 <= indices.min() <= indices.max() < shape[0]):
        raise InputError("its matrix points outside itself", path=path, fix=_AGAIN)
    by_barcode = sparse.csr_matrix((data, indices, indptr), shape=shape[::-1])
    return _matrix(by_barcode, barcodes, *features, path=path)


def _text(dataset: h5py.Dataset) -> list[str]:
    return [name.decode() if isinstance(name, bytes) else str(name) for name in dataset[:]]


def _read_mtx(folder: Path) -> FeatureMatrix:
    matrix_path, features_path, barcodes_path = matrix_files(folder)
    features, barcodes = read_cells(features_path), read_cells(barcodes_path)
    if features.shape[1] < 2:
        raise InputError(
            f"has {features.shape[1]} columns, not id, name and type",
            path=features_path,
            fix="give Space Ranger's own",
        )
    types = (
        features[2] if features.shape[1] > 2 else ["Gene Expression"] * len(features)
    )  # before Cell Ranger 3
    try:
        rows, columns, entries, *_ = mminfo(matrix_path)
        if (rows, columns) != (len(features), len(barcodes)):
            raise InputError(
                f"is a matrix of {rows} x {columns}, beside {len(features)} features and {len(barcodes)} barcodes",
                path=matrix_path,
                fix=_AGAIN,
            )
        _check_size(entries, matrix_path)
        by_feature = mmread(matrix_path)
    except InputError:
        raise
    except (OSError, EOFError, ValueError, OverflowError, zlib.error, gzip.BadGzipFile) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(
            f"cannot be read as a matrix ({reason[:200]})", path=matrix_path, fix=_AGAIN
        ) from error
    return _matrix(
        sparse.csr_matrix(by_feature.T),
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
    repeated = duplicates(barcodes)
    if repeated:
        raise InputError(
            f"names barcode {preview(repeated)} more than once", path=path, fix="give one section"
        )
    return FeatureMatrix(
        check_counts(counts, barcodes, ids, path=path), barcodes, ids, symbols, list(types)
    )


def _check_size(entries: int, path: Path) -> None:
    if not 0 <= entries <= MAX_ENTRIES:
        raise InputError(
            f"states {entries} counts, over the {MAX_ENTRIES:.0e} read at once",
            path=path,
            fix="give one section",
        )


def _part(folder: Path, name: str) -> Path:
    """The file as Space Ranger compresses it, or plain."""
    for found in (folder / f"{name}.gz", folder / name):
        if found.is_file():
            return found
    raise InputError(
        f"has no {name}.gz", path=folder, fix="give the whole filtered_feature_bc_matrix folder"
    )
