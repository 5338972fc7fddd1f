"""Reader of PNG and JPEG images, and functions that decode plain images of bounded size."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.image_file import check_image_claim
from tcgn_mil.preprocessing.slides.readers.base import (
    Slide,
    check_slide_file,
    check_white,
    choose_mpp,
)
from tcgn_mil.preprocessing.slides.readers.registry import SlideReader
from tcgn_mil.preprocessing.slides.readers.tiff_tags import is_tiff

SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})
# Decoding an image of this size takes about 3 GB. Larger images should be pyramids.
MAX_IMAGE_PX = 400_000_000
_EIGHT_BIT_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"})
_WHOLE_FILE_FIX = "copy or download the file again, and check that an image viewer opens it"
_PILLOW_LIMIT = threading.Lock()
_BITS_TAG = 258
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def image_size(path: str | Path) -> tuple[int, int]:
    """Read the width and the height of an image from its header.

    Raises
    ------
    InputError
        If the file is missing, empty, too large or not an image.
    """
    with _opened(Path(path)) as image:
        return image.size


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """Decode a plain image.

    Parameters
    ----------
    path
        PNG, JPEG or TIFF with 8 or 16 bits per channel. Of a file with several pages the first is
        read.

    Returns
    -------
    (H, W, 3) uint8 RGB
        Pixels as they are stored; of 16 bits the upper 8. An orientation tag is not applied,
        because the coordinates of spots and tiles refer to stored pixels. Transparent pixels are
        white.

    Raises
    ------
    InputError
        If the file is missing, empty, cut off, not an image, has more than `MAX_IMAGE_PX` pixels,
        has 32 bits per channel, or has 16 of which it uses a small part.
    """
    path = Path(path)
    with _opened(path) as image:
        bits = _bits(path, image)
        if image.mode.startswith("I;16"):
            grey = (np.asarray(image) >> 8).astype(np.uint8)
            check_white(grey, bits, path=path)
            return np.repeat(grey[..., None], 3, axis=2)
        if image.mode not in _EIGHT_BIT_MODES:
            raise InputError(
                f"has pixels of mode {image.mode}, not 8 or 16 bits per channel",
                path=path,
                fix="convert it to 8-bit RGB",
            )
        if bits > 8:  # Pillow keeps the upper 8 bits
            check_white(np.asarray(image), bits, path=path)
        if "A" in image.getbands() or "transparency" in image.info:
            rgba = image.convert("RGBA")
            image = Image.new("RGB", rgba.size, "white")
            image.paste(rgba, mask=rgba.getchannel("A"))
        return np.asarray(image.convert("RGB"))


def _bits(path: Path, image: Image.Image) -> int:
    """Return the bits of a channel in the file, which Pillow does not keep for RGB."""
    if bits := getattr(image, "tag_v2", {}).get(_BITS_TAG):
        return max(bits)
    with path.open("rb") as file:
        header = file.read(25)
    return header[24] if header.startswith(_PNG_SIGNATURE) else 8


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open an image, and turn every error of decoding into an InputError that names the file."""
    check_slide_file(path)
    try:
        with _open_unbounded(path) as image:
            width, height = image.size
            if width * height > MAX_IMAGE_PX:
                raise InputError(
                    f"has {width} x {height} pixels, more than the {MAX_IMAGE_PX / 1e6:.0f} million"
                    " that are read as a plain image",
                    path=path,
                    fix="convert it to a tiled, pyramidal TIFF, for example with `vips tiffsave"
                    " --tile --pyramid`",
                )
            check_image_claim((width, height), path)
            yield image
    except InputError:
        raise
    except UnidentifiedImageError as error:
        if is_tiff(path):
            raise InputError(
                "is a TIFF that is damaged, or in a form that is not read, such as JPEG 2000",
                path=path,
                fix="convert it to a tiled TIFF of 8-bit RGB with the compression JPEG or deflate",
            ) from error
        raise InputError(
            "is not an image (PNG, JPEG or TIFF)", path=path, fix=_WHOLE_FILE_FIX
        ) from error
    except Exception as error:  # Pillow's decoders raise errors of many classes
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(
            f"cannot be decoded ({reason[:200]})", path=path, fix=_WHOLE_FILE_FIX
        ) from error


def _open_unbounded(path: Path) -> Image.Image:
    """Read the header without Pillow's own bound, which images of ST sections often exceed.

    The bound is a global of Pillow. The lock keeps two threads from restoring each other's value.
    """
    with _PILLOW_LIMIT:
        before = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            return Image.open(path)
        finally:
            Image.MAX_IMAGE_PIXELS = before


class PlainSlide(Slide):
    """An image without a pyramid, which is decoded on first use and then kept in memory."""

    def __init__(self, path: Path, mpp: float) -> None:
        self.path, self.mpp = path, mpp
        self.size = image_size(path)
        self.level_sizes, self.level_downsamples = (self.size,), (1.0,)
        self._pixels: NDArray[np.uint8] | None = None

    def _read(
        self, x0: int, y0: int, level: int, width_px: int, height_px: int
    ) -> NDArray[np.uint8]:
        if self._pixels is None:
            self._pixels = read_image(self.path)
        x1, y1 = x0 + width_px, y0 + height_px
        if x0 >= 0 and y0 >= 0 and x1 <= self.size[0] and y1 <= self.size[1]:
            return self._pixels[y0:y1, x0:x1].copy()
        out = np.full((height_px, width_px, 3), 255, dtype=np.uint8)
        inside = self._pixels[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)]
        top, left = max(-y0, 0), max(-x0, 0)
        out[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
        return out

    def close(self) -> None:
        self._pixels = None


def is_plain_image(path: Path) -> bool:
    """Return whether the file has the suffix of a PNG or JPEG."""
    return path.suffix.lower() in SUFFIXES


def open_plain_image(path: Path, mpp: float | None, fallback_mpp: float | None) -> PlainSlide:
    """Open a PNG or JPEG; see :class:`~.registry.SlideReader` for the arguments.

    Its dpi is not used as a resolution, because image editors set it without knowing the scanner.
    """
    return PlainSlide(path, choose_mpp(None, mpp, fallback_mpp, path=path))


READER = SlideReader("PNG and JPEG", SUFFIXES, is_plain_image, open_plain_image)
