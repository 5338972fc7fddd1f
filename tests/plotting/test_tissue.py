"""Colour scales have a floor, the tissue shows through, and the scale bar has the right length."""

from __future__ import annotations

import numpy as np
import pytest

from tcgn_mil import plotting


def test_weak_scores_do_not_fill_the_palette() -> None:
    scale = plotting.score_scale(np.array([-0.015, 0.015]), "score")
    assert (scale.low, scale.high) == (-0.5, 0.5)
    weak = np.asarray(scale.mappable().to_rgba(np.array([-0.015, 0.015])))[:, :3]
    assert weak.min() > 0.9  # nearly white
    assert plotting.score_scale(np.linspace(-4, 4, 99), "score").high > 3.9


def test_a_gene_that_is_not_predictable_is_pale() -> None:
    values = np.array([-2.0, 2.0])
    full, pale = (
        np.asarray(plotting.score_scale(values, "", predictable=sure).mappable().to_rgba(values))
        for sure in (True, False)
    )
    assert pale[:, :3].min() > 0.6 > full[:, :3].min()


def test_two_tiles_of_nearly_even_attention_are_not_the_ends_of_the_scale() -> None:
    scale = plotting.attention_scale(np.array([0.9, 1.1]), "attention")
    assert (scale.low, scale.high) == (0, 2)


def test_a_nearly_constant_prediction_looks_constant() -> None:
    scale = plotting.spot_scale(np.array([3.0, 3.01]), "", sd=2.0)
    assert scale.high - scale.low == pytest.approx(2.0)
    with_nothing = plotting.spot_scale(np.full(3, np.nan), "", sd=np.nan)
    assert with_nothing.high > with_nothing.low


def test_glass_is_bright_and_nuclei_are_dark_but_not_black() -> None:
    picture = np.full((10, 10, 3), 240, np.uint8)
    picture[:3] = 40
    shade = plotting.shade_tissue(picture)
    assert shade[5, 5] == 1
    assert shade[0, 0] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("mpp", "words", "share"), [(0.5, "100 µm", 0.2), (10.0, "2 mm", 0.2), (0.05, "10 µm", 0.2)]
)
def test_the_scale_bar_has_a_round_length(mpp: float, words: str, share: float) -> None:
    _, axis = plotting.subplots(width=2, height=2)
    axis.set(xlim=(0, 1000))
    plotting.draw_scale_bar(axis, mpp)
    assert axis.texts[0].get_text() == words
    assert np.ptp(axis.lines[0].get_xdata()) == pytest.approx(share)
    assert axis.get_xlim() == (0, 1000)
