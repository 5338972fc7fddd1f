"""Small cohorts of bags of which it is known what they tell of each gene."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from tile_sets import tile_set

from tcgn_mil.experiments.slide_level.config import FinetuneConfig
from tcgn_mil.io.feature_files import write_features
from tcgn_mil.provenance import provenance
from tcgn_mil.settings.slide_model import MilConfig
from tcgn_mil.settings.training import TrainingConfig
from tcgn_mil.types.tile_geometry import PatchSize, TileSpec

PATIENTS, TILES, D = 60, 20, 8
GENES = [*(f"SEEN{i}" for i in range(10)), *(f"NULL{i}" for i in range(20))]
SPEC = TileSpec.for_slide(PatchSize(112, 0.69), slide_mpp=0.69, level_downsamples=[1.0])
TRAINING = TrainingConfig(epochs=25, batch_size=16, lr=3e-3, patience=25, loss="mix")


def write_slide(
    folder: Path, slide: str, patient: str, level: float, rng: np.random.Generator
) -> None:
    """Write a slide whose first feature is the level of the patient on average."""
    features = rng.standard_normal((TILES, D)).astype(np.float32)
    features[:, 0] += level
    coords = np.stack([np.arange(TILES) * 112, np.zeros(TILES)], axis=1).astype(np.int64)
    write(folder, slide, patient, features, coords)


def write(folder: Path, slide: str, patient: str, features: np.ndarray, coords: np.ndarray) -> None:
    tiles = tile_set(coords, SPEC, slide, patient)
    write_features(folder / f"{slide}.h5", features, tiles, encoder="toy")


def change_cohort(config: FinetuneConfig, change: Callable[[anndata.AnnData], None]) -> None:
    cohort = anndata.read_h5ad(config.cohort)
    change(cohort)
    cohort.write_h5ad(config.cohort)


def make_cohort(folder: Path, *, patients: int = PATIENTS) -> FinetuneConfig:
    """Make a cohort in log2(TPM + 1) whose SEEN genes follow the level.

    The first patient has two slides.
    """
    rng = np.random.default_rng(0)
    names = [f"P{i:02d}" for i in range(patients)]
    level = rng.standard_normal(patients)
    values = 3 + 0.5 * rng.standard_normal((patients, len(GENES)))
    values[:, :10] += 0.8 * level[:, None]
    slides = [(f"{name}-1", name) for name in names] + [(f"{names[0]}-2", names[0])]
    (folder / "features").mkdir(parents=True)
    for slide, patient in slides:
        write_slide(folder / "features", slide, patient, level[names.index(patient)], rng)
    obs = pd.DataFrame({"site": [f"S{i % 6}" for i in range(patients)]}, index=names)
    cohort = anndata.AnnData(
        np.maximum(values, 0).astype(np.float32), obs=obs, var=pd.DataFrame(index=GENES)
    )
    cohort.uns["slides"] = pd.DataFrame(slides, columns=["slide_id", "patient_id"])
    cohort.uns["tcgn_mil"] = json.dumps(provenance(kind="cohort", unit="log2(tpm+1)"))
    cohort.write_h5ad(folder / "cohort.h5ad")
    return FinetuneConfig(
        cohort=str(folder / "cohort.h5ad"),
        features=str(folder / "features"),
        n_folds=3,
        refits=6,
        replicates=100,
        model=MilConfig(embedding=16, attention_hidden=8, dropout=0.2),
        training=TRAINING,
    )
