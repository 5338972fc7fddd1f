"""Reader of TIFF files that are neither OME-TIFF nor a scanner's: one image without a pyramid."""

from __future__ import annotations

from pathlib import Path

from tcgn_mil.preprocessing.slides.readers.base import choose_mpp
from tcgn_mil.preprocessing.slides.readers.plain import PlainSlide
from tcgn_mil.preprocessing.slides.readers.registry import SlideReader
from tcgn_mil.preprocessing.slides.readers.tiff_tags import (
    SUFFIXES,
    check_samples,
    first_page_um,
    has_unstated_sample,
    is_tiff,
    page_count,
)


def open_plain_tiff(path: Path, mpp: float | None, fallback_mpp: float | None) -> PlainSlide:
    """Open a TIFF as one image; see :class:`~.registry.SlideReader` for the arguments."""
    check_samples(path)
    pixel_um = first_page_um(path)
    slide = PlainSlide(path, choose_mpp(pixel_um, mpp, fallback_mpp, path=path))
    slide.pixel_um = pixel_um
    if has_unstated_sample(path):
        slide.notes = ("the last sample of its pixels is of no stated kind and is not read",)
    if (pages := page_count(path)) > 1:
        width, height = slide.size
        slide.notes += (f"of {pages} pages in the file, the first ({width} x {height} px) is read",)
    return slide


READER = SlideReader("plain TIFF", SUFFIXES, is_tiff, open_plain_tiff)
