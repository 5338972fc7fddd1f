"""Write small outputs of Space Ranger and Xenium: matrices, bins of Visium HD, Xenium folders."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from scipy import sparse

GENES = (("ENSG00000141510", "TP53"), ("ENSG00000141736", "ERBB2"), ("ENSG00000206503", "HLA-A"))


def paint_tissue(width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
    """Return (H, W, 3) glass with a rectangle of speckled tissue, 100 px from each side."""
    rng = np.random.default_rng(seed)
    image = np.full((height, width, 3), (240, 236, 242), dtype=np.uint8)
    nuclei = rng.random((-(-height // 8), -(-width // 8))) < 0.4
    stained = np.where(nuclei[..., None], np.uint8([88, 60, 140]), np.uint8([214, 150, 190]))
    stained = stained.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]
    image[100:-100, 100:-100] = stained[100:-100, 100:-100]
    return image


def write_matrix(
    path: Path, counts: NDArray[np.integer], barcodes: list[str], *, controls: bool = False
) -> None:
    """Write (S, 3) counts as a 10x matrix file; with `controls` the last feature is a control."""
    stored = sparse.csr_matrix(counts)
    types = ["Gene Expression"] * len(GENES)
    if controls:
        types[-1] = "Negative Control Probe"
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        group["barcodes"] = np.array(barcodes, dtype="S")
        group["data"], group["indices"] = stored.data.astype("i4"), stored.indices.astype("i8")
        group["indptr"] = stored.indptr.astype("i8")
        group["shape"] = np.array(counts.shape[::-1], dtype="i4")
        group["features/id"] = np.array([name for name, _ in GENES], dtype="S")
        group["features/name"] = np.array([name for _, name in GENES], dtype="S")
        group["features/feature_type"] = np.array(types, dtype="S")
        group["features/genome"] = np.array(["GRCh38"] * len(GENES), dtype="S")


def bin_table(side: int, bin_um: int, step_px: float, first_px: float) -> pd.DataFrame:
    """Return the positions of a square of bins, as Space Ranger writes them for Visium HD."""
    row, column = (grid.ravel() for grid in np.mgrid[:side, :side])
    names = [f"s_{bin_um:03d}um_{r:05d}_{c:05d}-1" for r, c in zip(row, column, strict=True)]
    return pd.DataFrame(
        {
            "barcode": names,
            "in_tissue": 1,
            "array_row": row,
            "array_col": column,
            "pxl_row_in_fullres": first_px + row * step_px,
            "pxl_col_in_fullres": first_px + column * step_px,
        }
    )


def write_bins(
    folder: Path,
    table: pd.DataFrame,
    counts: NDArray[np.integer],
    scalefactors: dict[str, float],
    *,
    parquet: bool = True,
) -> Path:
    """Write the folder of one size of bins, without pictures."""
    (folder / "spatial").mkdir(parents=True)
    write_matrix(folder / "filtered_feature_bc_matrix.h5", counts, list(table["barcode"]))
    if parquet:
        table.to_parquet(folder / "spatial" / "tissue_positions.parquet")
    else:
        table.to_csv(folder / "spatial" / "tissue_positions_list.csv", index=False)
    (folder / "spatial" / "scalefactors_json.json").write_text(json.dumps(scalefactors))
    return folder


def write_xenium(
    folder: Path,
    centres_um: NDArray[np.floating],
    counts: NDArray[np.integer],
    image: NDArray[np.uint8],
    matrix: NDArray[np.floating] | None,
    *,
    pixel_um: float = 0.2125,
) -> Path:
    """Write a Xenium output folder with its H&E image and, unless None, the alignment."""
    folder.mkdir(parents=True)
    (folder / "experiment.xenium").write_text(json.dumps({"pixel_size": pixel_um}))
    cells = [f"cell{i:04d}-1" for i in range(len(centres_um))]
    pd.DataFrame(
        {"cell_id": cells, "x_centroid": centres_um[:, 0], "y_centroid": centres_um[:, 1]}
    ).to_parquet(folder / "cells.parquet")
    write_matrix(folder / "cell_feature_matrix.h5", counts, cells, controls=True)
    Image.fromarray(image).save(folder / "S1_he_image.tif")
    if matrix is not None:
        rows = [",".join(f"{value:.8f}" for value in row) for row in matrix]
        (folder / "S1_he_imagealignment.csv").write_text("\n".join(rows) + "\n")
    return folder
