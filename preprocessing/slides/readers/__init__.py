"""Readers of slide formats, one file each, and the registry through which slides are opened.

The formats are asked in this order: PNG and JPEG, OME-TIFF, DICOM, everything that OpenSlide knows,
plain TIFF. OME-TIFF comes before OpenSlide, which would open such a file without its pyramid and
its resolution. Plain TIFF is the last resort for TIFF files that OpenSlide does not open.
"""

from __future__ import annotations

from tcgn_mil.preprocessing.slides.readers import dicom, ome_tiff, plain, plain_tiff, scanned
from tcgn_mil.preprocessing.slides.readers.registry import (
    READERS,
    SlideFile,
    SlideReader,
    open_slide,
    register_slide_reader,
    slide_files,
    slide_suffixes,
    without_slide_suffix,
)

# The reader that is registered last is asked first.
for _reader in (plain_tiff.READER, scanned.READER, dicom.READER, ome_tiff.READER, plain.READER):
    register_slide_reader(_reader)

__all__ = [
    "READERS",
    "SlideFile",
    "SlideReader",
    "open_slide",
    "register_slide_reader",
    "slide_files",
    "slide_suffixes",
    "without_slide_suffix",
]
