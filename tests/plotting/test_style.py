"""The style of figures, safe names, and files that are the same twice."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from tcgn_mil import plotting


@plotting.styled
def draw(path: Path) -> None:
    figure, axis = plotting.subplots(width=plotting.ONE_COLUMN, height=2)
    axis.plot([0, 1], [0, 1], label="a line")
    axis.set(xlabel=plotting.plain_text("P$1$ and P$2$"), title="title")
    axis.legend()
    plotting.save_figure(figure, path, pd.DataFrame({"x": [0, 1]}))


def test_a_figure_is_the_same_twice_to_the_byte_and_has_no_date(tmp_path: Path) -> None:
    for name in ("a", "b"):
        draw(tmp_path / name / "figure.png")
    for suffix in (".png", ".pdf"):
        first, second = (
            (tmp_path / name / "figure").with_suffix(suffix).read_bytes() for name in ("a", "b")
        )
        assert first == second
        assert b"CreationDate" not in first
        assert b"atplotlib v" not in first


def test_text_in_a_pdf_stays_text(tmp_path: Path) -> None:
    draw(tmp_path / "figure.png")
    content = (tmp_path / "figure.pdf").read_bytes()
    assert b"/Type0" in content  # the kind of font that type 42 embeds
    assert b"/Type3" not in content


def test_the_users_settings_neither_change_a_figure_nor_are_changed(tmp_path: Path) -> None:
    draw(tmp_path / "plain.png")
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red"}):
        draw(tmp_path / "styled.png")
        assert matplotlib.rcParams["font.size"] == 20
    assert (tmp_path / "plain.png").read_bytes() == (tmp_path / "styled.png").read_bytes()


def test_a_name_with_dollars_is_no_formula() -> None:
    _, axis = plotting.subplots(width=2, height=2)
    text = axis.set_title(plotting.plain_text("G$x^2$"))
    drawn, is_math = text._preprocess_math(text.get_text())
    assert (drawn, is_math) == ("G$x^2$", False)


def test_text_of_every_kind_is_at_least_six_points() -> None:
    sizes = {}

    @plotting.styled
    def read() -> None:
        for name in ("font.size", "xtick.labelsize", "legend.fontsize", "axes.titlesize"):
            sizes[name] = float(matplotlib.rcParams[name])

    read()
    assert min(sizes.values()) >= 6


@pytest.mark.parametrize("hue", ["deuteranopia", "protanopia"])
def test_neighbouring_colours_differ_for_the_colour_blind(hue: str) -> None:
    """The first four colours are told apart by those who lack one kind of cone.

    The matrices are those of Vienot, Brettel and Mollon (Color Res. Appl. 1999) on linear RGB.
    """
    rows = {
        "deuteranopia": ((0.29275, 0.70725, 0.0), (0.29275, 0.70725, 0.0), (-0.02234, 0.02234, 1)),
        "protanopia": ((0.11238, 0.88762, 0.0), (0.11238, 0.88762, 0.0), (0.00401, -0.00401, 1)),
    }[hue]
    seen = []
    for colour in plotting.COLOURS[:4]:
        linear = [value**2.2 for value in to_rgb(colour)]
        seen.append([sum(a * b for a, b in zip(row, linear, strict=True)) for row in rows])
    for index, first in enumerate(seen):
        for second in seen[index + 1 :]:
            assert sum(abs(a - b) for a, b in zip(first, second, strict=True)) > 0.1
