"""The door that pixels pass before training and encoding: 8 bits a channel, so never NaN."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.errors import InputError

_FIX = "store pixels as uint8, 0 to 255, and make the file again from the image"


def check_pixels(
    images: NDArray[Any] | Any, names: list[str], *, path: str | Path | None = None
) -> None:
    """Refuse images (N, H, W, 3), an array or an HDF5 dataset, that are not uint8.

    Parameters
    ----------
    images
        Read one by one, only where the dtype is wrong already.
    names
        Of the N images, for the message.
    path
        File they come from.

    Raises
    ------
    InputError
        If the pixels are not uint8; it says how many images hold NaN or infinity, and which is the first.
    """
    if images.dtype == np.uint8:
        return
    reason = f"has pixels of {images.dtype}, not uint8"
    if np.issubdtype(images.dtype, np.floating):
        indices = range(len(images))
        bad = [
            name
            for index, name in zip(indices, names, strict=False)
            if not np.isfinite(images[index]).all()
        ]
        if bad:
            reason += (
                f", and {len(bad)} of {len(names)} images hold NaN or infinity, {bad[0]} the first"
            )
    raise InputError(reason, path=path, fix=_FIX)
