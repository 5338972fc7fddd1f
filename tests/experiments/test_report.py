"""The HTML report: one file, values escaped, numbers and missing values readable."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.experiments import figures
from tcgn_mil.experiments.report import MAX_ROWS, Section, as_picture, as_table, write_report


def test_values_are_escaped_wherever_they_stand(tmp_path: Path) -> None:
    attack = "<script>alert(1)</script>"
    table = as_table(pd.DataFrame({attack: [attack]}), attack)
    write_report(
        tmp_path / "r.html", title=attack, banner=attack, sections=[Section(attack, [attack], [table])], gene=attack
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
    figures.gene_distributions({"model": values, "none": values * np.nan}, tmp_path / "a.png", xlabel="r")
    figures.grouped_points(
        {"colour": {"model": values}, "null": {"model": values * np.nan}}, tmp_path / "b.png", ylabel="r"
    )
    epochs = [{"loss": 1.0, "score": float("nan")}, {"loss": 0.5, "score": 0.2}]
    figures.training_curves({"fold 0": epochs}, tmp_path / "c.png", score="r")
    for name in "abc":
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
