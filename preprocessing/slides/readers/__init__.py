"""Readers of slide formats, one file each, and the registry through which slides are opened.

The formats are asked in this order: PNG and JPEG, OME-TIFF, DICOM, everything that OpenSlide knows,
plain TIFF. OME-TIFF comes before OpenSlide, which would open such a file without its pyramid and
its resolution. CZI comes before it as well, because OpenSlide recognises such files, but does not
decode all of them. Plain TIFF is the last resort for TIFF files that OpenSlide does not open. A
folder can only be a slide of OME-Zarr.
"""

from __future__ import annotations

from tcgn_mil.preprocessing.slides.readers import (
    dicom,
    ome_tiff,
    ome_zarr,
    plain,
    plain_tiff,
    scanned,
    zeiss,
)
from tcgn_mil.preprocessing.slides.readers.registry import (
    READERS,
    SlideFile,
    SlideReader,
    is_slide_folder,
    open_slide,
    register_slide_reader,
    slide_files,
    slide_suffixes,
    without_slide_suffix,
)

# The reader that is registered last is asked first.
for _reader in (
    plain_tiff.READER,
    scanned.READER,
    zeiss.READER,
    dicom.READER,
    ome_tiff.READER,
    ome_zarr.READER,
    plain.READER,
):
    register_slide_reader(_reader)

__all__ = [
    "READERS",
    "SlideFile",
    "SlideReader",
    "is_slide_folder",
    "open_slide",
    "register_slide_reader",
    "slide_files",
    "slide_suffixes",
    "without_slide_suffix",
]
