"""Cox regression, log-rank test and C against lifelines and against published values."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter
from lifelines.statistics import logrank_test, proportional_hazard_test
from lifelines.utils import concordance_index

from tcgn_mil.survival.accuracy import concordance, pair_counts
from tcgn_mil.survival.cox import fit_cox, hazard_ratios, likelihood_ratio
from tcgn_mil.survival.log_rank import log_rank
from tcgn_mil.survival.proportional_hazards import (
    PROPORTIONAL_ADVICE,
    proportional_hazards,
    scaled_schoenfeld_residuals,
)
from tcgn_mil.survival.risk_sets import RiskSets
from tcgn_mil.types.outcomes import SurvivalTable


class TestPublishedValues:
    def test_rossi_as_in_fox(self, rossi: SurvivalTable) -> None:
        """Output of summary(coxph(...)) in Fox & Weisberg, An R Companion to Applied Regression."""
        found = (
            hazard_ratios(fit_cox(rossi, rossi.covariates), rossi.covariates)
            .set_index("covariate")
            .round({"hazard_ratio": 3, "z": 2})
        )
        printed = {
            "fin": (-0.3794, 0.684, 0.1914, -1.98),
            "age": (-0.0574, 0.944, 0.0220, -2.61),
            "race": (0.3139, 1.369, 0.3080, 1.02),
            "wexp": (-0.1498, 0.861, 0.2122, -0.71),
            "mar": (-0.4337, 0.648, 0.3819, -1.14),
            "paro": (-0.0849, 0.919, 0.1958, -0.43),
            "prio": (0.0915, 1.096, 0.0286, 3.19),
        }
        for name, values in printed.items():
            row = found.loc[name]
            assert (
                round(row["coef"], 4),
                row["hazard_ratio"],
                round(row["se"], 4),
                row["z"],
            ) == values

    def test_likelihood_ratio_of_rossi(self, rossi: SurvivalTable) -> None:
        found = likelihood_ratio(rossi, rossi.covariates.iloc[:, :0], rossi.covariates)
        assert (round(found.statistic, 1), found.freedom) == (33.3, 7)
        assert found.p == pytest.approx(2.36e-05, rel=0.01)

    def test_lung_as_in_rs_manual(self, lung: SurvivalTable) -> None:
        """R's survival, help of summary.coxph: coxph(Surv(time, status) ~ age + sex, lung)."""
        found = hazard_ratios(fit_cox(lung, lung.covariates), lung.covariates).set_index(
            "covariate"
        )
        assert [
            f"{found.loc['age', name]:.3g}" for name in ("coef", "hazard_ratio", "se", "z", "p")
        ] == [
            "0.017",
            "1.02",
            "0.00922",
            "1.85",
            "0.0646",
        ]
        assert round(found.loc["age", "hazard_ratio"], 3) == 1.017
        sex = found.loc["sex"]
        assert (round(sex["coef"], 3), round(sex["z"], 2), round(sex["p"], 4)) == (
            -0.513,
            -3.06,
            0.0022,
        )
        assert sex["se"] == pytest.approx(
            0.16745, abs=1e-5
        )  # as printed; it is 0.167458 once converged
        assert (round(sex["low"], 3), round(sex["hazard_ratio"], 3), round(sex["high"], 3)) == (
            0.431,
            0.599,
            0.831,
        )
        ratio = likelihood_ratio(lung, lung.covariates.iloc[:, :0], lung.covariates)
        assert (round(ratio.statistic, 1), ratio.freedom) == (14.1, 2)
        assert ratio.p == pytest.approx(0.000857, abs=5e-7)

    def test_log_rank_of_lung_by_sex(self, lung: SurvivalTable) -> None:
        """R's survdiff(Surv(time, status) ~ sex, data = lung): chi-squared 10.3, p 0.00131."""
        statistic, p = log_rank(lung, lung.covariates["sex"].to_numpy() == 2)
        assert round(statistic, 1) == 10.3
        assert round(p, 5) == 0.00131


class TestAgreementWithLifelines:
    def test_cox(self, rossi: SurvivalTable) -> None:
        frame = rossi.covariates.assign(t=rossi.time_days, e=rossi.event)
        direct = CoxPHFitter().fit(frame, "t", "e").summary
        ours = hazard_ratios(fit_cox(rossi, rossi.covariates), rossi.covariates).set_index(
            "covariate"
        )
        np.testing.assert_allclose(ours["coef"], direct["coef"], atol=1e-6)
        np.testing.assert_allclose(ours["se"], direct["se(coef)"], atol=1e-6)
        np.testing.assert_allclose(ours["p"], direct["p"], atol=1e-6)

    def test_log_likelihood_with_ties(self, rossi: SurvivalTable) -> None:
        frame = rossi.covariates.assign(t=rossi.time_days, e=rossi.event)
        direct = CoxPHFitter().fit(frame, "t", "e")
        risk = RiskSets(rossi.time_days, rossi.event)
        predictors = np.stack([rossi.covariates @ direct.params_, np.zeros(len(rossi))], axis=1)
        np.testing.assert_allclose(
            risk.log_likelihood(predictors), [direct.log_likelihood_, direct._ll_null_], atol=1e-6
        )

    def test_log_rank(self, rossi: SurvivalTable) -> None:
        for column in ("fin", "race", "mar"):
            high = rossi.covariates[column].to_numpy() == 1
            direct = logrank_test(
                rossi.time_days[high], rossi.time_days[~high], rossi.event[high], rossi.event[~high]
            )
            statistic, p = log_rank(rossi, high)
            assert statistic == pytest.approx(direct.test_statistic, abs=1e-6)
            assert p == pytest.approx(direct.p_value, abs=1e-6)

    def test_log_rank_of_late_entrants_is_the_score_test(self, rossi: SurvivalTable) -> None:
        """Without ties the log-rank statistic equals Cox's score test at a coefficient of 0."""
        rng = np.random.default_rng(0)
        time = rossi.time_days + rng.uniform(0, 1e-3, len(rossi))
        late = SurvivalTable(
            "OS",
            rossi.patient_id,
            time,
            rossi.event,
            rossi.covariates,
            0.7 * time * rng.random(432),
        )
        high = late.covariates["fin"].to_numpy()
        step = 1e-4
        down, here, up = RiskSets(time, late.event, late.entry_days).log_likelihood(
            high[:, None] * np.array([-step, 0.0, step])
        )
        score, information = (up - down) / (2 * step), -(up - 2 * here + down) / step**2
        assert log_rank(late, high == 1)[0] == pytest.approx(score**2 / information, rel=1e-4)

    def test_log_rank_of_late_entrants_by_hand(self, rossi: SurvivalTable) -> None:
        """Mantel's sums over risk sets, with tied events and late entry."""
        rng = np.random.default_rng(0)
        entry = np.floor(rossi.time_days * 0.9 * rng.random(len(rossi)))
        late = dataclasses.replace(rossi, entry_days=entry)
        high = late.covariates["fin"].to_numpy() == 1
        difference = variance = 0.0
        for time in np.unique(late.time_days[late.event]):
            at_risk = (late.time_days >= time) & (entry < time)
            events = late.event & (late.time_days == time)
            n, d, share = at_risk.sum(), events.sum(), high[at_risk].mean()
            difference += events[high].sum() - d * share
            variance += d * share * (1 - share) * (n - d) / max(n - 1, 1)
        assert log_rank(late, high).statistic == pytest.approx(difference**2 / variance, rel=1e-13)

    def test_concordance(self, rossi: SurvivalTable) -> None:
        for risk in (
            rossi.covariates["prio"].to_numpy(),
            np.zeros(len(rossi)),
            -rossi.covariates["age"].to_numpy(),
        ):
            counts = pair_counts(
                rossi.time_days, rossi.event, risk[None, None], np.zeros((1, len(rossi)), int)
            )
            assert counts.c[0, 0] == pytest.approx(
                concordance_index(rossi.time_days, -risk, rossi.event), abs=1e-12
            )

    def test_proportional_hazards(self, rossi: SurvivalTable) -> None:
        frame = rossi.covariates.assign(t=rossi.time_days, e=rossi.event)
        direct = proportional_hazard_test(
            CoxPHFitter().fit(frame, "t", "e"), frame, time_transform="rank"
        ).summary
        found = proportional_hazards(
            fit_cox(rossi, rossi.covariates), rossi, rossi.covariates
        ).set_index("covariate")
        np.testing.assert_allclose(found.loc[direct.index, "p"], direct["p"], atol=1e-6)
        assert found.loc["age", "advice"] == PROPORTIONAL_ADVICE
        assert found.loc["prio", "advice"] == ""

    def test_strata_and_late_entry_reach_the_fit(self, rossi: SurvivalTable) -> None:
        entry = np.floor(rossi.time_days * 0.5 * np.random.default_rng(1).random(len(rossi)))
        late = SurvivalTable(
            "OS", rossi.patient_id, rossi.time_days, rossi.event, rossi.covariates, entry
        )
        groups = np.arange(len(rossi)) % 3
        frame = rossi.covariates.assign(t=rossi.time_days, e=rossi.event, entry=entry, group=groups)
        direct = CoxPHFitter().fit(frame, "t", "e", entry_col="entry", strata=["group"])
        ours = fit_cox(late, late.covariates, strata=groups)
        np.testing.assert_allclose(ours.params_, direct.params_[ours.params_.index], atol=1e-6)


class TestProportionalHazardsOfLateEntrants:
    def test_entry_at_zero_is_lifelines(self, rossi: SurvivalTable) -> None:
        direct = proportional_hazards(fit_cox(rossi, rossi.covariates), rossi, rossi.covariates)
        zero = dataclasses.replace(rossi, entry_days=np.zeros(len(rossi)))
        found = proportional_hazards(fit_cox(zero, zero.covariates), zero, zero.covariates)
        np.testing.assert_allclose(found["statistic"], direct["statistic"], atol=1e-6)
        assert found["advice"].tolist() == direct["advice"].tolist()

    def test_residuals_sum_to_nothing_at_the_maximum(self, rossi: SurvivalTable) -> None:
        """The score equation; with risk sets that forget late entry they do not."""
        entry = np.floor(rossi.time_days * 0.9 * np.random.default_rng(1).random(len(rossi)))
        late = dataclasses.replace(rossi, entry_days=entry)
        fitted = fit_cox(late, late.covariates)
        residuals = scaled_schoenfeld_residuals(fitted, late, late.covariates)
        assert residuals.shape == (114, 7)
        np.testing.assert_allclose(residuals.sum() / residuals.abs().sum(), 0, atol=1e-4)
        forgotten = dataclasses.replace(late, entry_days=None)
        wrong = scaled_schoenfeld_residuals(fitted, forgotten, late.covariates)
        assert (wrong.sum() / wrong.abs().sum()).abs().max() > 0.01

    def test_an_effect_that_turns_is_found_and_one_that_stays_is_not(self) -> None:
        rng = np.random.default_rng(0)
        names, shares = tuple(f"p{row:03d}" for row in range(400)), []
        for turns in (True, False):
            found = []
            for _ in range(40):
                x, early = rng.normal(size=400), rng.exponential(1, 400)
                before = early * np.exp(
                    -0.8 * x
                )  # hazard ratio exp(0.8) until 1, then its inverse or the same
                after = 1 + rng.exponential(1, 400) * np.exp((0.8 if turns else -0.8) * x)
                time = 100 * np.where(before < 1, before, after) + 1
                entry = np.where(rng.random(400) < 0.5, 0.0, 60 * rng.random(400))
                seen = np.flatnonzero(entry < time)
                design = pd.DataFrame({"x": x[seen]}, index=[names[row] for row in seen])
                table = SurvivalTable(
                    "OS",
                    tuple(design.index),
                    time[seen],
                    np.ones(len(seen), bool),
                    design,
                    entry[seen],
                )
                found.append(
                    proportional_hazards(fit_cox(table, design), table, design)["p"].iloc[0]
                )
            shares.append(np.mean(np.array(found) < 0.05))
        assert shares[0] == 1
        assert shares[1] <= 0.15


class TestConcordance:
    def test_pairs_are_within_folds(self, rossi: SurvivalTable) -> None:
        """A score that a fold shifts is as good as before; over all patients it would not be."""
        risk, fold = rossi.covariates["prio"].to_numpy(), np.arange(len(rossi)) % 4
        shifted = np.stack([risk, risk + 100 * fold])
        counts = pair_counts(rossi.time_days, rossi.event, shifted[:, None], fold[None])
        assert counts.concordant[0] == counts.concordant[1]
        whole = [
            concordance_index(rossi.time_days[fold == k], -risk[fold == k], rossi.event[fold == k])
            for k in range(4)
        ]
        pairs = [
            pair_counts(
                rossi.time_days[fold == k],
                rossi.event[fold == k],
                risk[None, None, fold == k],
                np.zeros((1, int((fold == k).sum())), int),
            ).comparable[0]
            for k in range(4)
        ]
        assert counts.c[0, 0] == pytest.approx(np.average(whole, weights=pairs), abs=1e-12)

    def test_late_entrants_make_no_pair_with_events_before_them(self) -> None:
        time, event = np.array([2.0, 5.0]), np.array([True, True])
        risk, fold = np.array([[[2.0, 1.0]]]), np.zeros((1, 2), int)
        assert pair_counts(time, event, risk, fold).comparable[0] == 1
        assert pair_counts(time, event, risk, fold, entry=np.array([0.0, 3.0])).comparable[0] == 0

    def test_interval_holds_the_value_and_repeats(self, rossi: SurvivalTable) -> None:
        risk, fold = rossi.covariates["prio"].to_numpy()[None, None], np.zeros((1, len(rossi)), int)
        first = concordance(rossi.time_days, rossi.event, risk, fold, replicates=200, seed=3)
        again = concordance(rossi.time_days, rossi.event, risk, fold, replicates=200, seed=3)
        assert first.low[0] < first.c[0] < first.high[0]
        assert 0.05 < first.high[0] - first.low[0] < 0.2
        np.testing.assert_array_equal(first.replicates, again.replicates)

    def test_weights_are_copies(self, rossi: SurvivalTable) -> None:
        part = rossi.take(np.arange(60))
        risk, weights = part.covariates["prio"].to_numpy(), np.arange(60) % 3
        counts = pair_counts(
            part.time_days,
            part.event,
            risk[None, None],
            np.zeros((1, 60), int),
            weights=weights[None].astype(float),
        )
        copies = np.repeat(np.arange(60), weights)
        direct = concordance_index(part.time_days[copies], -risk[copies], part.event[copies])
        assert counts.c[0, 0] == pytest.approx(direct, abs=1e-12)
