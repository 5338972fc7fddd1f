"""Test ``tcgn-mil survive``: tables and figures, bad input, and agreement with lifelines."""

from __future__ import annotations

import json
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter
from matplotlib.figure import Figure
from PIL import Image

from tcgn_mil.config import resolve_config
from tcgn_mil.errors import InputError
from tcgn_mil.experiments import main as cli
from tcgn_mil.experiments.survive import figures as survival_figures
from tcgn_mil.experiments.survive import run as survival
from tcgn_mil.experiments.survive.cohort import load_survival_cohort
from tcgn_mil.experiments.survive.config import SurviveConfig
from tcgn_mil.experiments.survive.regression_tables import screen_table
from tcgn_mil.experiments.survive.sources import signature_weights
from tcgn_mil.folds import make_folds, write_folds
from tcgn_mil.io.clinical_file import read_survival, write_survival
from tcgn_mil.regression.rank_normaliser import RankNormaliser
from tcgn_mil.signatures.gene_sets import read_gene_sets
from tcgn_mil.survival.accuracy import pair_counts
from tcgn_mil.types.outcomes import SurvivalTable

SCRIPT = "<script>alert('$x_1$')</script>"
PATIENTS = tuple(f"TCGA-{row % 9:02d}-{row:04d}" for row in range(160))
QUICK = (
    "risk.l1_ratios=[0.5]",
    "risk.n_penalties=6",
    "risk.inner_folds=3",
    "replicates=50",
    "n_folds=4",
)
FIGURES = ("kaplan_meier", "concordance", "forest", "accuracy", "exploratory_screen_predicted")


def cohort_files(folder: Path, *, late: bool = False) -> dict[str, Path]:
    """Write the clinical table of 160 patients, and expression that is related to survival.

    The patients have another order in the tables of expression.
    """
    rng = np.random.default_rng(0)
    signal, age = rng.normal(size=160), rng.normal(60, 10, 160)
    death = rng.exponential(1500 * np.exp(-0.9 * signal - 0.04 * (age - 60))) + 5
    end = rng.exponential(2500, 160) + 5
    days, event = np.minimum(death, end), death <= end
    entry = 0.3 * days * rng.random(160) if late else None
    stage = np.array(["I", "II", "III"])[rng.integers(0, 3, 160)]
    covariates = pd.DataFrame(
        {"age": age, "stage": stage, "one": "x"}, index=pd.Index(PATIENTS, name="patient_id")
    )
    write_survival(
        folder / "clinical.csv",
        [SurvivalTable("OS", PATIENTS, days, event, covariates, entry)],
        meta={},
    )
    genes = [SCRIPT, "CD8A", *(f"G{number}" for number in range(10))]
    noise = {"predicted": 0.6, "measured": 0.2}
    files = {"clinical": folder / "clinical.csv"}
    for kind, sd in noise.items():
        values = rng.normal(size=(160, 12))
        values[:, 0] = signal + sd * rng.normal(size=160)
        table = pd.DataFrame(values, index=pd.Index(PATIENTS, name="patient"), columns=genes)
        files[kind] = folder / f"{kind}.csv"
        table.sample(frac=1, random_state=1).to_csv(files[kind])
    return files


def configured(files: dict[str, Path], *overrides: str) -> SurviveConfig:
    given = [f"{name}={path}" for name, path in files.items()]
    return resolve_config(SurviveConfig, overrides=[*given, *QUICK, *overrides])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return cohort_files(tmp_path_factory.mktemp("survival"))


@pytest.fixture(scope="module")
def finished(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the command line with two seeds of folds."""
    out = tmp_path_factory.mktemp("run") / "out"
    chosen = [option for item in (*QUICK, "seeds=[0, 7]") for option in ("--set", item)]
    arguments = [
        *(part for name, path in files.items() for part in (f"--{name}", path)),
        "--covariate",
        "age",
        "--covariate",
        "stage",
        "--horizon",
        3000,
        *chosen,
        "--out",
        out,
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["tcgn-mil", "survive", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    assert ended.value.code in (None, 0)
    return out


class TestARun:
    def test_models_stand_side_by_side(self, finished: Path) -> None:
        table = pd.read_csv(finished / "concordance.csv", index_col="model")
        assert list(table.index) == [
            "clinical",
            "predicted",
            "clinical + predicted",
            "measured",
            "clinical + measured",
        ]
        assert (table["low"] < table["c"]).all()
        assert (table["c"] < table["high"]).all()
        assert table.loc["measured", "c"] > 0.65
        assert table.loc["clinical + measured", "c"] > table.loc["clinical", "c"]
        assert table.loc["clinical + measured", "above_clinical"] > 0
        assert (table["folds"] == 8).all()

    def test_the_summary_opens_with_the_headline(self, finished: Path) -> None:
        summary = json.loads((finished / "summary.json").read_text(encoding="utf-8"))
        first, *_ = summary
        assert first == "sentence"
        assert "out-of-fold C clinical 0." in summary["sentence"]
        assert summary["patients"] == 160
        assert summary["horizon_days"] == 3000
        assert summary["covariates"] == ["age", *summary["covariates"][1:]]
        assert any(
            "approximate: the models of two folds share training patients" in label
            for label in summary["labels"]
        )
        assert any(
            label.startswith("exploratory screen predicted: exploratory")
            for label in summary["labels"]
        )

    def test_every_patient_is_scored_by_a_model_that_did_not_see_it(self, finished: Path) -> None:
        risk = pd.read_csv(finished / "risk.csv")
        assert (risk.groupby("seed")["patient_id"].nunique() == 160).all()
        for seed, name in ((0, "folds.csv"), (7, "folds_seed7.csv")):
            folds = pd.read_csv(finished / name)
            tested = folds[folds["part"] == "test"].set_index("id")["fold"]
            of_seed = risk[risk["seed"] == seed].set_index("patient_id")["fold"]
            pd.testing.assert_series_equal(of_seed, tested[of_seed.index], check_names=False)

    def test_hazard_ratios_are_those_of_lifelines_on_the_scores(
        self, finished: Path, files: dict[str, Path]
    ) -> None:
        risk = pd.read_csv(finished / "risk.csv").query("seed == 0").set_index("patient_id")
        outcome = read_survival(files["clinical"])
        frame = pd.DataFrame(
            {
                "t": np.minimum(outcome.time_days, 3000),
                "e": outcome.event & (outcome.time_days <= 3000),
                "score": risk.loc[list(outcome.patient_id), "predicted"].to_numpy(),
                "fold": risk.loc[list(outcome.patient_id), "fold"].to_numpy(),
            }
        )
        direct = CoxPHFitter().fit(frame, "t", "e", strata=["fold"]).summary.loc["score"]
        found = pd.read_csv(finished / "hazard_ratios.csv").query("model == 'predicted'").iloc[0]
        assert found["coef"] == pytest.approx(direct["coef"], abs=1e-5)  # six digits are written
        assert found["se"] == pytest.approx(direct["se(coef)"], abs=1e-5)

    def test_the_screen_names_the_gene_and_says_that_it_is_exploratory(
        self, finished: Path
    ) -> None:
        screen = pd.read_csv(finished / "exploratory_screen_measured.csv")
        assert screen["gene"].iloc[0] == SCRIPT
        assert screen["label"].str.startswith("exploratory").all()
        assert screen["q"].iloc[0] < 1e-4
        assert {"adjusted_p", "adjusted_q", "hazard_ratio_per_sd"} <= set(screen.columns)
        chosen = pd.read_csv(finished / "coefficients.csv")
        assert SCRIPT in set(chosen.query("model == 'predicted'")["feature"])

    def test_groups_and_accuracy(self, finished: Path) -> None:
        groups = pd.read_csv(finished / "groups.csv", index_col="model")
        assert (groups["high"] + groups["low"] == 160).all()
        assert groups.loc["measured", "p"] < 0.01
        assert groups.loc["measured", "hazard_ratio"] > 1
        accuracy = pd.read_csv(finished / "accuracy.csv").query("model == 'measured'")
        known = accuracy.dropna()
        assert len(known)
        assert (known["auc"] > 0.6).all()
        assert (known["brier"] < known["brier_null"]).all()

    @pytest.mark.parametrize("name", FIGURES)
    def test_figures_show_something(self, finished: Path, name: str) -> None:
        pixels = np.asarray(Image.open(finished / f"{name}.png").convert("L"))
        assert min(pixels.shape) > 200
        assert 0.005 < (pixels < 200).mean() < 0.5

    def test_a_finished_run_is_kept_and_another_config_refused(
        self, finished: Path, files: dict[str, Path]
    ) -> None:
        with pytest.raises(InputError, match="differing keys"):
            survival.run(configured(files), finished)


@pytest.mark.parametrize("name", ["clinical", "predicted"])
def test_a_finished_run_is_not_returned_for_other_tables(
    files: dict[str, Path], finished: Path, name: str
) -> None:
    same = ('covariates=["age", "stage"]', "seeds=[0, 7]", "horizon_days=3000")
    config = configured(files, *same)
    path = files[name]
    kept = path.read_bytes()
    try:
        path.write_bytes(kept + b"\n")
        with pytest.raises(InputError, match=f"a finished run on other inputs: {name} changed"):
            survival.run(config, finished)
    finally:
        path.write_bytes(kept)
    assert survival.run(config, finished) == json.loads((finished / "summary.json").read_text())


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


def test_predictions_bring_their_own_truth_and_say_who_they_were_trained_on(
    files: dict[str, Path], tmp_path: Path
) -> None:
    values = pd.read_csv(files["predicted"], index_col=0)
    relation = np.where(np.arange(160) < 7, "trained on", "out of fold")
    data = anndata.AnnData(
        values.to_numpy(np.float32),
        pd.DataFrame({"relation": relation}, index=values.index),
        pd.DataFrame(index=values.columns),
    )
    data.layers["truth"] = (
        pd.read_csv(files["measured"], index_col=0).loc[values.index].to_numpy(np.float32)
    )
    data.write_h5ad(tmp_path / "predicted.h5ad")
    cohort = load_survival_cohort(
        configured({"clinical": files["clinical"], "predicted": tmp_path / "predicted.h5ad"})
    )
    assert set(cohort.sources) == {"predicted", "measured"}
    assert len(cohort.table) == 153
    assert cohort.dropped["reason"].str.contains("model trained on it").sum() == 7
    assert not cohort.notes
    data.obs["fold"] = np.arange(160) % 4
    data.write_h5ad(tmp_path / "predicted.h5ad")
    given = {"clinical": files["clinical"], "predicted": tmp_path / "predicted.h5ad"}
    (note,) = load_survival_cohort(configured(given)).notes
    assert note.startswith("predicted: predictions of 4 models, whose levels differ")
    assert not load_survival_cohort(configured(given, "folds=folds.csv")).notes


def test_signatures_instead_of_genes(files: dict[str, Path], tmp_path: Path) -> None:
    sets = tmp_path / "sets.gmt"
    sets.write_text(
        f"TOLD\tours\t{SCRIPT}\tG1\tG2\nELSEWHERE\tno gene is here\tAAA\tBBB\nREST\tours\tG4\tG5\n"
    )
    given = {name: files[name] for name in ("clinical", "predicted")}
    config = configured(
        given, f"signatures={sets}", "risk.features=signatures", "screen=false", "n_folds=3"
    )
    summary = survival.run(config, tmp_path / "out")
    assert summary["signatures"]["predicted"] == ["TOLD", "REST"]
    assert any(
        "signature ELSEWHERE is left out: none of its 2 genes is there" in label
        for label in summary["labels"]
    )
    chosen = pd.read_csv(tmp_path / "out" / "coefficients.csv")
    assert set(chosen["feature"]) <= {"TOLD", "REST"}
    names, weights, _ = signature_weights(
        read_gene_sets(sets),
        np.random.default_rng(0).normal(size=(5, 4)),
        [SCRIPT, "G1", "G2", "G4"],
    )
    assert names == ("TOLD", "REST")
    np.testing.assert_allclose(weights.sum(axis=0), 1)


def test_signatures_against_the_outcome_one_by_one(files: dict[str, Path], tmp_path: Path) -> None:
    """The hazard ratio of a signature is that of lifelines on the mean rank of its genes."""
    sets = tmp_path / "sets.gmt"
    sets.write_text(f"TOLD\tours\t{SCRIPT}\tG1\tG2\nREST\tours\tG4\tG5\nELSEWHERE\tnone\tAAA\n")
    given = {name: files[name] for name in ("clinical", "measured")}
    config = configured(given, f"signatures={sets}", "covariates=[age]", "n_folds=3")
    summary = survival.run(config, tmp_path / "out")
    table = pd.read_csv(tmp_path / "out" / "signatures_measured.csv").set_index("signature")
    assert list(table.index) == ["TOLD", "REST"]
    assert summary["signature_outcome"]["measured"][0]["signature"] == "TOLD"
    assert table.loc["TOLD", "q"] < 0.01 < table.loc["REST", "q"]
    outcome, values = read_survival(files["clinical"]), pd.read_csv(files["measured"], index_col=0)
    score = values.loc[list(outcome.patient_id), [SCRIPT, "G1", "G2"]].rank().mean(axis=1)
    frame = pd.DataFrame(
        {
            "t": outcome.time_days,
            "e": outcome.event,
            "s": ((score - score.mean()) / score.std()).values,
        }
    )
    direct = CoxPHFitter().fit(frame, "t", "e").summary.loc["s"]
    assert table.loc["TOLD", "hazard_ratio_per_sd"] == pytest.approx(direct["exp(coef)"], rel=1e-4)
    assert table.loc["TOLD", "p"] == pytest.approx(direct["p"], rel=1e-3)
    assert {"adjusted_p", "adjusted_q"} <= set(table.columns)


def test_scores_of_predictions_are_ranked_within_their_folds(
    files: dict[str, Path], tmp_path: Path
) -> None:
    values = pd.read_csv(files["predicted"], index_col=0)
    fold = np.arange(160) % 4
    obs, var = pd.DataFrame({"fold": fold}, index=values.index), pd.DataFrame(index=values.columns)
    data = anndata.AnnData((values + 100 * fold[:, None]).to_numpy(np.float32), obs, var)
    data.write_h5ad(tmp_path / "p.h5ad")
    cohort = load_survival_cohort(
        configured({"clinical": files["clinical"], "predicted": tmp_path / "p.h5ad"})
    )
    scores = cohort.sources["predicted"].scores
    assert scores.names == ("DANAHER_CD8_T",)  # CD8A of its two genes
    of_fold = pd.Series(fold, index=values.index).loc[list(cohort.table.patient_id)].to_numpy()
    for label in range(4):
        assert scores.values[of_fold == label].mean() == pytest.approx(0.5)
    own = tmp_path / "absent.gmt"
    own.write_text("ELSEWHERE\tnone\tAAA\n")
    given = {"clinical": files["clinical"], "predicted": files["predicted"]}
    assert (
        load_survival_cohort(configured(given, f"signatures={own}")).sources["predicted"].scores
        is None
    )


class TestBadInput:
    def refused(self, files: dict[str, Path], tmp_path: Path, *overrides: str) -> str:
        with pytest.raises(InputError) as caught:
            survival.run(configured(files, *overrides), tmp_path / "out")
        assert caught.value.fix
        assert not (tmp_path / "out" / "summary.json").exists()
        return str(caught.value)

    def rewritten(
        self, files: dict[str, Path], tmp_path: Path, kind: str, change
    ) -> dict[str, Path]:
        table = change(pd.read_csv(files[kind], dtype=str, keep_default_na=False))
        table.to_csv(tmp_path / f"{kind}.csv", index=False)
        return {**files, kind: tmp_path / f"{kind}.csv"}

    def test_fewer_than_ten_events(self, files: dict[str, Path], tmp_path: Path) -> None:
        assert "OS: 160 patients have" in self.refused(files, tmp_path, "horizon_days=30")

    def test_no_event_in_a_fold(self, files: dict[str, Path], tmp_path: Path) -> None:
        outcome = read_survival(files["clinical"])
        quiet = [
            name for name, event in zip(outcome.patient_id, outcome.event, strict=True) if not event
        ]
        rest = [name for name in PATIENTS if name not in set(quiet[:20])]
        rows = [(0, "test", name) for name in quiet[:20]] + [
            (0, "train", name) for name in rest[1:]
        ]
        rows += [
            (0, "val", rest[0]),
            (1, "val", quiet[1]),
            *((1, "test", name) for name in rest),
            (1, "train", quiet[0]),
        ]
        pd.DataFrame(rows, columns=["fold", "part", "id"]).to_csv(
            tmp_path / "folds.csv", index=False
        )
        message = self.refused(files, tmp_path, f"folds={tmp_path / 'folds.csv'}")
        assert "fold 0: none of its 20 test patients has an event (OS)" in message

    def test_covariates_that_cannot_be_estimated(
        self, files: dict[str, Path], tmp_path: Path
    ) -> None:
        assert "covariate one has one value (x)" in self.refused(
            files, tmp_path, "covariates=[age, one]"
        )
        assert "no covariate grade. Fix: choose from the columns age, stage, one" in self.refused(
            files, tmp_path, "covariates=[grade]"
        )

        def separate(table: pd.DataFrame) -> pd.DataFrame:
            quiet = (table["OS_event"] == "0") & (np.arange(len(table)) % 3 == 0)
            return table.assign(stage=np.where(quiet, "IV", table["stage"]))

        message = self.refused(
            self.rewritten(files, tmp_path, "clinical", separate),
            tmp_path,
            "covariates=[age, stage]",
        )
        assert "covariate stage[IV] separates patients with an event" in message

    def test_times_of_zero_and_repeated_patients(
        self, files: dict[str, Path], tmp_path: Path
    ) -> None:
        def zero(table: pd.DataFrame) -> pd.DataFrame:
            return table.assign(OS_time_days=["0", *table["OS_time_days"][1:]])

        assert "has a time of 0" in self.refused(
            self.rewritten(files, tmp_path, "clinical", zero), tmp_path
        )
        columns = {"clinical": "age", "predicted": "G1"}
        for kind, column in columns.items():
            twice = self.rewritten(
                files,
                tmp_path,
                kind,
                lambda table, name=column: pd.concat([table, table.iloc[:1].assign(**{name: 99})]),
            )
            message = self.refused(twice, tmp_path)
            assert "several rows" in message
            assert f"{kind}.csv" in message

    def test_no_patient_in_common(self, files: dict[str, Path], tmp_path: Path) -> None:
        other = self.rewritten(
            files,
            tmp_path,
            "predicted",
            lambda table: table.assign(patient="person " + table["patient"]),
        )
        message = self.refused(other, tmp_path)
        assert "predicted.csv: has no patient in common with" in message
        assert "person " in message

    def test_samples_with_dots_in_lower_case_join_and_normals_do_not(
        self, files: dict[str, Path], tmp_path: Path
    ) -> None:
        def as_samples(table: pd.DataFrame) -> pd.DataFrame:
            names = table["patient"].str.replace("-", ".").str.lower()
            tumours = table.assign(patient=names + ".01a.11r")
            return pd.concat([tumours, table.iloc[:7].assign(patient=names[:7] + ".11a", G1=0)])

        other = self.rewritten(files, tmp_path, "predicted", as_samples)
        cohort = load_survival_cohort(configured(other))
        plain = load_survival_cohort(configured(files))
        assert cohort.table.patient_id == plain.table.patient_id
        assert cohort.sources["predicted"].values.tolist() == (
            plain.sources["predicted"].values.tolist()
        )
        assert any("7 rows of normal tissue" in note for note in cohort.notes)

    def test_sample_type_of_the_cohort_is_a_covariate(
        self, files: dict[str, Path], tmp_path: Path
    ) -> None:
        table = pd.read_csv(files["measured"], index_col=0)
        cohort = anndata.AnnData(table.astype("float32"))
        cohort.obs["sample_type"] = ["primary tumour", "metastasis"] * (len(table) // 2)
        cohort.uns["tcgn_mil"] = json.dumps({"kind": "cohort", "unit": "log2(tpm+1)"})
        path = tmp_path / "cohort.h5ad"
        cohort.write_h5ad(path)
        given = {**files, "measured": path}
        plain = load_survival_cohort(configured(given))
        assert any("mixes sample types" in note for note in plain.notes)
        adjusted = load_survival_cohort(configured(given, "covariates=[sample_type]"))
        assert not any("mixes sample types" in note for note in adjusted.notes)
        (column,) = adjusted.design.columns
        assert column.startswith("sample_type[")
        expected = cohort.obs["sample_type"].reindex(list(adjusted.table.patient_id))
        level = column.removeprefix("sample_type[").removesuffix("]")
        assert (adjusted.design[column] == 1).tolist() == (expected == level).tolist()

    def test_missing_covariates_and_genes_are_listed(
        self, files: dict[str, Path], tmp_path: Path
    ) -> None:
        part = self.rewritten(
            files, tmp_path, "clinical", lambda table: table.assign(age=["", "", *table["age"][2:]])
        )
        part = self.rewritten(
            part, tmp_path, "predicted", lambda table: table.assign(G1=["", *table["G1"][1:]])
        )
        cohort = load_survival_cohort(configured(part, "covariates=[age]"))
        assert len(cohort.table) == 158
        assert cohort.dropped["reason"].tolist() == ["no value of covariate age"] * 2
        assert "G1" not in cohort.sources["predicted"].genes
        assert cohort.notes == ("predicted: 1 genes left out, because a patient has no value",)

    def test_nothing_to_predict_from(self, files: dict[str, Path], tmp_path: Path) -> None:
        message = self.refused({"clinical": files["clinical"]}, tmp_path)
        assert "nothing to predict survival from" in message

    @pytest.mark.parametrize(
        "wrong", ["n_folds=2", "seeds=[]", "seeds=[1, 1]", "times_days=[0]", "replicates=-1"]
    )
    def test_settings_that_cannot_be(self, wrong: str) -> None:
        with pytest.raises(InputError):
            resolve_config(SurviveConfig, overrides=[wrong])


@pytest.fixture(scope="module")
def brca(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write the clinical table of PORPOISE, checked against TCGA-CDR, and its z-scores."""
    folder = tmp_path_factory.mktemp("brca")
    source = real_data / "tcga_expression" / "tcga_brca_all_clean.csv.zip"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            sys,
            "argv",
            [
                "tcgn-mil",
                "clinical",
                str(source),
                "--format",
                "porpoise",
                "--covariate",
                "age",
                str(real_data / "tcga_clinical" / "TCGA-CDR_outcome.xlsx"),
                "--format",
                "tcga-cdr",
                "--endpoint",
                "OS",
                "--out",
                str(folder / "clinical.csv"),
            ],
        )
        with pytest.raises(SystemExit) as ended:
            cli.main()
    assert ended.value.code in (None, 0)
    with zipfile.ZipFile(source) as archive, archive.open(archive.namelist()[0]) as file:
        table = pd.read_csv(file, low_memory=False).drop_duplicates("case_id").set_index("case_id")
    genes = [name for name in table.columns if name.endswith("_rnaseq")]
    table[genes].rename(columns=lambda name: name.removesuffix("_rnaseq")).to_csv(
        folder / "measured.csv"
    )
    return {"clinical": folder / "clinical.csv", "measured": folder / "measured.csv"}


@pytest.mark.realdata
class TestBreastCancer:
    def test_months_are_those_of_the_clinical_data_resource(self, brca: dict[str, Path]) -> None:
        agreement = pd.read_csv(brca["clinical"].parent / "agreement.csv")
        assert len(agreement) == 956
        assert agreement["time_agrees"].all()
        assert agreement["event_agrees"].all()
        assert agreement["difference_days"].abs().max() < 0.16  # months of two decimals

    def test_cox_agrees_with_lifelines(self, brca: dict[str, Path]) -> None:
        config = resolve_config(
            SurviveConfig, overrides=[f"{k}={v}" for k, v in brca.items()] + ["covariates=[age]"]
        )
        cohort = load_survival_cohort(config)
        assert (len(cohort.table), int(cohort.table.event.sum())) == (956, 130)
        from tcgn_mil.survival.cox import fit_cox

        values = cohort.sources["measured"].values
        values = RankNormaliser(values)(values).astype(float)
        screen = screen_table(values, cohort.sources["measured"].genes, cohort.table, cohort.design)
        screen = screen.set_index("gene")
        age = cohort.design["age"].to_numpy()
        for index in range(0, 1558, 120):
            frame = pd.DataFrame(
                {"gene": values[:, index], "t": cohort.table.time_days, "e": cohort.table.event}
            )
            exact = {"precision": 1e-12}
            row = screen.loc[cohort.sources["measured"].genes[index]]
            alone = CoxPHFitter().fit(frame, "t", "e", fit_options=exact).summary.loc["gene"]
            with_age = CoxPHFitter().fit(frame.assign(age=age), "t", "e", fit_options=exact)
            assert row["coef"] == pytest.approx(alone["coef"], abs=1e-6)
            assert row["p"] == pytest.approx(alone["p"], abs=1e-6)
            assert row["adjusted_coef"] == pytest.approx(with_age.params_["gene"], abs=1e-6)
            design = cohort.design.assign(gene=values[:, index])
            both = fit_cox(cohort.table, design).params_
            direct = CoxPHFitter().fit(frame.assign(age=age), "t", "e").params_
            np.testing.assert_allclose(both[["age", "gene"]], direct[["age", "gene"]], atol=1e-6)

    @pytest.mark.slow
    def test_the_whole_verb_takes_under_three_minutes(
        self, brca: dict[str, Path], tmp_path: Path
    ) -> None:
        begun = time.perf_counter()
        config = resolve_config(
            SurviveConfig, overrides=[f"{k}={v}" for k, v in brca.items()] + ["covariates=[age]"]
        )
        summary = survival.run(config, tmp_path / "out")
        assert time.perf_counter() - begun < 180
        found = {row["model"]: row["c"] for row in summary["results"]}
        assert 0.6 < found["clinical"] < 0.68
        assert found["clinical + measured"] > found["clinical"]
