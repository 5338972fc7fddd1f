"""The HTML report: one file, values escaped, numbers and missing values readable."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from page_structure import PageStructure
from PIL import Image

from tcgn_mil import plotting
from tcgn_mil.errors import InputError
from tcgn_mil.experiments.runs import figures
from tcgn_mil.experiments.runs.page import (
    MAX_ROWS,
    Link,
    Opening,
    Section,
    Stage,
    as_picture,
    as_table,
    write_report,
)


def test_values_are_escaped_wherever_they_stand(tmp_path: Path) -> None:
    attack = "<script>alert(1)</script>"
    table = as_table(pd.DataFrame({attack: [attack]}), attack)
    write_report(
        tmp_path / "r.html",
        title=attack,
        banner=attack,
        sections=[Section(attack, [attack], [table])],
        gene=attack,
    )
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert text.count("&lt;script&gt;alert") >= 7


def test_tables_show_missing_values_and_say_what_they_cut(tmp_path: Path) -> None:
    table = as_table(pd.DataFrame({"r": [0.12345, np.nan], "gene": ["A", "B"]}), "Genes")
    assert table.rows == [["0.123", "A"], ["NA", "B"]]
    long = as_table(pd.DataFrame({"n": range(MAX_ROWS + 5)}), "Long")
    assert len(long.rows) == MAX_ROWS
    assert f"first {MAX_ROWS} of {MAX_ROWS + 5} rows" in long.caption


def test_missing_figures_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing\.png: no such figure"):
        as_picture(tmp_path / "nothing.png", "nothing")


def test_figures_are_drawn_where_values_are_missing(tmp_path: Path) -> None:
    values = np.array([0.1, np.nan, 0.3])
    figures.gene_distributions(
        {"model": values, "none": values * np.nan}, tmp_path / "a.png", xlabel="r"
    )
    figures.grouped_points(
        {"colour": {"model": values}, "null": {"model": values * np.nan}},
        tmp_path / "b.png",
        ylabel="r",
    )
    epochs = [{"loss": 1.0, "score": float("nan")}, {"loss": 0.5, "score": 0.2}]
    figures.training_curves({"fold 0": epochs}, tmp_path / "c.png", score="r")
    for name in "abc":
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (tmp_path / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    assert pd.read_csv(tmp_path / "a_figure.csv")["value"].tolist() == [0.1, 0.3]
    assert pd.read_csv(tmp_path / "c_figure.csv")["loss"].tolist() == [1.0, 0.5]


def test_figures_have_a_pdf_and_what_is_drawn_as_a_table_the_same_each_time(tmp_path: Path) -> None:
    truth, predicted = np.random.default_rng(0).normal(size=(2, 5, 2)).astype(np.float32)
    for folder in ("one", "two"):
        figures.gene_scatter(
            ["<b>", "$x$"],
            truth,
            predicted,
            tmp_path / folder / "s.png",
            unit="u",
            patients=list("vwxyz"),
        )
    one, two = (sorted((tmp_path / folder).iterdir()) for folder in ("one", "two"))
    assert [path.name for path in one] == ["s.pdf", "s.png", "s_figure.csv"]
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
    drawn = pd.read_csv(tmp_path / "one" / "s_figure.csv").set_index(["gene", "patient"])
    assert drawn.loc[("$x$", "w"), "measured"] == pytest.approx(truth[1, 1], rel=1e-5)
    assert drawn.loc[("<b>", "z"), "predicted"] == pytest.approx(predicted[4, 0], rel=1e-5)


def test_clouds_of_many_points_are_pixels_in_the_pdf(tmp_path: Path) -> None:
    few, many = (
        np.random.default_rng(0).normal(size=(n, 1)) for n in (100, 5 * plotting.MAX_VECTORS)
    )
    for name, values in (("few", few), ("many", many)):
        figures.gene_scatter(
            ["A"],
            values,
            values,
            tmp_path / f"{name}.png",
            unit="u",
            patients=[str(i) for i in range(len(values))],
        )
    assert b"/Subtype /Image" not in (tmp_path / "few.pdf").read_bytes()
    assert b"/Subtype /Image" in (tmp_path / "many.pdf").read_bytes()


def test_a_page_can_be_read_with_a_keyboard_and_a_screen_reader(tmp_path: Path) -> None:
    figures.gene_distributions({"m": np.array([0.1, 0.2])}, tmp_path / "a.png", xlabel="r")
    table = pd.DataFrame({"gene": [f"G{i}" for i in range(50)], "r": np.arange(50.0)})
    page = write_report(
        tmp_path / "r.html",
        title="t",
        banner="b",
        opening=Opening(["a sentence"], as_picture(tmp_path / "a.png", "an opening")),
        stages=[Stage("tile", "did", [Link("a", tmp_path / "a.png")])],
        words={"r": "a number"},
        sections=[
            Section("One", tables=[as_table(table, "first"), as_table(table, "second")]),
            Section("Two", figures=[as_picture(tmp_path / "a.png", "a figure")]),
        ],
    )
    text = page.read_text(encoding="utf-8")
    assert PageStructure(text).problems == []
    assert text.index('class="skip"') < text.index("<nav")
    # A head of a column is a button, which a keyboard reaches without any script of ours.
    assert text.count('<button type="button" class="sort">') == 4


def test_a_figure_is_shown_and_printed_at_its_own_width(tmp_path: Path) -> None:
    figures.gene_distributions({"m": np.array([0.1, 0.2])}, tmp_path / "a.png", xlabel="r")
    narrow = as_picture(tmp_path / "a.png", "")
    assert narrow.inches == plotting.ONE_COLUMN
    assert not narrow.is_wide
    figures.gene_scatter(
        list("ABCD"), np.ones((3, 4)), np.ones((3, 4)), tmp_path / "b.png", unit="u", patients="xyz"
    )
    assert as_picture(tmp_path / "b.png", "").is_wide
    Image.new("RGB", (400, 100)).save(tmp_path / "c.png")  # a picture that does not state its size
    assert as_picture(tmp_path / "c.png", "").width == 400
