"""Write small sections whose truth is known: brightness and stripes decide expression."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pandas as pd

from tcgn_mil.io.spot_files import SpotSet, create_patch_file, write_spot_table
from tcgn_mil.types.tile_geometry import PatchSize

PATCH = PatchSize(16, 4.0)  # 64 µm
PITCH_PX, IMAGE_MPP = 100.0, 2.0
GENES = tuple(f"{kind}{number}" for kind in ("BRIGHT", "NULL") for number in range(6))


def write_sections(
    folder: Path,
    sections: dict[str, str],
    *,
    side: int = 11,
    genes: dict[str, tuple[str, ...]] | None = None,
) -> Path:
    """Write sections (name -> patient) of `side` x `side` spots.

    `genes` names the genes that a section measured.
    """
    for number, (name, patient) in enumerate(sections.items()):
        rng = np.random.default_rng(number)
        grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2)
        bright = rng.uniform(0, 1, len(grid))
        pixels = np.clip(
            90 + 120 * bright[:, None, None, None] + rng.normal(0, 8, (len(grid), 16, 16, 3)),
            0,
            255,
        )
        rate = np.where(
            [gene.startswith("BRIGHT") for gene in GENES], np.exp(1.5 * bright[:, None]), 1.5
        )
        counts = rng.poisson(rate * rng.lognormal(3.0, 0.3, (len(grid), 1)))
        measured = (genes or {}).get(name, GENES)
        spots = [f"{x}x{y}" for x, y in grid]
        adata = anndata.AnnData(
            counts[:, [GENES.index(gene) for gene in measured]].astype(np.float32),
            obs=pd.DataFrame({"patient": patient, "section": name}, index=spots),
            var=pd.DataFrame(index=list(measured)),
            obsm={"spatial": 50 + PITCH_PX * grid},
        )
        patches = folder / f"{name}_patches.h5"
        with create_patch_file(patches, spots, PATCH, section=name, pixel_size=IMAGE_MPP) as file:
            file["img"][:] = pixels.astype(np.uint8)
            file["coords"][:] = (50 + PITCH_PX * grid - PATCH.um / IMAGE_MPP / 2).astype(np.int64)
        write_spot_table(folder / f"{name}.h5ad", SpotSet(adata, str(patches), PATCH))
    return folder
