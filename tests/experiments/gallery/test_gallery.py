"""Every figure of the gallery fits its page, can be read, and says what is on its axes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from tcgn_mil import plotting
from tcgn_mil.experiments.gallery.__main__ import ENTRIES, write_gallery
from tcgn_mil.experiments.gallery.entry import Entry

SMALLEST_PT = 5.5
# Functions whose names begin with `draw`, and which draw no figure by themselves.
PARTS = {"draw_all", "draw_cross_validation", "draw_heatmap", "draw_run", "draw_scale_bar"}


@pytest.fixture
def laid_out(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Figure]]:
    """Figures whose layout was made, and which were not painted, since that takes most time."""
    figures: list[Figure] = []

    def lay_out(figure: Figure, path: str | Path, **_: Any) -> None:
        Path(path).touch()
        if figure not in figures:
            figure.draw_without_rendering()
            figures.append(figure)

    monkeypatch.setattr(Figure, "savefig", lay_out)
    return figures


def written(figure: Figure) -> list[Text]:
    """Texts that can be seen."""
    texts = figure.findobj(Text)
    return [text for text in texts if text.get_visible() and text.get_text().strip()]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_a_figure_fits_its_page_and_can_be_read(
    entry: Entry, tmp_path: Path, laid_out: list[Figure]
) -> None:
    entry.draw(tmp_path / "figure.png")
    (figure,) = laid_out
    width, height = figure.get_size_inches()
    assert width <= plotting.TWO_COLUMNS + 0.21
    assert min(text.get_fontsize() for text in written(figure)) >= SMALLEST_PT
    box = figure.get_tightbbox()
    assert box is not None
    # Nothing is cut off at an edge of the page.
    assert box.x0 > -0.05
    assert box.y0 > -0.05
    assert box.x1 < width + 0.05
    assert box.y1 < height + 0.05
    for axis in figure.axes:
        if axis.axison and not axis.images and not axis.collections and axis.lines:
            shared = figure.get_supxlabel() or figure.get_supylabel()
            assert axis.get_xlabel() or axis.get_ylabel() or shared or axis.get_title()


def test_the_markdown_shows_every_figure(tmp_path: Path, laid_out: list[Figure]) -> None:
    page = write_gallery(tmp_path, ENTRIES[-2:])
    text = page.read_text(encoding="utf-8")
    pictures = re.findall(r"!\[[^\]]+\]\((.+?)\)", text)
    assert pictures == [f"{entry.name}.png" for entry in ENTRIES[-2:]]
    assert all((tmp_path / picture).is_file() for picture in pictures)
    assert len({entry.name for entry in ENTRIES}) == len(ENTRIES)


def test_every_figure_function_has_an_example() -> None:
    root = Path(__file__).parents[3]
    gallery = "".join(
        path.read_text(encoding="utf-8") for path in (root / "experiments" / "gallery").glob("*.py")
    )
    public = set()
    for path in (root / "experiments").rglob("*.py"):
        if path.parent.name in ("gallery", "benchmarks", "tcga", "out_of_distribution", "scale"):
            continue
        text = path.read_text(encoding="utf-8")
        public |= set(re.findall(r"@plotting\.styled\ndef (\w+)\(", text))
    # Each pair of a function that returns a figure and one that writes it needs one example.
    shown = {name for name in public if f"draw_{name}" not in public}
    shown -= {"draw_slide_maps", "draw_spot_maps"}
    assert {name for name in shown if f"{name}(" not in gallery and name not in gallery} == set()
