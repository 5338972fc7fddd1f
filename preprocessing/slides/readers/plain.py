"""Plain PNG, JPEG and TIFF images as arrays, bounded in size before anything is decoded."""

from __future__ import annotations

import contextlib
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.slides.readers.base import Slide

MAX_IMAGE_PX = 400_000_000  # decoded, some 3 GB at the peak; larger images belong into a pyramid
_EIGHT_BIT_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"})
_DECODING_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error)
_WHOLE_FILE_FIX = "copy or download the file again, and check that an image viewer opens it"
_PILLOW_LIMIT = threading.Lock()


def image_size(path: str | Path) -> tuple[int, int]:
    """Width and height from the header; errors as :func:`read_image`."""
    with _opened(Path(path)) as image:
        return image.size


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """Decode a plain image.

    Parameters
    ----------
    path
        PNG, JPEG or TIFF with 8 bits a channel; of several pages, the first.

    Returns
    -------
    (H, W, 3) uint8 RGB as stored (no orientation tag is applied, since coordinates refer to stored pixels);
    transparent pixels are white.

    Raises
    ------
    InputError
        If the file is missing, empty, cut off, no image, over `MAX_IMAGE_PX` pixels, or not 8 bits a channel.
    """
    path = Path(path)
    with _opened(path) as image:
        if image.mode not in _EIGHT_BIT_MODES:
            raise InputError(
                f"has pixels of mode {image.mode}, not 8 bits a channel",
                path=path,
                fix="convert it to 8-bit RGB",
            )
        if "A" in image.getbands() or "transparency" in image.info:
            rgba = image.convert("RGBA")
            image = Image.new("RGB", rgba.size, "white")
            image.paste(rgba, mask=rgba.getchannel("A"))
        return np.asarray(image.convert("RGB"))


def tiff_mpp(path: str | Path) -> float | None:
    """µm per pixel by the resolution tags of a TIFF, None where there are none or in no length unit."""
    with _opened(Path(path)) as image:
        tags = getattr(image, "tag_v2", {})
        um_per_unit = {2: 25_400.0, 3: 10_000.0}.get(tags.get(296, 1))
        per_unit = float(tags.get(282, 0) or 0)
        return um_per_unit / per_unit if um_per_unit and per_unit > 0 else None


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    check_file(path)
    try:
        with _open_unbounded(path) as image:
            width, height = image.size
            if width * height > MAX_IMAGE_PX:
                raise InputError(
                    f"has {width} x {height} pixels, over the {MAX_IMAGE_PX / 1e6:.0f} million read as a plain image",
                    path=path,
                    fix="convert it to a tiled, pyramidal TIFF (for example: vips tiffsave --tile --pyramid)",
                )
            yield image
    except InputError:
        raise
    except UnidentifiedImageError as error:
        raise InputError(
            "is no image (PNG, JPEG or TIFF)", path=path, fix=_WHOLE_FILE_FIX
        ) from error
    except _DECODING_ERRORS as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(
            f"cannot be decoded ({reason[:200]})", path=path, fix=_WHOLE_FILE_FIX
        ) from error


def _open_unbounded(path: Path) -> Image.Image:
    """Read the header without Pillow's bound, which ordinary ST images exceed; the caller has its own."""
    with _PILLOW_LIMIT:
        before = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            return Image.open(path)
        finally:
            Image.MAX_IMAGE_PIXELS = before


def check_file(path: Path) -> None:
    """Raise InputError unless `path` is a file with something in it."""
    if path.is_dir():
        raise InputError("is a folder, not a slide", path=path, fix="give a slide file")
    if not path.is_file():
        raise InputError("no such slide or image", path=path, fix="check the path")
    if path.stat().st_size == 0:
        raise InputError("is empty (0 bytes)", path=path, fix=_WHOLE_FILE_FIX)


class PlainSlide(Slide):
    """One image without levels, decoded on first use and held in memory."""

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
