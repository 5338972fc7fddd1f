"""Read sparse matrices in the Matrix Market format (.mtx).

:func:`scipy.io.mmread` ends the process by a segmentation fault for some damaged lines, such as
``1 5 1: x``. The entries are therefore read by pandas.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.io import mminfo

from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.archive import gzip_size, most_unpacked, too_large


def read_matrix_market(path: Path) -> sparse.csr_matrix:
    """Read a matrix of integer or real numbers in coordinates.

    Parameters
    ----------
    path
        The file, plain or .gz. :func:`scipy.io.mminfo` tells its shape and number of entries, which
        the caller compares with its limits first.

    Raises
    ------
    InputError
        If the file unpacks to far more than it holds.
    ValueError, OSError, EOFError
        If the file is damaged, or its matrix is of another kind.

    Examples
    --------
    >>> text = "%%MatrixMarket matrix coordinate integer general\\n2 3 1\\n2 3 7\\n"
    >>> _ = Path("m.mtx").write_text(text)
    >>> read_matrix_market(Path("m.mtx")).toarray()
    array([[0, 0, 0],
           [0, 0, 7]])
    """
    rows, columns, entries, layout, field, symmetry = mminfo(path)
    if (layout, symmetry) != ("coordinate", "general") or field not in ("integer", "real"):
        raise ValueError(f"it is a {symmetry} {layout} matrix of {field} numbers")
    packed = path.stat().st_size
    is_packed = path.suffix.lower() == ".gz"
    if is_packed and (size := gzip_size(path, most_unpacked(packed))) > most_unpacked(packed):
        raise too_large(path, size, packed)
    with gzip.open(path, "rt") if is_packed else path.open(encoding="utf-8") as text:
        while text.readline().startswith("%"):
            pass  # the first other line holds the size, which mminfo read
        table = _entries(text, np.int64 if field == "integer" else np.float64)
    first, second = table["row"].to_numpy() - 1, table["column"].to_numpy() - 1
    if len(table) != entries:
        raise ValueError(f"it holds {len(table)} entries, not {entries}")
    outside = (first < 0) | (first >= rows) | (second < 0) | (second >= columns)
    if outside.any():
        raise InputError(
            f"entry {int(np.argmax(outside)) + 1} lies outside of its {rows} x {columns} matrix",
            path=path,
            fix="copy the file again",
        )
    return sparse.csr_matrix((table["value"].to_numpy(), (first, second)), shape=(rows, columns))


def _entries(text: object, number: type) -> pd.DataFrame:
    try:
        table: pd.DataFrame = pd.read_csv(
            text,  # type: ignore[call-overload]
            sep=r"\s+",
            header=None,
            names=["row", "column", "value"],
            dtype={"row": np.int64, "column": np.int64, "value": number},
            index_col=False,
        )
    except pd.errors.EmptyDataError:  # a matrix of zeros
        return pd.DataFrame({"row": [], "column": [], "value": []}, dtype=np.int64)
    return table
