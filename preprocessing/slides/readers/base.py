"""Interface of an open slide, and the rules for its resolution, which all slide readers share."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from itertools import pairwise
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.reading import describe_damage
from tcgn_mil.preprocessing.slides.resample import resample_to
from tcgn_mil.types.tile_geometry import MPP_RANGE, check_mpp

MPP_TOLERANCE = 0.02  # relative; scanners round their resolution, and x and y differ a little
MAX_READ_PX = 100_000_000
# A thumbnail is read in bands of this many pixels, which bounds the memory to about 60 MB.
BAND_PX = 8_000_000
# Images beside the section, by the names that scanners and Bio-Formats give them.
NO_SECTION = re.compile(r"\b(label|macro|overview|thumbnail|barcode)\b", re.IGNORECASE)


class Slide(ABC):
    """An open slide. Use it as a context manager, so that its file is closed.

    A subclass sets the attributes below, and implements ``_read`` and :meth:`close`.

    Attributes
    ----------
    path
        File of the slide.
    mpp
        Micrometres per pixel of level 0.
    size
        Width and height of level 0 in pixels.
    level_sizes
        Width and height of each pyramid level in pixels, finest level first.
    level_downsamples
        For each level, how many times it is coarser than level 0.
    pixel_um
        Width and height of a pixel in micrometres as the file states them; None if it does not.
    file_mpp
        Micrometres per pixel that the file states, if the user's value is used in spite of it
        (:func:`~.registry.open_slide` with `override_mpp`); else None.
    bounds_corner
        Corner of the scanned area in level-0 pixels, x then y, for formats that state one. Viewers
        such as QuPath crop the slide there.
    bits
        Bits of a channel in the file. Pixels are read as 8 bits.
    notes
        Facts about the file that a user should know, for example its other images.
    """

    path: Path
    mpp: float
    size: tuple[int, int]
    level_sizes: tuple[tuple[int, int], ...]
    level_downsamples: tuple[float, ...]
    pixel_um: tuple[float, float] | None = None
    file_mpp: float | None = None
    bounds_corner: tuple[int, int] = (0, 0)
    bits: int = 8
    notes: tuple[str, ...] = ()

    def read(
        self, x0: int, y0: int, level: int, width_px: int, height_px: int
    ) -> NDArray[np.uint8]:
        """Read the pixels of a rectangle.

        Parameters
        ----------
        x0, y0
            Top-left corner in level-0 pixels. It may be outside the slide.
        level
            Pyramid level to read.
        width_px, height_px
            Size of the rectangle in pixels of that level.

        Returns
        -------
        (height_px, width_px, 3) uint8 RGB
            Pixels outside the slide and transparent pixels are white.

        Raises
        ------
        InputError
            If the file is damaged in this place, or more than `MAX_READ_PX` pixels are requested.
        """
        if width_px * height_px > MAX_READ_PX:
            raise InputError(
                f"{width_px} x {height_px} pixels of level {level} are too many to read at once",
                path=self.path,
                fix="use a slide with coarser pyramid levels, or smaller tiles",
            )
        with describe_damage(self.path, what="a slide", fix="copy the file again"):
            return self._read(x0, y0, level, width_px, height_px)

    def thumbnail(self, mpp: float) -> NDArray[np.uint8]:
        """Read the whole slide at a coarse resolution.

        The slide is read in horizontal bands, so that memory stays bounded for slides without
        coarse pyramid levels.

        Parameters
        ----------
        mpp
            Micrometres per pixel of the thumbnail.

        Returns
        -------
        (H, W, 3) uint8 RGB

        Raises
        ------
        InputError
            If `mpp` is implausible, or the file is damaged.
        """
        factor = check_mpp(mpp, what="thumbnail resolution") / self.mpp
        width, height = (max(1, round(side / factor)) for side in self.size)
        # The coarsest level that is not coarser than the thumbnail: averaging keeps what is there,
        # enlarging would invent it. The small allowance is for downsamples such as 4.0001.
        finer = [
            i for i, downsample in enumerate(self.level_downsamples) if downsample <= factor * 1.001
        ]
        level = finer[-1] if finer else 0
        level_width, level_height = self.level_sizes[level]
        bands = math.ceil(max(level_width * level_height, width * height) / BAND_PX)
        out = np.empty((height, width, 3), dtype=np.uint8)
        for top, bottom in pairwise(
            np.unique(np.linspace(0, height, bands + 1).round().astype(int)).tolist()
        ):
            first, last = (round(row * level_height / height) for row in (top, bottom))
            y0 = round(first * self.level_downsamples[level])
            band = self.read(0, y0, level, level_width, max(1, last - first))
            out[top:bottom] = resample_to(band, width, bottom - top)
        if self.bits > 8:
            check_white(out, self.bits, path=self.path)
        return out

    @abstractmethod
    def _read(
        self, x0: int, y0: int, level: int, width_px: int, height_px: int
    ) -> NDArray[np.uint8]: ...

    @abstractmethod
    def close(self) -> None:
        """Close the file."""

    def __enter__(self) -> Slide:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def choose_mpp(
    stated: float | tuple[float, float] | None,
    given: float | None,
    fallback: float | None,
    *,
    path: Path,
) -> float:
    """Choose the resolution of a slide from its file and from the user's statements.

    The resolution is never guessed, because a wrong one gives tiles of the wrong physical size, and
    nothing later would show it. The order is:

    1. The file: OpenSlide's ``mpp`` properties, the physical pixel size of an OME-TIFF, or the
       resolution tags of a TIFF. A value outside 0.05 to 20 µm per pixel, such as the 72 dpi of a
       printer, is ignored. The dpi of a PNG or JPEG and the magnification of an objective are
       never used.
    2. `given`, the user's statement about this slide. It is an error if it differs from the file
       by more than 2 %, because one of the two must be wrong.
    3. `fallback`, used if neither of the two is there.

    Parameters
    ----------
    stated
        Micrometres per pixel, or the width and the height of a pixel in micrometres. None if the
        file does not say.
    given, fallback
        Micrometres per pixel, or None if there is no such value.
    path
        File of the slide, for error messages.

    Returns
    -------
    float
        Micrometres per pixel of level 0.

    Raises
    ------
    InputError
        If no resolution is known, or the file and the user contradict each other.

    Examples
    --------
    >>> choose_mpp(0.2527, None, 0.5, path=Path("a.svs"))
    0.2527
    >>> choose_mpp(None, None, 0.5, path=Path("a.svs"))
    0.5
    """
    mean = sum(stated) / 2 if isinstance(stated, tuple) else stated
    if mean is not None and MPP_RANGE[0] <= mean <= MPP_RANGE[1]:
        if given is None:
            return mean
        if isinstance(stated, tuple):
            check_square_pixel(stated, path=path)
        if not math.isclose(given, mean, rel_tol=MPP_TOLERANCE):
            raise InputError(
                f"the file says {mean:.4g} µm/px, but {given:g} was given",
                path=path,
                fix="remove the mpp that you gave to use the one in the file; if the file is wrong,"
                " give --override-mpp beside --mpp, or write yes into a column override_mpp of the"
                " slides table",
            )
        return mean
    chosen = given if given is not None else fallback
    if chosen is not None:
        return chosen
    tag = f" (its tag of {mean:.4g} µm/px cannot be a scanner's)" if mean is not None else ""
    raise InputError(
        f"the file does not say its resolution{tag}",
        path=path,
        fix="give --mpp, or a column mpp in the slides table (often 0.25 for 40x and 0.5 for 20x;"
        " ask for the scanner's value)",
    )


def check_square_pixel(pixel_um: tuple[float, float] | None, *, path: Path) -> None:
    """Check that a pixel is as wide as it is high, if both are plausible.

    Some scanners state the two with a difference of a few per mille. This is the rule of all
    readers; :func:`~.registry.open_slide` applies it.

    Parameters
    ----------
    pixel_um
        Width and height in micrometres, or None if the file does not state them.
    path
        File of the slide, for the error message.

    Raises
    ------
    InputError
        If they differ by more than `MPP_TOLERANCE`.
    """
    if pixel_um is None or not MPP_RANGE[0] <= sum(pixel_um) / 2 <= MPP_RANGE[1]:
        return
    if not math.isclose(*pixel_um, rel_tol=MPP_TOLERANCE):
        raise InputError(
            f"its pixels are not square: {pixel_um[0]:.4g} by {pixel_um[1]:.4g} µm",
            path=path,
            fix="resample it to square pixels; if the file is wrong, give --mpp and --override-mpp",
        )


def check_white(pixels: NDArray[np.uint8], bits: int, *, path: Path) -> None:
    """Check that pixels of more than 8 bits use their range.

    Cameras of 12 bits store their values in 16. After the conversion to 8 bits such an image is
    almost black, and its colours are lost. The glass of a slide is brighter than half of the range.

    Parameters
    ----------
    pixels
        The image or a thumbnail of it, after the conversion.
    bits
        Bits of a channel in the file.
    path
        File of the slide, for the error message.

    Raises
    ------
    InputError
        If no pixel is brighter than half of the range.
    """
    brightest = int(pixels.max())
    if brightest < 128:
        raise InputError(
            f"has {bits} bits per channel, of which the brightest pixel uses"
            f" {brightest / 255:.0%}, so that white is not known",
            path=path,
            fix="scale its values so that white is the largest one, and save it as 8-bit RGB",
        )


def on_white(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Put an image with transparency on a white background.

    Parameters
    ----------
    rgba
        (H, W, 4) uint8, with straight (not premultiplied) alpha.

    Returns
    -------
    (H, W, 3) uint8 RGB
    """
    rgb = np.asarray(cv2.cvtColor(rgba, cv2.COLOR_RGBA2RGB), dtype=np.uint8)
    alpha = cv2.extractChannel(rgba, 3)
    if alpha.min() == 255:
        return rgb
    clear = alpha < 255
    opacity = alpha[clear][:, None].astype(np.float32) / 255
    rgb[clear] = np.rint(rgb[clear] * opacity + 255 * (1 - opacity)).astype(np.uint8)
    return rgb


def check_slide_file(path: Path) -> None:
    """Check that a slide or image exists and is not empty.

    Raises
    ------
    InputError
        If `path` is a folder, is missing, or has 0 bytes.
    """
    if path.is_dir():
        raise InputError("is a folder, not a slide", path=path, fix="give a slide file")
    if path.is_symlink() and not path.exists():
        raise InputError(
            "is a link that leads nowhere",
            path=path,
            fix="mount the disk that it leads to, or make the link again",
        )
    if not path.is_file():
        raise InputError("no such slide or image", path=path, fix="check the path")
    if path.stat().st_size == 0:
        raise InputError(
            "is empty (0 bytes)", path=path, fix="copy or download the file again, in full"
        )
