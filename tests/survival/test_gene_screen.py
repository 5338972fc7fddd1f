"""The screen of all genes at once against lifelines, gene by gene."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter
from lifelines.datasets import load_rossi
from scipy.stats import false_discovery_control

from tcgn_mil.statistics.p_values import benjamini_hochberg
from tcgn_mil.survival.gene_screen import cox_screen

EXACT = {"precision": 1e-12}  # by default lifelines stops up to 2e-4 short of the maximum


@pytest.fixture(scope="module")
def cohort() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(300, 12) genes, times with many ties, events, entry times."""
    rng = np.random.default_rng(0)
    genes = rng.normal(size=(300, 12)) * rng.uniform(0.1, 50, 12) + rng.uniform(-100, 100, 12)
    hazard = np.exp(0.5 * (genes[:, 0] - genes[:, 0].mean()) / genes[:, 0].std())
    time = np.ceil(rng.exponential(40 / hazard))
    return genes, time, rng.random(300) < 0.4, np.floor(0.8 * time * rng.random(300))


def direct(
    gene: np.ndarray,
    time: np.ndarray,
    event: np.ndarray,
    entry: np.ndarray | None,
    **more: np.ndarray,
):
    frame = pd.DataFrame({"gene": gene, "t": time, "e": event, **more})
    if entry is None:
        return CoxPHFitter().fit(frame, "t", "e", fit_options=EXACT).summary.loc["gene"]
    frame["entry"] = entry
    return (
        CoxPHFitter().fit(frame, "t", "e", entry_col="entry", fit_options=EXACT).summary.loc["gene"]
    )


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("adjusted", [False, True])
def test_numbers_are_lifelines(cohort, late: bool, adjusted: bool) -> None:
    genes, time, event, entry = cohort
    entry = entry if late else None
    age, sex = np.random.default_rng(1).normal(60, 10, 300), np.arange(300) % 2
    more = {"age": age, "sex": sex} if adjusted else {}
    found = cox_screen(
        genes,
        time,
        event,
        entry=entry,
        covariates=np.stack([age, sex], axis=1) if adjusted else None,
    )
    for index in range(genes.shape[1]):
        expected = direct(genes[:, index], time, event, entry, **more)
        assert found.coef[index] == pytest.approx(expected["coef"], rel=1e-6, abs=1e-8)
        assert found.se[index] == pytest.approx(expected["se(coef)"], rel=1e-6)
        assert found.z[index] == pytest.approx(expected["z"], abs=1e-6)
        assert found.p[index] == pytest.approx(expected["p"], abs=1e-6)
        sd = genes[:, index].std(ddof=1)
        assert found.hazard_ratio[index] == pytest.approx(np.exp(expected["coef"] * sd), rel=1e-6)
        assert found.low[index] == pytest.approx(np.exp(expected["coef lower 95%"] * sd), rel=1e-5)
    np.testing.assert_allclose(found.q, false_discovery_control(found.p))


def test_rossi_one_at_a_time() -> None:
    """Fox & Weisberg fit all covariates together, and lifelines fits prio alone."""
    rossi = load_rossi()
    found = cox_screen(
        rossi[["fin", "prio"]].to_numpy(float), rossi["week"].to_numpy(float), rossi["arrest"] == 1
    )
    for index, name in enumerate(("fin", "prio")):
        expected = (
            CoxPHFitter().fit(rossi[[name, "week", "arrest"]], "week", "arrest").params_[name]
        )
        assert found.coef[index] == pytest.approx(expected, abs=1e-6)


def test_genes_without_an_answer_are_nan(cohort) -> None:
    genes, time, event, _ = cohort
    separates = np.where(event, 0.0, np.arange(300) % 11 == 0)
    missing = genes[:, 1].copy()
    missing[3] = np.nan
    found = cox_screen(
        np.stack([np.full(300, 7.1), separates, missing, genes[:, 0]], axis=1), time, event
    )
    assert np.isnan(found.p).tolist() == [True, True, True, False]
    assert np.isnan(found.hazard_ratio).tolist() == [True, True, True, False]
    assert found.separates.tolist() == [False, True, False, False]
    assert found.q[3] == found.p[3]


def test_perfect_order_is_told(cohort) -> None:
    _, time, event, _ = cohort
    assert cox_screen((1000.0 * event - time)[:, None], time, event).separates.tolist() == [True]


def test_heavy_tails_reach_the_maximum(cohort) -> None:
    """z-scored RNA has values of 1e4; a full Newton step from 0 overshoots."""
    genes, time, event, _ = cohort
    tail = np.exp(2.0 * (genes[:, 0] - genes[:, 0].mean()) / genes[:, 0].std())
    tail[5] = 1e4
    found = cox_screen(tail[:, None], time, event)
    from tcgn_mil.survival.risk_sets import RiskSets

    at = RiskSets(time, event).log_likelihood(
        tail[:, None] * found.coef[0] * np.array([0.99, 1.0, 1.01])
    )
    assert at[1] >= max(at[0], at[2])


def test_no_event_no_answer(cohort) -> None:
    genes, time, event, _ = cohort
    found = cox_screen(genes, time, np.zeros_like(event))
    assert np.isnan(found.p).all()
    assert not found.separates.any()


def test_null_p_values_are_uniform() -> None:
    rng = np.random.default_rng(2)
    found = cox_screen(
        rng.normal(size=(250, 2000)), rng.exponential(size=250), rng.random(250) < 0.4
    )
    assert 0.035 < (found.p < 0.05).mean() < 0.065
    assert not (found.q < 0.05).any()


def test_benjamini_hochberg_skips_what_has_no_p() -> None:
    q = benjamini_hochberg(np.array([0.01, np.nan, 0.04]))
    np.testing.assert_allclose(q, [0.02, np.nan, 0.04])
    assert np.isnan(benjamini_hochberg(np.array([np.nan]))).all()
