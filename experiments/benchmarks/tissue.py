"""Measure tissue detection and quality control on real sections and on synthetic slides.

    python -m tcgn_mil.experiments.benchmarks.tissue --her2st her2st --slides 24 --out tissue

On real sections the tiles are compared with the spots, and on synthetic slides with planted
artefacts (pen, blur, fold). Otsu's method on saturation is measured beside ``tcgn-mil tile``, all
with default settings. Writes sections.csv, artefacts.csv and the overlay of every slide.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from skimage.filters import threshold_otsu

from tcgn_mil.experiments.demo.synthetic.config import REGIONS, preset
from tcgn_mil.experiments.demo.synthetic.rendering import patient_stain, render
from tcgn_mil.experiments.demo.synthetic.slide_artefacts import (
    INKS,
    plant_blur,
    plant_fold,
    plant_pen,
)
from tcgn_mil.experiments.demo.synthetic.tissue import item_fractions, region_map
from tcgn_mil.io.atomic import write_csv
from tcgn_mil.io.pyramid import write_pyramid
from tcgn_mil.preprocessing.sections.readers.her2st import find_section_files
from tcgn_mil.preprocessing.slides.table import SlideEntry
from tcgn_mil.preprocessing.tiles.grid import lay_grid, tissue_fractions
from tcgn_mil.preprocessing.tiles.settings import TISSUE_MPP, TileSettings
from tcgn_mil.preprocessing.tiles.tiling import tile_slide
from tcgn_mil.types.tiles import TileSet

HER2ST_MPP = 0.69
# A tile whose centre is further than this from every spot counts as a stray.
FAR_PX = 400
BLUR_SD_UM = (3.0, 4.0, 6.0, 8.0)
# Share of a tile's area from which it counts as one with an artefact. A clean tile has no artefact
# at all, and at least half tissue.
ARTEFACT_SHARE = 0.5
CLEAN_TISSUE = 0.5


def otsu_coords(entry: SlideEntry, tiles: TileSet) -> NDArray[np.int64]:
    """Return the tiles of the same grid that Otsu's threshold on saturation would keep."""
    with entry.open() as slide:
        thumbnail = slide.thumbnail(TISSUE_MPP)
        coords = lay_grid(
            slide.size, tiles.spec, downsample=slide.level_downsamples[tiles.spec.read_level]
        )
        saturation = cv2.cvtColor(thumbnail, cv2.COLOR_RGB2HSV)[..., 1]
        mask = saturation > threshold_otsu(saturation)
        return coords[
            tissue_fractions(mask, coords, tiles.spec.level0_px, slide.size)
            >= TileSettings().min_tissue
        ]


def spots_and_strays(
    coords: NDArray[np.int64], side: float, spots: NDArray[np.float64]
) -> tuple[float, float]:
    """Return the share of spots (S, 2) inside a tile, and the share of stray tiles."""
    offset = spots[:, None] - coords[None]
    inside = np.any(np.all((offset >= 0) & (offset < side), axis=2), axis=1)
    to_centre = np.linalg.norm(offset - side / 2, axis=2).min(axis=0)
    return float(inside.mean()), float((to_centre > FAR_PX).mean())


def measure_sections(her2st: Path, out: Path) -> pd.DataFrame:
    """Return one row per section and method."""
    rows = []
    for files in find_section_files(her2st):
        entry = SlideEntry(files.section, files.patient, files.image, HER2ST_MPP)
        tiles = tile_slide(entry, TileSettings(), out)
        table = pd.read_csv(files.positions, sep="\t")
        spots = table[["pixel_x", "pixel_y"]].to_numpy(dtype=float)
        for method, coords in (
            ("tcgn-mil", tiles.coords),
            ("Otsu on saturation", otsu_coords(entry, tiles)),
        ):
            inside, stray = spots_and_strays(coords, tiles.spec.level0_px, spots)
            rows.append(
                {
                    "section": files.section,
                    "method": method,
                    "tiles": len(coords),
                    "spots_inside": inside,
                    "stray_tiles": stray,
                }
            )
    return pd.DataFrame(rows)


def plant_slide(number: int, path: Path, *, layers: int = 3) -> dict[str, NDArray[np.bool_]]:
    """Write a synthetic slide with a pen stroke, a blurred field and a fold.

    Returns a mask of each, and of the tissue.
    """
    config = preset("study")
    patient = config.patients[number % len(config.patients)]
    name, site = f"artefacts {number}", config.site_of(patient)
    mpp = config.scanner_mpp[site]
    rng = config.rng(name)
    labels = region_map(
        rng,
        config.slide_size_um,
        config.slide_tissue_fraction,
        item_fractions(config, patient, name),
    )
    image = render(labels, mpp, patient_stain(config, patient, site), rng)

    def enlarged(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return (
            cv2.resize(mask.astype(np.uint8), image.shape[1::-1], interpolation=cv2.INTER_NEAREST)
            > 0
        )

    core = enlarged(cv2.erode((labels > 0).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0)
    masks = {"tissue": enlarged(labels > 0)}
    # Folds are made in tissue of cells and fibres, since a fold of fat is as pale as fat.
    folding = core & ~enlarged(
        np.isin(labels, [REGIONS.index(name) + 1 for name in ("fat", "necrosis")])
    )
    masks["fold"] = plant_fold(image, folding, mpp, rng, layers=layers)
    sd_um = BLUR_SD_UM[number % len(BLUR_SD_UM)]
    masks["blur"] = plant_blur(image, core & ~masks["fold"], mpp, rng, sd_um=sd_um)
    ink = list(INKS)[number % len(INKS)]
    masks["pen"] = plant_pen(image, core, mpp, rng, ink=ink)
    write_pyramid(path, image, mpp=mpp, quality=config.jpeg_quality)
    return masks


def judge_slide(
    entry: SlideEntry, planted: dict[str, NDArray[np.bool_]], out: Path
) -> list[dict[str, Any]]:
    """Count the tiles by what is planted on them, and how many of them each method keeps."""
    tiles = tile_slide(entry, TileSettings(), out)
    with entry.open() as slide:
        size, spec = slide.size, tiles.spec
        coords = lay_grid(size, spec, downsample=slide.level_downsamples[spec.read_level])
    share = {
        name: tissue_fractions(mask, coords, spec.level0_px, size) for name, mask in planted.items()
    }
    artefacts = np.stack([share[name] for name in ("pen", "blur", "fold")])
    classes = {
        name: (share[name] >= ARTEFACT_SHARE) & (share["tissue"] > 0.1)
        for name in ("pen", "blur", "fold")
    }
    classes["clean tissue"] = (artefacts == 0).all(axis=0) & (share["tissue"] >= CLEAN_TISSUE)
    classes["glass"] = (artefacts == 0).all(axis=0) & (share["tissue"] == 0)
    rows = []
    for method, kept in (
        ("tcgn-mil", tiles.coords),
        ("Otsu on saturation", otsu_coords(entry, tiles)),
    ):
        keys = {tuple(pair) for pair in kept.tolist()}
        is_kept = np.array([tuple(pair) in keys for pair in coords.tolist()])
        rows += [
            {
                "slide": entry.slide_id,
                "method": method,
                "tiles_with": name,
                "tiles": int(chosen.sum()),
                "kept": int(is_kept[chosen].sum()),
            }
            for name, chosen in classes.items()
        ]
    return rows


def measure_artefacts(count: int, out: Path, *, layers: int = 3) -> pd.DataFrame:
    """Return one row per slide, method and kind of tile.

    The slides are made in `out` and removed after they were measured.
    """
    rows = []
    for number in range(count):
        path = out / f"planted_{layers}_{number:02d}.tiff"
        planted = plant_slide(number, path, layers=layers)
        rows += judge_slide(SlideEntry(path.stem, path.stem, path), planted, out)
        path.unlink()
    return pd.DataFrame(rows)


def summary(artefacts: pd.DataFrame) -> pd.DataFrame:
    """Return the share of tiles dropped, by method (rows) and kind of tile (columns)."""
    total = artefacts.groupby(["method", "tiles_with"])[["tiles", "kept"]].sum()
    return (1 - total["kept"] / total["tiles"]).unstack()


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--her2st", type=Path, help="folder of real sections")
    parser.add_argument("--slides", type=int, default=24, help="synthetic slides")
    parser.add_argument("--layers", type=int, default=3, help="layers of a planted fold")
    parser.add_argument("--out", type=Path, default=Path("tissue"))
    asked = parser.parse_args()
    if asked.her2st is not None:
        sections = measure_sections(asked.her2st, asked.out)
        write_csv(asked.out / "sections.csv", sections, digits=None)
        sys.stdout.write(sections.round(4).to_string(index=False) + "\n")
    if asked.slides:
        artefacts = measure_artefacts(asked.slides, asked.out, layers=asked.layers)
        write_csv(asked.out / f"artefacts_{asked.layers}.csv", artefacts, digits=None)
        sys.stdout.write(
            "share of tiles dropped\n" + summary(artefacts).round(4).to_string() + "\n"
        )


if __name__ == "__main__":
    main()
