"""Read the numbers of the study of TCGA cohorts from the folders of its runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tcgn_mil.batches.bag_files import mean_features
from tcgn_mil.experiments.benchmarks.tcga.commands import ENDPOINTS, CohortFiles
from tcgn_mil.inference.fold_models import load_fold_models
from tcgn_mil.io.feature_files import read_features
from tcgn_mil.models.component_regression import ComponentRegression
from tcgn_mil.regression.rank_normaliser import RankNormaliser
from tcgn_mil.signatures.gene_sets import load_gene_sets
from tcgn_mil.signatures.scores import score_signatures
from tcgn_mil.statistics.gene_metrics import pearson
from tcgn_mil.statistics.out_of_fold import combined_r

MODEL, BASELINES = "model", ("ridge_mean_features", "kernel_mean_features")
SPLITS = ("site", "patient")


def split_folder(run: Path, split: str) -> Path:
    """Return the folder of a run with folds by site or by patient."""
    return run / "by-patient" if split == "patient" else run


def headline(run: Path, split: str) -> pd.DataFrame:
    """Return the headline of a run by predictor."""
    return pd.read_csv(split_folder(run, split) / "headline.csv").set_index("predictor")


def summary(run: Path, split: str) -> dict[str, Any]:
    """Return the summary of a run."""
    path = split_folder(run, split) / "summary.json"
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return result


def genes_over_seeds(cohorts: Sequence[CohortFiles], seeds: Sequence[int]) -> pd.DataFrame:
    """Return the headline of genes for each cohort and split.

    The medians are means over seeds. The difference is that to the strongest baseline, which is the
    one with the highest mean over seeds; its interval is that of the first seed, over patients, and
    its range that of the seeds.
    """
    rows = []
    for files in cohorts:
        for split in SPLITS:
            runs = [files.folder / "genes" / f"seed{seed}" for seed in seeds]
            tables = [headline(run, split) for run in runs]
            medians = pd.DataFrame([table["median_r"] for table in tables])
            best = medians[list(BASELINES)].mean().idxmax()
            above = pd.DataFrame([table.loc[best] for table in tables])
            first = summary(runs[0], split)
            rows.append(
                {
                    "cohort": files.name,
                    "folds by": split,
                    "patients": first["patients"],
                    "genes": first["genes"],
                    **{name: medians[name].mean() for name in (MODEL, *BASELINES)},
                    "low": tables[0].loc[MODEL, "low"],
                    "high": tables[0].loc[MODEL, "high"],
                    "best": best,
                    "above": above["model_above_by"].mean(),
                    "above_low": above["model_above_low"].iloc[0],
                    "above_high": above["model_above_high"].iloc[0],
                    "lowest": above["model_above_by"].min(),
                    "highest": above["model_above_by"].max(),
                    "predictable": first["predictable"],
                    "coverage": first["coverage"]["measured"],
                    "null_share": (first["null"] or {}).get("share_below_0.05"),
                    "null_hits": (first["null"] or {}).get("runs_with_any_q_below_0.05"),
                }
            )
    return pd.DataFrame(rows)


def models(cohorts: Sequence[CohortFiles], seed: int) -> pd.DataFrame:
    """Return the median r of each kind of slide model at one seed."""
    rows = []
    for files in cohorts:
        for split in SPLITS:
            runs = {"kernel": files.folder / "genes" / f"seed{seed}"}
            runs |= {name: files.folder / "models" / name for name in ("ridge", "attention")}
            medians = {
                name: headline(run, split).loc[MODEL, "median_r"]
                for name, run in runs.items()
                if run.is_dir()
            }
            rows.append({"cohort": files.name, "folds by": split, **medians})
    return pd.DataFrame(rows)


def read_out_of_fold(run: Path, split: str) -> anndata.AnnData:
    """Read the out-of-fold predictions of a run."""
    return anndata.read_h5ad(split_folder(run, split) / "out_of_fold.h5ad")


def signatures(files: CohortFiles, seed: int, split: str) -> pd.DataFrame:
    """Return r of each shipped signature, through predicted genes and predicted directly.

    Both are compared with the same measured score. The folds of both runs are the same, since they
    come from the same patients and seed.
    """
    direct = read_out_of_fold(files.folder / "signatures", split)
    genes = read_out_of_fold(files.folder / "genes" / f"seed{seed}", split)[direct.obs_names]
    fold_of = direct.obs["fold"].to_numpy()
    if (genes.obs["fold"].to_numpy() != fold_of).any():
        raise ValueError("the runs of genes and of signatures have other folds")
    through = score_signatures(
        np.asarray(genes.X, np.float64), list(genes.var_names), load_gene_sets(), groups=fold_of
    )
    names = [name for name in through.names if name in set(direct.var_names)]
    truth = np.asarray(direct[:, names].layers["truth"], np.float64)
    predicted = {
        "directly": np.asarray(direct[:, names].X, np.float64),
        "through genes": through.values[:, [through.names.index(name) for name in names]],
    }
    return pd.DataFrame(
        {"signature": names}
        | {way: combined_r(truth, values, fold_of).r for way, values in predicted.items()}
    ).assign(cohort=files.name, split=split)


def panimmune(files: CohortFiles, split: str) -> pd.DataFrame:
    """Return r of each published immune score, predicted directly."""
    table = pd.read_csv(split_folder(files.folder / "panimmune", split) / "genes.csv")
    return table[["gene", "r_model", "low_model", "high_model", "n"]].assign(
        cohort=files.name, split=split
    )


def transfers(cohorts: Sequence[CohortFiles]) -> pd.DataFrame:
    """Return how well models of some cohorts predict the patients of another one."""
    rows = []
    for target in cohorts:
        others = [files for files in cohorts if files is not target]
        for size in range(1, len(others) + 1):
            for chosen in combinations(others, size):
                rows.append(transfer(target, chosen))
    return pd.DataFrame(rows)


def transfer(target: CohortFiles, others: Sequence[CohortFiles]) -> dict[str, Any]:
    """Return r over genes and signatures, coverage and flagged patients of a transfer."""
    names = "+".join(files.name.lower() for files in others)
    folder = target.out / "transfer" / f"{names}-to-{target.name.lower()}"
    predicted = anndata.read_h5ad(folder / "predictions" / "predicted.h5ad")
    measured = anndata.read_h5ad(target.cohort)
    patients = [name for name in predicted.obs_names if name in set(measured.obs_names)]
    genes = [name for name in predicted.var_names if name in set(measured.var_names)]
    predicted, measured = predicted[patients, genes], measured[patients, genes]
    values = np.asarray(measured.X, np.float64)
    # z-scores of two tables do not compare, so that ranks within the target cohort are predicted.
    truth = RankNormaliser(values)(values).astype(np.float64)
    expression = np.asarray(predicted.X, np.float64)
    own = _own_scale(folder / "model", target, patients, genes)
    inside = (truth >= predicted.layers["low"]) & (truth <= predicted.layers["high"])
    sets = load_gene_sets()
    scored = {
        name: score_signatures(part, genes, sets)
        for name, part in (("truth", truth), ("training scale", expression), ("own scale", own))
    }
    return {
        "trained on": names.upper(),
        "target": target.name,
        "patients": len(patients),
        "genes": len(genes),
        "r": float(np.nanmedian(pearson(truth, expression))),
        "r own scale": float(np.nanmedian(pearson(truth, own))),
        "signatures": _median_r(scored["truth"].values, scored["training scale"].values),
        "signatures own scale": _median_r(scored["truth"].values, scored["own scale"].values),
        "coverage": float(np.nanmean(np.where(np.isfinite(truth), inside, np.nan))),
    } | _flagged(predicted.obs)


def _median_r(truth: NDArray[np.float64], values: NDArray[np.float64]) -> float:
    return float(np.nanmedian(pearson(truth, values)))


def _flagged(obs: pd.DataFrame) -> dict[str, Any]:
    """Return the share of patients that the model calls out of distribution."""
    return {"flagged": float((obs["ood_state"].astype(str) == "out").mean())}


def _own_scale(
    model: Path, target: CohortFiles, patients: Sequence[str], genes: Sequence[str]
) -> NDArray[np.float64]:
    """Predict with features that are ranked among the patients of the target cohort."""
    slides = pd.read_csv(target.features / "slides.csv", dtype=str)
    means = {
        slide: mean_features(read_features(target.features / f"{slide}.h5")[0])
        for slide in slides["slide_id"]
    }
    features = np.stack(
        [
            mean_features(np.stack([means[slide] for slide in own["slide_id"]]))
            for own in (slides[slides["patient_id"] == patient] for patient in patients)
        ]
    )
    total = np.zeros((len(patients), len(genes)))
    counts = np.zeros(len(genes))
    for fold in load_fold_models(model):
        if not isinstance(fold.model, ComponentRegression):
            raise TypeError("the own scale of a cohort is for regressions on mean features")
        column_of = {gene: column for column, gene in enumerate(fold.info.panel.genes)}
        have = np.array([gene in column_of for gene in genes])
        columns = [column_of[gene] for gene in genes if gene in column_of]
        predicted = fold.info.scaler.unscale(fold.model.predict_by_own_scale(features))
        total[:, have] += predicted[:, columns]
        counts += have
    return np.asarray(total / np.where(counts > 0, counts, np.nan))


def associations(cohorts: Sequence[CohortFiles], follow: Sequence[str]) -> pd.DataFrame:
    """Return the association of predicted and of measured signature scores with covariates."""
    tables = [
        pd.read_csv(files.folder / "association" / "covariates.csv").assign(cohort=files.name)
        for files in cohorts
    ]
    table = pd.concat(tables, ignore_index=True)
    return table[table["covariate"].isin(follow) & (table["kind"] == "signature")]


def survival(cohorts: Sequence[CohortFiles]) -> pd.DataFrame:
    """Return C of each model, p of what expression adds, and C with permuted expression."""
    rows = []
    for files in cohorts:
        for endpoint in ENDPOINTS:
            folder = files.folder / "survival" / endpoint
            tests = pd.read_csv(folder / "likelihood_ratio.csv").set_index("added")
            risk = pd.read_csv(folder / "risk.csv")
            permuted = files.folder / "survival" / f"{endpoint}_permuted.json"
            null: dict[str, Any] = {"permutations": 0, "mean_c": {}}
            if permuted.is_file():
                null = json.loads(permuted.read_text(encoding="utf-8"))["summary"]
            table = pd.read_csv(folder / "concordance.csv").assign(
                cohort=files.name,
                endpoint=endpoint,
                patients=risk["patient_id"].nunique(),
                events=int(risk.drop_duplicates("patient_id")["event"].sum()),
                adds_p=float(tests.loc["predicted risk score", "p"]),
            )
            rows.append(
                table.assign(
                    permuted=table["model"].map(null["mean_c"]), permutations=null["permutations"]
                )
            )
    return pd.concat(rows, ignore_index=True)


def uncertainty(cohorts: Sequence[CohortFiles], seed: int) -> pd.DataFrame:
    """Return coverage by gene, site and state, and how errors follow the unusual features."""
    return pd.concat(
        [
            pd.read_csv(files.folder / "genes" / f"seed{seed}" / "uncertainty.csv").assign(
                cohort=files.name
            )
            for files in cohorts
        ],
        ignore_index=True,
    )
