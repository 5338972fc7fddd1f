"""Measure the refits of the attention network on permuted labels, for slides of one vector each."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import numpy as np
import torch

from tcgn_mil.batches.feature_bags import BagDataset
from tcgn_mil.batches.patient_bags import PatientBags
from tcgn_mil.experiments.slide_level.config import FinetuneConfig
from tcgn_mil.io.feature_files import write_feature_blocks
from tcgn_mil.models.slide_regressor import SlideRegressor
from tcgn_mil.settings.slide_model import MilConfig
from tcgn_mil.training.permutation_null import NullBags, Refit, refit_predictions
from tcgn_mil.types.features import FeatureInfo
from tcgn_mil.types.tile_geometry import PatchSize, TileSpec

PATIENTS, WIDTH, GENES = 884, 607, 1558
_PARTS = {"train": (0, 566), "val": (566, 707), "test": (707, 884)}  # of five folds


def refits_of_a_fold(folder: Path, count: int) -> dict[str, float]:
    """Return the seconds of the refits of one fold, with the default settings of training.

    Features and labels are random, so that early stopping ends the refits as it does in a cohort
    without any association.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    labels = rng.standard_normal((PATIENTS, GENES)).astype(np.float32)
    names = [f"P{index:03d}" for index in range(PATIENTS)]
    spec = TileSpec.for_slide(PatchSize(112, 0.69), slide_mpp=0.69, level_downsamples=[1.0])
    features = rng.standard_normal((PATIENTS, 1, WIDTH)).astype(np.float32)
    for name, vector in zip(names, features, strict=True):
        info = FeatureInfo(name, name, 1, WIDTH, "table:random", spec)
        coords = np.zeros((1, 2), dtype=np.int64)
        write_feature_blocks(
            folder / f"{name}.h5", [vector], coords, info, dtype=np.dtype(np.float32)
        )
    bags = {}
    for part, (first, last) in _PARTS.items():
        files = {name: [folder / f"{name}.h5"] for name in names[first:last]}
        dataset = BagDataset(list(files), files, labels[first:last], seed=0)
        bags[part] = PatientBags(dataset, np.arange(last - first))
    config = MilConfig(input="ranks")
    training = dataclasses.replace(FinetuneConfig().training, seed=0)
    vectors = torch.from_numpy(features[: _PARTS["train"][1], 0])

    def start(number: int) -> Refit:
        torch.manual_seed(number)
        model = SlideRegressor(WIDTH, GENES, config)
        model.rank_features(vectors)
        order = np.random.default_rng(number).permutation(PATIENTS)
        parts = [labels[order[slice(*_PARTS[part])]] for part in ("train", "val")]
        return Refit(model, *parts)

    wall, cpu = time.perf_counter(), time.process_time()
    predictions = list(
        refit_predictions(
            start, count, NullBags(**bags), training, max_tiles=2000, description="refits"
        )
    )
    assert all(np.isfinite(values).all() for values in predictions)
    return {
        "refits": count,
        "epochs_at_most": training.epochs,
        "wall_s": time.perf_counter() - wall,
        "cpu_s": time.process_time() - cpu,
    }
