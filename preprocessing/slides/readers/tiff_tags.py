"""Read what the tags of a TIFF say: the size of a pixel, and the bits of a channel."""

from __future__ import annotations

from pathlib import Path

import tifffile

from tcgn_mil.errors import InputError

SUFFIXES = frozenset({".tif", ".tiff", ".btf", ".tf2", ".tf8"})
# Byte order, then 42 for a TIFF or 43 for a BigTIFF.
_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_UM_PER_UNIT = {2: 25_400.0, 3: 10_000.0}  # inch, centimetre; 1 means no unit
DAMAGED = (Exception,)  # tifffile raises errors of many classes for damaged files
# Readers unpack a whole tile to show a part of it. Scanners write tiles of 256 to 2048 pixels.
MAX_TILE_PX = 2**25


def is_tiff(path: Path) -> bool:
    """Return whether a file is a TIFF or BigTIFF, judged by its first bytes.

    The suffix does not matter: 10x Genomics names its images ``.btf``, and a download may have lost
    its suffix.
    """
    try:
        with path.open("rb") as file:
            return file.read(4) in _SIGNATURES
    except OSError:
        return False


def pixel_um(page: tifffile.TiffPage) -> tuple[float, float] | None:
    """Read the width and the height of a pixel in micrometres from the resolution tags of a page.

    A resolution whose unit is missing is not used. The TIFF standard then means inches, but some
    writers leave out the unit and mean centimetres.

    Returns
    -------
    tuple of float, or None
        None if a tag is missing, or the resolution has no unit of length.
    """
    unit = _UM_PER_UNIT.get(int(_number(page, "ResolutionUnit")))
    x, y = (_number(page, name) for name in ("XResolution", "YResolution"))
    return (unit / x, unit / y) if unit and x and y else None


def first_page_um(path: Path) -> tuple[float, float] | None:
    """Read the size of a pixel of the first page of a file; None if it cannot be read."""
    try:
        with tifffile.TiffFile(path) as file:
            return pixel_um(file.pages.first)
    except DAMAGED:
        return None


def page_count(path: Path) -> int:
    """Return the number of pages of a file; 1 if it cannot be read."""
    try:
        with tifffile.TiffFile(path) as file:
            return len(file.pages)
    except DAMAGED:
        return 1


def bits_of(path: Path) -> int:
    """Return the bits of a channel of the first page of a file; 8 if they cannot be read."""
    try:
        with tifffile.TiffFile(path) as file:
            return int(file.pages.first.bitspersample)
    except DAMAGED:
        return 8


def check_samples(path: Path) -> None:
    """Check that the pixels of a file are grey, RGB or either with transparency.

    Libraries take a fifth sample, as multispectral images have it, for transparency, or drop it.

    Raises
    ------
    InputError
        If a pixel of the first page has more than four samples, or samples of more than 16
        bits; or if its tiles are very large.
    """
    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages.first
            samples, bits = int(page.samplesperpixel), int(page.bitspersample)
            # A pyramid has a page for each level.
            tiles = [(int(each.tilewidth), int(each.tilelength)) for each in file.pages]
    except DAMAGED:
        return  # the reader says what is wrong
    for tile in tiles:
        check_tile(tile, path)
    if samples > 4 or bits > 16:
        raise InputError(
            f"has {samples} samples of {bits} bits per pixel, which is not grey or RGB of 8 or 16"
            " bits",
            path=path,
            fix="convert it to 8-bit RGB",
        )


def check_tile(tile: tuple[int, int], path: Path) -> None:
    """Raise InputError if a tile of a TIFF is so large that reading it needs gigabytes."""
    if tile[0] * tile[1] > MAX_TILE_PX:
        raise InputError(
            f"has tiles of {tile[0]} x {tile[1]} pixels, which do not fit into memory one by one",
            path=path,
            fix="convert it to a TIFF with tiles of 512 x 512 pixels",
        )


def has_unstated_sample(path: Path) -> bool:
    """Return whether the last sample of a pixel is of no stated kind.

    Photoshop stores masks and spot colours so. libtiff, by which OpenSlide reads, takes such a
    sample for transparency, which would hide what lies outside a mask.
    """
    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages.first
            return int(page.samplesperpixel) in (2, 4) and 0 in map(int, page.extrasamples)
    except DAMAGED:
        return False


def _number(page: tifffile.TiffPage, name: str) -> float:
    """Return a tag as a number; 0 if it is missing, zero or no number."""
    tag = page.tags.get(name)
    value = 0 if tag is None else tag.value
    try:
        if isinstance(value, tuple):
            return float(value[0]) / float(value[1])
        return float(value)
    except (TypeError, ValueError, ZeroDivisionError, IndexError):
        return 0.0
