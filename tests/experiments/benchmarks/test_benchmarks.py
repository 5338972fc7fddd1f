"""Test that the benchmarks measure what they say they measure; no test checks a speed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from tcgn_mil.experiments.benchmarks import backbone, backbone_measures, cohort, survival_null
from tcgn_mil.experiments.benchmarks.backbone_measures import measure
from tcgn_mil.experiments.survive.cohort import SurvivalCohort
from tcgn_mil.experiments.survive.config import SurviveConfig
from tcgn_mil.experiments.survive.sources import ExpressionSource
from tcgn_mil.settings.risk_score import RiskConfig
from tcgn_mil.types.outcomes import SurvivalTable


def ask(kind: str, *arguments: Any) -> Any:
    return measure(
        {"kind": kind, "arguments": arguments, "device": "cpu", "threads": torch.get_num_threads()}
    )


def test_operations_are_those_of_the_architecture() -> None:
    assert ask("gflop", "tcgn_ti") == pytest.approx(4.026, abs=0.001)
    assert ask("gflop", "resnet50") == pytest.approx(8.177, abs=0.001)


def test_time_is_that_of_the_call() -> None:
    calls = []

    def call() -> None:
        calls.append(torch.ones(3).sum())

    assert backbone_measures.seconds(call, "cpu") > 0
    assert len(calls) == backbone_measures.WARM_UPS + backbone_measures.REPEATS


@pytest.mark.parametrize("form", ["plain", "channels_last", "folded"])
def test_forms_are_the_same_network(form: str) -> None:
    expected = backbone_measures.forward_call("tcgn_tiny", "plain", "float32", 2, "cpu")()
    found = backbone_measures.forward_call("tcgn_tiny", form, "float32", 2, "cpu")()
    assert torch.allclose(found, expected, atol=1e-4)


def test_a_training_step_trains() -> None:
    step = backbone_measures.TrainStep("tcgn_tiny", "plain", "float32", 2, "cpu")
    before = [parameter.detach().clone() for parameter in step.model.parameters()]
    step()
    moved = [
        not torch.equal(old, new) for old, new in zip(before, step.model.parameters(), strict=True)
    ]
    assert sum(moved) > 0.9 * len(moved)


def test_checkpointing_keeps_fewer_tensors() -> None:
    plain, checkpointed = (
        ask("memory", "tcgn_tiny", form, "float32", 4)["tensors_mb"]
        for form in ("plain", "checkpointed")
    )
    weights = sum(
        p.nbytes
        for p in backbone_measures.build("tcgn_tiny", "plain", "float32", "cpu").parameters()
    )
    assert 3 * weights / 2**20 < checkpointed < 0.7 * plain


def test_an_unknown_measurement_is_refused() -> None:
    with pytest.raises(ValueError, match="no measurement speed"):
        ask("speed")


def test_the_table_gives_ratios_to_the_yardstick() -> None:
    found = {backbone.YARDSTICK: [1.0, 2.0, 4.0], "tcgn_ti": [0.5, 0.5, 1.0]}
    *_, first, second = backbone.table("Forward", found, 8)
    assert first == "| resnet50 float32 | 4.0 | 1.00 | 1.00 to 1.00 |"
    assert second == "| tcgn_ti | 16.0 | 4.00 | 2.00 to 4.00 |"


class TestCohort:
    def test_the_loop_and_the_screen_are_compared_gene_by_gene(self) -> None:
        rng = np.random.default_rng(0)
        values, names = rng.normal(size=(120, 6)), tuple(f"p{row}" for row in range(120))
        covariates = pd.DataFrame({"age": rng.normal(60, 10, 120)}, index=list(names))
        table = SurvivalTable(
            "OS", names, rng.exponential(100, 120) + 1, rng.random(120) < 0.5, covariates
        )
        found = cohort.compare(values, table, covariates, 0)
        assert found["lifelines_is"].startswith("extrapolated from 6 genes")
        assert found["ratio"] == pytest.approx(found["lifelines_s"] / found["screen_s"], rel=0.5)
        assert found["largest_difference_precision_1e-12"] < 1e-6

    def test_a_goal_missed_is_named(self) -> None:
        default, exact = (
            "largest_difference_default_precision",
            "largest_difference_precision_1e-12",
        )
        screen = {"ratio": 30.0, default: 2e-4, exact: 1e-6}
        good = {
            "univariable": screen,
            "survive_s": 30.0,
            "associate_s": 7.0,
            "report_s": 2.0,
            "report_mb": 3.0,
        }
        assert cohort.missed(good) == []
        assert cohort.missed({"univariable": screen}) == []  # what was not measured is not missed
        assert cohort.missed(good | {"associate_s": 61.0}) == ["associate takes 61.0 s, under 60"]
        assert cohort.missed(good | {"report_mb": 15.5}) == ["report of 15.5 MB, under 15"]
        assert cohort.missed({"univariable": screen | {"ratio": 19.0}}) == [
            "ratio 19.0 to lifelines, at least 20"
        ]
        wrong = screen | {exact: 2e-4}
        assert len(cohort.missed({"univariable": wrong})) == 1


def test_permuted_expression_tells_nothing_and_age_still_does() -> None:
    rng = np.random.default_rng(0)
    names, age, signal = (
        tuple(f"p{row:03d}" for row in range(200)),
        rng.normal(60, 10, 200),
        rng.normal(size=200),
    )
    time = rng.exponential(1000 * np.exp(-1.2 * signal - 0.06 * (age - 60))) + 1
    end = rng.exponential(2000, 200) + 1
    design = pd.DataFrame({"age": age}, index=list(names))
    table = SurvivalTable("OS", names, np.minimum(time, end), time <= end, design)
    values = np.column_stack([signal, rng.normal(size=(200, 5))])
    whole = SurvivalCohort(
        table,
        design,
        {"measured": ExpressionSource(("S", *"ABCDE"), values)},
        pd.DataFrame({"patient_id": []}),
        (),
    )
    config = SurviveConfig(
        covariates=("age",),
        replicates=0,
        risk=RiskConfig(l1_ratios=(0.5,), n_penalties=6, inner_folds=3),
    )
    runs = [survival_null.fit_permutation(config, whole, seed) for seed in range(6)]
    found = survival_null.summary(runs)
    assert abs(found["mean_c"]["measured"] - 0.5) < 0.06
    assert found["mean_c"]["clinical"] > 0.58
    assert found["permutations"] == 6
    assert found["p_below_0.05"] <= 2
    unchanged = survival_null.permuted(whole, np.arange(200)).sources["measured"].values
    np.testing.assert_array_equal(unchanged, values)
    assert runs[0]["c"] != runs[1]["c"]
