"""Late entry, given folds, and covariates and patients of unusual kinds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter
from matplotlib.figure import Figure
from survival_cohorts import PATIENTS, SCRIPT, cohort_files, configured

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.survive import figures as survival_figures
from tcgn_mil.experiments.survive import run as survival
from tcgn_mil.experiments.survive.cohort import load_survival_cohort
from tcgn_mil.folds import make_folds, write_folds
from tcgn_mil.io.clinical_file import read_survival
from tcgn_mil.regression.rank_normaliser import RankNormaliser
from tcgn_mil.survival.accuracy import pair_counts
from tcgn_mil.types.outcomes import SurvivalTable


def test_late_entry_is_carried_through(tmp_path: Path) -> None:
    files = cohort_files(tmp_path, late=True)
    del files["measured"]
    summary = survival.run(configured(files, "covariates=[age]", "n_folds=3"), tmp_path / "out")
    assert summary["accuracy"] == []
    outcome, risk = read_survival(files["clinical"]), pd.read_csv(tmp_path / "out" / "risk.csv")
    assert risk["patient_id"].tolist() == list(outcome.patient_id)
    groups = risk["fold"].to_numpy()[None]
    given = (outcome.time_days, outcome.event, risk["predicted"].to_numpy()[None, None], groups)
    c, without = pair_counts(*given, entry=outcome.entry_days).c[0, 0], pair_counts(*given).c[0, 0]
    assert summary["results"][1]["c"] == pytest.approx(c, abs=1e-9)
    assert abs(c - without) > 1e-4
    frame = pd.DataFrame({"t": outcome.time_days, "e": outcome.event, "entry": outcome.entry_days})
    values = pd.read_csv(files["predicted"], index_col=0).loc[list(outcome.patient_id)].to_numpy()
    frame["gene"], age = (
        RankNormaliser(values)(values)[:, 0].astype(float),
        outcome.covariates["age"].to_numpy(),
    )
    screen = pd.read_csv(tmp_path / "out" / "exploratory_screen_predicted.csv").set_index("gene")
    for prefix, more in (("", {}), ("adjusted_", {"age": age})):
        direct = (
            CoxPHFitter().fit(frame.assign(**more), "t", "e", entry_col="entry").summary.loc["gene"]
        )
        assert screen.loc[SCRIPT, f"{prefix}coef"] == pytest.approx(direct["coef"], rel=1e-4)
    frame["score"], frame["fold"] = risk["predicted"].to_numpy(), groups[0]
    direct = (
        CoxPHFitter()
        .fit(frame.drop(columns="gene"), "t", "e", entry_col="entry", strata=["fold"])
        .params_["score"]
    )
    ratios = pd.DataFrame(summary["hazard_ratios"]).set_index("model")
    assert ratios.loc["predicted", "coef"] == pytest.approx(direct, abs=1e-6)
    assert [row["covariate"] for row in summary["proportional_hazards"]][:2] == [
        "age",
        "predicted risk score",
    ]
    assert all(0 < row["p"] <= 1 for row in summary["proportional_hazards"])
    assert any("enter late" in label for label in summary["labels"])
    assert summary["results"][1]["c"] > 0.55
    assert (tmp_path / "out" / "kaplan_meier.png").is_file()


def test_curves_of_late_entrants_count_who_was_under_observation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The curve is Breslow's exp(-sum of events / patients at risk), computed by hand.

    Two of the four patients of each group enter after the first event.
    """
    names = tuple(f"p{row}" for row in range(8))
    years, event = np.array([1.0, 2, 4, 5] * 2), np.array([True, True, True, False] * 2)
    table = SurvivalTable(
        "OS",
        names,
        365.25 * years,
        event,
        pd.DataFrame(index=list(names)),
        365.25 * np.array([0, 0, 1.5, 1.5] * 2),
    )
    risk = np.repeat([1.0, -1.0], 4)
    drawn: list[Figure] = []
    monkeypatch.setattr(survival_figures, "save_figure", lambda figure, *_: drawn.append(figure))
    groups = pd.DataFrame({"model": ["clinical"], "p": [0.5]})
    survival_figures.draw_curves(table, {"clinical": risk}, groups, Path("unused.png"))
    (axis, below) = drawn[0].axes
    for line in axis.lines[::2]:  # each curve is followed by the ticks of its censored patients
        curve = dict(zip(*line.get_data(), strict=True))
        at = [curve[time] for time in (1.0, 2.0, 4.0)]
        np.testing.assert_allclose(
            at, np.exp(-np.cumsum([1 / 2, 1 / 3, 1 / 2]))
        )  # without entry 1/4, 1/3, 1/2
    counts = {(text.get_position()[0], text.get_text()) for text in below.texts}
    assert {(0, "2"), (2, "3"), (4, "2")} <= counts


def test_folds_of_a_file_and_who_they_leave_out(files: dict[str, Path], tmp_path: Path) -> None:
    kept = PATIENTS[:150]
    folds = make_folds(kept, {name: name for name in kept}, n_folds=3, seed=0)
    write_folds(tmp_path / "folds.csv", folds)
    config = configured(files, f"folds={tmp_path / 'folds.csv'}")
    found, cohort = survival.choose_folds(config, load_survival_cohort(config))
    assert found == {0: folds}
    assert set(cohort.table.patient_id) == set(kept) == set(cohort.design.index)
    assert len(cohort.sources["predicted"].values) == 150
    assert cohort.dropped["reason"].value_counts().to_dict() == {"in no fold's test part": 10}


def changed_clinical(
    files: dict[str, Path], folder: Path, change: Callable[[pd.DataFrame], pd.DataFrame]
) -> dict[str, Path]:
    """Return the files with another clinical table; cells of it are text."""
    table = pd.read_csv(files["clinical"], dtype=str, keep_default_na=False)
    change(table).to_csv(folder / "clinical.csv", index=False)
    return {**files, "clinical": folder / "clinical.csv"}


def test_nobody_is_censored_and_a_covariate_is_tiny(files: dict[str, Path], tmp_path: Path) -> None:
    tiny = np.random.default_rng(0).lognormal(size=len(PATIENTS)) * 1e-6
    everybody = changed_clinical(
        files, tmp_path, lambda table: table.assign(OS_event="1", rate=tiny.astype(str))
    )
    summary = survival.run(
        configured(everybody, "covariates=[rate]", "screen=false"), tmp_path / "out"
    )
    assert summary["events"] == summary["patients"] == len(PATIENTS)
    text = (tmp_path / "out" / "summary.json").read_text(encoding="utf-8")
    assert "NaN" not in text
    assert "Infinity" not in text
    row = json.loads(text)["hazard_ratios"][0]
    assert 0.5 < row["hazard_ratio_per_sd"] < 2
    assert (tmp_path / "out" / "forest.png").is_file()


def test_patients_of_other_cohorts_are_not_lost_ones(
    files: dict[str, Path], tmp_path: Path
) -> None:
    def add_others(table: pd.DataFrame) -> pd.DataFrame:
        return pd.concat([table, table.assign(patient_id="Z" + table["patient_id"])])

    cohort = load_survival_cohort(configured(changed_clinical(files, tmp_path, add_others)))
    assert len(cohort.outside) == len(PATIENTS)
    assert set(cohort.table.patient_id) == set(PATIENTS)
    assert cohort.dropped.empty


def test_rare_levels_and_empty_covariates_are_named(files: dict[str, Path], tmp_path: Path) -> None:
    def rare(table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(stage=["IV", "IV", *table["stage"][2:]], grade="")

    changed = changed_clinical(files, tmp_path, rare)
    cohort = load_survival_cohort(configured(changed, "covariates=[stage]"))
    assert cohort.dropped["reason"].tolist() == ["its level of covariate stage is too rare"] * 2
    assert any("rare levels IV (2 patients" in note for note in cohort.notes)
    with pytest.raises(
        InputError, match="covariate grade has no value for any of the 160 patients"
    ):
        load_survival_cohort(configured(changed, "covariates=[grade]"))


def test_folds_need_no_validation_part(files: dict[str, Path], tmp_path: Path) -> None:
    rows = [
        (fold, "test" if row % 4 == fold else "train", name)
        for fold in range(4)
        for row, name in enumerate(PATIENTS)
    ]
    table = pd.DataFrame(rows, columns=["fold", "part", "id"])
    table.to_csv(tmp_path / "folds.csv", sep=";", index=False)
    config = configured(files, f"folds={tmp_path / 'folds.csv'}")
    folds, cohort = survival.choose_folds(config, load_survival_cohort(config))
    assert [len(fold.train) for fold in folds[0]] == [120] * 4
    assert not any(fold.val for fold in folds[0])
    assert not len(cohort.dropped)


def test_sites_stay_together(files: dict[str, Path]) -> None:
    config = configured(files, "group_by=site", "seeds=[2, 3]")
    found, _ = survival.choose_folds(config, load_survival_cohort(config))
    assert list(found) == [2, 3]
    for fold in found[2]:
        assert not {name[5:7] for name in fold.test} & {name[5:7] for name in fold.train + fold.val}
