"""Pixels are checked before they reach an encoder."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.io.hdf5 import check_pixels


def test_uint8_passes_and_other_dtypes_are_named() -> None:
    check_pixels(np.zeros((2, 4, 4, 3), np.uint8), ["a", "b"])
    with pytest.raises(InputError, match="pixels of float32, not uint8") as caught:
        check_pixels(np.zeros((2, 4, 4, 3), np.float32), ["a", "b"])
    assert "NaN" not in str(caught.value)
    with pytest.raises(InputError, match="int64"):
        check_pixels(np.zeros((2, 4, 4, 3), np.int64), ["a", "b"])


def test_nan_in_a_file_is_counted_and_the_first_image_named(tmp_path: Path) -> None:
    pixels = np.zeros((3, 4, 4, 3), np.float32)
    pixels[1, 2, 2, 0] = np.nan
    pixels[2] = np.inf
    path = tmp_path / "C1_patches.h5"
    with h5py.File(path, "w") as file:
        file["img"] = pixels
        with pytest.raises(
            InputError, match=r"C1_patches\.h5.*2 of 3 images hold NaN or infinity, 5x7 the first"
        ):
            check_pixels(file["img"], ["4x4", "5x7", "6x9"], path=path)
