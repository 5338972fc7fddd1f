"""A cohort whose slides are made in memory, for tests that read the pixels of tiles."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.encode.config import EncodeSettings
from tcgn_mil.experiments.encode.run import encode_cohort
from tcgn_mil.experiments.slide_level import run as finetuning
from tcgn_mil.experiments.slide_level.config import EncoderTuning, FinetuneConfig
from tcgn_mil.preprocessing.interop.tile_source import TileSource
from tcgn_mil.provenance import provenance
from tcgn_mil.settings.slide_model import MilConfig
from tcgn_mil.settings.training import TrainingConfig
from tcgn_mil.types.tile_geometry import PatchSize, TileSpec
from tcgn_mil.types.tile_pixels import TileBatches
from tcgn_mil.types.tiles import TileSet

PX = 32
PATCH = PatchSize(PX, 0.69)
SPEC = TileSpec.for_slide(PATCH, slide_mpp=0.69, level_downsamples=[1.0])
GENES = [f"G{i}" for i in range(6)]
PATIENTS = [f"P{i:02d}" for i in range(12)]


def tiles_of(slide: str) -> TileSet:
    """Return five tiles; slide P99-1 has no file of tiles."""
    if slide == "P99-1":
        raise InputError("no tiles", fix="tile it")
    coords = np.stack([np.arange(5) * PX, np.zeros(5)], axis=1).astype(np.int64)
    return TileSet(slide, coords, np.ones(5, np.float32), SPEC, (5 * PX, PX), patient_id=slide[:3])


def pixels_of(slide: str, x: int) -> NDArray[np.uint8]:
    """Return stripes whose spacing depends on the patient, and whose colour does not."""
    number = int(slide[1:3])
    rng = np.random.default_rng([number, x, int(slide[-1])])
    wave = 110 + 60 * np.sin(np.arange(PX) * (0.3 + 0.15 * number) + rng.uniform(0, 6))
    return np.clip(wave[None, :, None] + rng.normal(0, 8, (PX, PX, 3)), 0, 255).astype(np.uint8)


@contextmanager
def open_tiles(tiles: TileSet, batch_size: int) -> Iterator[TileBatches]:
    if tiles.slide_id == "P05-2":
        raise InputError("cannot be opened", path="P05-2.svs", fix="copy it again")
    coords = tiles.coords
    yield [
        (np.stack([pixels_of(tiles.slide_id, int(x)) for x, _ in part]), part)
        for part in np.array_split(coords, -(-len(coords) // batch_size))
    ]


class FakeSource(TileSource):
    """Source of slides that are made in memory; `change` alters the tiles of a slide."""

    def __init__(self, change: Callable[[TileSet], TileSet] = lambda tiles: tiles) -> None:
        super().__init__({})
        object.__setattr__(self, "change", change)

    def find(self, slide_id: str) -> TileSet:
        return self.change(tiles_of(slide_id))

    def open(self, tiles: TileSet, batch_size: int) -> AbstractContextManager[TileBatches]:
        return open_tiles(tiles, batch_size)


SOURCE = FakeSource()


def write_cohort_of_encoder(
    folder: Path, settings: EncodeSettings, **changes: Any
) -> FinetuneConfig:
    """Write a cohort of twelve patients and its features; return the config of a small run.

    The first patient has two slides.
    """
    slides = [f"{name}-1" for name in PATIENTS] + ["P00-2"]
    encode_cohort(slides, SOURCE, settings, folder / "features")
    level = np.linspace(-1, 1, len(PATIENTS))
    rng = np.random.default_rng(0)
    values = 3 + level[:, None] + 0.1 * rng.standard_normal((len(PATIENTS), len(GENES)))
    cohort = anndata.AnnData(
        values.astype(np.float32), obs=pd.DataFrame(index=PATIENTS), var=pd.DataFrame(index=GENES)
    )
    cohort.uns["slides"] = pd.DataFrame(
        [(name, name[:3]) for name in slides], columns=["slide_id", "patient_id"]
    )
    cohort.uns["tcgn_mil"] = json.dumps(provenance(kind="cohort", unit="log2(tpm+1)"))
    cohort.write_h5ad(folder / "cohort.h5ad")
    return FinetuneConfig(
        cohort=str(folder / "cohort.h5ad"),
        features=str(folder / "features"),
        slides="slides",
        tiles="tiles",
        encoder=settings.encoder,
        encoder_options=settings.encoder_options,
        n_folds=3,
        replicates=20,
        model=MilConfig(embedding=8, attention_hidden=4, dropout=0.0),
        training=TrainingConfig(epochs=6, batch_size=4, lr=3e-3, accelerator="cpu"),
        **changes,
    )


TUNING = EncoderTuning(
    tiles=2,
    val_tiles=3,
    training=TrainingConfig(epochs=3, batch_size=4, lr=3e-3, layer_decay=0.5, accelerator="cpu"),
)


def run_in_memory(config: FinetuneConfig, out: Path) -> dict[str, Any]:
    """Run ``finetune`` on the slides that are made in memory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TileSource, "from_slides", lambda *_, **__: SOURCE)
        return finetuning.run(config, out)
