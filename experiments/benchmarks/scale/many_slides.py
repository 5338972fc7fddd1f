"""Make the files of a cohort of thousands of slides without any pixels, tiles or features worth it.

The files have the form that ``tcgn-mil tile`` and ``tcgn-mil encode`` would have written, so that
both verbs find nothing to do. What is left is the work on metadata.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from tcgn_mil.baselines import COLOUR_STATISTICS
from tcgn_mil.experiments.encode.config import EncodeSettings
from tcgn_mil.experiments.encode.read_ahead import EncodedTiles
from tcgn_mil.experiments.encode.resume import made_from
from tcgn_mil.experiments.encode.run import open_cohort
from tcgn_mil.io.atomic import write_csv
from tcgn_mil.io.tile_files import write_tiles
from tcgn_mil.preprocessing.interop.tile_source import TileSource
from tcgn_mil.preprocessing.slides.table import find_slides
from tcgn_mil.preprocessing.tiles.settings import TileSettings
from tcgn_mil.preprocessing.tiles.tiling import (
    overlay_path,
    thumbnail_path,
    tile_path,
    tiles_made_from,
)
from tcgn_mil.settings.encoder import EncoderOptions
from tcgn_mil.types.tile_geometry import PatchSize, TileSpec
from tcgn_mil.types.tiles import TileSet

ENCODER, TILES, WIDTH, GENES = "timm:resnet10t", 4, 8, 1000
# Over 4 MiB, so that blocks of a slide are read for its digest. The files are sparse.
_SLIDE_BYTES = 5 * 2**20
_PICTURE_PX = (1200, 900)


def make_metadata(folder: Path, count: int, *, genes: int = GENES) -> None:
    """Write slides, tiles, features and expression of many slides, unless they are there.

    Parameters
    ----------
    folder
        Receives ``slides/``, ``slides.csv``, ``tiles/``, ``features/`` and ``expression.parquet``.
    count
        Number of slides.
    genes
        Genes in the table of expression.
    """
    made = folder / "made"
    if made.is_file():
        return
    for name in ("slides", "tiles", "features"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    patients = [f"TCGA-{number % 36:02d}-{number // 36:04d}" for number in range(count)]
    names = [f"{name}-01Z-00-DX1" for name in patients]
    for number, name in enumerate(names):
        with (folder / "slides" / f"{name}.tiff").open("wb") as file:
            file.write(str(number).encode())
            file.truncate(_SLIDE_BYTES)
    table = {"path": [f"slides/{name}.tiff" for name in names], "slide_id": names}
    write_csv(folder / "slides.csv", pd.DataFrame({**table, "patient_id": patients}))
    tpm = np.random.default_rng(0).lognormal(0, 2, (count, genes))
    tpm *= 1e6 / tpm.sum(axis=1, keepdims=True)
    columns = [f"GENE{number}" for number in range(genes)]
    expression = pd.DataFrame(tpm, index=[f"{name}-01A" for name in patients], columns=columns)
    expression.to_parquet(folder / "expression.parquet")
    _make_stages(folder)
    made.touch()


def _make_stages(folder: Path) -> None:
    """Write the tile files, pictures and feature files."""
    entries = {entry.slide_id: entry for entry in find_slides(folder / "slides.csv")}
    tiling, patch = TileSettings(), PatchSize()
    spec = TileSpec.for_slide(patch, slide_mpp=patch.mpp, level_downsamples=[1.0])
    coords = np.arange(2 * TILES).reshape(TILES, 2) * patch.px
    picture = folder / "picture.jpg"
    Image.effect_noise(_PICTURE_PX, 90).convert("RGB").save(picture)
    encoding = EncodeSettings(ENCODER, device="cpu", encoder_options=EncoderOptions(untrained=True))
    source = TileSource(entries, folder / "tiles")
    encoder = open_cohort(source, encoding, folder / "features")
    features = np.zeros((TILES, WIDTH), np.float16)
    colour = np.zeros((TILES, COLOUR_STATISTICS), np.float32)
    for name, entry in tqdm(entries.items(), desc="files", unit="slide"):
        digest = entry.digest()
        tiles = TileSet(
            name,
            coords,
            np.ones(TILES, np.float32),
            spec,
            (50_000, 40_000),
            entry.patient_id,
            settings=tiling.as_dict(),
            slide_digest=digest,
        )
        write_tiles(
            tile_path(folder / "tiles", name),
            tiles,
            slide_file=entry.path.name,
            made_from=tiles_made_from(entry, digest, tiling),
        )
        for place in (overlay_path, thumbnail_path):
            os.link(picture, place(folder / "tiles", name))
        encoder.digests[name] = made_from(tiles, source)
        encoder.write(tiles, EncodedTiles(features, coords, colour))
