"""Test ``tcgn-mil survive``: tables and figures, bad input, and agreement with lifelines."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter
from PIL import Image
from survival_cohorts import QUICK, SCRIPT, configured

from tcgn_mil.errors import InputError
from tcgn_mil.experiments import main as cli
from tcgn_mil.experiments.survive import run as survival
from tcgn_mil.experiments.survive.cohort import load_survival_cohort
from tcgn_mil.experiments.survive.sources import signature_weights
from tcgn_mil.io.clinical_file import read_survival
from tcgn_mil.signatures.gene_sets import read_gene_sets

FIGURES = ("kaplan_meier", "concordance", "forest", "accuracy", "exploratory_screen_predicted")


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
