"""Find and read the pictures of a section in an .h5ad, with their scales."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.io.hdf5 import open_hdf5
from tcgn_mil.preprocessing.sections.raw_section import SectionImage
from tcgn_mil.preprocessing.sections.readers.tenx.space_ranger import PICTURES, scale_of
from tcgn_mil.preprocessing.slides.readers.base import on_white
from tcgn_mil.text import preview

WRITE_FIX = "give a file as scanpy or squidpy write it after read_visium"
FULL = "fullres"  # name of the full-resolution picture in CELLxGENE's schema, which has no scale
_MAX_PICTURE_PX = 130_000_000
_MAX_UNFIT = 0.01  # relative, between the sizes of two pictures after scaling
_IMAGE_FIX = "give the full-resolution image with --image, or in the column image of a table"


def read_scalefactors(path: Path, key: str) -> dict[str, Any]:
    """Return the scale factors of a library; none if the file has no such library."""
    with open_hdf5(path, kind="AnnData") as file:
        stored = file.get(f"uns/spatial/{key}/scalefactors") if key else None
        if not isinstance(stored, h5py.Group):
            return {}
        return {name: stored[name][()] for name in stored if isinstance(stored[name], h5py.Dataset)}


def find_picture(
    path: Path, key: str, scalefactors: dict[str, Any]
) -> tuple[SectionImage, tuple[str, ...]]:
    """Return the largest picture of a library by its scale, and messages for the user.

    The scale of the picture ``fullres`` is 1. A picture of another name without scale is passed
    over.

    Raises
    ------
    InputError
        If there is no picture with a scale, or two pictures do not fit each other.
    """
    group = f"uns/spatial/{key}"
    with open_hdf5(path, kind="AnnData") as file:
        stored = file.get(f"{group}/images") if key else None
        stored = stored if isinstance(stored, h5py.Group) else {}
        shapes = {name: stored[name].shape for name in sorted(stored)}
    if not shapes:
        raise InputError(
            f'uns["spatial"]["{key}"] has no image' if key else "holds no image",
            path=path,
            fix=_IMAGE_FIX,
        )
    # The pictures of Space Ranger always have a scale, so that its absence is an error.
    stated = {
        name for name in shapes if f"tissue_{name}_scalef" in scalefactors or name in PICTURES
    }
    if not stated and FULL not in shapes:
        scale_of(scalefactors, next(iter(shapes)), path=path)  # raises, and names the field
    factors = {
        name: scale_of(scalefactors, name, path=path) if name in stated else 1.0
        for name in shapes
        if name in stated or name == FULL
    }
    _check_sizes(path, shapes, factors)
    largest = max(factors, key=lambda name: factors[name])
    unscaled = [name for name in shapes if name not in factors]
    notes = (f"picture {preview(unscaled)} states no scale and was passed over",) * bool(unscaled)
    image = SectionImage(
        path,
        f"{largest} image",
        factors[largest],
        load=lambda: _load_picture(path, f"{group}/images/{largest}"),
    )
    return image, notes


def _check_sizes(path: Path, shapes: dict[str, tuple[int, ...]], factors: dict[str, float]) -> None:
    """Raise InputError if the full picture has not the size that the scale of another implies."""
    if FULL not in factors or len(shapes[FULL]) < 2:
        return
    for name, scale in factors.items():
        for side, full in zip(shapes[name][:2], shapes[FULL][:2], strict=False):
            expected = full * factors[FULL]
            # A pixel more or less is due to rounding.
            if abs(side / scale - expected) > max(_MAX_UNFIT * expected, 2 / scale):
                raise InputError(
                    f"its picture {name} of {shapes[name][:2]} px has scale {scale:.4g}, which does"
                    f" not fit its picture {FULL} of {shapes[FULL][:2]} px",
                    path=path,
                    fix=_IMAGE_FIX,
                )


def _load_picture(path: Path, name: str) -> NDArray[np.uint8]:
    """Read a picture as (H, W, 3) uint8.

    Matplotlib, by which scanpy reads PNG files, gives floats from 0 to 1. Other programs store 0 to
    255, or a channel of transparency.
    """
    with open_hdf5(path, kind="AnnData", needs=(name,)) as file:
        stored = file[name]
        if stored.ndim != 3 or stored.shape[2] not in (3, 4) or not stored.size:
            raise InputError(
                f"{name} of shape {stored.shape} is not an RGB picture", path=path, fix=WRITE_FIX
            )
        if stored.shape[0] * stored.shape[1] > _MAX_PICTURE_PX:
            raise InputError(
                f"{name} has {stored.shape[1]} x {stored.shape[0]} pixels, more than the"
                f" {_MAX_PICTURE_PX / 1e6:.0f} million that are read from an .h5ad",
                path=path,
                fix="save it as a tiled TIFF and give that with --image",
            )
        pixels = stored[:]
    # The largest value tells shares of 1 from values of 0 to 255.
    if np.issubdtype(pixels.dtype, np.floating):
        top = 1.0 if np.nanmax(pixels) <= 1 else 255.0
        pixels = np.nan_to_num(pixels, nan=top) * (255 / top)
        pixels = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    if pixels.dtype != np.uint8:
        raise InputError(
            f"{name} holds {pixels.dtype}, not 8 bits per channel",
            path=path,
            fix="store it as uint8",
        )
    return on_white(pixels) if pixels.shape[2] == 4 else pixels
