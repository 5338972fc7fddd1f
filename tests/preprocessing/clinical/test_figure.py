"""The figure of a clinical table has one panel for each endpoint, with the curve of lifelines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from tcgn_mil.preprocessing.clinical import figure as survival_figure
from tcgn_mil.types.outcomes import DAYS_PER_YEAR, SurvivalTable


def table(endpoint: str = "OS", entry: list[float] | None = None) -> SurvivalTable:
    patients = ("a", "b", "c", "d")
    return SurvivalTable(
        endpoint,
        patients,
        np.array([1, 2, 3, 4]) * DAYS_PER_YEAR,
        np.array([True, False, True, False]),
        pd.DataFrame(index=pd.Index(patients)),
        None if entry is None else np.array(entry) * DAYS_PER_YEAR,
    )


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Figures that were drawn."""
    kept: list[Figure] = []
    monkeypatch.setattr(survival_figure, "save", lambda figure, _: kept.append(figure))
    return kept


def test_the_curve_falls_at_events_among_those_at_risk(tmp_path: Path, drawn: list[Figure]) -> None:
    survival_figure.draw_survival(tmp_path / "clinical.png", [table()])
    (axis,) = drawn[0].axes
    curve, censored = axis.lines
    assert np.allclose(
        curve.get_ydata(), [1, 0.75, 0.75, 0.375, 0.375]
    )  # 3 of 4, then 1 of the 2 left
    assert censored.get_xdata().tolist() == [2, 4]
    assert axis.get_ylabel() == "overall survival (95 % band)"
    assert [label.get_text() for label in axis.get_xticklabels()] == [
        "0\n4",
        "1\n4",
        "2\n3",
        "3\n2",
        "4\n1",
    ]
    assert "4 patients, 2 events (50%)" in axis.get_title()


def test_who_enters_late_is_not_at_risk_before(tmp_path: Path, drawn: list[Figure]) -> None:
    survival_figure.draw_survival(tmp_path / "clinical.png", [table(entry=[0, 0, 0, 1.5])])
    (axis,) = drawn[0].axes
    assert axis.lines[0].get_ydata()[-1] == pytest.approx(
        np.exp(-1 / 3 - 1 / 2)
    )  # an event of 3, then one of 2
    assert axis.get_xticklabels()[1].get_text() == "1\n3"


def test_an_early_event_of_all_at_risk_does_not_end_the_curve(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    survival_figure.draw_survival(tmp_path / "clinical.png", [table(entry=[0, 1.5, 1.5, 1.5])])
    assert drawn[0].axes[0].lines[0].get_ydata()[-1] > 0


def test_a_panel_for_each_endpoint(tmp_path: Path) -> None:
    sizes = []
    for endpoints in (["OS"], ["OS", "PFI"]):
        survival_figure.draw_survival(
            tmp_path / "clinical.png", [table(name) for name in endpoints]
        )
        with Image.open(tmp_path / "clinical.png") as picture:
            sizes.append(picture.size)
            assert np.asarray(picture.convert("L")).std() > 10
    assert sizes[1][0] > 1.7 * sizes[0][0]
    assert sizes[1][1] == sizes[0][1]
