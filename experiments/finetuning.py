"""``tcgn-mil finetune``: attention pooling over all tiles of a patient's slides, trained to bulk expression by fold.

One model a fold; each patient is predicted by the model that saw it in neither training nor validation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from tcgn_mil.checkpoints import SlideModelInfo, save_slide_model
from tcgn_mil.config import as_plain
from tcgn_mil.contracts import Fold, GenePanel, TargetScaler
from tcgn_mil.data.bags import BagBatch, BagDataset, feature_statistics
from tcgn_mil.data.splits import make_folds, read_folds, write_folds
from tcgn_mil.data.targets import RankNormaliser, expressed_genes
from tcgn_mil.data.units import ExpressionUnit
from tcgn_mil.errors import InputError
from tcgn_mil.experiments import figures
from tcgn_mil.experiments.cohort_data import CohortData, load_cohort, patient_descriptors, rows_of
from tcgn_mil.experiments.run_folder import begin_run, finish_run, finished_summary
from tcgn_mil.experiments.slide_evaluation import MODEL, headline_table, out_of_fold_table, patient_baselines
from tcgn_mil.experiments.tables import read_gene_list, write_csv, write_predictions
from tcgn_mil.inference import predict_bag
from tcgn_mil.losses import expression_loss
from tcgn_mil.models.mil import MilConfig, SlideRegressor
from tcgn_mil.training import TrainingConfig, fit

KIND = "finetune"
_DRAWN_GENES = 8


@dataclass(frozen=True)
class FinetuneConfig:
    """Everything that decides the result of a run.

    Attributes
    ----------
    cohort, features
        cohort.h5ad of ``tcgn-mil bulk`` and the folder of ``tcgn-mil encode``.
    folds
        CSV with the columns fold, part, id; made from `seed` where it is not given.
    n_folds
        Folds to make, at least 3.
    group_by
        ``patient``, or ``site`` to keep each TCGA tissue source site in one fold.
    genes
        File with one gene a line; otherwise the genes expressed in at least `min_expressed` of training patients.
    min_expressed
        Share of training patients, 0 to 1.
    max_tiles
        Tiles sampled per patient and epoch in training; prediction uses all.
    seed
        Of folds, initialisation and tile samples.
    """

    cohort: str
    features: str
    folds: str | None = None
    n_folds: int = 5
    group_by: Literal["patient", "site"] = "patient"
    genes: str | None = None
    min_expressed: float = 0.5
    max_tiles: int = 2000
    seed: int = 0
    model: MilConfig = field(default_factory=MilConfig)
    training: TrainingConfig = field(
        default_factory=lambda: TrainingConfig(epochs=60, batch_size=4, lr=1e-3, patience=15)
    )


@dataclass(frozen=True)
class FoldResult:
    """What one fold gives: its test patients, panel, predictions by predictor and truth, (M_test, G_fold)."""

    fold: Fold
    panel: GenePanel
    truth: NDArray[np.float32]
    predictions: dict[str, NDArray[np.float32]]
    history: list[dict[str, float]]


def run(config: FinetuneConfig, out_dir: str | Path) -> dict[str, Any]:
    """Train one model a fold and evaluate out of fold; returns the summary that is also written.

    Writes ``fold<k>.safetensors``, ``folds.csv``, ``genes.csv``, ``headline.csv``, ``out_of_fold.h5ad``,
    ``dropped.csv`` and figures. A finished run is not run again; an unfinished one resumes.
    """
    out_dir = begin_run(out_dir, KIND, config)
    if (done := finished_summary(out_dir)) is not None:
        return done
    data = load_cohort(config.cohort, config.features)
    folds = _folds(config, data)
    write_folds(out_dir / "folds.csv", folds)
    write_csv(out_dir / "dropped.csv", data.dropped)
    descriptors = patient_descriptors(data)
    results = [_run_fold(config, data, descriptors, fold, out_dir) for fold in folds]
    return _evaluate(config, data, results, out_dir)


def _folds(config: FinetuneConfig, data: CohortData) -> list[Fold]:
    if config.folds is not None:
        return read_folds(config.folds, known=data.patients)
    if config.group_by == "site" and not data.sites:
        raise InputError("has no column obs['site']", path=config.cohort, fix="use group_by=patient")
    groups = data.sites if config.group_by == "site" else data.donors
    return make_folds(data.patients, groups, n_folds=config.n_folds, seed=config.seed)


def leaking_patients(fold: Fold, donors: Mapping[str, str]) -> list[str]:
    """Test patients whose donor also trains or validates: sections of one donor, where folds came from a file."""
    used = {donors[name] for name in (*fold.train, *fold.val)}
    return [name for name in fold.test if donors[name] in used]


@dataclass(frozen=True)
class FoldTargets:
    """Panel, scaler and (M, G_fold) values in the training unit for all patients, fitted on training patients."""

    panel: GenePanel
    scaler: TargetScaler
    values: NDArray[np.float32]


def fold_targets(config: FinetuneConfig, data: CohortData, fold: Fold) -> FoldTargets:
    """Choose genes and fit the target transform on the fold's training patients alone."""
    train = rows_of(data, fold.train)
    if config.genes is not None:
        panel = read_gene_list(config.genes)
        columns = panel.index_in(data.genes, path=config.cohort)
    else:
        columns = expressed_genes(
            data.values[train],
            min_fraction=config.min_expressed,
            floor=ExpressionUnit.floor_of(data.unit.training_unit),
        )
        if not columns.size:
            raise InputError(
                f"no gene is expressed in {config.min_expressed:.0%} of the training patients of fold {fold.index}",
                path=config.cohort,
                fix="lower min_expressed, or check the declared unit",
            )
        panel = GenePanel(tuple(data.genes[i] for i in columns))
    values = data.values[:, columns]
    if data.unit.needs_ranks:
        values = RankNormaliser(values[train])(values)
    return FoldTargets(panel, TargetScaler.fit(values[train], transform=data.unit.training_unit), values)


def _run_fold(
    config: FinetuneConfig,
    data: CohortData,
    descriptors: Mapping[str, NDArray[np.float32]],
    fold: Fold,
    out_dir: Path,
) -> FoldResult:
    """Train, save and test the model of one fold."""
    targets = fold_targets(config, data, fold)
    scaled = targets.scaler.scale(targets.values)
    training = dataclasses.replace(config.training, seed=config.seed * 1000 + fold.index)
    bags = {
        part: BagDataset(names, data.slides, scaled[rows_of(data, names)], seed=training.seed)
        for part, names in fold.parts().items()
    }
    torch.manual_seed(training.seed)
    model = SlideRegressor(data.width, len(targets.panel), config.model)
    model.standardise(*feature_statistics(bags["train"], max_tiles=config.max_tiles))

    def step(model: Any, batch: BagBatch) -> torch.Tensor:
        return expression_loss(model(batch.features, batch.mask).expression, batch.targets, training.loss)

    history = fit(
        model, step=step, config=training, description=f"fold {fold.index}",
        epoch_batches=lambda epoch: bags["train"].epoch(
            epoch, batch_size=training.batch_size, max_tiles=config.max_tiles
        ),
        validate=lambda model: -float(np.nanmean(np.square(_predict(model, bags["val"]) - bags["val"].targets))),
        state_path=out_dir / "state" / f"fold{fold.index}.safetensors",
    )  # fmt: skip
    info = SlideModelInfo(
        config=config.model, in_features=data.width, panel=targets.panel, scaler=targets.scaler,
        unit=data.unit.training_unit, encoder=data.encoder, patch=data.patch, stain=data.stain, fold=fold,
        provenance={"config": as_plain(config)},
    )  # fmt: skip
    save_slide_model(out_dir / f"fold{fold.index}.safetensors", model, info)
    predictions = {MODEL: targets.scaler.unscale(_predict(model, bags["test"]))}
    predictions |= _baselines(data, descriptors, fold, targets.values)
    return FoldResult(fold, targets.panel, targets.values[rows_of(data, fold.test)], predictions, history.epochs)


def _predict(model: SlideRegressor, bags: BagDataset) -> NDArray[np.float32]:
    """(M, G) standardised, from all tiles of each patient."""
    return np.stack([predict_bag(model, bags.bag(index)).expression for index in range(len(bags))])


def _baselines(
    data: CohortData, descriptors: Mapping[str, NDArray[np.float32]], fold: Fold, values: NDArray[np.float32]
) -> dict[str, NDArray[np.float32]]:
    """Training mean, and ridge on each patient descriptor there is, for the fold's test patients."""
    known = rows_of(data, [*fold.train, *fold.val])  # what the model saw, early stopping included
    test = rows_of(data, fold.test)
    return patient_baselines(
        {name: rows[known] for name, rows in descriptors.items()},
        values[known],
        {name: rows[test] for name, rows in descriptors.items()},
    )


def _evaluate(config: FinetuneConfig, data: CohortData, results: list[FoldResult], out_dir: Path) -> dict[str, Any]:
    """Put the folds together, write tables, predictions and figures."""
    panel = GenePanel(tuple(dict.fromkeys(gene for result in results for gene in result.panel.genes)))
    tested = [name for result in results for name in result.fold.test]
    fold_of = np.concatenate([np.full(len(result.fold.test), result.fold.index) for result in results])
    truth = _over_panel(panel, results, [result.truth for result in results])
    predictions = {
        name: _over_panel(panel, results, [result.predictions[name] for result in results])
        for name in results[0].predictions
    }
    table = out_of_fold_table(panel.genes, truth, predictions, fold_of)
    headline = headline_table(table)
    write_csv(out_dir / "genes.csv", table)
    write_csv(out_dir / "headline.csv", headline)
    obs = pd.DataFrame(
        {"fold": fold_of, "n_slides": [len(data.slides[name]) for name in tested]},
        index=pd.Index(tested, name="patient_id"),
    )
    write_predictions(
        out_dir / "out_of_fold.h5ad", predictions[MODEL], obs, panel, unit=data.unit.training_unit,
        layers={"truth": truth}, var=table.set_index("gene"), config=as_plain(config),
    )  # fmt: skip
    _draw(data, results, table, panel, truth, predictions, out_dir)
    return finish_run(
        out_dir,
        {
            "patients": len(tested), "genes": len(panel), "folds": len(results), "unit": data.unit.training_unit,
            "encoder": data.encoder, "dropped": len(data.dropped),
            "patient_leakage": [name for result in results for name in leaking_patients(result.fold, data.donors)],
            "headline": [
                {key: None if pd.isna(value) else value for key, value in row.items()}
                for row in headline.to_dict("records")
            ],
        },
    )  # fmt: skip


def _over_panel(
    panel: GenePanel, results: Sequence[FoldResult], values: Sequence[NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Rows of all folds over the union of their genes, NaN where a fold left a gene out."""
    blocks = []
    for result, block in zip(results, values, strict=True):
        full = np.full((len(block), len(panel)), np.nan, dtype=np.float32)
        full[:, result.panel.index_in(panel.genes)] = block
        blocks.append(full)
    return np.concatenate(blocks)


def _draw(
    data: CohortData, results: Sequence[FoldResult], table: pd.DataFrame, panel: GenePanel,
    truth: NDArray[np.float32], predictions: dict[str, NDArray[np.float32]], out_dir: Path,
) -> None:  # fmt: skip
    """Curves, the distribution over genes beside the baselines, and scatter of the best genes."""
    figures.training_curves(
        {f"fold {result.fold.index}": result.history for result in results}, out_dir / "curves.png",
        score="score (minus mean squared error)",
    )  # fmt: skip
    r_name = "r" if table[f"r_{MODEL}"].notna().any() else "pooled_r"  # small cohorts have no fold with n > 3
    figures.gene_distributions(
        {name: table[f"{r_name}_{name}"].to_numpy() for name in predictions if table[f"{r_name}_{name}"].notna().any()},
        out_dir / "genes.png",
        xlabel="r within test folds, combined" if r_name == "r" else "r pooled over folds (biased)",
    )
    best = table[f"{r_name}_{MODEL}"].fillna(-np.inf).sort_values(ascending=False, kind="stable").index[:_DRAWN_GENES]
    figures.gene_scatter(
        table.loc[best, "gene"].tolist(), truth[:, best], predictions[MODEL][:, best], out_dir / "scatter.png",
        unit=data.unit.training_unit,
        titles=[
            f"{table['gene'][i]}\nr by fold {table[f'r_{MODEL}'][i]:.2f}, pooled {table[f'pooled_r_{MODEL}'][i]:.2f}"
            for i in best
        ],
    )  # fmt: skip
