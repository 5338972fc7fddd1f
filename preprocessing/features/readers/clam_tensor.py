"""Read the ``.pt`` files of CLAM: one tensor of features for each slide, without positions.

Positions come from the file of the same slide in the folder ``h5_files`` beside ``pt_files``, if
it is there. Other tools save a dictionary of the tensors ``features`` and ``coords``, which is read
as well. No pickled code is executed.

A tensor of shape (D,) is a vector of the slide, as slide encoders return it. CLAM writes none, so
that its encoder is named ``tensor-slide:<name>``.
"""

from __future__ import annotations

import codecs
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.archive import check_archive
from tcgn_mil.preprocessing.features.readers.base import (
    MAX_BYTES,
    SLIDE,
    FeatureReader,
    ForeignFeatures,
    check_coords_shape,
    check_features,
)
from tcgn_mil.preprocessing.features.readers.clam import open_clam
from tcgn_mil.preprocessing.features.readers.feature_rows import (
    COORD_NAMES,
    FEATURE_NAMES,
    FeatureRows,
    rows_shape,
    whole_coords,
)
from tcgn_mil.text import preview

SUFFIXES = (".pt",)

_TERMINAL = re.compile("\x1b\\[[0-9;]*m")  # torch writes its messages in bold


def is_clam_tensor(path: Path) -> bool:
    """Return whether a file is a saved tensor, judged by its suffix."""
    return path.suffix.lower() in SUFFIXES


@contextmanager
def open_clam_tensor(path: Path) -> Iterator[ForeignFeatures]:
    """Open a tensor of features, with the positions of the HDF5 file beside it."""
    features, coords = _read_tensors(path)
    if features.ndim == 1:
        yield ForeignFeatures("tensor", FeatureRows(features[None]), None, level=SLIDE)
        return
    rows = FeatureRows(features)
    beside = path.parent.parent / "h5_files" / f"{path.stem}.h5"
    if coords is None and path.parent.name == "pt_files" and beside.is_file():
        with open_clam(beside) as with_coords:
            coords = with_coords.coords
        if coords is None or len(coords) != len(rows):
            raise InputError(
                f"has {len(rows)} tiles, but h5_files/{beside.name} has another number",
                path=path,
                fix="encode the slide again",
            )
    yield ForeignFeatures("clam", rows, coords)


def _read_tensors(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Read features and, if there are any, coordinates, mapped into memory where possible."""
    import torch

    if not path.is_file():
        raise InputError("no such feature file", path=path, fix="check the path")
    if path.stat().st_size > MAX_BYTES:
        raise InputError(
            f"is over {MAX_BYTES // 2**30} GiB", path=path, fix="check that it is a feature file"
        )
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                check_archive(archive, path)
        # weights_only: a pickle may run any code when it is loaded, and this file is foreign.
        with torch.serialization.safe_globals(_numpy_globals()):
            tensor = torch.load(
                path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
            )
    except InputError:
        raise
    except Exception as error:  # torch lets the errors of many parts of its reader through
        reason = _TERMINAL.sub("", str(error) or type(error).__name__).splitlines()[0][:120]
        raise InputError(
            f"cannot be read as a tensor ({reason})",
            path=path,
            fix="save one tensor of float32 again with torch.save, without other objects",
        ) from error
    if not isinstance(tensor, dict):
        return _checked(_as_array(tensor, path), path), None
    named = [str(name) for name in tensor]
    name = next((name for name in FEATURE_NAMES if name in tensor), None)
    if name is None:
        raise InputError(
            f"holds a dictionary without features; its names are {preview(named)}",
            path=path,
            fix=f"save the tensor alone, or under the name {FEATURE_NAMES[0]}",
        )
    features = _checked(_as_array(tensor[name], path), path)
    place = next((name for name in COORD_NAMES if tensor.get(name) is not None), None)
    if place is None or features.ndim == 1:
        return features, None
    coords = whole_coords(_as_array(tensor[place], path), path=path)
    check_coords_shape(coords, rows_shape(features.shape)[0], path=path)
    return features, coords


def _numpy_globals() -> list[Any]:
    """Return what a pickled array of numbers is made of, under its old and its new names.

    None of these runs code of the file.
    """
    rebuild = np.zeros(0).__reduce__()[0]
    kinds = [
        type(np.dtype(code)) for code in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u4", "u8")
    ]
    old_names = [(rebuild, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")]
    return [*old_names, (codecs.encode, "_codecs.encode"), np.ndarray, np.dtype, *kinds]


def _as_array(tensor: object, path: Path) -> np.ndarray:
    """Return a tensor as an array; bfloat16, which NumPy does not have, becomes float32."""
    import torch

    if isinstance(tensor, np.ndarray):
        return tensor
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
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise InputError(
            "repeats its values without storing them (an expanded tensor)",
            path=path,
            fix="save tensor.contiguous()",
        )
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).detach().numpy()


def _checked(values: np.ndarray, path: Path) -> np.ndarray:
    shape = (1, *values.shape) if values.ndim == 1 and values.size else rows_shape(values.shape)
    check_features(shape, values.dtype, path=path)
    return values


READER = FeatureReader("clam-tensor", SUFFIXES, is_clam_tensor, open_clam_tensor)
