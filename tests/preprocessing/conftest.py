"""Synthetic glass with tissue on it, for tests of readers, tissue finding and tiling."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import h5py
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import sparse
from scipy.io import mmwrite

from tcgn_mil.io.pyramid import write_pyramid

SLIDE_MPP = 0.5
HER2ST_STEP_PX = 40  # also µm, so synthetic sections have 1 µm/px
GLASS_COLOUR = (226, 216, 232)  # as lavender as the her2st sections


def paint_slide(
    width: int = 2400, height: int = 1800, *, seed: int = 0
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Paint an image (H, W, 3) at `SLIDE_MPP` with an ellipse of tissue; return it and its mask."""
    rng = np.random.default_rng(seed)
    image = np.empty((height, width, 3), dtype=np.uint8)
    image[:] = GLASS_COLOUR
    shape = np.zeros((height, width), dtype=np.uint8)
    cv2.ellipse(shape, (width // 2, height // 2), (width // 4, height // 4), 20, 0, 360, 1, -1)
    image[shape > 0] = (214, 150, 190)
    for x, y in rng.integers(0, (width, height), size=(width * height // 900, 2)).tolist():
        if shape[y, x]:
            cv2.circle(image, (x, y), 8, (88, 60, 140), -1)
    noise = rng.normal(0, 3, size=image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8), shape.astype(bool)


@pytest.fixture(scope="session")
def painted() -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Image and tissue mask of a synthetic slide, shared by all tests; do not write into them."""
    return paint_slide()


@pytest.fixture(scope="session")
def pyramid(
    painted: tuple[NDArray[np.uint8], NDArray[np.bool_]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The same slide as a pyramidal TIFF with its resolution."""
    path = tmp_path_factory.mktemp("slides") / "painted.tiff"
    write_pyramid(path, painted[0], mpp=SLIDE_MPP, quality=95)
    return path


@pytest.fixture
def make_slide(tmp_path: Path) -> Callable[..., Path]:
    """Write an (H, W, 3) image as a pyramidal TIFF under a name."""

    def write(name: str, image: NDArray[np.uint8], mpp: float = SLIDE_MPP) -> Path:
        path = tmp_path / name
        write_pyramid(path, image, mpp=mpp, quality=90)
        return path

    return write


@pytest.fixture
def make_her2st(tmp_path: Path) -> Callable[..., Path]:
    """Write sections in the her2st layout: 6 x 5 spots, 40 px and 40 µm apart, and 8 genes.

    Some x are fractional. Spot 2x2 has no counts, and spot 9x9 has counts but no position.
    """

    def write(*sections: str, seed: int = 0) -> Path:
        root = tmp_path / "her2st"
        rng = np.random.default_rng(seed)
        x, y = (grid.ravel() for grid in np.meshgrid(np.arange(1, 7), np.arange(1, 6)))
        spots = [f"{i}x{j}" for i, j in zip(x, y, strict=True)]
        for section in sections:
            folder = root / "ST-imgs" / section[0] / section
            for created in (folder, root / "ST-cnts", root / "ST-spotfiles"):
                created.mkdir(parents=True, exist_ok=True)
            pixels = (
                rng.integers(0, 255, (30, 36, 3), dtype=np.uint8)
                .repeat(8, axis=0)
                .repeat(8, axis=1)
            )
            Image.fromarray(pixels).save(folder / f"{section}_HE.png")
            counted = [name for name in spots if name != "2x2"] + ["9x9"]
            counts = pd.DataFrame(
                rng.poisson(3, (len(counted), 8)) + 1,
                index=counted,
                columns=[f"GENE{i}" for i in range(8)],
            )
            counts.to_csv(root / "ST-cnts" / f"{section}.tsv.gz", sep="\t")
            placed = pd.DataFrame(
                {
                    "x": x + 0.02 * (x % 2),
                    "y": y,
                    "new_x": x,
                    "new_y": y,
                    "pixel_x": x * HER2ST_STEP_PX + 3,
                    "pixel_y": y * HER2ST_STEP_PX - 2,
                    "selected": 1,
                }
            )
            placed.to_csv(root / "ST-spotfiles" / f"{section}_selection.tsv", sep="\t", index=False)
        return root

    return write


VISIUM_PITCH_PX = 100  # also µm, so synthetic sections have 1 µm/px
VISIUM_FEATURES = (
    ("ENSG00000141510", "TP53", "Gene Expression"),
    ("ENSG00000141736", "ERBB2", "Gene Expression"),
    ("ENSG00000182378", "PLCXD1", "Gene Expression"),
    ("ENSG00000182379", "PLCXD1", "Gene Expression"),  # one symbol, two ids
    ("ENSG00000206503", "HLA-A", "Gene Expression"),
    ("CD3_TotalSeqB", "CD3", "Antibody Capture"),
)


@pytest.fixture
def make_visium(tmp_path: Path) -> Callable[..., Path]:
    """Write an output folder of Space Ranger: a wedge of tissue on an array of 11 rows.

    The image has 1 µm/px, hires is 0.5 and lowres 0.1 of it. The full-resolution image is beside
    the folder, as ``{name}.png``.
    """

    def write(name: str = "S1", *, matrix: str = "h5", header: bool = True, seed: int = 0) -> Path:
        rng = np.random.default_rng(seed)
        folder = tmp_path / "visium" / name
        (folder / "spatial").mkdir(parents=True)
        row, column = (grid.ravel() for grid in np.mgrid[:11, :22])
        row, column = row[(row + column) % 2 == 0], column[(row + column) % 2 == 0]
        x, y = 60 + column * VISIUM_PITCH_PX / 2, 80 + row * VISIUM_PITCH_PX * np.sqrt(0.75)
        barcodes = np.array([f"{i:04d}ACGT-1" for i in rng.permutation(len(row))])
        image, tissue = _paint_wedge(1200, 1040, rng)
        under = tissue[y.astype(int), x.astype(int)]
        Image.fromarray(image).save(tmp_path / "visium" / f"{name}.png")
        for picture, scale in (("hires", 0.5), ("lowres", 0.1)):
            size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
            shown = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
            Image.fromarray(shown).save(folder / "spatial" / f"tissue_{picture}_image.png")
        fields = {
            "spot_diameter_fullres": 65.0,
            "tissue_hires_scalef": 0.5,
            "tissue_lowres_scalef": 0.1,
        }
        (folder / "spatial" / "scalefactors_json.json").write_text(json.dumps(fields))
        placed = pd.DataFrame(
            {
                "barcode": barcodes,
                "in_tissue": under.astype(int),
                "array_row": row,
                "array_col": column,
                "pxl_row_in_fullres": y,
                "pxl_col_in_fullres": x,
            }
        )
        file = "tissue_positions.csv" if header else "tissue_positions_list.csv"
        placed.to_csv(folder / "spatial" / file, index=False, header=header)
        counted = np.sort(barcodes[under])
        counts = sparse.csc_matrix(
            rng.poisson(2, (len(VISIUM_FEATURES), len(counted))).astype(np.int32)
        )
        {"h5": write_10x_h5, "mtx": write_10x_mtx}[matrix](folder, counts, list(counted))
        return folder

    return write


def _paint_wedge(
    width: int, height: int, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    y, x = np.mgrid[:height, :width]
    tissue = (x > 100) & (y > 120) & (x / 1300 + y / 750 < 1)
    nuclei = rng.random((height // 8, width // 8)) < 0.4
    stained = np.where(nuclei[..., None], np.uint8([88, 60, 140]), np.uint8([214, 150, 190]))
    image = np.full((height, width, 3), (240, 236, 242), dtype=np.uint8)
    image[tissue] = stained.repeat(8, axis=0).repeat(8, axis=1)[tissue]
    return image, tissue


def write_10x_h5(folder: Path, counts: sparse.csc_matrix, barcodes: list[str]) -> None:
    """Write ``filtered_feature_bc_matrix.h5``, features x barcodes, as Cell Ranger 3 does."""
    with h5py.File(folder / "filtered_feature_bc_matrix.h5", "w") as file:
        group = file.create_group("matrix")
        group["barcodes"] = np.array(barcodes, dtype="S")
        group["data"], group["indices"], group["indptr"] = (
            counts.data,
            counts.indices,
            counts.indptr,
        )
        group["shape"] = np.array(counts.shape, dtype=np.int32)
        for place, key in enumerate(("id", "name", "feature_type")):
            group[f"features/{key}"] = np.array(
                [feature[place] for feature in VISIUM_FEATURES], dtype="S"
            )
        group["features/genome"] = np.array(["GRCh38"] * len(VISIUM_FEATURES), dtype="S")


def write_10x_mtx(folder: Path, counts: sparse.csc_matrix, barcodes: list[str]) -> None:
    """Write the same as the folder ``filtered_feature_bc_matrix``."""
    target = folder / "filtered_feature_bc_matrix"
    target.mkdir()
    with gzip.open(target / "matrix.mtx.gz", "wb") as file:
        mmwrite(file, counts, field="integer")
    rows = "".join("\t".join(feature) + "\n" for feature in VISIUM_FEATURES)
    (target / "features.tsv.gz").write_bytes(gzip.compress(rows.encode()))
    (target / "barcodes.tsv.gz").write_bytes(gzip.compress("\n".join([*barcodes, ""]).encode()))
