"""TODO: say what preprocessing/slides/readers holds."""

from __future__ import annotations

from pathlib import Path

import openslide

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.slides.readers.base import (
    PLAIN_SUFFIXES,
    TIFF_SUFFIXES,
    Slide,
    choose_mpp,
)
from tcgn_mil.preprocessing.slides.readers.plain import PlainSlide, check_file, tiff_mpp
from tcgn_mil.preprocessing.slides.readers.scanned import _open_scanned
from tcgn_mil.types.tile_geometry import check_mpp


def open_slide(
    path: str | Path, *, mpp: float | None = None, fallback_mpp: float | None = None
) -> Slide:
    """Open a slide or a plain image.

    Parameters
    ----------
    path
        Anything OpenSlide opens, or a PNG, JPEG or TIFF.
    mpp
        µm per pixel that the user states for this slide; must agree with the file, if that has one.
    fallback_mpp
        µm per pixel for a slide of which neither is known.

    Raises
    ------
    InputError
        If the file is missing, empty, damaged or of no known format, or its resolution is unknown or contradictory.
    """
    path = Path(path)
    check_file(path)
    for name, value in (("mpp", mpp), ("fallback mpp", fallback_mpp)):
        if value is not None:
            check_mpp(value, what=name, path=path)
    if path.suffix.lower() in PLAIN_SUFFIXES - TIFF_SUFFIXES:
        return PlainSlide(path, choose_mpp(None, mpp, fallback_mpp, path=path))
    if path.suffix.lower() in TIFF_SUFFIXES:
        from tcgn_mil.preprocessing.slides.readers.ome_tiff import OmeSlide, is_ome_tiff

        if is_ome_tiff(path):
            return OmeSlide(path, mpp, fallback_mpp)
    if openslide.OpenSlide.detect_format(path) is not None:
        return _open_scanned(path, mpp, fallback_mpp)
    if path.suffix.lower() in TIFF_SUFFIXES:
        return PlainSlide(path, choose_mpp(tiff_mpp(path), mpp, fallback_mpp, path=path))
    raise InputError(
        "is no slide that OpenSlide knows (another kind of file, or cut off)",
        path=path,
        fix="check that the file is whole (its size against the source's), or convert it to a tiled TIFF",
    )
