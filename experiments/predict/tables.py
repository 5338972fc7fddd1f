"""Write the predictions of ``tcgn-mil predict``: predicted.h5ad, tables and the summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from tcgn_mil.config import as_plain
from tcgn_mil.experiments.predict.config import PredictConfig
from tcgn_mil.experiments.predict.long_table import write_long_table
from tcgn_mil.experiments.predict.model import OpenedModel
from tcgn_mil.experiments.runs.run_folder import finish_run
from tcgn_mil.inference.fold_models import NOT_KNOWN, FoldModel, relation_to_models
from tcgn_mil.inference.out_of_distribution import OUT, UNKNOWN, verdict_table
from tcgn_mil.inference.patients import PatientPrediction, slides_without_positions
from tcgn_mil.io.anndata_file import write_anndata
from tcgn_mil.io.atomic import atomic_path, write_csv
from tcgn_mil.io.expression_file import prediction_data
from tcgn_mil.signatures.set_weights import CoveredSets
from tcgn_mil.text import preview
from tcgn_mil.types.units import ExpressionUnit


def write_prediction(
    config: PredictConfig,
    model: OpenedModel,
    predictions: Mapping[str, PatientPrediction],
    signatures: CoveredSets,
    out_dir: Path,
    *,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Write predicted.h5ad, the tables and the summary.

    Parameters
    ----------
    config
        Config of the run.
    model
        The slide model.
    predictions
        Prediction of each patient.
    signatures
        Gene sets that were drawn and left out.
    out_dir
        Folder of the run.
    notes
        Sentences that are added to the summary.

    Returns
    -------
    The summary.
    """
    adata = prediction_table(model, predictions, config)
    write_anndata(out_dir / "predicted.h5ad", adata)
    _write_tables(out_dir, adata.to_df(), config.table_formats)
    write_long_table(out_dir, adata)
    obs = adata.obs
    return finish_run(
        out_dir,
        {
            "patients": len(predictions),
            "slides": int(obs["n_slides"].sum()),
            "tiles": int(obs["n_tiles"].sum()),
            "genes": len(model.panel),
            "unit": model.models[0].info.unit,
            "model": model.folder.origin,
            "relation": obs["relation"].value_counts().to_dict(),
            "out_of_distribution": obs.index[obs["ood_state"] == OUT].tolist(),
            "out_of_distribution_unknown": obs.index[obs["ood_state"] == UNKNOWN].tolist(),
            "interval_coverage": model.coverage,
            "notes": [
                *notes,
                *_other_sizes(model.models, predictions),
                *_unknown_patients(obs["relation"]),
            ],
            "slides_without_positions": slides_without_positions(predictions.values()),
            "signatures": [gene_set.name for gene_set in signatures.kept],
            "signatures_left_out": signatures.left_out,
        },
    )


def prediction_table(
    model: OpenedModel, predictions: Mapping[str, PatientPrediction], config: PredictConfig
) -> AnnData:
    """Return predictions (patients x genes) with their spread, intervals and comparison.

    Parameters
    ----------
    model
        The slide model.
    predictions
        Prediction of each patient.
    config
        Config of the run, which is noted in the result.
    """
    info, panel = model.models[0].info, model.panel
    table = model.genes.loc[list(panel.genes)]
    mean = np.stack([prediction.mean for prediction in predictions.values()])
    half = table["interval_half_width"].to_numpy(np.float32)
    layers = {
        "sd": np.stack([prediction.sd for prediction in predictions.values()]),
        "low": mean - half,
        "high": mean + half,
    }
    # A network can predict below the lowest value that the unit has, for example below log2(0 + 1).
    floor = ExpressionUnit.floor_of(info.unit)
    if floor is not None:
        mean = np.maximum(mean, floor)
        layers |= {name: np.maximum(layers[name], floor) for name in ("low", "high")}
    origin: dict[str, Any] = {}
    if model.folder.origin is not None:
        origin["model"] = model.folder.origin
    return prediction_data(
        mean,
        _patient_table(model.models, predictions),
        panel,
        unit=info.unit,
        var=table,
        layers=layers,
        config=as_plain(config),
        interval_coverage=model.coverage,
        **origin,
    )


def _unknown_patients(relation: pd.Series) -> list[str]:
    """Return a note if the model does not name its training patients, else nothing."""
    if not (relation == NOT_KNOWN).any():
        return []
    return [
        "the model was published without the names of its training patients: if any of them is"
        " among those that were predicted, the prediction looks better than it is"
    ]


def _other_sizes(
    models: Sequence[FoldModel], predictions: Mapping[str, PatientPrediction]
) -> list[str]:
    """Return a note on slides whose tiles have another size than those of the models, if any."""
    expected = models[0].info.patch
    other = [
        info.slide_id
        for prediction in predictions.values()
        for info in prediction.infos
        if not expected.matches(info.patch)
    ]
    return [f"tiles of another size than the model's {expected}: {preview(other)}"] if other else []


def _patient_table(
    models: Sequence[FoldModel], predictions: Mapping[str, PatientPrediction]
) -> pd.DataFrame:
    """Return one row per patient, with its comparison to the training patients."""
    table = pd.DataFrame(
        {
            "n_slides": [len(prediction.infos) for prediction in predictions.values()],
            "n_tiles": [len(prediction.coords) for prediction in predictions.values()],
            "n_models": [len(prediction.models) for prediction in predictions.values()],
            "relation": [relation_to_models(patient, models) for patient in predictions],
        },
        index=pd.Index(list(predictions), name="patient_id"),
    )
    verdicts = {name: prediction.verdict for name, prediction in predictions.items()}
    return table.join(verdict_table(verdicts))


def _write_tables(out_dir: Path, table: pd.DataFrame, formats: Sequence[str]) -> None:
    if "csv" in formats:
        write_csv(out_dir / "predicted.csv", table, index=True)
    if "parquet" in formats:
        with atomic_path(out_dir / "predicted.parquet") as temporary:
            table.to_parquet(temporary)
