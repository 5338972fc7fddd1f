"""Tests of the results of one held-out section: intervals, p, q and predictable genes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tcgn_mil.experiments.spot_level.evaluate import (
    DETECTION_LABELS,
    SectionResults,
    baseline_predictions,
    predictable,
    section_results,
)
from tcgn_mil.experiments.spot_level.inputs.targets import SpotTargets
from tcgn_mil.types.genes import GenePanel

GENES = 40
PANEL = GenePanel(tuple(f"G{number}" for number in range(GENES)))


def section(rows: int = 14, columns: int = 14, *, seed: int = 0) -> SpotTargets:
    """A lattice of spots; the last ten genes are seen in too few of them."""
    rng = np.random.default_rng(seed)
    positions = (
        np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).reshape(-1, 2) * 290.0
    )
    depth = rng.normal(6, 0.5, len(positions))
    expression = rng.standard_normal((len(positions), GENES)) + depth[:, None]
    detection = np.where(np.arange(GENES) < 30, 0.5, 0.1)
    return SpotTargets(expression.astype(np.float32), depth, detection, positions)


def predictions(test: SpotTargets) -> dict[str, np.ndarray]:
    """Return a model that predicts genes 0 to 9 and 35, a ridge better for gene 0, and depth."""
    rng = np.random.default_rng(1)
    known = np.zeros(GENES)
    known[[*range(10), 35]] = 1
    own = test.expression - test.log_depth[:, None]
    model = own * known + rng.standard_normal(own.shape)
    ridge = rng.standard_normal(own.shape)
    ridge[:, 0] = own[:, 0] * 5 + rng.standard_normal(len(own))
    depth = np.broadcast_to(test.log_depth[:, None], own.shape)
    return {
        name: np.asarray(values, np.float32)
        for name, values in {"model": model, "ridge_colour": ridge, "depth_control": depth}.items()
    }


@pytest.fixture(scope="module")
def results() -> SectionResults:
    test = section()
    return section_results(
        PANEL, test, predictions(test), section="S", normalisation="library", replicates=300
    )


def test_genes_that_are_predicted_are_found_and_others_rarely(results: SectionResults) -> None:
    genes = results.genes
    assert (genes["q_model"][:10] < 0.05).all()
    assert (genes["q_model"][10:30] < 0.05).sum() <= 2
    assert genes["q_model"][30:].isna().all()  # seen in too few spots: not tested
    assert genes["p_model"][35] < 0.001  # p is given nevertheless
    assert (genes["q_model"].dropna() >= genes["p_model"][:30]).all()


def test_predictable_means_significant_and_above_ridge(results: SectionResults) -> None:
    genes, summary = results.genes, results.summary
    assert not genes["predictable"][0]  # ridge is better there
    assert genes["predictable"][1:10].all()
    assert not genes["predictable"][30:].any()
    rows = summary.set_index("predictor")
    assert rows.loc["model", "predictable"] == genes["predictable"].sum()
    assert rows["significant"]["ridge_colour"] >= 1
    assert pd.isna(rows.loc["ridge_colour", "predictable"])


def test_a_baseline_without_a_value_does_not_gate() -> None:
    genes = pd.DataFrame(
        {
            "q_model": [0.01, 0.01, 0.2, np.nan],
            "depth_adjusted_r_model": [0.3, 0.3, 0.3, 0.3],
            "depth_adjusted_r_ridge_colour": [np.nan, 0.2, 0.2, 0.2],
            "depth_adjusted_r_small_network": [0.1, 0.4, 0.1, 0.1],
            "depth_adjusted_r_depth_control": [0.9, 0.9, 0.9, 0.9],
        }
    )
    assert predictable(genes).tolist() == [True, False, False, False]


def test_intervals_lie_about_r_and_the_headline_has_one(results: SectionResults) -> None:
    genes, summary = results.genes, results.summary
    r = genes["depth_adjusted_r_model"]
    assert (genes["low_model"] < r).all()
    assert (r < genes["high_model"]).all()
    assert (genes["low_model"][:10] > 0).all()
    row = summary.set_index("predictor").loc["model"]
    assert row["headline_low"] < row["headline"] < row["headline_high"]
    assert row["headline"] == pytest.approx(r[:30].median())


def test_depth_has_no_r_once_depth_is_out(results: SectionResults) -> None:
    genes, summary = results.genes, results.summary
    assert (
        genes[["depth_adjusted_r_depth_control", "p_depth_control", "low_depth_control"]]
        .isna()
        .all(axis=None)
    )
    assert genes["r_depth_control"].median() > 0.2
    row = summary.set_index("predictor").loc["depth_control"]
    assert row[["headline", "headline_low", "headline_high"]].isna().all()
    assert row["significant"] == 0


def test_a_section_of_few_spots_has_r_but_no_test() -> None:
    test = section(3, 3)
    genes, summary, *_ = section_results(
        PANEL, test, predictions(test), section="S", normalisation="library"
    )
    assert "p_model" not in genes
    assert genes["r_model"].notna().all()
    assert summary["headline_low"].isna().all()


def test_several_sections_in_one_have_no_lattice() -> None:
    test = section()
    merged = SpotTargets(test.expression, test.log_depth, test.detection)
    with pytest.raises(ValueError, match="no positions"):
        section_results(PANEL, merged, predictions(test), section="S", normalisation="library")


def test_results_are_broken_down_by_detection(results: SectionResults) -> None:
    table = results.detection[results.detection["predictor"] == "model"].set_index("seen_in")
    assert table.index.tolist() == list(DETECTION_LABELS)
    assert table["genes"].tolist() == [0, 10, 0, 30]  # 0.1 and 0.5: a bin holds its lower bound
    assert pd.isna(table.loc["< 5 %", "median_r"])
    expected = results.genes["depth_adjusted_r_model"][:30].median()
    assert table.loc["> 50 %", "median_depth_adjusted_r"] == pytest.approx(expected)


def test_baselines_of_spots_know_colour_or_depth_alone_and_heed_no_unknown_spot() -> None:
    rng = np.random.default_rng(0)
    train, test = section(seed=1), section(seed=2)
    colour = rng.standard_normal((len(train.log_depth), 30)).astype(np.float32)
    own = rng.standard_normal((len(test.log_depth), 30)).astype(np.float32)
    found = baseline_predictions(train, colour, test, own)
    assert set(found) == {"ridge_colour", "depth_control", "log_total", "training_mean"}
    np.testing.assert_allclose(
        found["log_total"], np.repeat(test.log_depth[:, None], GENES, axis=1), rtol=1e-6
    )
    np.testing.assert_allclose(found["training_mean"][0], train.expression.mean(axis=0), rtol=1e-4)
    expression = np.vstack([train.expression, np.full((1, GENES), np.nan, np.float32)])
    more = SpotTargets(expression, np.append(train.log_depth, 3.0), train.detection)
    again = baseline_predictions(more, np.vstack([colour, own[:1]]), test, own)
    for name, values in found.items():
        np.testing.assert_allclose(again[name], values, rtol=1e-4, atol=1e-4)
