"""Write the contact sheet: all slides of a cohort with their overlays and quality, on one page.

The page is made from the files in the tiles folder, so slides that were tiled in earlier runs are
on it too. Small pictures of about 8 KB each are in the page, and the full ones are linked. With
more than `MOST_EMBEDDED` slides the page shows the full pictures instead, which a browser loads one
by one when they are scrolled to: the page of 10,000 slides would have 100 MB, and take minutes to
make.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import jinja2
from PIL import Image

from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.image_file import open_picture
from tcgn_mil.io.atomic import write_text
from tcgn_mil.io.failures import Failure
from tcgn_mil.preprocessing.tiles.summary import (
    MIN_SLIDES,
    OUTLYING,
    SUMMARY_NAME,
    SlideSummary,
    summarise_folder,
    write_summary,
)
from tcgn_mil.preprocessing.tiles.tiling import overlay_path

FILE_NAME = "contact_sheet.html"
PICTURE_PX = (264, 168)
QUALITY = 70
MOST_EMBEDDED = 1000  # slides whose pictures are in the page itself


class Column(NamedTuple):
    """A column of the page.

    Attributes
    ----------
    name
        Heading.
    help
        Explanation that is shown with the heading.
    field
        Name of the field in :class:`~.summary.SlideSummary`.
    digits
        Digits after the decimal point; None for text.
    """

    name: str
    help: str
    field: str
    digits: int | None = None

    @property
    def is_text(self) -> bool:
        """True if the column is sorted as text."""
        return self.digits is None


COLUMNS = (
    Column("slide", "slide id", "slide"),
    Column("patient", "patient id", "patient"),
    Column("flags", "values that are outlying within this cohort", "flags"),
    Column("width px", "of level 0", "width_px", 0),
    Column("height px", "of level 0", "height_px", 0),
    Column("µm/px", "of level 0", "mpp", 4),
    Column("tiles", "kept", "kept", 0),
    Column("lost: pen", "tiles rejected for pen", "pen", 0),
    Column("lost: focus", "tiles rejected as out of focus", "out_of_focus", 0),
    Column("lost: fold", "tiles rejected for a fold", "fold", 0),
    Column("focus", "median over the tiles with tissue; about 1 in focus", "median_focus", 2),
    Column("pen share", "of the area of the tiles with tissue", "pen_share", 3),
    Column("tissue mm²", "in the kept tiles", "tissue_mm2", 2),
    Column("tissue share", "of the slide", "tissue_share", 3),
    Column("notes", "facts about the slide file", "notes"),
)


class Cell(NamedTuple):
    """A cell: the text that is shown, and the value by which the column is sorted."""

    shown: str
    value: str
    is_text: bool
    is_flag: bool


class Row(NamedTuple):
    """A slide on the page: its name, the link to its overlay, the picture shown, and its cells."""

    name: str
    link: str
    picture: str
    cells: list[Cell]


def write_contact_sheet(folder: str | Path, failures: Sequence[Failure] = ()) -> Path:
    """Write ``contact_sheet.html`` and ``tile_summary.csv`` for the tile files in a folder.

    Parameters
    ----------
    folder
        Folder that `tcgn-mil tile` wrote.
    failures
        Slides that failed in the last run. They are listed at the top, together with tile files
        that cannot be read. An older tile file of such a slide is not shown.

    Returns
    -------
    Path
        The page.
    """
    folder = Path(folder)
    slides, unreadable = summarise_folder(folder, without=[failure.slide for failure in failures])
    failures = [*failures, *unreadable]
    write_summary(folder / SUMMARY_NAME, slides)
    odd_first = sorted(slides, key=lambda slide: (not slide.flags, slide.slide))
    template = (
        files("tcgn_mil.preprocessing.tiles")
        .joinpath("contact_sheet.html")
        .read_text(encoding="utf-8")
    )
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    text = environment.from_string(template).render(
        title=f"Tiles of {len(slides)} slides",
        slides=[_row(folder, slide, embed=len(slides) <= MOST_EMBEDDED) for slide in odd_first],
        failures=failures,
        flagged=sum(bool(slide.flags) for slide in slides),
        columns=COLUMNS,
        outlying=OUTLYING,
        least=MIN_SLIDES,
        csv_name=SUMMARY_NAME,
    )
    write_text(folder / FILE_NAME, text)
    return folder / FILE_NAME


def _row(folder: Path, slide: SlideSummary, *, embed: bool) -> Row:
    path = overlay_path(folder, slide.slide)
    link = quote(path.name)
    picture = _embedded(small_picture(path)) if embed else link if path.is_file() else ""
    return Row(
        slide.slide,
        link,
        picture,
        [_cell(slide, column) for column in COLUMNS],
    )


def _embedded(picture: str) -> str:
    return f"data:image/jpeg;base64,{picture}" if picture else ""


def _cell(slide: SlideSummary, column: Column) -> Cell:
    value: Any = getattr(slide, column.field)
    if column.digits is None:
        return Cell(str(value), str(value), True, column.field == "flags")
    if value is None:
        return Cell("NA", "", False, False)
    return Cell(f"{value:,.{column.digits}f}", str(value), False, False)


def small_picture(path: Path) -> str:
    """Return an overlay as a small JPEG in base64; empty if there is none or it cannot be read."""
    try:
        with open_picture(path) as picture:
            # Decodes the JPEG at a fraction of its size, which is much faster.
            picture.draft("RGB", (2 * PICTURE_PX[0], 2 * PICTURE_PX[1]))
            small = picture.convert("RGB")
    except InputError:
        return ""
    small.thumbnail(PICTURE_PX, Image.Resampling.BOX)
    data = io.BytesIO()
    small.save(data, "JPEG", quality=QUALITY)
    return base64.b64encode(data.getvalue()).decode("ascii")
