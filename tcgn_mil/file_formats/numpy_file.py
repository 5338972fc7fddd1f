"""Read .npy and .npz files without unpickling, and no more than the file holds."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.file_formats.archive import check_archive


def read_npy(path: str | Path) -> NDArray[Any]:
    """Read a .npy file.

    The file is mapped first, because numpy then compares the shape in the header with the size of
    the file. Otherwise numpy reserves whatever memory the header claims.

    Raises
    ------
    ValueError, OSError, EOFError
        If the file is damaged, or holds pickled objects, which can run code.
    """
    return np.array(map_npy(path))


def map_npy(path: str | Path) -> NDArray[Any]:
    """Map a .npy file into memory; see :func:`read_npy`."""
    with Path(path).open("rb") as file:
        if not file.read(6) == b"\x93NUMPY":
            raise ValueError("it does not begin as a .npy file")
    mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    assert isinstance(mapped, np.ndarray)
    return mapped


def read_npz(path: str | Path) -> Any:
    """Open a .npz file after its unpacked size was compared with its limit.

    Returns
    -------
    numpy.lib.npyio.NpzFile
        Arrays by name, to be used as a context manager.

    Raises
    ------
    ValueError, OSError, zipfile.BadZipFile
        If the file is damaged, unpacks to far more than it holds, or holds pickled objects.
    """
    with zipfile.ZipFile(path) as archive:
        check_archive(archive, path)
    return np.load(path, allow_pickle=False)
