"""Read the ``.pt`` files of CLAM: one tensor of features for each slide, without positions.

Positions come from the file of the same slide in the folder ``h5_files`` beside ``pt_files``, if
it is there. No pickled code is executed.

A tensor of shape (D,) is a vector of the slide, as slide encoders return it. CLAM writes none, so
that its encoder is named ``tensor-slide:<name>``.
"""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.features.readers.base import (
    MAX_BYTES,
    SLIDE,
    FeatureReader,
    ForeignFeatures,
    check_features,
)
from tcgn_mil.preprocessing.features.readers.clam import open_clam

SUFFIXES = (".pt",)

# Exceptions that torch.load raises for damaged files.
_UNREADABLE = (
    RuntimeError,
    OSError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    MemoryError,
    struct.error,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
)


def is_clam_tensor(path: Path) -> bool:
    """Return whether a file is a saved tensor, judged by its suffix."""
    return path.suffix in SUFFIXES


@contextmanager
def open_clam_tensor(path: Path) -> Iterator[ForeignFeatures]:
    """Open a tensor of features, with the positions of the HDF5 file beside it."""
    features = _read_tensor(path)
    if features.ndim == 1:
        yield ForeignFeatures("tensor", features[None], None, level=SLIDE)
        return
    beside = path.parent.parent / "h5_files" / f"{path.stem}.h5"
    coords = None
    if path.parent.name == "pt_files" and beside.is_file():
        with open_clam(beside) as with_coords:
            coords = with_coords.coords
        if coords is None or len(coords) != len(features):
            raise InputError(
                f"has {len(features)} tiles, but h5_files/{beside.name} has another number",
                path=path,
                fix="encode the slide again",
            )
    yield ForeignFeatures("clam", features, coords)


def _read_tensor(path: Path) -> np.ndarray:
    """Read (N, D) or (D,) features, mapped into memory if the file's format allows it."""
    import torch

    if not path.is_file():
        raise InputError("no such feature file", path=path, fix="check the path")
    if path.stat().st_size > MAX_BYTES:
        raise InputError(
            f"is over {MAX_BYTES // 2**30} GiB", path=path, fix="check that it is a feature file"
        )
    try:
        # weights_only: a pickle may run any code when it is loaded, and this file is foreign.
        tensor = torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except _UNREADABLE as error:
        reason = (str(error) or type(error).__name__).splitlines()[0][:120]
        raise InputError(
            f"cannot be read as a tensor ({reason})", path=path, fix="save the tensor again"
        ) from error
    return _as_array(tensor, path)


def _as_array(tensor: object, path: Path) -> np.ndarray:
    import torch

    if (
        not isinstance(tensor, torch.Tensor)
        or tensor.layout != torch.strided
        or tensor.device.type != "cpu"
    ):
        raise InputError(
            f"holds a {type(tensor).__name__}, not one dense tensor",
            path=path,
            fix="save one tensor of shape (N, D)",
        )
    if tensor.dtype not in (torch.float16, torch.float32):
        raise InputError(
            f"features are {tensor.dtype}, not float16 or float32",
            path=path,
            fix="encode the slide again",
        )
    values = tensor.detach().numpy()
    shape = (1, *values.shape) if values.ndim == 1 and values.size else values.shape
    check_features(shape, values.dtype, path=path)
    return values


READER = FeatureReader("clam-tensor", SUFFIXES, is_clam_tensor, open_clam_tensor)
