"""The figure of a joined cohort shows each slide and sample once, and values of patients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from tcgn_mil import plotting
from tcgn_mil.preprocessing.bulk.figure import MAX_REASONS, draw_cohort, fates, patient_quantiles
from tcgn_mil.preprocessing.bulk.patient_join import JoinRow
from tcgn_mil.types.units import ExpressionUnit

TPM, ZSCORE = ExpressionUnit.parse("tpm"), ExpressionUnit.parse("zscore")


def row(kind: str, reason: str = "", *, kept: bool = False) -> JoinRow:
    return JoinRow(kind, "x", "p", "", kept, "", reason)


ROWS = [
    *[row("slide", kept=True)] * 3,
    row("slide", "lost"),
    *[row("slide", "none")] * 2,
    row("sample", kept=True),
]


def test_every_row_is_counted_once_frequent_reasons_first() -> None:
    assert fates(ROWS) == [
        ("slides kept", 3, True),
        ("slides: none", 2, False),
        ("slides: lost", 1, False),
        ("samples kept", 1, True),
    ]
    many = [row("sample", f"reason {number}") for number in range(MAX_REASONS + 3)]
    found = fates(many)
    assert sum(number for _, number, _ in found) == len(many)
    assert found[-1] == ("samples: 3 other reasons", 3, False)
    assert found[0] == ("samples kept", 0, True)


def test_linear_values_are_shown_as_logs_missing_ones_left_out() -> None:
    values = pd.DataFrame([[0.0, 1.0, 3.0, np.nan], [7.0, 7.0, 7.0, 7.0]])
    quantiles = patient_quantiles(values, TPM)
    assert quantiles.shape == (5, 2)
    assert quantiles[2].tolist() == [1, 3]
    assert patient_quantiles(values, ZSCORE)[2].tolist() == [1, 7]


def test_patients_stand_by_table_and_median(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    save = plotting.save

    def keep(figure: Figure, path: Path) -> None:
        drawn.append(figure)
        save(figure, path)

    monkeypatch.setattr(plotting, "save", keep)
    profiles = pd.DataFrame([[3.0] * 4, [1.0] * 4, [2.0] * 4])
    draw_cohort(tmp_path / "c.png", ROWS, profiles, ["b.csv.zip", "b.csv.zip", "a.csv"], ZSCORE)
    right = drawn[0].axes[1]
    assert right.lines[0].get_ydata().tolist() == [2, 1, 3]
    assert right.lines[1].get_xdata()[0] == 0.5  # between the tables
    assert [label.get_text() for label in right.get_xticklabels()] == ["a", "b"]
    assert right.get_ylabel() == "zscore"
    with Image.open(tmp_path / "c.png") as picture:
        assert np.asarray(picture.convert("L")).std() > 10
