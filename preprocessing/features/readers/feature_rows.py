"""Read features as rows of 16 or 32 bits, whatever form a file stores without loss.

An axis of length 1, as a batch of one slide leaves it, is removed. Values of 64 bits become 32,
which is more than encoders compute with. Coordinates in floating point become integers if they are
whole.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.errors import InputError

# Names that tools give to features and coordinates in a dictionary or an archive of arrays.
FEATURE_NAMES = ("features", "feats", "embeddings")
COORD_NAMES = ("coords", "coordinates", "positions")


def rows_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of features without an axis of length 1; other shapes are returned as is.

    Examples
    --------
    >>> rows_shape((1, 20, 1024)), rows_shape((20, 1, 1024)), rows_shape((20, 1024))
    ((20, 1024), (20, 1024), (20, 1024))
    """
    if len(shape) == 3 and 1 in shape[:2]:
        return (shape[1] if shape[0] == 1 else shape[0], shape[2])
    return shape


class FeatureRows:
    """Features (N, D) of 16 or 32 bits, read from a stored array block by block.

    Parameters
    ----------
    stored
        HDF5 dataset or array: (N, D), (1, N, D) or (N, 1, D); float16, float32 or float64.

    Examples
    --------
    >>> rows = FeatureRows(np.ones((1, 3, 2)))
    >>> rows.shape, rows.dtype.name, rows[0:2].tolist()
    ((3, 2), 'float32', [[1.0, 1.0], [1.0, 1.0]])
    """

    def __init__(self, stored: Any) -> None:
        self._stored = stored
        self.shape: tuple[int, ...] = rows_shape(tuple(stored.shape))
        self.dtype = np.dtype(np.float16 if stored.dtype == np.float16 else np.float32)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: int | slice) -> NDArray[np.floating]:
        batched = len(self._stored.shape) == 3 and self._stored.shape[0] == 1
        block = np.asarray(self._stored[0, rows] if batched else self._stored[rows])
        if len(self._stored.shape) == 3 and not batched:
            block = block[..., 0, :]
        with np.errstate(over="ignore"):
            cast = block.astype(self.dtype)
        if np.isinf(cast).any() and not np.isinf(block).any():
            raise InputError(
                "features have values beyond the range of float32",
                fix="check the encoder, and save its features as float32",
            )
        return cast


def whole_coords(coords: NDArray[Any], *, path: object) -> NDArray[Any]:
    """Return coordinates (N, 2) as integers; those of a batch of one slide lose its axis.

    Parameters
    ----------
    coords
        Level-0 pixels, as integers or as whole numbers in floating point.
    path
        Their file, for the error message.

    Raises
    ------
    InputError
        If a coordinate is not whole.
    """
    coords = coords[0] if coords.ndim == 3 and len(coords) == 1 else coords
    if coords.dtype.kind != "f":
        return coords
    rounded = np.rint(coords)
    if not np.array_equal(rounded, coords):
        raise InputError(
            "coords are not whole level-0 pixels",
            path=str(path),
            fix="round them and save them as integers, if they are in level-0 pixels",
        )
    return rounded.astype(np.int64)
