"""Find fonts for names in Chinese, Japanese or Korean letters, which Matplotlib's own font lacks.

Matplotlib takes each letter from the first font of a list that has it. DejaVu Sans comes first, so
that a figure without such letters is the same on every machine. If no font has a letter, a box is
drawn, and the user is told once what to install instead of by a warning for each letter.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import matplotlib
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.text import Text

from tcgn_mil.progress import tell

FONT = "DejaVu Sans"  # the font that Matplotlib brings along
# Families that have the letters of one of these languages or of all, those of all first.
EAST_ASIAN = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans CJK KR",
    "Noto Sans CJK TC",
    "Source Han Sans SC",
    "Source Han Sans",
    "Droid Sans Fallback",
    "Arial Unicode MS",
    "WenQuanYi Zen Hei",
    "WenQuanYi Micro Hei",
    "PingFang SC",
    "Hiragino Sans GB",
    "Microsoft YaHei",
    "SimHei",
    "Hiragino Sans",
    "Yu Gothic",
    "Meiryo",
    "IPAGothic",
    "IPAexGothic",
    "Apple SD Gothic Neo",
    "Malgun Gothic",
    "NanumGothic",
)
_FIRST_FOREIGN = "\u0250"  # before it are ASCII and the Latin letters with accents
_told: set[str] = set()


@cache
def families() -> tuple[str, ...]:
    """Return the families of the list that are installed, DejaVu Sans first.

    Examples
    --------
    >>> families()[0]
    'DejaVu Sans'
    """
    installed = {entry.name for entry in font_manager.fontManager.ttflist}
    return (FONT, *(name for name in EAST_ASIAN if name in installed))


def family_for(text: str) -> str:
    """Return the first family that has all letters of a text, for libraries that take one font.

    If none has all of them, it is DejaVu Sans, and the user is told once.

    Examples
    --------
    >>> family_for("S1: 12 tiles of 77 µm")
    'DejaVu Sans'
    """
    letters = _foreign([text])
    for family in families():
        if letters <= _letters_of(family):
            return family
    _tell_once(letters.difference(*map(_letters_of, families())))
    return FONT


def file_of(family: str) -> tuple[str, int]:
    """Return the file of a family, and the number of the font in the file."""
    path = font_manager.findfont(family)
    return str(path), int(getattr(path, "face_index", 0))


@contextmanager
def without_font_warnings() -> Iterator[None]:
    """Hide Matplotlib's warnings of missing letters, one for each, and of missing bold fonts."""
    log = logging.getLogger("matplotlib.font_manager")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"Glyph \d+ .*missing from", UserWarning)
            yield
    finally:
        log.setLevel(level)


def tell_of_missing_letters(figure: Figure) -> None:
    """Tell the user once if a figure has letters that no installed font has."""
    letters = _letters_in(figure)
    if letters and (missing := letters.difference(*map(_letters_of, families()))):
        _tell_once(missing)


def pdf_font_type(figure: Figure) -> int:
    """Return how the fonts of a figure are stored in a PDF.

    Type 42 keeps text editable in Illustrator and Inkscape, as journals ask for. It holds TrueType
    fonts alone. Some fonts, such as Noto Sans CJK, have outlines of another kind (CFF), and a
    figure with letters of such a font gets type 3, which every reader of PDF shows.
    """
    letters = _letters_in(figure)
    for family in families() if letters else ():
        found = letters & _letters_of(family)
        letters -= found
        if found and _has_cff_outlines(file_of(family)[0]):
            return 3
    return 42


def _letters_in(figure: Figure) -> set[str]:
    return _foreign(text.get_text() for text in figure.findobj(Text))


def _foreign(texts: Iterable[str]) -> set[str]:
    return {
        letter
        for text in texts
        if not text.isascii()
        for letter in text
        if letter >= _FIRST_FOREIGN and letter.isprintable() and not letter.isspace()
    }


@cache
def _letters_of(family: str) -> frozenset[str]:
    font = font_manager.get_font(font_manager.findfont(family))
    return frozenset(map(chr, font.get_charmap()))


def _has_cff_outlines(path: str) -> bool:
    with Path(path).open("rb") as file:
        head = file.read(16)
        if head[:4] == b"ttcf":  # a collection of fonts; its table of offsets begins at byte 12
            file.seek(int.from_bytes(head[12:16], "big"))
            head = file.read(4)
    return head[:4] == b"OTTO"


def _tell_once(letters: Iterable[str]) -> None:
    if _told:
        return
    _told.update(letters)
    shown = "".join(sorted(_told)[:8])
    tell(
        f"no installed font has the letters {shown}, and figures show boxes in their place. Install"
        " one, such as Noto Sans CJK (package fonts-noto-cjk of Debian and Ubuntu), and remove"
        f" Matplotlib's list of fonts: {matplotlib.get_cachedir()}/fontlist-*.json"
    )
