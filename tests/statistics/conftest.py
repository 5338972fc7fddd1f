"""Data that several tests of statistics share."""

from __future__ import annotations

import numpy as np
import pytest

M, G = 60, 7


@pytest.fixture
def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    truth = rng.standard_normal((M, G)).astype(np.float32)
    predicted = (truth * np.linspace(0, 2, G) + rng.standard_normal((M, G))).astype(np.float32)
    return truth, predicted
