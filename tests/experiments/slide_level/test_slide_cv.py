"""Test ``slide-cv`` and ``finetune`` on bags of which it is known what they tell of each gene."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from slide_cohorts import (
    GENES,
    PATIENTS,
    TILES,
    TRAINING,
    D,
    change_cohort,
    make_cohort,
    write,
    write_slide,
)
from tile_sets import tile_set

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.predict.config import PredictConfig
from tcgn_mil.experiments.predict.run import run as predict
from tcgn_mil.experiments.slide_level import run as finetuning
from tcgn_mil.experiments.slide_level.compare_runs import compare_runs
from tcgn_mil.experiments.slide_level.config import FinetuneConfig
from tcgn_mil.experiments.slide_level.evaluate import PatientGroups, out_of_fold_tables
from tcgn_mil.experiments.slide_level.training import permuted_refits, train_fold
from tcgn_mil.io.feature_files import write_features
from tcgn_mil.provenance import provenance
from tcgn_mil.settings.slide_model import MilConfig
from tcgn_mil.statistics.fold_combination import combine_folds
from tcgn_mil.statistics.gene_metrics import pearson
from tcgn_mil.types.tile_geometry import PatchSize, TileSpec


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[FinetuneConfig, Path, dict]:
    folder = tmp_path_factory.mktemp("study")
    config = make_cohort(folder)
    return config, folder / "run", finetuning.run(config, folder / "run")


def test_what_follows_the_slide_is_predictable_and_what_does_not_is_not(study: tuple) -> None:
    _, run, summary = study
    table = pd.read_csv(run / "genes.csv").set_index("gene")
    seen, null = table.index.str.startswith("SEEN"), table.index.str.startswith("NULL")
    assert table["r_model"][seen].median() > 0.6
    assert table["q_model"][seen].max() < 0.05
    assert (table["q_model"][null] < 0.05).sum() <= 1
    assert abs(table["r_model"][null].median()) < 0.15
    assert table["r_training_mean"].isna().all()
    assert (table["low_model"] <= table["r_model"]).all()
    assert (table["high_model"] >= table["r_model"]).all()
    assert (
        1 <= table["sequoia"].sum() == table["sequoia"][seen].sum()
    )  # a network untrained follows the level too
    assert (table["pooled_r_model"] > table["pooled_r_untrained"])[table["sequoia"]].all()
    assert (
        summary["predictable"]
        == table["predictable"].sum()
        == len(pd.read_csv(run / "predictable_genes.csv"))
    )
    assert summary["labels"] == ["p-values from 6 refits, fewer than 50"]
    assert 0.8 < summary["null"]["sd_z"] < 1.7
    assert summary["coverage"]["measured"] == pytest.approx(0.9, abs=0.04)


def test_r_is_within_folds_combined(study: tuple) -> None:
    _, run, _ = study
    found = anndata.read_h5ad(run / "out_of_fold.h5ad")
    folds = found.obs["fold"].to_numpy()
    parts = [found[folds == fold] for fold in np.unique(folds)]
    by_fold = np.stack([pearson(part.layers["truth"], part.X) for part in parts])
    expected = combine_folds(by_fold, np.array([part.n_obs for part in parts])).r
    np.testing.assert_allclose(pd.read_csv(run / "genes.csv")["r_model"], expected, atol=1e-5)
    inside = (found.layers["low"] <= found.layers["truth"]) & (
        found.layers["truth"] <= found.layers["high"]
    )
    assert inside.mean() > 0.88


def test_a_killed_run_ends_as_one_that_was_not(
    study: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is killed in the refits of its second fold keeps what is finished."""
    config, whole, _ = study
    real, calls = permuted_refits.refit_predictions, []

    def killed(*args: object, **keys: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args, **keys)  # type: ignore[arg-type]

    monkeypatch.setattr(permuted_refits, "refit_predictions", killed)
    with pytest.raises(KeyboardInterrupt):
        finetuning.run(config, tmp_path / "run")
    assert not (tmp_path / "run" / "summary.json").exists()
    monkeypatch.setattr(permuted_refits, "refit_predictions", real)
    finetuning.run(config, tmp_path / "run")
    for name in ("genes.csv", "headline.csv", "folds.csv"):
        assert (tmp_path / "run" / name).read_bytes() == (whole / name).read_bytes()


def test_another_config_is_refused_in_the_same_folder(study: tuple) -> None:
    config, run, _ = study
    with pytest.raises(InputError, match=r"differing keys: .*max_tiles"):
        finetuning.run(dataclasses.replace(config, max_tiles=3), run)


def test_runs_side_by_side(study: tuple, tmp_path: Path) -> None:
    config, run, _ = study
    other = dataclasses.replace(
        config,
        folds=str(run / "folds.csv"),
        refits=0,
        several_slides="mean",
        model=MilConfig(pooling="mean", embedding=16),
    )
    summary = finetuning.run(other, tmp_path / "mean")
    assert any("approximate" in label for label in summary["labels"])
    rows = compare_runs(run, tmp_path / "mean", tmp_path / "compared")
    assert rows[0]["patients"] == PATIENTS
    assert rows[0]["low"] <= rows[0]["difference"] <= rows[0]["high"]
    written = json.loads((tmp_path / "compared" / "comparison.json").read_text(encoding="utf-8"))
    assert "model.pooling" in written["differing_keys"]
    again = dataclasses.replace(other, folds=None, seed=5)
    finetuning.run(again, tmp_path / "other-folds")
    with pytest.raises(InputError, match="test folds are not those"):
        compare_runs(run, tmp_path / "other-folds", tmp_path / "compared2")


def test_slides_that_cannot_be_used_cost_rows_and_no_run(tmp_path: Path) -> None:
    config = make_cohort(tmp_path, patients=14)
    features = tmp_path / "features"
    whole = (features / "P01-1.h5").read_bytes()
    (features / "P01-1.h5").write_bytes(whole[: len(whole) // 2])
    with h5py.File(features / "P02-1.h5", "r+") as file:
        file["features"][3, 2] = np.nan
    (features / "P03-1.h5").unlink()
    rng = np.random.default_rng(0)
    write(features, "P04-1", "P04", np.zeros((0, D), np.float32), np.zeros((0, 2), np.int64))
    config = dataclasses.replace(config, refits=0, training=dataclasses.replace(TRAINING, epochs=2))
    summary = finetuning.run(config, tmp_path / "run")
    assert summary["patients"] == 10
    dropped = pd.read_csv(tmp_path / "run" / "dropped.csv").set_index("id")["reason"]
    assert "finite" in dropped["P02-1"]
    assert dropped["P03-1"] == "no feature file"
    assert dropped["P04-1"] == "has no tile"
    assert {"P01-1", "P01", "P02", "P03", "P04"} <= set(dropped.index)
    write_slide(features, "P05-1", "P05", 0, rng)
    (features / "P06-1.h5").unlink()
    with pytest.raises(InputError, match="only 9 patients have both"):
        finetuning.run(config, tmp_path / "few")


def test_sites_stay_together_and_labels_are_permuted_within_them(tmp_path: Path) -> None:
    config = make_cohort(tmp_path, patients=30)
    config = dataclasses.replace(
        config, group_by="site", refits=2, training=dataclasses.replace(TRAINING, epochs=2)
    )
    finetuning.run(config, tmp_path / "run")
    folds = pd.read_csv(tmp_path / "run" / "folds.csv")
    sites = anndata.read_h5ad(tmp_path / "cohort.h5ad").obs["site"]
    tested = folds[folds["part"] == "test"].assign(site=lambda table: table["id"].map(sites))
    assert (tested.groupby("site", observed=True)["fold"].nunique() == 1).all()


def test_a_gene_constant_in_training_has_no_r(tmp_path: Path) -> None:
    config = make_cohort(tmp_path, patients=20)
    cohort = anndata.read_h5ad(tmp_path / "cohort.h5ad")
    cohort.X[:, 3] = 2
    cohort.write_h5ad(tmp_path / "cohort.h5ad")
    (tmp_path / "genes.txt").write_text("SEEN3\nSEEN4\n")
    config = dataclasses.replace(
        config,
        genes=str(tmp_path / "genes.txt"),
        refits=2,
        training=dataclasses.replace(TRAINING, epochs=2),
    )
    finetuning.run(config, tmp_path / "run")
    table = pd.read_csv(tmp_path / "run" / "genes.csv").set_index("gene")
    assert np.isnan(table.loc["SEEN3", ["r_model", "p_model", "q_model"]].astype(float)).all()
    assert not table.loc["SEEN3", "predictable"]
    assert np.isfinite(table.loc["SEEN4", "r_model"])


def test_new_patients_come_with_intervals_and_strange_ones_are_flagged(
    study: tuple, tmp_path: Path
) -> None:
    _, run, _ = study
    rng = np.random.default_rng(7)
    (tmp_path / "new").mkdir()
    for index in range(20):
        write_slide(tmp_path / "new", f"N{index}", f"N{index}", float(rng.standard_normal()), rng)
    strange = rng.standard_normal((TILES, D)).astype(np.float32) + 6
    write(tmp_path / "new", "X", "X", strange, np.zeros((TILES, 2), np.int64))
    summary, failures = predict(
        PredictConfig(str(run), str(tmp_path / "new"), maps=False), tmp_path / "out"
    )
    assert failures == []
    # One in twenty of the others may be flagged by chance.
    assert "X" in summary["out_of_distribution"]
    assert len(summary["out_of_distribution"]) <= 4
    assert summary["out_of_distribution_unknown"] == []
    found = anndata.read_h5ad(tmp_path / "out" / "predicted.h5ad")
    assert found.obs["ood_score"].idxmax() == "X"
    assert found.obs.loc["X", "ood_p"] == pytest.approx(1 / (PATIENTS + 1))
    assert (found.obs["ood_state"] == "out").sum() == len(summary["out_of_distribution"])
    assert set(found.obs["ood_level"]) <= {"patient", "tiles", "both"}
    assert (found.layers["low"] < found.X).all()
    assert (found.layers["high"] > found.X).all()
    assert (found.layers["low"] >= 0).all()
    assert np.isfinite(found.layers["sd"]).all()
    assert {"r_model", "q_model", "predictable"} <= set(found.var)


def test_uncertainty_is_given_by_gene_site_and_score(study: tuple) -> None:
    _, run, _ = study
    obs = anndata.read_h5ad(run / "out_of_fold.h5ad").obs
    assert obs["ood_score"].notna().all()
    # A training patient is compared with the others, whose number is one less.
    steps = obs["ood_p"] * PATIENTS
    np.testing.assert_allclose(steps, steps.round(), atol=1e-6)
    assert (obs["ood_p"] <= 0.05).mean() < 0.1
    table = pd.read_csv(run / "uncertainty.csv")
    sites = table[table["kind"] == "site"].set_index("name")
    assert list(sites.index) == [f"S{i}" for i in range(6)]
    assert (sites["patients"] == PATIENTS / 6).all()
    np.testing.assert_allclose(
        np.average(sites["coverage"]), obs["interval_coverage"].mean(), atol=1e-6
    )
    everyone = table.set_index("kind").loc["all"]
    assert everyone["low"] < everyone["coverage"] < everyone["high"]
    related = table[table["kind"] == "spearman r with ood_score"].set_index("name")
    expected = spearmanr(obs["ood_score"], obs["squared_error"])
    assert related.loc["squared_error", "r"] == pytest.approx(expected.statistic, abs=1e-5)
    assert related.loc["squared_error", "p"] == pytest.approx(expected.pvalue, abs=1e-5)
    assert (run / "uncertainty.png").stat().st_size > 10_000


def test_a_finished_run_makes_a_missing_reference_anew(study: tuple, tmp_path: Path) -> None:
    config, run, summary = study
    shutil.copytree(run, tmp_path / "run")
    path = tmp_path / "run" / "reference.safetensors"
    before = path.read_bytes()
    path.write_bytes(b"damaged")
    assert finetuning.run(config, tmp_path / "run") == summary
    assert path.read_bytes() == before


def test_an_unfinished_run_whose_inputs_changed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_cohort(tmp_path, patients=12)
    config = dataclasses.replace(config, refits=0, training=dataclasses.replace(TRAINING, epochs=2))
    late = tmp_path / "features" / "P11-1.h5"
    late.rename(tmp_path / "kept.h5")

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(train_fold, "save_slide_model", killed)
        with pytest.raises(KeyboardInterrupt):
            finetuning.run(config, tmp_path / "run")
    (tmp_path / "kept.h5").rename(late)
    with pytest.raises(InputError, match="unfinished run on other inputs"):
        finetuning.run(config, tmp_path / "run")


def test_few_patients_have_no_p_and_no_crash(tmp_path: Path) -> None:
    """Of ten patients in five folds of two, no fold has an r that can be used."""
    config = make_cohort(tmp_path, patients=10)
    config = dataclasses.replace(
        config, n_folds=5, refits=2, training=dataclasses.replace(TRAINING, epochs=2)
    )
    summary = finetuning.run(config, tmp_path / "run")
    assert summary["predictable"] == 0
    assert summary["null"] == {"refits": 2, "refits_with_r": 0}
    assert pd.read_csv(tmp_path / "run" / "genes.csv")["p_model"].isna().all()


def test_unknown_values_are_left_out_everywhere(tmp_path: Path) -> None:
    """Z-scores may have gaps, also in all training patients, and gene names may be numbers."""
    config = make_cohort(tmp_path, patients=20)
    cohort = anndata.read_h5ad(tmp_path / "cohort.h5ad")
    cohort.var_names = [str(100 + index) for index in range(len(GENES))]
    rng = np.random.default_rng(3)
    cohort.X = (cohort.X - cohort.X.mean(axis=0)).astype(np.float32)
    cohort.X[rng.random(cohort.shape) < 0.1] = np.nan
    cohort.X[:-2, 5] = np.nan
    cohort.uns["tcgn_mil"] = json.dumps(provenance(kind="cohort", unit="zscore"))
    cohort.write_h5ad(tmp_path / "cohort.h5ad")
    (tmp_path / "genes.txt").write_text("\n".join(cohort.var_names))
    config = dataclasses.replace(
        config,
        genes=str(tmp_path / "genes.txt"),
        refits=3,
        training=dataclasses.replace(TRAINING, epochs=2),
    )
    finetuning.run(config, tmp_path / "run")
    table = pd.read_csv(tmp_path / "run" / "genes.csv", dtype={"gene": str}).set_index("gene")
    assert table.loc["100", "n"] < 20
    assert np.isfinite(table["r_model"].drop("105")).mean() > 0.9
    assert np.isnan(table.loc["105", "r_model"])
    summary, failures = predict(
        PredictConfig(str(tmp_path / "run"), config.features, maps=False), tmp_path / "out"
    )
    assert failures == []
    assert set(summary["relation"]) == {"out of fold"}


def test_patients_are_those_of_the_cohort_whatever_feature_files_call_them(tmp_path: Path) -> None:
    config = make_cohort(tmp_path, patients=12)
    for path in (tmp_path / "features").glob("*.h5"):
        with h5py.File(path, "r+") as file:
            file.attrs["patient_id"] = path.stem
    config = dataclasses.replace(config, refits=0, training=dataclasses.replace(TRAINING, epochs=2))
    finetuning.run(config, tmp_path / "run")
    summary, _ = predict(
        PredictConfig(str(tmp_path / "run"), config.features, maps=False), tmp_path / "out"
    )
    assert summary["relation"] == {"out of fold": 12}


def test_a_baseline_is_compared_over_the_genes_it_has() -> None:
    rng = np.random.default_rng(0)
    truth = rng.standard_normal((40, 8)).astype(np.float32)
    model = truth * np.repeat([3, 0], 4) + rng.standard_normal((40, 8)).astype(np.float32)
    part = model.copy()
    part[:, :4] = np.nan
    groups = PatientGroups(np.repeat(np.arange(4), 10))
    tables = out_of_fold_tables([*"ABCDEFGH"], truth, {"model": model, "zero_shot": part}, groups)
    row = tables.headline.set_index("predictor").loc["zero_shot"]
    assert row["genes"] == 4
    assert [
        row[name] for name in ("model_above_by", "model_above_low", "model_above_high")
    ] == pytest.approx([0] * 3)


def two_cohorts(folder: Path) -> FinetuneConfig:
    """Make a cohort of two tables that differ in the level of expression and in the scanner."""
    config = make_cohort(folder)

    def change(cohort: anndata.AnnData) -> None:
        other = np.arange(cohort.n_obs) % 2 == 1
        cohort.X[other] = 3 * (cohort.X[other] - 3) + 7
        cohort.obs["source"] = np.where(other, "b.tsv", "a.tsv")

    change_cohort(config, change)
    for path in Path(config.features).glob("*.h5"):
        with h5py.File(path, "r+") as file:
            if int(path.stem[1:3]) % 2:
                file["features"][:, 1] += 2
    return dataclasses.replace(config, refits=3)


def test_cohorts_are_standardised_and_judged_within_themselves(tmp_path: Path) -> None:
    config = two_cohorts(tmp_path)
    summary = finetuning.run(config, tmp_path / "within")
    assert (
        summary["labels"][-1] == "2 cohorts: expression is standardised, and r taken, within each"
    )
    assert summary["unit"] == "log2(TPM + 1), standardised within cohorts"
    table = pd.read_csv(tmp_path / "within" / "genes.csv").set_index("gene")
    null = table.index.str.startswith("NULL")
    assert table["r_model"][~null].median() > 0.5
    assert abs(table["r_model"][null].median()) < 0.2
    by_cohort = pd.read_csv(tmp_path / "within" / "cohorts.csv")
    of_model = by_cohort[by_cohort["predictor"] == "model"].set_index("source")
    assert of_model["patients"].to_dict() == {"a.tsv": 30, "b.tsv": 30}
    assert of_model["median_r"].between(-0.5, 0.9).all()
    genes = pd.read_csv(tmp_path / "within" / "cohort_genes.csv")
    assert len(genes) == 2 * len(GENES)
    assert genes.loc[genes["gene"].str.startswith("SEEN"), "r_model"].median() > 0.5
    found = anndata.read_h5ad(tmp_path / "within" / "out_of_fold.h5ad")
    assert found.obs["cohort"].value_counts().to_dict() == {"a.tsv": 30, "b.tsv": 30}
    spread = [
        found[found.obs["cohort"] == name].layers["truth"].std(axis=0).mean()
        for name in ("a.tsv", "b.tsv")
    ]
    assert spread[0] == pytest.approx(spread[1], rel=0.2)
    folds = str(tmp_path / "within" / "folds.csv")
    pooled = dataclasses.replace(config, cohorts="pooled", refits=0, folds=folds)
    finetuning.run(pooled, tmp_path / "pooled")
    table = pd.read_csv(tmp_path / "pooled" / "genes.csv").set_index("gene")
    assert table["r_model"][null].median() > 0.7  # the scanner tells the table
    rows = compare_runs(tmp_path / "within", tmp_path / "within", tmp_path / "compared")
    assert rows[0]["median_r_a"] == pytest.approx(
        pd.read_csv(tmp_path / "within" / "genes.csv")["r_model"].median()
    )
    with pytest.raises(InputError, match="both with cohorts=within or both with cohorts=pooled"):
        compare_runs(tmp_path / "within", tmp_path / "pooled", tmp_path / "refused")


def test_a_cohort_too_small_to_standardise_by_is_refused(tmp_path: Path) -> None:
    config = make_cohort(tmp_path, patients=14)
    change_cohort(
        config, lambda cohort: cohort.obs.insert(0, "source", ["few.tsv"] * 4 + ["many.tsv"] * 10)
    )
    with pytest.raises(
        InputError, match=r"trains on \d patients of few.tsv, too few .* set cohorts=pooled"
    ):
        finetuning.run(config, tmp_path / "run")


def test_a_cohort_that_only_tests_is_labelled(tmp_path: Path) -> None:
    config = make_cohort(tmp_path, patients=24)
    change_cohort(
        config, lambda cohort: cohort.obs.insert(0, "source", ["a.tsv"] * 15 + ["b.tsv"] * 9)
    )
    rows = [
        (0, "test" if i >= 15 else "val" if i >= 10 else "train", f"P{i:02d}") for i in range(24)
    ]
    pd.DataFrame(rows, columns=["fold", "part", "id"]).to_csv(tmp_path / "folds.csv", index=False)
    config = dataclasses.replace(
        config,
        folds=str(tmp_path / "folds.csv"),
        refits=2,
        training=dataclasses.replace(TRAINING, epochs=2),
    )
    summary = finetuning.run(config, tmp_path / "run")
    assert (
        "fold 0 trains on no patient of b.tsv: its expression is not standardised within the cohort"
        in summary["labels"]
    )


def test_z_scores_beside_values_that_are_none_are_refused(tmp_path: Path) -> None:
    """Such a cohort file was changed by hand, since ``tcgn-mil bulk`` checks each table."""
    config = make_cohort(tmp_path, patients=20)

    def change(cohort: anndata.AnnData) -> None:
        cohort.X[:10] -= cohort.X[:10].mean(axis=0)
        cohort.obs["source"] = ["z.tsv"] * 10 + ["log.tsv"] * 10
        cohort.uns["tcgn_mil"] = json.dumps(provenance(kind="cohort", unit="zscore"))

    change_cohort(config, change)
    with pytest.raises(InputError, match=r"cohort.h5ad, log.tsv: has no negative value"):
        finetuning.run(config, tmp_path / "run")


@pytest.mark.parametrize("unit", ["zscore", "log2(tpm+1)"])
def test_a_patient_without_values_costs_its_row(tmp_path: Path, unit: str) -> None:
    """A patient with few values does not cost any gene its pooled columns either."""
    config = make_cohort(tmp_path, patients=20)

    def change(cohort: anndata.AnnData) -> None:
        if unit == "zscore":
            cohort.X -= cohort.X.mean(axis=0)
        cohort.X[4] = np.nan
        cohort.X[7, :-1] = np.nan
        cohort.uns["tcgn_mil"] = json.dumps(provenance(kind="cohort", unit=unit))

    change_cohort(config, change)
    config = dataclasses.replace(config, refits=2, training=dataclasses.replace(TRAINING, epochs=2))
    summary = finetuning.run(config, tmp_path / "run")
    assert summary["patients"] == 19
    dropped = pd.read_csv(tmp_path / "run" / "dropped.csv").set_index("id")
    assert dropped.loc["P04"].to_dict() == {"kind": "patient", "reason": "no expression value"}
    table = pd.read_csv(tmp_path / "run" / "genes.csv")
    assert table["n"].tolist() == [18] * (len(GENES) - 1) + [19]
    columns = [name for name in table if name.startswith("pooled_") and "training_mean" not in name]
    assert len(columns) >= 6
    assert table[columns].isna().sum().sum() == 0


@pytest.mark.parametrize("changed", ["cohort", "features", "folds", "gene list"])
def test_a_finished_run_whose_inputs_changed_is_refused(tmp_path: Path, changed: str) -> None:
    config = make_cohort(tmp_path, patients=12)
    (tmp_path / "genes.txt").write_text("SEEN1\nSEEN2\nNULL1\n")
    finetuning.run(
        dataclasses.replace(config, refits=0, training=dataclasses.replace(TRAINING, epochs=1)),
        tmp_path / "a",
    )
    config = dataclasses.replace(
        config,
        refits=0,
        training=dataclasses.replace(TRAINING, epochs=1),
        genes=str(tmp_path / "genes.txt"),
        folds=str(tmp_path / "a" / "folds.csv"),
    )
    summary = finetuning.run(config, tmp_path / "run")
    assert finetuning.run(config, tmp_path / "run") == json.loads(json.dumps(summary))
    if changed == "cohort":
        change_cohort(config, lambda cohort: cohort.X.__setitem__((3, 4), 9))
    elif changed == "features":
        with h5py.File(tmp_path / "features" / "P03-1.h5", "r+") as file:
            file["features"][0, 0] += 1
    elif changed == "folds":
        table = pd.read_csv(config.folds)
        table["fold"] = 2 - table["fold"]
        table.to_csv(config.folds, index=False)
    else:
        (tmp_path / "genes.txt").write_text("SEEN1\nSEEN3\nNULL1\n")
    with pytest.raises(
        InputError, match=f"a finished run on other inputs: {changed} changed since it began"
    ):
        finetuning.run(config, tmp_path / "run")


def test_features_of_another_tile_size_are_refused_or_labelled(
    study: tuple, tmp_path: Path
) -> None:
    _, run, _ = study
    spec = TileSpec.for_slide(PatchSize(112, 0.5), slide_mpp=0.5, level_downsamples=[1.0])
    rng = np.random.default_rng(0)
    (tmp_path / "new").mkdir()
    features, coords = rng.standard_normal((4, D)).astype(np.float32), np.zeros((4, 2), np.int64)
    tiles = tile_set(coords, spec, "N")
    write_features(tmp_path / "new" / "N.h5", features, tiles, encoder="toy")
    given = PredictConfig(str(run), str(tmp_path / "new"), maps=False)
    with pytest.raises(
        InputError, match=r"patches of 77.3 µm .*, these are 56.0 µm .*--allow-other-size"
    ):
        predict(given, tmp_path / "refused")
    summary, failures = predict(
        dataclasses.replace(given, allow_other_size=True), tmp_path / "allowed"
    )
    assert failures == []
    assert summary["notes"] == [
        "tiles of another size than the model's 77.3 µm (112 px at 0.69 µm/px): N"
    ]


def test_rows_of_one_donor_are_labelled_so(tmp_path: Path) -> None:
    config = make_cohort(tmp_path, patients=24)
    change_cohort(
        config, lambda cohort: cohort.obs.insert(0, "donor", [f"D{i // 3}" for i in range(24)])
    )
    config = dataclasses.replace(config, refits=2, training=dataclasses.replace(TRAINING, epochs=2))
    summary = finetuning.run(config, tmp_path / "run")
    assert "only 8 patients: too few to judge single genes" in summary["labels"]
    found = anndata.read_h5ad(tmp_path / "run" / "out_of_fold.h5ad").obs
    assert (found.groupby("donor", observed=True)["fold"].nunique() == 1).all()
    assert (
        compare_runs(tmp_path / "run", tmp_path / "run", tmp_path / "compared")[0]["difference"]
        == 0
    )
