"""Draw pictures to check a slide's tiling by eye: the tissue that was found, and the tiles."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from tcgn_mil.io.atomic import atomic_path
from tcgn_mil.io.geojson import COLOURS as VERDICT_COLOURS
from tcgn_mil.preprocessing.slides.resample import resample_to
from tcgn_mil.types.tiles import VERDICTS, TileSet

LONG_SIDE_PX = 1600
TISSUE_COLOUR = (0, 140, 60)
TILE_COLOUR = (20, 60, 200)
SCALE_BARS_UM = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000)
CAPTION_PX = 44
_PALE = (np.arange(256) // 2 + 127).astype(np.uint8)  # of each level

Colour = tuple[int, int, int]


def overlay_mpp(slide_size: tuple[int, int], slide_mpp: float) -> float:
    """Choose the resolution of the picture of a slide.

    Returns
    -------
    float
        Micrometres per pixel at which the longer side has about `LONG_SIDE_PX` pixels. It is never
        finer than the slide.

    Examples
    --------
    >>> overlay_mpp((64_000, 32_000), 0.25)
    10.0
    """
    return max(max(slide_size) * slide_mpp / LONG_SIDE_PX, slide_mpp)


def draw_tiles(
    thumbnail: NDArray[np.uint8], tissue: NDArray[np.bool_], tiles: TileSet
) -> NDArray[np.uint8]:
    """Draw tissue and tiles on a thumbnail.

    Tissue is outlined in green and kept tiles in blue. Places without a kept tile are made pale.
    Tiles that quality control rejected are framed in the colours of `VERDICT_COLOURS`, which the
    caption explains.

    Parameters
    ----------
    thumbnail
        (H, W, 3) uint8 of the whole slide.
    tissue
        (h, w) bool over the whole slide, at any resolution.
    tiles
        Kept and rejected tiles.

    Returns
    -------
    (H + `CAPTION_PX`, at least W, 3) uint8
    """
    height, width = thumbnail.shape[:2]
    scale = np.array([width / tiles.slide_size[0], height / tiles.slide_size[1]])
    low = np.rint(tiles.coords * scale).astype(int)
    high = np.rint((tiles.coords + tiles.spec.level0_px) * scale).astype(int)
    picture = _wash_out(thumbnail, low, high)
    _draw_grid(picture, low, high)
    mask = resample_to(tissue.astype(np.uint8) * 255, width, height) > 127
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, outlines, -1, TISSUE_COLOUR, 2, cv2.LINE_AA)
    _draw_rejected(picture, tiles, scale)
    caption = f"{tiles.slide_id}: {len(tiles)} tiles of {tiles.spec.patch}"
    return add_caption(
        picture, caption, mpp=tiles.spec.slide_mpp / float(scale[0]), notes=_left_out(tiles)
    )


def _draw_rejected(picture: NDArray[np.uint8], tiles: TileSet, scale: NDArray[np.float64]) -> None:
    if tiles.rejected is None:
        return
    low = np.rint(tiles.rejected.coords * scale).astype(int)
    high = np.rint((tiles.rejected.coords + tiles.spec.level0_px) * scale).astype(int)
    for corner, opposite, verdict in zip(
        low.tolist(), high.tolist(), tiles.rejected.verdict.tolist(), strict=True
    ):
        inner = [side - 2 for side in opposite]
        cv2.rectangle(
            picture, [side + 1 for side in corner], inner, VERDICT_COLOURS[VERDICTS[verdict]], 2
        )


def _left_out(tiles: TileSet) -> list[tuple[str, Colour]]:
    """Return the numbers of rejected tiles in words, each with its colour."""
    if tiles.rejected is None:
        return []
    counts = np.bincount(tiles.rejected.verdict, minlength=len(VERDICTS))
    return [
        (f"{count} {name}", VERDICT_COLOURS[name])
        for name, count in zip(VERDICTS, counts, strict=True)
        if count
    ]


def _wash_out(
    thumbnail: NDArray[np.uint8], low: NDArray[np.int64], high: NDArray[np.int64]
) -> NDArray[np.uint8]:
    picture = np.asarray(cv2.LUT(thumbnail, _PALE), dtype=np.uint8)
    for (left, top), (right, bottom) in zip(low.tolist(), high.tolist(), strict=True):
        picture[top:bottom, left:right] = thumbnail[top:bottom, left:right]
    return picture


def _draw_grid(picture: NDArray[np.uint8], low: NDArray[np.int64], high: NDArray[np.int64]) -> None:
    """Draw the outlines of the tiles.

    The smaller the tiles are, the fainter are the outlines, so that the tissue remains visible.
    """
    if not len(low):
        return
    lines = picture.copy()
    for corner, opposite in zip(low.tolist(), high.tolist(), strict=True):
        cv2.rectangle(lines, corner, opposite, TILE_COLOUR, 1)
    side = float(np.mean(high - low))
    opacity = float(np.clip(side / 40, 0.15, 0.7))
    cv2.addWeighted(lines, opacity, picture, 1 - opacity, 0, dst=picture)


def add_caption(
    picture: NDArray[np.uint8], text: str, *, mpp: float, notes: Sequence[tuple[str, Colour]] = ()
) -> NDArray[np.uint8]:
    """Append a white strip with a text and a scale bar to a picture.

    Parameters
    ----------
    picture
        (H, W, 3) uint8.
    text
        Caption.
    mpp
        Micrometres per pixel of the picture.
    notes
        Further texts, each with its colour.

    Returns
    -------
    (H + `CAPTION_PX`, at least W, 3) uint8
        Wider than the picture if the texts need it.
    """
    font = _font(18, " ".join((text, *(note for note, _ in notes))))
    height, width = picture.shape[:2]
    bar_um = max(
        (bar for bar in SCALE_BARS_UM if bar / mpp <= max(width, 400) / 4), default=SCALE_BARS_UM[0]
    )
    bar_text = f"{bar_um / 1000:g} mm" if bar_um >= 1000 else f"{bar_um} µm"
    bar_px = round(bar_um / mpp)
    written = sum(font.getlength(part) + 18 for part in (text, *(note for note, _ in notes)))
    needed = round(written + font.getlength(bar_text)) + bar_px + 60
    sheet = Image.new("RGB", (max(width, needed), height + CAPTION_PX), "white")
    sheet.paste(Image.fromarray(picture))
    draw = ImageDraw.Draw(sheet)
    middle = height + CAPTION_PX // 2
    x = 12.0
    for part, colour in ((text, (0, 0, 0)), *notes):
        draw.text((x, middle), part, fill=colour, font=font, anchor="lm")
        x += font.getlength(part) + 18
    end = sheet.width - 12
    draw.line([(end - bar_px, middle), (end, middle)], fill="black", width=4)
    draw.text((end - bar_px - 8, middle), bar_text, fill="black", font=font, anchor="rm")
    return np.asarray(sheet)


def _font(size: int, text: str) -> ImageFont.FreeTypeFont:
    """Load a font that has the letters of a text, if there is one on this machine.

    It is DejaVu Sans for most texts, which comes with Matplotlib. Pillow's own font has no µ.
    """
    if all(letter <= "\xff" for letter in text):
        # Matplotlib is found without importing it, which takes a tenth of a second in each process.
        found = find_spec("matplotlib")
        assert found is not None
        assert found.origin is not None
        path = Path(found.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        return _font_file(str(path), 0, size)
    # Imported here, because Matplotlib takes longer to load than all else that lays tiles.
    from tcgn_mil.plotting.fonts import family_for, file_of

    return _font_file(*file_of(family_for(text)), size)


@cache
def _font_file(path: str, number: int, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size, index=number)


def write_picture(path: str | Path, picture: NDArray[np.uint8], *, quality: int = 90) -> None:
    """Write a picture, (H, W, 3) uint8, in the format of the path's suffix.

    Parameters
    ----------
    path
        File to write.
    picture
        The picture.
    quality
        Quality of a JPEG, at most 95.
    """
    # Into memory first: Pillow does not notice that a disk took only the first part of a JPEG.
    packed = BytesIO()
    file_format = Image.registered_extensions()[Path(path).suffix.lower()]
    Image.fromarray(picture).save(packed, file_format, quality=quality)
    with atomic_path(path) as temporary:
        temporary.write_bytes(packed.getvalue())
