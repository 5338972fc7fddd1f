"""``tcgn-mil pretrain``: fit the spot encoder on sections, choose the epoch on validation, test once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from tcgn_mil.baselines import colour_statistics
from tcgn_mil.checkpoints import EncoderInfo, check_genes, save_encoder
from tcgn_mil.config import as_plain
from tcgn_mil.contracts import GenePanel, TargetScaler
from tcgn_mil.data.spot_files import find_sections
from tcgn_mil.data.spots import Patches, SectionRows, SpotBatches, load_patches
from tcgn_mil.data.targets import Normalisation, choose_spot_panel
from tcgn_mil.data.transforms import AugmentConfig, to_network_input
from tcgn_mil.experiments import figures
from tcgn_mil.experiments.run_folder import begin_run, finish_run, finished_summary
from tcgn_mil.experiments.spot_data import (
    Section,
    SectionSplit,
    load_section,
    one_patch_size,
    section_targets,
    split_sections,
)
from tcgn_mil.experiments.spot_evaluation import MODEL, SpotTargets, baseline_predictions, section_results
from tcgn_mil.experiments.tables import read_gene_list, write_csv, write_predictions
from tcgn_mil.inference import predict_spots
from tcgn_mil.losses import expression_loss
from tcgn_mil.metrics import DETECTION_FLOOR, depth_adjusted_pearson
from tcgn_mil.models import create_model, load_trunk
from tcgn_mil.training import TrainingConfig, fit

KIND = "pretrain"
_MAPPED_GENES = 4


@dataclass(frozen=True)
class PanelConfig:
    """Genes to predict: a file with one a line, or the most variable of those seen often enough in training.

    Attributes
    ----------
    file
        Gene list, in the order of the output.
    min_detection
        Least share of training spots with a count, 0 to 1.
    max_genes
        At most so many.
    """

    file: str | None = None
    min_detection: float = 0.1
    max_genes: int = 1000


@dataclass(frozen=True)
class PretrainConfig:
    """Everything that decides the result of a run.

    Attributes
    ----------
    spots
        Folder of ``tcgn-mil spots``.
    val_sections, test_sections
        Section ids; all others train. Validation is chosen where it is not given (see :func:`split_sections`).
    model
        ``tcgn_ti``, ``tcgn_xs`` or ``tcgn_tiny``.
    checkpoint
        Weights to start from, published or own layout, for the same genes.
    trunk
        CMT ImageNet weights to start the trunk from, instead of `checkpoint`.
    normalisation
        ``library``: counts scaled to 1e4 over all genes; ``published``: over the panel, as the TCGN paper did.
    min_umi
        Spots with fewer counts are dropped and listed.
    """

    spots: str = "spots"
    val_sections: tuple[str, ...] = ()
    test_sections: tuple[str, ...] = ()
    model: str = "tcgn_ti"
    checkpoint: str | None = None
    trunk: str | None = None
    normalisation: Normalisation = "library"
    min_umi: int = 100
    panel: PanelConfig = field(default_factory=PanelConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    training: TrainingConfig = field(default_factory=lambda: TrainingConfig(epochs=30, batch_size=32, lr=5e-4))


@dataclass(frozen=True)
class SpotStudy:
    """Sections with their targets, read once and used throughout a run."""

    config: PretrainConfig
    split: SectionSplit
    sections: Mapping[str, Section]
    panel: GenePanel
    targets: Mapping[str, SpotTargets]
    scaler: TargetScaler

    def stacked(self, names: Sequence[str]) -> SpotTargets:
        """Targets of several sections, one below the other; detection over all their spots."""
        parts = [self.targets[name] for name in names]
        spots = [len(part.log_depth) for part in parts]
        return SpotTargets(
            np.concatenate([part.expression for part in parts]),
            np.concatenate([part.log_depth for part in parts]),
            np.average([part.detection for part in parts], axis=0, weights=spots),
        )

    def patches(self, names: Sequence[str]) -> Patches:
        """(S, px, px, 3) patches of several sections in the order of :meth:`stacked`, on disk where they are many."""
        return load_patches([SectionRows(self.sections[n].spots.patches_path, self.sections[n].rows) for n in names])

    def colour(self, names: Sequence[str]) -> NDArray[np.float32]:
        """(S, 30) colour statistics of several sections in the order of :meth:`stacked`, one section at a time."""
        return np.concatenate([colour_statistics(self.sections[name].patches()) for name in names])


def run(config: PretrainConfig, out_dir: str | Path) -> dict[str, Any]:
    """Train, choose the epoch on validation, evaluate test sections once; returns the summary that is also written.

    Writes ``encoder.safetensors`` (+ .json), ``folds.csv``, ``dropped_spots.csv``, ``results.csv``, and for each
    test section ``genes_<section>.csv``, ``predicted_<section>.h5ad`` and maps. A finished run is not run again; an
    unfinished one resumes.
    """
    out_dir = begin_run(out_dir, KIND, config)
    if (done := finished_summary(out_dir)) is not None:
        return done
    study = read_study(config)
    write_csv(out_dir / "folds.csv", study.split.as_table())
    write_csv(out_dir / "dropped_spots.csv", pd.concat([section.dropped for section in study.sections.values()]))
    patch = one_patch_size(study.sections)
    model, history = _train(study, out_dir)
    info = EncoderInfo(
        model=config.model, panel=study.panel, scaler=study.scaler, patch=patch, normalisation=config.normalisation,
        provenance={"config": as_plain(config), "validation": study.split.validation},
    )  # fmt: skip
    save_encoder(out_dir / "encoder.safetensors", model, info)
    figures.training_curves({config.model: history}, out_dir / "curves.png", score="depth-adjusted r")
    return _evaluate(study, model, out_dir)


def read_study(config: PretrainConfig) -> SpotStudy:
    """Read all sections, choose genes and fit the target scaler on the training sections."""
    paths = find_sections(config.spots)
    sections = {name: load_section(path, config.min_umi) for name, path in paths.items()}
    patient_of = {name: section.spots.patient for name, section in sections.items()}
    split = split_sections(patient_of, config.val_sections, config.test_sections)
    if config.panel.file is not None:
        panel = read_gene_list(config.panel.file)
    else:
        training = [(sections[name].genes, sections[name].counts()) for name in split.train]
        panel = choose_spot_panel(training, min_detection=config.panel.min_detection, max_genes=config.panel.max_genes)
    targets = {name: section_targets(section, panel, config.normalisation) for name, section in sections.items()}
    scope = "panel" if config.normalisation == "published" else "all genes"
    scaler = TargetScaler.fit(
        np.concatenate([targets[name].expression for name in split.train]),
        transform=f"log1p(counts per 1e4 of {scope})",
    )
    return SpotStudy(config, split, sections, panel, targets, scaler)


def _train(study: SpotStudy, out_dir: Path) -> tuple[Any, list[dict[str, float]]]:
    """Fit the encoder; the model returned is that of the best validation epoch."""
    config, split = study.config, study.split
    torch.manual_seed(config.training.seed)
    if config.checkpoint is not None:
        check_genes(config.checkpoint, study.panel)
    model = create_model(config.model, num_classes=len(study.panel), checkpoint=config.checkpoint)
    if config.trunk is not None:
        filled = load_trunk(model, config.trunk).filled
        tqdm.write(f"{len(filled)} of {len(model.state_dict())} tensors filled from {config.trunk}")
    train = study.stacked(split.train)
    batches = SpotBatches(
        study.patches(split.train), study.scaler.scale(train.expression),
        batch_size=config.training.batch_size, seed=config.training.seed, augment=config.augment,
    )  # fmt: skip
    val_patches = {name: study.sections[name].patches() for name in split.val}

    def validation_score(model: Any) -> float:
        """Mean depth-adjusted r over well seen genes, averaged over validation sections."""
        scores = []
        for name, patches in val_patches.items():
            targets = study.targets[name]
            predicted = predict_spots(model, patches, batch_size=config.training.batch_size)
            r = depth_adjusted_pearson(targets.expression, predicted, targets.log_depth)
            scores.append(np.nanmean(np.where(targets.detection >= DETECTION_FLOOR, r, np.nan)))
        return float(np.mean(scores))

    def step(model: Any, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        patches, targets = batch
        return expression_loss(model(to_network_input(patches)), targets, config.training.loss)

    history = fit(
        model, step=step, epoch_batches=batches.epoch, validate=validation_score, config=config.training,
        state_path=out_dir / "state.safetensors", description=config.model,
    )  # fmt: skip
    return model, history.epochs


def _evaluate(study: SpotStudy, model: Any, out_dir: Path) -> dict[str, Any]:
    """Predict test sections (validation ones where there are none) beside the baselines, and write everything."""
    config, split = study.config, study.split
    shown = split.test or split.val
    known = (*split.train, *split.val) if split.test else split.train  # what the model saw, early stopping included
    train, train_colour = study.stacked(known), study.colour(known)
    results = []
    for name in shown:
        section, targets = study.sections[name], study.targets[name]
        patches = section.patches()
        predicted = study.scaler.unscale(predict_spots(model, patches, batch_size=config.training.batch_size))
        predictions = {MODEL: predicted, **baseline_predictions(train, train_colour, targets, study.colour([name]))}
        table, summary = section_results(
            study.panel, targets, predictions, section=name, normalisation=config.normalisation
        )
        write_csv(out_dir / f"genes_{name}.csv", table)
        results.append(summary)
        _write_section(study, name, section, predicted, table, out_dir)
    frame = pd.concat(results)
    write_csv(out_dir / "results.csv", frame)
    rows = [{key: None if pd.isna(value) else value for key, value in row.items()} for row in frame.to_dict("records")]
    return finish_run(
        out_dir,
        {
            "model": config.model,
            "genes": len(study.panel),
            "spots": {part: sum(len(study.sections[n].rows) for n in getattr(split, part))
                      for part in ("train", "val", "test")},
            "validation": split.validation,
            "patient_leakage": list(split.leaking),
            "results_on": "test" if split.test else "validation",
            "results": rows,
        },
    )  # fmt: skip


def _write_section(
    study: SpotStudy, name: str, section: Section, predicted: NDArray[np.float32], table: pd.DataFrame, out_dir: Path
) -> None:
    """Predictions as AnnData that squidpy plots, maps of the best genes, and the distribution over genes."""
    truth = study.targets[name].expression
    write_predictions(
        out_dir / f"predicted_{name}.h5ad", predicted, section.obs(), study.panel, unit=study.scaler.transform,
        layers={"truth": truth}, var=table.set_index("gene"), obsm={"spatial": section.spatial()},
        config=as_plain(study.config),
    )  # fmt: skip
    seen = table["detection"] >= DETECTION_FLOOR
    ranked = table[f"depth_adjusted_r_{MODEL}"].where(seen, -np.inf).fillna(-np.inf)
    best = ranked.sort_values(ascending=False, kind="stable").index[:_MAPPED_GENES]
    figures.spot_maps(
        table.loc[best, "gene"].tolist(), section.spatial(), truth[:, best], predicted[:, best],
        out_dir / f"maps_{name}.png",
        title=f"section {name}: the {len(best)} best predicted genes, {study.scaler.transform}",
    )  # fmt: skip
    figures.gene_distributions(
        {column.removeprefix("depth_adjusted_r_"): table.loc[seen, column].to_numpy()
         for column in table if column.startswith("depth_adjusted_r_") and table[column].notna().any()},
        out_dir / f"genes_{name}.png", xlabel=f"depth-adjusted r, section {name}, genes in >= 20 % of spots",
    )  # fmt: skip
