"""Reader of TIFF files that are neither OME-TIFF nor a scanner's: one image without a pyramid."""

from __future__ import annotations

from pathlib import Path

from tcgn_mil.preprocessing.slides.readers.base import choose_mpp
from tcgn_mil.preprocessing.slides.readers.plain import PlainSlide, tiff_mpp
from tcgn_mil.preprocessing.slides.readers.registry import SlideReader

SUFFIXES = frozenset({".tif", ".tiff"})


def is_tiff(path: Path) -> bool:
    """Return whether the file has the suffix of a TIFF."""
    return path.suffix.lower() in SUFFIXES


def open_plain_tiff(path: Path, mpp: float | None, fallback_mpp: float | None) -> PlainSlide:
    """Open a TIFF as one image; see :class:`~.registry.SlideReader` for the arguments."""
    return PlainSlide(path, choose_mpp(tiff_mpp(path), mpp, fallback_mpp, path=path))


READER = SlideReader("plain TIFF", SUFFIXES, is_tiff, open_plain_tiff)
