"""Clinical covariates and outcomes: levels, missing values, and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.survival.covariates import (
    check_estimable,
    design_matrix,
    merge_rare_levels,
    numeric_where_possible,
)
from tcgn_mil.survival.cox import fit_cox, hazard_ratios
from tcgn_mil.survival.log_rank import log_rank
from tcgn_mil.survival.risk_sets import RiskSets
from tcgn_mil.types.outcomes import SurvivalTable


class TestOutcomes:
    def test_a_horizon_ends_follow_up(self, rossi: SurvivalTable) -> None:
        cut = rossi.censor_at(20)
        assert cut.time_days.max() == 20
        assert cut.event.sum() == (rossi.event & (rossi.time_days <= 20)).sum()
        with pytest.raises(InputError, match="horizon of 0"):
            rossi.censor_at(0)

    def test_who_enters_after_the_horizon_is_left_out(self) -> None:
        late = SurvivalTable(
            "OS",
            ("a", "b"),
            np.array([9.0, 9.0]),
            np.array([True, True]),
            pd.DataFrame(index=["a", "b"]),
            np.array([0.0, 6.0]),
        )
        assert late.censor_at(5).patient_id == ("a",)
        assert late.at_risk(np.array([0.0, 5.0, 7.0, 10.0])) == [1, 1, 2, 0]

    def test_few_events_are_refused(self, rossi: SurvivalTable) -> None:
        few = rossi.take(np.flatnonzero(rossi.event)[:9])
        with pytest.raises(InputError, match="OS: 9 patients have 9 events, fewer than 10"):
            few.check_events()

    def test_groups_that_cannot_be_compared(self, rossi: SurvivalTable) -> None:
        assert all(np.isnan(log_rank(rossi, np.zeros(len(rossi), bool))))


class TestCovariates:
    def test_text_becomes_indicators_of_all_but_the_commonest(self) -> None:
        frame = pd.DataFrame(
            {
                "stage": ["I", "II", "II", "III"],
                "age": [1, 2, 3, 4],
                "female": [True, False, True, True],
            }
        )
        design = design_matrix(frame)
        assert list(design.columns) == ["stage[I]", "stage[III]", "age", "female"]
        assert design["stage[III]"].tolist() == [0, 0, 0, 1]

    def test_text_of_numbers_is_numbers_and_empty_text_is_missing(self) -> None:
        frame = pd.DataFrame({"age": ["60", " 61", ""], "stage": ["I", " ", "II"]})
        found, notes = numeric_where_possible(frame, ["age", "stage"])
        assert not notes
        assert found["age"].tolist()[:2] == [60, 61]
        assert found.isna().sum().tolist() == [1, 1]
        with pytest.raises(
            InputError, match=r"no covariate grade\. Fix: choose from the columns age, stage"
        ):
            numeric_where_possible(frame, ["grade"])

    def test_rare_levels_are_merged_or_left_out(self) -> None:
        levels = ["I"] * 20 + ["II"] * 20 + ["IIIA"] * 3 + ["IIIB"] * 3
        index = [f"P{row}" for row in range(46)]
        stage = pd.DataFrame({"stage": levels, "age": np.arange(46)}, index=index)
        event = np.ones(46, dtype=bool)
        merged = merge_rare_levels(stage, event)
        assert merged.covariates["stage"].tolist()[40:] == ["other (IIIA, IIIB)"] * 6
        assert merged.covariates["age"].equals(stage["age"])
        assert not merged.too_rare
        assert "IIIA (3 patients, 3 events), IIIB" in merged.notes[0]
        alone = merge_rare_levels(stage.iloc[:43], event[:43])
        assert alone.covariates["stage"].isna().sum() == 3
        assert alone.too_rare == dict.fromkeys(
            index[40:43], "its level of covariate stage is too rare"
        )
        usual = merge_rare_levels(stage.iloc[:40], event[:40])
        assert not usual.notes
        assert usual.covariates.equals(stage.iloc[:40])

    def test_a_tiny_unit_has_a_ratio_per_standard_deviation(self, rossi: SurvivalTable) -> None:
        tiny = rossi.covariates[["age"]] * 1e-6
        usual, found = (
            hazard_ratios(fit_cox(rossi, design), design).iloc[0]
            for design in (rossi.covariates[["age"]], tiny)
        )
        for name in ("hazard_ratio_per_sd", "low_per_sd", "high_per_sd", "p"):
            assert found[name] == pytest.approx(usual[name], rel=1e-4)
        assert np.isnan(found[["hazard_ratio", "low", "high"]].astype(float)).any()
        assert not np.isinf(found.drop("covariate").astype(float)).any()
        assert usual["hazard_ratio_per_sd"] == pytest.approx(
            usual["hazard_ratio"] ** usual["sd"], rel=1e-9
        )

    def test_one_level_and_too_many(self) -> None:
        with pytest.raises(
            InputError, match=r"covariate stage has one value \(I\) in the 3 patients"
        ):
            design_matrix(pd.DataFrame({"stage": ["I", "I", "I"]}))
        with pytest.raises(InputError, match="covariate name has 30 levels of text"):
            design_matrix(pd.DataFrame({"name": [f"n{row}" for row in range(30)]}))

    def test_a_column_that_separates_is_named(self, rossi: SurvivalTable) -> None:
        rare = rossi.covariates.assign(
            **{"stage[IV]": np.where(rossi.event, 0.0, np.arange(432) % 7 == 0)}
        )
        with pytest.raises(
            InputError,
            match=r"does not converge: covariate stage\[IV\] separates.*in fold 2.*merge",
        ):
            fit_cox(rossi, rare, where=" in fold 2")

    def test_columns_that_separate_together(self, rossi: SurvivalTable) -> None:
        """Neither column separates the events alone, but their difference does."""
        noise = np.random.default_rng(0).normal(size=len(rossi))
        worse = (
            60.0 * rossi.event - rossi.time_days
        )  # in the order of the events: the likelihood has no maximum
        together = pd.DataFrame(
            {"a": noise, "b": noise + 1e-3 * worse}, index=rossi.covariates.index
        )
        check_estimable(together, rossi)
        with pytest.raises(
            InputError, match="does not converge on a, b: together these covariates"
        ):
            fit_cox(rossi, together)

    def test_a_heavy_tail_is_fitted_all_the_same(self, rossi: SurvivalTable) -> None:
        """lifelines' default step size ends far from the maximum; the smaller one converges."""
        tail = rossi.covariates[["prio"]] ** 6
        ours = fit_cox(rossi, tail)
        risk, best = RiskSets(rossi.time_days, rossi.event), float(ours.params_["prio"])
        at = risk.log_likelihood(tail.to_numpy() * best * np.array([0.9, 1.0, 1.1]))
        assert at[1] >= max(at[0], at[2])

    def test_a_column_that_others_add_up_to(self, rossi: SurvivalTable) -> None:
        double = rossi.covariates.assign(both=rossi.covariates["fin"] + rossi.covariates["mar"])
        with pytest.raises(InputError, match="covariate both is a linear combination of the other"):
            check_estimable(double, rossi)

    def test_names_are_not_formulas(self, rossi: SurvivalTable) -> None:
        names = {"fin": "<script>alert(1)</script>", "age": "a b[c] + $x$", "prio": "C(prio)"}
        found = fit_cox(rossi, rossi.covariates.rename(columns=names)).params_
        assert found[names["prio"]] == pytest.approx(0.0915, abs=5e-5)
