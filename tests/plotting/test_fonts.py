"""Names in Chinese letters are drawn if a font has them, and told of once if none has."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.t2CharStringPen import T2CharStringPen
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager

from tcgn_mil import plotting
from tcgn_mil.plotting import fonts
from tcgn_mil.preprocessing.tiles.overlay import _font

NAME = "中"


@pytest.fixture(autouse=True)
def _no_fonts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget the fonts of this machine, and what was told."""
    own = [each for each in font_manager.fontManager.ttflist if each.name == fonts.FONT]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", own)
    monkeypatch.setattr(fonts, "_told", set())
    clear()
    yield
    clear()


def clear() -> None:
    for cached in (fonts.families, fonts._letters_of, font_manager.fontManager._findfont_cached):
        cached.cache_clear()


def install(folder: Path, family: str, *, cff: bool = False) -> None:
    """Make a font whose only glyph is a square, and give it to Matplotlib."""
    builder = FontBuilder(1000, isTTF=not cff)
    names = [".notdef", "square"]
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(NAME): "square"})
    pen = T2CharStringPen(900, None) if cff else TTGlyphPen(None)
    pen.moveTo((50, 0))
    for corner in ((50, 800), (850, 800), (850, 0)):
        pen.lineTo(corner)
    pen.closePath()
    metrics = dict.fromkeys(names, (900, 50))
    if cff:
        glyphs = dict.fromkeys(names, pen.getCharString())
        builder.setupCFF(family.replace(" ", ""), {}, glyphs, {})
    else:
        builder.setupGlyf(dict.fromkeys(names, pen.glyph()))
    builder.setupHorizontalMetrics(metrics)
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": family, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    path = folder / ("font.otf" if cff else "font.ttf")
    builder.save(path)
    font_manager.fontManager.addfont(path)
    clear()


@plotting.styled
def draw(path: Path, title: str = f"{NAME} A") -> None:
    figure, axis = plotting.subplots(width=2, height=1)
    axis.set_title(title)
    plotting.save_figure(figure, path, pd.DataFrame({"x": [0]}))


def test_without_a_font_it_is_told_once_and_nothing_warns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("a.png", "b.png"):
            draw(tmp_path / name)
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1
    assert f"no installed font has the letters {NAME}," in told[0]
    assert "fonts-noto-cjk" in told[0]


@pytest.mark.parametrize("cff", [False, True])
def test_an_installed_font_is_used(
    cff: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(tmp_path / "boxes.png")
    draw(tmp_path / "before.png", "A")
    capsys.readouterr()
    fonts._told.clear()
    install(tmp_path, fonts.EAST_ASIAN[0], cff=cff)
    draw(tmp_path / "drawn.png")
    draw(tmp_path / "after.png", "A")
    assert capsys.readouterr().err == ""
    assert (tmp_path / "drawn.png").read_bytes() != (tmp_path / "boxes.png").read_bytes()
    # A figure without such letters does not depend on the fonts of the machine.
    assert (tmp_path / "after.png").read_bytes() == (tmp_path / "before.png").read_bytes()
    pdf = (tmp_path / "drawn.pdf").read_bytes()
    assert (b"/Type3" in pdf) is cff
    assert (b"/FontFile2" in pdf) is not cff


def test_pictures_of_tiles_take_the_font_too(tmp_path: Path) -> None:
    assert _font(18, "S1: 3 tiles of 77 µm").getname()[0] == fonts.FONT
    assert _font(18, NAME).getname()[0] == fonts.FONT
    install(tmp_path, "SimHei")
    assert _font(18, NAME).getname()[0] == "SimHei"
