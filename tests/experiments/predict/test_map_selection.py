"""Without --map-gene, markers of the panel are drawn, then the genes that are predicted best."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tcgn_mil.experiments.predict.config import PredictConfig
from tcgn_mil.experiments.predict.map_selection import genes_to_draw


def model(r: dict[str, float]) -> Any:
    table = pd.DataFrame({"r_model": r, "pooled_r_model": np.nan})
    return SimpleNamespace(genes=table, panel=SimpleNamespace(genes=tuple(r)))


@pytest.mark.parametrize(
    ("r", "drawn"),
    [
        (
            {"A": 0.9, "B": 0.8, "CD3E": 0.1, "CD3D": 0.4, "EPCAM": np.nan},
            ("EPCAM", "CD3D", "A", "B"),
        ),
        ({"Z": np.nan, "Y": np.nan, "A": np.nan}, ("Z", "Y", "A")),
        (
            {"KRT8": 0.1, "LUM": 0.1, "CD2": 0.1, "CD14": 0.1, "A": 0.9},
            ("KRT8", "LUM", "CD2", "CD14"),
        ),
    ],
)
def test_markers_come_first(r: dict[str, float], drawn: tuple[str, ...]) -> None:
    assert genes_to_draw(PredictConfig(), model(r)) == drawn


def test_without_maps_no_gene_is_drawn() -> None:
    r = {"A": 0.5, "EPCAM": 0.2}
    assert genes_to_draw(PredictConfig(maps=False), model(r)) == ()
