"""Out-of-fold risk scores: elastic net, selection, folds, accuracy over time, and no signal."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter

from tcgn_mil.errors import InputError
from tcgn_mil.settings.risk_score import RiskConfig
from tcgn_mil.survival.accuracy import fold_accuracy, mean_over_folds, pair_counts
from tcgn_mil.survival.elastic_net import elastic_net_path, penalty_path
from tcgn_mil.survival.folds import fold_rows, survival_folds
from tcgn_mil.survival.risk_score import combined_risk, covariate_risk, gene_risk, inner_folds
from tcgn_mil.tcga_barcodes import sites_of
from tcgn_mil.types.folds import Fold
from tcgn_mil.types.outcomes import SurvivalTable

QUICK = RiskConfig(l1_ratios=(0.5,), n_penalties=8, smallest_penalty=0.2, inner_folds=3)


def made(
    count: int = 300, genes: int = 30, *, seed: int = 0, effect: float = 0.0, late: bool = False
):
    """Genes (M, G), of which the first three raise the hazard, and outcomes of the patients."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, genes))
    time = rng.exponential(1000 * np.exp(-effect * x[:, :3].sum(axis=1))) + 1
    end = rng.exponential(600, count) + 1
    names = tuple(f"p{row:04d}" for row in range(count))
    entry = 0.5 * np.minimum(time, end) * rng.random(count) if late else None
    covariates = pd.DataFrame({"age": rng.normal(60, 10, count)}, index=list(names))
    return x, SurvivalTable("OS", names, np.minimum(time, end), time <= end, covariates, entry)


class TestElasticNet:
    def test_late_entry_at_zero_is_scikit_survival(self) -> None:
        x, table = made(effect=0.4)
        for ratio in (0.1, 0.5, 1.0):
            path = penalty_path(x, table, l1_ratio=ratio, count=8, smallest=0.05)
            theirs = elastic_net_path(x, table, l1_ratio=ratio, penalty=path)
            at_zero = dataclasses.replace(table, entry_days=np.zeros(300))
            ours = elastic_net_path(x, at_zero, l1_ratio=ratio, penalty=path)
            np.testing.assert_allclose(ours, theirs, atol=1e-3)
            assert not theirs[:, 0].any()
            assert theirs[:, -1].any()

    @pytest.mark.parametrize(("genes", "ratio"), [(30, 0.5), (150, 0.05), (150, 1.0)])
    def test_late_entry_fulfils_the_conditions_of_a_maximum(self, genes: int, ratio: float) -> None:
        x, table = made(100, genes, effect=0.4, late=True)
        path = penalty_path(x, table, l1_ratio=ratio, count=6, smallest=0.1)
        for penalty, beta in zip(
            path, elastic_net_path(x, table, l1_ratio=ratio, penalty=path).T, strict=True
        ):
            # The gradient of Breslow's log-likelihood, written out over pairs of patients.
            hazard = np.exp(x @ beta)
            gradient = np.zeros(genes)
            assert table.entry_days is not None
            for row in np.flatnonzero(table.event):
                day = table.time_days[row]
                at_risk = (table.entry_days < day) & (table.time_days >= day)
                gradient += x[row] - hazard[at_risk] @ x[at_risk] / hazard[at_risk].sum()
            slope = gradient / 100 - penalty * (1 - ratio) * beta
            chosen = beta != 0
            np.testing.assert_allclose(
                slope[chosen], penalty * ratio * np.sign(beta[chosen]), atol=1e-7
            )
            assert (np.abs(slope[~chosen]) <= penalty * ratio * (1 + 1e-6)).all()

    def test_late_entry_without_penalty_is_lifelines(self) -> None:
        x, table = made(genes=4, effect=0.3, late=True)
        ours = elastic_net_path(x, table, l1_ratio=0.5, penalty=np.geomspace(0.1, 1e-8, 9))
        frame = pd.DataFrame(x).assign(t=table.time_days, e=table.event, entry=table.entry_days)
        direct = CoxPHFitter().fit(
            frame, "t", "e", entry_col="entry", fit_options={"precision": 1e-12}
        )
        np.testing.assert_allclose(ours[:, -1], direct.params_, atol=1e-5)


class TestGeneRisk:
    @pytest.mark.parametrize("late", [False, True])
    def test_a_signal_is_found_in_patients_not_seen(self, late: bool) -> None:
        x, table = made(effect=0.6, late=late)
        found = gene_risk(table.take(np.arange(200)), x[:200], x[200:], QUICK, seed=0)
        test = table.take(np.arange(200, 300))
        c = pair_counts(
            test.time_days,
            test.event,
            found.test[None, None],
            np.zeros((1, 100), int),
            entry=test.entry_days,
        )
        assert c.c[0, 0] > 0.65
        assert np.abs(found.coefficients[:3]).min() > np.abs(found.coefficients[3:]).max()
        assert np.median(found.train) == pytest.approx(0, abs=1e-12)
        assert found.train.std() == pytest.approx(1)

    def test_test_patients_change_nothing_of_the_model(self) -> None:
        x, table = made(effect=0.5)
        train = table.take(np.arange(200))
        first = gene_risk(train, x[:200], x[200:], QUICK, seed=0)
        second = gene_risk(train, x[:200], x[200:250] * 3, QUICK, seed=0)
        np.testing.assert_array_equal(first.coefficients, second.coefficients)
        assert first.penalty == second.penalty
        np.testing.assert_array_equal(first.train, second.train)

    def test_ranks_do_not_mind_the_unit(self) -> None:
        x, table = made(effect=0.5)
        train = table.take(np.arange(200))
        first = gene_risk(train, x[:200], x[200:], QUICK, seed=0)
        second = gene_risk(train, np.exp(3 * x[:200]), np.exp(3 * x[200:]), QUICK, seed=0)
        np.testing.assert_allclose(first.test, second.test, atol=1e-6)

    def test_signatures_are_sums_of_their_genes(self) -> None:
        x, table = made(effect=0.6)
        sets = np.zeros((30, 2))
        sets[:3, 0], sets[10:20, 1] = 1 / 3, 0.1
        config = RiskConfig(features="signatures", l1_ratios=(0.5,), n_penalties=8, inner_folds=3)
        found = gene_risk(table.take(np.arange(200)), x[:200], x[200:], config, seed=0, sets=sets)
        assert found.coefficients.shape == (2,)
        assert found.coefficients[0] > 0.3
        both = RiskConfig(
            features="both", max_genes=5, l1_ratios=(0.5,), n_penalties=8, inner_folds=3
        )
        found = gene_risk(table.take(np.arange(200)), x[:200], x[200:], both, seed=0, sets=sets)
        assert found.coefficients.shape == (32,)
        assert 0 < np.count_nonzero(found.coefficients) <= 5

    def test_constant_genes_and_no_signal(self) -> None:
        x, table = made()
        x[:, 5] = 3.0
        found = gene_risk(table.take(np.arange(200)), x[:200], x[200:], QUICK, seed=0)
        assert np.isfinite(found.test).all()
        assert found.coefficients[5] == 0

    def test_covariates_join_the_score(self) -> None:
        x, table = made(effect=0.5)
        train, test = np.arange(200), np.arange(200, 300)
        outcome, design = table.take(train), table.covariates
        genes = gene_risk(outcome, x[train], x[test], QUICK, seed=0)
        alone = covariate_risk(outcome, design.iloc[train], design.iloc[test])
        both = combined_risk(outcome, design.iloc[train], design.iloc[test], genes)
        assert np.corrcoef(both.test, genes.test)[0, 1] > np.corrcoef(alone.test, genes.test)[0, 1]
        nothing = genes._replace(
            calibrating=-genes.calibrating
        )  # worse than chance where it was not seen
        np.testing.assert_array_equal(
            combined_risk(outcome, design.iloc[train], design.iloc[test], nothing).test, alone.test
        )

    @pytest.mark.parametrize(
        "wrong", [{"l1_ratios": (0.0,)}, {"inner_folds": 1}, {"n_penalties": 1}, {"max_genes": -1}]
    )
    def test_settings_that_cannot_be(self, wrong: dict) -> None:
        with pytest.raises(InputError, match="|".join(wrong)):
            RiskConfig(**wrong)


def test_permuted_outcomes_are_at_chance() -> None:
    """The mean C over 50 permutations lies in 0.5 +- 0.02 (docs/protocol.md, section Survival)."""
    x, table = made(250, 40, effect=0.5)
    rng = np.random.default_rng(0)
    found = []
    for seed in range(50):
        order = rng.permutation(len(table))
        shuffled = SurvivalTable(
            "OS", table.patient_id, table.time_days[order], table.event[order], table.covariates
        )
        risk, fold = np.zeros(len(table)), np.zeros(len(table), int)
        for part in fold_rows(survival_folds(shuffled, n_folds=4, seed=seed), shuffled):
            scores = gene_risk(
                shuffled.take(part.train), x[part.train], x[part.test], QUICK, seed=seed
            )
            risk[part.test], fold[part.test] = scores.test, part.index
        found.append(
            pair_counts(shuffled.time_days, shuffled.event, risk[None, None], fold[None]).c[0, 0]
        )
    assert abs(np.mean(found) - 0.5) < 0.02


class TestFolds:
    def test_events_are_spread_and_each_patient_tested_once(self) -> None:
        _, table = made()
        folds = survival_folds(table, n_folds=5, seed=3)
        rows = fold_rows(folds, table)
        assert sorted(np.concatenate([part.test for part in rows])) == list(range(300))
        events = [int(table.event[part.test].sum()) for part in rows]
        assert max(events) - min(events) <= 1
        assert all(not set(part.train) & set(part.test) for part in rows)
        assert len(rows[0].train) + len(rows[0].test) == 300
        assert folds == survival_folds(table, n_folds=5, seed=3)
        assert folds != survival_folds(table, n_folds=5, seed=4)

    @pytest.mark.parametrize("censored", [0, 1, 3])
    def test_few_or_no_censored_patients_are_no_obstacle(self, censored: int) -> None:
        _, table = made(60)
        table = dataclasses.replace(table, event=np.arange(60) >= censored)
        rows = fold_rows(survival_folds(table, n_folds=5, seed=3), table)
        assert sorted(np.concatenate([part.test for part in rows])) == list(range(60))
        assert all(len(part.train) + len(part.test) == 60 for part in rows)
        assert max(int((~table.event[part.test]).sum()) for part in rows) <= 1

    def test_sites_stay_together(self) -> None:
        _, table = made(60)
        names = tuple(f"TCGA-{row % 6:02d}-{row:04d}" for row in range(60))
        named = SurvivalTable(
            "OS", names, table.time_days, table.event, table.covariates.set_axis(list(names))
        )
        sites = sites_of(names)
        assert sites["TCGA-03-0003"] == "03"
        for part in fold_rows(survival_folds(named, n_folds=3, seed=0, groups=sites), named):
            assert not {sites[names[row]] for row in part.train} & {
                sites[names[row]] for row in part.test
            }
        with pytest.raises(InputError, match=r"p0000.*not TCGA barcodes"):
            sites_of(table.patient_id)

    def test_a_fold_without_an_event(self) -> None:
        _, table = made(60)
        quiet = [
            name for name, event in zip(table.patient_id, table.event, strict=True) if not event
        ]
        rest = [name for name in table.patient_id if name not in set(quiet[:5])]
        fold = Fold(4, tuple(rest[:-1]), tuple(rest[-1:]), tuple(quiet[:5]))
        with pytest.raises(InputError, match="fold 4: none of its 5 test patients has an event"):
            fold_rows([fold], table)

    def test_a_training_part_without_events(self) -> None:
        _, table = made(60)
        quiet = [
            name for name, event in zip(table.patient_id, table.event, strict=True) if not event
        ]
        rest = [name for name in table.patient_id if name not in set(quiet)]
        fold = Fold(0, tuple(quiet[1:]), tuple(quiet[:1]), tuple(rest))
        with pytest.raises(InputError, match=r"training part of fold 0: OS.*0 events"):
            fold_rows([fold], table)

    def test_more_folds_than_events_and_a_patient_tested_twice(self) -> None:
        _, table = made(60)
        few = table.take(
            np.concatenate([np.flatnonzero(table.event)[:3], np.flatnonzero(~table.event)])
        )
        with pytest.raises(
            InputError, match="3 patients with an event cannot be spread over 5 folds"
        ):
            survival_folds(few, n_folds=5, seed=0)
        fold = survival_folds(table, n_folds=3, seed=0)[0]
        with pytest.raises(InputError, match="but an earlier fold does so as well"):
            fold_rows([fold, fold], table)

    def test_inner_folds_spread_events(self) -> None:
        event = np.arange(40) < 11
        labels = inner_folds(event, 5, seed=0)
        assert np.bincount(labels[event]).tolist() == [3, 2, 2, 2, 2]


class TestAccuracy:
    def test_a_good_score_beats_the_curve_and_chance(self) -> None:
        x, table = made(400, effect=0.8)
        score = x[:, :3].sum(axis=1)
        train, test = np.arange(200), np.arange(200, 400)
        times = np.array([200.0, 500.0])
        found = fold_accuracy(table.take(train), table.take(test), score[train], score[test], times)
        assert (found.auc > 0.7).all()
        assert (found.brier < found.brier_null).all()
        chance = fold_accuracy(
            table.take(train), table.take(test), 0 * score[train], 0 * score[test], times
        )
        np.testing.assert_allclose(chance.auc, 0.5)
        np.testing.assert_array_equal(chance.brier, chance.brier_null)

    def test_too_few_cases_or_no_follow_up_have_no_answer(self) -> None:
        x, table = made(400, effect=0.8)
        train, test = table.take(np.arange(200)), table.take(np.arange(200, 400))
        found = fold_accuracy(train, test, x[:200, 0], x[200:, 0], np.array([2.0, 300.0, 1e5]))
        assert np.isnan(found.auc).tolist() == [True, False, True]
        combined = mean_over_folds([found, found])
        assert np.isnan(combined.auc).all()  # of three folds at least
        combined = mean_over_folds([found] * 3)
        assert combined.auc[1] == pytest.approx(found.auc[1])
        assert combined.cases[1] == 3 * found.cases[1]
