"""``tcgn-mil predict``: bulk expression of a cohort from stored features, with maps of where it comes from.

A patient that the models were cross-validated on is predicted by the one model that did not see it (sd is NaN); a new
patient by all of them, with the sd over models (PROTOCOL, Uncertainty). A patient that was only trained or validated
on, as happens with folds from a file, is predicted by all models too and labelled ``trained on``.
"""

from __future__ import annotations

import dataclasses
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from tcgn_mil.artefacts import atomic_path
from tcgn_mil.checkpoints import check_patch
from tcgn_mil.config import as_plain
from tcgn_mil.contracts import Failure, GenePanel, preview, stain_identity
from tcgn_mil.data.bags import read_bag
from tcgn_mil.data.feature_files import LEVEL0, FeatureInfo, find_features, read_feature_info
from tcgn_mil.data.gene_sets import CoveredSets, GeneSet, covered_sets, mean_weights, read_gmt
from tcgn_mil.data.units import ExpressionUnit
from tcgn_mil.errors import InputError
from tcgn_mil.experiments.fold_models import (
    FoldModel,
    load_fold_models,
    models_for,
    relation,
    training_patients,
    union_panel,
)
from tcgn_mil.experiments.run_folder import begin_run, finish_run, finished_summary, read_run
from tcgn_mil.experiments.slide_familiarity import read_reference
from tcgn_mil.experiments.slide_maps import check_names, write_maps
from tcgn_mil.experiments.tables import read_gene_table, write_csv, write_predictions
from tcgn_mil.failures import write_failures

KIND = "predict"
TABLE_FORMATS = ("csv", "parquet")
_DEFAULT_MAPS = 4


@dataclass(frozen=True)
class PredictConfig:
    """What to predict with and on.

    Attributes
    ----------
    model
        Folder of ``tcgn-mil finetune``.
    features
        Folder of ``tcgn-mil encode``.
    thumbnails
        Folder of ``tcgn-mil tile``, for the pictures under the maps.
    map_genes
        Genes to draw; the best predicted ones in cross-validation if empty.
    maps
        Whether to draw maps.
    map_signatures
        GMT file of gene sets to draw: means over their genes' standardised tile scores.
    table_formats
        Of the table beside predicted.h5ad: ``csv``, ``parquet`` or both.
    """

    model: str
    features: str
    thumbnails: str | None = None
    map_genes: tuple[str, ...] = ()
    maps: bool = True
    map_signatures: str | None = None
    table_formats: tuple[str, ...] = ("csv",)

    def __post_init__(self) -> None:
        if unknown := [name for name in self.table_formats if name not in TABLE_FORMATS]:
            raise InputError(f"unknown table format {preview(unknown)}", fix=f"choose of {', '.join(TABLE_FORMATS)}")


@dataclass(frozen=True)
class PatientPrediction:
    """One patient over the union of the folds' genes.

    Attributes
    ----------
    mean, sd
        (G,) in the training unit; NaN for a gene that no usable model has; sd is NaN with one model.
    models
        Folds used.
    infos
        The patient's slides.
    attention
        (N,) mean over heads and models, sums to one over the patient's tiles.
    tile_scores
        (N, mapped genes) in the standardised target space.
    signature_scores
        (N, mapped signatures), means over their genes.
    coords, slide_index
        (N, 2) and (N,) of the tiles.
    mean_features
        (D,) mean over tiles, then over slides.
    """

    mean: NDArray[np.float32]
    sd: NDArray[np.float32]
    models: tuple[int, ...]
    infos: tuple[FeatureInfo, ...]
    attention: NDArray[np.float32]
    tile_scores: NDArray[np.float32]
    signature_scores: NDArray[np.float32]
    coords: NDArray[np.int64]
    slide_index: NDArray[np.int64]
    mean_features: NDArray[np.float32]


def run(
    config: PredictConfig, out_dir: str | Path, *, unmade: Sequence[Failure] = ()
) -> tuple[dict[str, Any], list[Failure]]:
    """Predict every patient with features; returns the summary and the slides that failed, those `unmade` before too.

    Writes ``predicted.h5ad`` (patients x genes in the training unit, layers sd, low and high, obs ood_score),
    ``predicted.csv`` (or ``.parquet``), ``failures.csv`` and the maps of ``slide_maps``. Runs again from the start: it
    takes seconds a patient.
    """
    read_run(config.model, kind="finetune")
    models = load_fold_models(config.model)
    panel = union_panel(models)
    mapped = _mapped_genes(config, panel)
    signatures = _mapped_signatures(config, mapped, models)
    out_dir = begin_run(out_dir, KIND, config)
    patients, failures = _group_slides(find_features(config.features), models, training_patients(config.model))
    failures = [*unmade, *failures]
    rows: dict[str, PatientPrediction] = {}
    for patient, paths in tqdm(patients.items(), desc="predict", unit="patient"):
        try:
            rows[patient] = predict_patient(patient, paths, models, panel, mapped, signatures.kept)
        except InputError as error:
            failures += [Failure(path.stem, "predict", error.reason, error.fix or "") for path in paths]
            continue
        if config.maps:
            names = tuple(one.name for one in signatures.kept)
            try:
                write_maps(_on_their_slides(rows[patient]), mapped, names, config.thumbnails, out_dir / "maps")
            except (InputError, OSError) as error:  # a thumbnail, say; the prediction stands
                reason = f"predicted, but no map: {error}"
                failures += [Failure(path.stem, "map", reason, "give the folder of tcgn-mil tile") for path in paths]
    write_failures(out_dir, failures)
    if config.maps and (unplaced := _unplaced(rows)):
        reason = "their feature files do not say where tiles lie on the slide"
        tqdm.write(f"no maps of {preview(unplaced)}: {reason}", file=sys.stderr)
    if not rows:
        raise InputError(f"no slide could be predicted: {failures[0].reason}", fix=failures[0].likely_fix)
    return _write(config, models, panel, rows, signatures, out_dir), failures


def _unplaced(rows: Mapping[str, PatientPrediction]) -> list[str]:
    return [info.slide_id for row in rows.values() for info in row.infos if info.positions != LEVEL0]


def _on_their_slides(prediction: PatientPrediction) -> PatientPrediction:
    """The same, with tiles whose place on the slide is not known on none (-1), so that no map shows them."""
    unplaced = [index for index, info in enumerate(prediction.infos) if info.positions != LEVEL0]
    slide_index = np.where(np.isin(prediction.slide_index, unplaced), -1, prediction.slide_index)
    return dataclasses.replace(prediction, slide_index=slide_index)


def predict_patient(
    patient: str, paths: Sequence[Path], models: Sequence[FoldModel], panel: GenePanel, mapped: Sequence[str],
    signatures: Sequence[GeneSet] = (),
) -> PatientPrediction:  # fmt: skip
    """Predict one patient from all tiles of its slides as one bag."""
    bag = read_bag(paths)
    usable = models_for(patient, models)
    expression = np.full((len(usable), len(panel)), np.nan, dtype=np.float32)
    scores = np.full((len(usable), len(bag.coords), len(mapped)), np.nan, dtype=np.float32)
    signature_scores = np.zeros((len(bag.coords), len(signatures)), dtype=np.float32)
    attention = np.zeros(len(bag.coords), dtype=np.float32)
    set_weights = mean_weights(signatures, [fold.info.panel for fold in usable])
    for row, (fold, sets) in enumerate(zip(usable, set_weights, strict=True)):
        own = fold.info.panel
        column_of = {gene: column for column, gene in enumerate(own.genes)}
        drawn = [column for column, gene in enumerate(mapped) if gene in column_of]
        wanted = [*(mapped[column] for column in drawn), *sets.genes]
        found = fold.predict(bag, [column_of[gene] for gene in wanted])
        expression[row, own.index_in(panel.genes)] = fold.info.scaler.unscale(found.expression)
        scores[row][:, drawn] = found.tile_expression[:, : len(drawn)]
        signature_scores += found.tile_expression[:, len(drawn) :] @ sets.weights
        attention += found.attention / len(usable)
    return PatientPrediction(
        mean=_over_models(np.nanmean, expression),
        sd=_over_models(np.nanstd, expression) if len(usable) > 1 else np.full(len(panel), np.nan, np.float32),
        models=tuple(fold.info.fold.index for fold in usable),
        infos=tuple(read_feature_info(path) for path in paths),
        attention=attention,
        tile_scores=_over_models(np.nanmean, scores),
        signature_scores=signature_scores,
        coords=bag.coords,
        slide_index=bag.slide_index,
        mean_features=np.mean(
            [bag.features[bag.slide_index == index].mean(axis=0) for index in np.unique(bag.slide_index)], axis=0
        ),
    )


def _over_models(reduce: Any, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean or sd over the models that have a gene, NaN where none has."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # all-NaN genes are NaN on purpose
        return np.asarray(reduce(values, axis=0), dtype=np.float32)


def _mapped_genes(config: PredictConfig, panel: GenePanel) -> tuple[str, ...]:
    """Genes to draw: those asked for, else the best of the cross-validation.

    Raises
    ------
    InputError
        If the model lacks a gene asked for.
    """
    if config.thumbnails is not None and not Path(config.thumbnails).is_dir():
        raise InputError("no such folder of thumbnails", path=config.thumbnails, fix="give the folder of tcgn-mil tile")
    if config.map_genes:
        GenePanel(config.map_genes).index_in(panel.genes, path=config.model)
    if not config.maps or config.map_genes:
        return config.map_genes if config.maps else ()
    table = read_gene_table(Path(config.model) / "genes.csv")
    score = table["r_model"] if table["r_model"].notna().any() else table["pooled_r_model"]
    return tuple(score.sort_values(ascending=False, kind="stable").index[:_DEFAULT_MAPS])


def _mapped_signatures(config: PredictConfig, mapped: Sequence[str], models: Sequence[FoldModel]) -> CoveredSets:
    """Gene sets to draw, and those of which a model has less than half.

    Raises
    ------
    InputError
        If the file is no GMT file, or no set can be drawn.
    """
    if config.map_signatures is None or not config.maps:
        return CoveredSets((), {})
    found = covered_sets(read_gmt(config.map_signatures).values(), [fold.info.panel for fold in models])
    if not found.kept:
        name, reason = next(iter(found.left_out.items()))
        raise InputError(
            f"no gene set can be drawn; of {name}, {reason}",
            path=config.map_signatures,
            fix="give sets of which the models predict at least half the genes, named as in genes.csv",
        )
    check_names(tuple(mapped), tuple(one.name for one in found.kept), path=config.map_signatures)
    return found


def _group_slides(
    paths: Mapping[str, Path], models: Sequence[FoldModel], known: Mapping[str, str] = MappingProxyType({})
) -> tuple[dict[str, list[Path]], list[Failure]]:
    """Patient -> feature files; files of another encoder, tile size or stain, or unreadable, are failures."""
    expected = models[0].info
    patients: dict[str, list[Path]] = {}
    failures: list[Failure] = []
    for slide, path in paths.items():
        try:
            info = read_feature_info(path)
            if (info.encoder, info.width) != (expected.encoder, expected.in_features):
                raise InputError(
                    f"features of {info.encoder} ({info.width} wide), the model reads those of {expected.encoder}"
                    f" ({expected.in_features} wide)",
                    fix="encode the slides with the encoder that the model was trained on",
                )
            check_patch(expected.patch, info.patch)
            if stain_identity(info.stain) != expected.stain:
                raise InputError(
                    f"stain normalisation {stain_identity(info.stain)}, the model reads features of {expected.stain}",
                    fix="tile and encode the slides with the --stain and --stain-reference of the training cohort",
                )
        except InputError as error:
            failures.append(Failure(slide, "predict", error.reason, error.fix or ""))
            continue
        patients.setdefault(known.get(slide, info.patient_id), []).append(path)
    return dict(sorted(patients.items())), failures


def _write(
    config: PredictConfig, models: Sequence[FoldModel], panel: GenePanel, rows: Mapping[str, PatientPrediction],
    signatures: CoveredSets, out_dir: Path,
) -> dict[str, Any]:  # fmt: skip
    """predicted.h5ad and its tables, never below the unit's lowest value."""
    info = models[0].info
    table = read_gene_table(Path(config.model) / "genes.csv").loc[list(panel.genes)]
    mean = np.stack([row.mean for row in rows.values()])
    half = table["interval_half_width"].to_numpy(np.float32)
    layers = {"sd": np.stack([row.sd for row in rows.values()]), "low": mean - half, "high": mean + half}
    floor = ExpressionUnit.floor_of(info.unit)
    if floor is not None:
        mean = np.maximum(mean, floor)
        layers |= {name: np.maximum(layers[name], floor) for name in ("low", "high")}
    obs = _patient_table(config, models, rows)
    coverage = (finished_summary(config.model) or {}).get("coverage")
    write_predictions(
        out_dir / "predicted.h5ad", mean, obs, panel, unit=info.unit, var=table, layers=layers,
        config=as_plain(config), interval_coverage=coverage,
    )  # fmt: skip
    _write_tables(out_dir, pd.DataFrame(mean, index=obs.index, columns=list(panel.genes)), config.table_formats)
    return finish_run(
        out_dir,
        {
            "patients": len(rows), "slides": int(obs["n_slides"].sum()), "tiles": int(obs["n_tiles"].sum()),
            "genes": len(panel), "unit": info.unit,
            "relation": obs["relation"].value_counts().to_dict(),
            "out_of_distribution": obs.index[obs["out_of_distribution"]].tolist(), "interval_coverage": coverage,
            "slides_without_positions": _unplaced(rows),
            "signatures": [one.name for one in signatures.kept], "signatures_left_out": signatures.left_out,
        },
    )  # fmt: skip


def _patient_table(
    config: PredictConfig, models: Sequence[FoldModel], rows: Mapping[str, PatientPrediction]
) -> pd.DataFrame:
    """What is known of each patient, with how far its slides lie from those of training (above 1: beyond them)."""
    score = read_reference(config.model).score(np.stack([row.mean_features for row in rows.values()]))
    return pd.DataFrame(
        {
            "n_slides": [len(row.infos) for row in rows.values()],
            "n_tiles": [len(row.coords) for row in rows.values()],
            "n_models": [len(row.models) for row in rows.values()],
            "relation": [relation(patient, models) for patient in rows],
            "ood_score": score,
            "out_of_distribution": score > 1,
        },
        index=pd.Index(list(rows), name="patient_id"),
    )


def _write_tables(out_dir: Path, table: pd.DataFrame, formats: Sequence[str]) -> None:
    """predicted.csv and predicted.parquet, as asked for."""
    if "csv" in formats:
        write_csv(out_dir / "predicted.csv", table, index=True)
    if "parquet" in formats:
        with atomic_path(out_dir / "predicted.parquet") as temporary:
            table.to_parquet(temporary)
