"""Reader of CZI slides of ZEISS scanners, by OpenSlide or by ZEISS's own pylibCZIrw.

OpenSlide reads such files if their pixels are not packed with JPEG XR, which is the usual way of
storing them. All others need the extra ``[czi]``, which installs pylibCZIrw (LGPL 3). A file is
read in the same way on every machine, because OpenSlide is used wherever it can.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any
from xml.parsers import expat

import numpy as np
import openslide
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.extras import has_extra, install_line, need_extra
from tcgn_mil.preprocessing.slides.readers.base import Slide, choose_mpp
from tcgn_mil.preprocessing.slides.readers.registry import SlideReader
from tcgn_mil.preprocessing.slides.readers.scanned import open_scanned
from tcgn_mil.preprocessing.zarr_store import MAX_CHUNK_BYTES

_SIGNATURE = b"ZISRAWFILE"
_PACKAGE = "pylibCZIrw"
_CHANNELS = {"Bgr24": 3, "Bgr48": 3, "Gray8": 1, "Gray16": 1}
_WHITE = (1.0, 1.0, 1.0)
_GRID = 128  # cells along a side, to see which part of a slide a pyramid level covers
_COVERED = 0.98
_DAMAGED = (OSError, ValueError, RuntimeError, TypeError, KeyError, IndexError)
# libCZI keeps unpacked blocks, as OpenSlide does; see scanned.CACHE_BYTES.
_CACHE_BYTES = 128 * 2**20


def is_czi(path: Path) -> bool:
    """Return whether a file is a CZI, judged by its first bytes."""
    try:
        with path.open("rb") as file:
            return file.read(len(_SIGNATURE)) == _SIGNATURE
    except OSError:
        return False


def open_czi(path: Path, mpp: float | None, fallback_mpp: float | None) -> Slide:
    """Open a CZI; see :class:`~.registry.SlideReader` for the arguments.

    Raises
    ------
    InputError
        If OpenSlide cannot read it and pylibCZIrw is missing or cannot either; if it has several
        channels or planes, or its resolution is unknown.
    """
    if not has_extra(_PACKAGE):
        if not _openslide_reads(path):
            raise InputError(
                "is a CZI that OpenSlide does not read; pylibCZIrw, which may, is not installed",
                path=path,
                fix=install_line(_PACKAGE),
            )
        return open_scanned(path, mpp, fallback_mpp)
    slide = CziSlide(path)
    if not slide.has_jpeg_xr and _openslide_reads(path):
        slide.close()
        return open_scanned(path, mpp, fallback_mpp)
    try:
        slide.mpp = choose_mpp(slide.pixel_um, mpp, fallback_mpp, path=path)
    except InputError:
        slide.close()
        raise
    return slide


class CziSlide(Slide):
    """A CZI that pylibCZIrw opened; all its scenes lie on one white plane.

    Levels are those that the whole slide has in the file. Without them libCZI would leave out
    pixels to make a picture smaller, and what it makes is not a mean of them.
    """

    def __init__(self, path: Path) -> None:
        need_extra(_PACKAGE, "reading CZI", path=path)
        from pylibCZIrw import czi

        self.path = path
        try:
            cache = czi.CacheOptions(czi.CacheType.Standard, max_memory_usage=_CACHE_BYTES)
            self._reader = czi.CziReader(str(path), cache_options=cache)
        except _DAMAGED as error:
            raise self._broken(error) from error
        try:
            self._check_planes()
            self._open_levels()
            self.pixel_um = read_scaling(self._reader.raw_metadata)
        except InputError:
            self.close()
            raise
        except _DAMAGED as error:
            self.close()
            raise self._broken(error) from error

    def _check_planes(self) -> None:
        """Raise InputError unless the file is one plane of RGB or grey of 8 or 16 bits."""
        box, kinds = self._reader.total_bounding_box, self._reader.pixel_types
        kind = str(kinds.get(0))
        several = {axis: box[axis] for axis in "TZC" if box.get(axis, (0, 1))[1] > 1}
        if several or kind not in _CHANNELS:
            shown = ", ".join(f"{axis} {stop - start}" for axis, (start, stop) in several.items())
            raise InputError(
                f"is no brightfield slide of one plane: its pixels are {kind}"
                + (f", of {shown}" if shown else ""),
                path=self.path,
                fix="export the brightfield image as RGB, for example as OME-TIFF",
            )
        self.bits = 16 if kind in ("Bgr48", "Gray16") else 8
        self._is_rgb = _CHANNELS[kind] == 3

    def _open_levels(self) -> None:
        box = self._reader.total_bounding_rectangle_no_pyramid
        self._corner, self.size = (box.x, box.y), (box.w, box.h)
        if min(self.size) < 1:
            raise InputError("holds no pixels", path=self.path, fix="copy the file again")
        covered: dict[int, NDArray[np.bool_]] = {}
        self.has_jpeg_xr = False

        def note(_index: int, block: Any) -> bool:
            physical, logical = block.physicalSize, block.logicalRect
            if physical.w * physical.h * 8 > MAX_CHUNK_BYTES:
                raise InputError(
                    f"has a block of {physical.w} x {physical.h} pixels",
                    path=self.path,
                    fix="copy the file again",
                )
            self.has_jpeg_xr |= "xr" in str(block.get_compression_mode()).lower()
            step = max(1, round(max(logical.w, logical.h) / max(physical.w, physical.h, 1)))
            cells = covered.setdefault(step, np.zeros((_GRID, _GRID), dtype=bool))
            columns = _cells(logical.x - box.x, logical.w, box.w)
            rows = _cells(logical.y - box.y, logical.h, box.h)
            cells[rows, columns] = True
            return True

        self._reader.enumerate_subblocks(note)
        finest = covered.get(1, np.ones((_GRID, _GRID), dtype=bool))
        whole = {
            step
            for step, cells in covered.items()
            if (cells & finest).sum() >= _COVERED * finest.sum()
        }
        self._steps = tuple(step for step in sorted({1} | whole) if min(self.size) >= step)
        self.level_downsamples = tuple(float(step) for step in self._steps)
        self.level_sizes = tuple(
            (self.size[0] // step, self.size[1] // step) for step in self._steps
        )

    def _read(
        self, x0: int, y0: int, level: int, width_px: int, height_px: int
    ) -> NDArray[np.uint8]:
        step = self._steps[level]
        # Half a step more, so that the size in pixels of the level is not rounded down by one.
        width, height = (side * step + step // 2 for side in (width_px, height_px))
        region = (x0 + self._corner[0], y0 + self._corner[1], width, height)
        try:
            pixels = self._reader.read(
                roi=region, plane={"C": 0}, zoom=1 / step, background_pixel=_WHITE
            )
        except _DAMAGED as error:
            raise self._broken(error) from error
        pixels = pixels[:height_px, :width_px]
        eight = pixels if self.bits == 8 else (pixels >> 8).astype(np.uint8)
        if not self._is_rgb:
            return np.repeat(eight.reshape(height_px, width_px, 1), 3, axis=2)
        return np.ascontiguousarray(eight[..., ::-1])  # stored as blue, green, red

    def _broken(self, error: Exception) -> InputError:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        return InputError(
            f"cannot be read as CZI ({reason[:200]})",
            path=self.path,
            fix="copy or download it again, and compare its size with the source's",
        )

    def close(self) -> None:
        self._reader.close()


def read_scaling(xml: str) -> tuple[float, float] | None:
    """Read the width and the height of a pixel in micrometres from the metadata of a CZI.

    Parameters
    ----------
    xml
        The metadata. ``Distance`` elements give the size of a pixel in metres.

    Returns
    -------
    tuple of float, or None
        None if one of the two is missing or not above 0, or the XML declares a document type.

    Examples
    --------
    >>> read_scaling(
    ...     "<M><Distance Id='X'><Value>2.5e-07</Value></Distance>"
    ...     "<Distance Id='Y'><Value>5e-07</Value></Distance></M>"
    ... )
    (0.25, 0.5)
    """
    sides: dict[str, float] = {}
    place = {"axis": "", "text": ""}

    def start(tag: str, attributes: dict[str, str]) -> None:
        if tag == "Distance":
            place["axis"] = attributes.get("Id", "")
        place["text"] = ""

    def end(tag: str) -> None:
        if tag == "Value" and place["axis"] in ("X", "Y"):
            with contextlib.suppress(ValueError):
                sides.setdefault(place["axis"], round(float(place["text"]) * 1e6, 9))
        elif tag == "Distance":
            place["axis"] = ""

    def text(data: str) -> None:
        place["text"] += data

    def refuse(*_: object) -> None:
        raise ValueError("document type")

    parser = expat.ParserCreate("utf-8")
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = text, refuse
    try:
        parser.Parse(xml.encode("utf-8", "replace"), True)
    except (expat.ExpatError, ValueError):
        return None
    x, y = sides.get("X", 0.0), sides.get("Y", 0.0)
    return (x, y) if 0 < x < float("inf") and 0 < y < float("inf") else None


def _cells(start: int, length: int, whole: int) -> slice:
    """Return the cells of the grid that a range of pixels touches."""
    return slice(start * _GRID // whole, -(-(start + length) * _GRID // whole))


def _openslide_reads(path: Path) -> bool:
    try:
        openslide.OpenSlide(path).close()
    except openslide.OpenSlideError:
        return False
    return True


READER = SlideReader("CZI", frozenset({".czi"}), is_czi, open_czi)
