"""Open pictures whose number of pixels is bounded by a limit and by the size of the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.reading import describe_damage

if TYPE_CHECKING:
    from PIL import Image

# Deflate, by which PNG files are compressed, stores at best 1,032 bytes in one.
MAX_RATIO = 1100
SMALL_BYTES = 2**27  # of pixels, whatever the size of the file
MAX_PICTURE_PX = 10**8  # of figures and thumbnails


def check_image_claim(size_px: tuple[int, int], path: str | Path) -> None:
    """Refuse an image that claims far more pixels than its file can hold.

    Parameters
    ----------
    size_px
        Width and height in pixels.
    path
        The file.

    Raises
    ------
    InputError
        If the RGB pixels need more than 128 MiB and more than 1,100 times the size of the file.
    """
    stored = Path(path).stat().st_size
    if 3 * size_px[0] * size_px[1] > max(SMALL_BYTES, MAX_RATIO * stored):
        raise InputError(
            f"claims {size_px[0]} x {size_px[1]} pixels, but holds only {stored} bytes",
            path=path,
            fix="copy the file again",
        )


@contextmanager
def open_picture(path: str | Path, *, what: str = "a picture") -> Iterator[Image.Image]:
    """Open a figure or a thumbnail; the block may only read it.

    Parameters
    ----------
    path
        PNG or JPEG file.
    what
        Kind of picture in the message.

    Yields
    ------
    PIL.Image.Image

    Raises
    ------
    InputError
        If the file cannot be read, or claims more than 100 million pixels or far more than it can
        hold.
    """
    import warnings

    from PIL import Image

    fix = "run the command that wrote it again"
    with describe_damage(path, what=what, fix=fix), warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # bounded below
        with Image.open(path) as picture:
            if picture.width * picture.height > MAX_PICTURE_PX:
                raise InputError(
                    f"has {picture.width} x {picture.height} pixels, too many for {what}",
                    path=path,
                    fix=fix,
                )
            check_image_claim(picture.size, path)
            yield picture
