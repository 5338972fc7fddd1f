"""Two data sets of lifelines with survival."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from lifelines.datasets import load_lung, load_rossi

from tcgn_mil.types.outcomes import SurvivalTable


def survival_table(
    time: pd.Series, event: pd.Series, covariates: pd.DataFrame, entry: np.ndarray | None = None
) -> SurvivalTable:
    names = tuple(f"p{row}" for row in range(len(time)))
    frame = covariates.astype(float).set_axis(list(names), axis=0)
    return SurvivalTable("OS", names, time.to_numpy(float), event.to_numpy(bool), frame, entry)


@pytest.fixture(scope="module")
def rossi() -> SurvivalTable:
    """432 men released from prison, 114 arrested again, most of them at tied weeks."""
    frame = load_rossi()
    return survival_table(frame["week"], frame["arrest"], frame.drop(columns=["week", "arrest"]))


@pytest.fixture(scope="module")
def lung() -> SurvivalTable:
    """228 patients with advanced lung cancer, 165 deaths."""
    frame = load_lung()
    return survival_table(frame["time"], frame["status"], frame[["age", "sex"]])
