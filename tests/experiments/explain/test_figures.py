"""Tests of the figures of explanations."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from tcgn_mil.experiments.explain import figures as explanation_figures
from tcgn_mil.experiments.explain.attribution_tables import Explanation


@pytest.mark.parametrize(("size", "faint"), [(1e-4, True), (0.05, False)])
def test_what_hardly_bears_on_a_gene_is_drawn_faint(
    size: float, faint: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Colours reach to 0.1 sd / 49 at least, here 0.002."""
    shown = []
    monkeypatch.setattr(
        explanation_figures, "_colour_bar", lambda _axis, image, _label: shown.append(image)
    )
    cam = np.zeros((1, 7, 7), dtype=np.float32)
    cam[0, 2, 3] = size
    relevance = np.zeros((1, 224, 224), dtype=np.float32)
    relevance[0, :50, :50] = size / 64
    zero = np.zeros(1, dtype=np.float32)
    found = Explanation(zero, cam, zero, relevance, zero, zero, [])
    axis = Figure().subplots()
    explanation_figures._draw_cam(axis, found, 0, sd=1.0)
    explanation_figures._draw_relevance(axis, found, 0, sd=1.0)
    for image in shown:
        assert (np.max(image.get_alpha()) < 0.15) == faint
