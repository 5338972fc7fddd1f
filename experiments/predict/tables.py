"""What ``tcgn-mil predict`` writes of its patients: predicted.h5ad, the tables beside it, and the summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tcgn_mil.config import as_plain
from tcgn_mil.experiments.predict.config import PredictConfig
from tcgn_mil.experiments.runs.run_folder import finish_run, finished_summary
from tcgn_mil.inference.fold_models import FoldModel, relation
from tcgn_mil.inference.out_of_distribution import read_reference
from tcgn_mil.inference.patients import PatientPrediction, unplaced
from tcgn_mil.io.atomic import atomic_path, write_csv
from tcgn_mil.io.expression_file import write_predictions
from tcgn_mil.io.gene_list import read_gene_table
from tcgn_mil.signatures.set_weights import CoveredSets
from tcgn_mil.text import preview
from tcgn_mil.types.genes import GenePanel
from tcgn_mil.types.units import ExpressionUnit


def write_prediction(
    config: PredictConfig,
    models: Sequence[FoldModel],
    panel: GenePanel,
    rows: Mapping[str, PatientPrediction],
    signatures: CoveredSets,
    out_dir: Path,
    *,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """predicted.h5ad and its tables, never below the unit's lowest value."""
    info = models[0].info
    table = read_gene_table(Path(config.model) / "genes.csv").loc[list(panel.genes)]
    mean = np.stack([row.mean for row in rows.values()])
    half = table["interval_half_width"].to_numpy(np.float32)
    layers = {
        "sd": np.stack([row.sd for row in rows.values()]),
        "low": mean - half,
        "high": mean + half,
    }
    floor = ExpressionUnit.floor_of(info.unit)
    if floor is not None:
        mean = np.maximum(mean, floor)
        layers |= {name: np.maximum(layers[name], floor) for name in ("low", "high")}
    obs = _patient_table(config, models, rows)
    coverage = (finished_summary(config.model) or {}).get("coverage")
    write_predictions(
        out_dir / "predicted.h5ad",
        mean,
        obs,
        panel,
        unit=info.unit,
        var=table,
        layers=layers,
        config=as_plain(config),
        interval_coverage=coverage,
    )
    _write_tables(
        out_dir,
        pd.DataFrame(mean, index=obs.index, columns=list(panel.genes)),
        config.table_formats,
    )
    return finish_run(
        out_dir,
        {
            "patients": len(rows),
            "slides": int(obs["n_slides"].sum()),
            "tiles": int(obs["n_tiles"].sum()),
            "genes": len(panel),
            "unit": info.unit,
            "relation": obs["relation"].value_counts().to_dict(),
            "out_of_distribution": obs.index[obs["out_of_distribution"]].tolist(),
            "interval_coverage": coverage,
            "notes": [*notes, *_other_sizes(models, rows)],
            "slides_without_positions": unplaced(rows.values()),
            "signatures": [one.name for one in signatures.kept],
            "signatures_left_out": signatures.left_out,
        },
    )


def _other_sizes(models: Sequence[FoldModel], rows: Mapping[str, PatientPrediction]) -> list[str]:
    """A label of slides whose tiles are not of the size that the model was trained on, empty without."""
    expected = models[0].info.patch
    other = [
        info.slide_id
        for row in rows.values()
        for info in row.infos
        if not expected.matches(info.patch)
    ]
    return [f"tiles of another size than the model's {expected}: {preview(other)}"] if other else []


def _patient_table(
    config: PredictConfig, models: Sequence[FoldModel], rows: Mapping[str, PatientPrediction]
) -> pd.DataFrame:
    """What is known of each patient, with how far its slides lie from those of training (above 1: beyond them)."""
    score = read_reference(config.model).score(
        np.stack([row.mean_features for row in rows.values()])
    )
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
