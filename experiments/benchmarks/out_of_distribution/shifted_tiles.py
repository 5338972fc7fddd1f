"""Make tiles of known kinds for the test of the out-of-distribution flag, and encode them.

Real tiles come from the five her2st sections, cut into parts that stand for patients, and from
slides and regions of other organs. Synthetic tiles are drawn by the renderer of the demo. Both are
also changed in stain, scanner and scale. A bag is the (n, D) features of the tiles of one patient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from tcgn_mil.experiments.demo.synthetic.config import SyntheticConfig
from tcgn_mil.experiments.demo.synthetic.rendering import PatientStain, patient_stain, render
from tcgn_mil.experiments.demo.synthetic.tissue import item_fractions, region_map
from tcgn_mil.inference.batch_stream import encode_tiles
from tcgn_mil.inference.tile_encoder import TileEncoder
from tcgn_mil.preprocessing.interop.tile_source import TileSource
from tcgn_mil.preprocessing.slides.table import SlideEntry
from tcgn_mil.preprocessing.tiles.settings import TileSettings
from tcgn_mil.preprocessing.tiles.tiling import tile_slide
from tcgn_mil.progress import Progress
from tcgn_mil.types.tile_geometry import PatchSize

MPP, TILE_PX = 0.69, 112  # a tile is 77 µm across
BATCH = 64
CPU = torch.device("cpu")
PART_TILES = (20, 60)  # a part of a section has at least and at most so many tiles
_GLASS = 243
_SYNTHETIC_UM, _SYNTHETIC_TILES = (1200.0, 1000.0), 60
# Haematoxylin, eosin and residual in optical density (Ruifrok & Johnston 2001).
_STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])

Change = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


@dataclass(frozen=True)
class TileKind:
    """Size and change of tiles.

    Attributes
    ----------
    um
        Side of a tile in µm.
    change
        Function of the pixels (n, H, W, 3), applied before they are encoded.
    """

    um: float = MPP * TILE_PX
    change: Change = lambda pixels: pixels


def other_stain(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Weaken haematoxylin by 30 % and strengthen eosin by 40 %, in optical density."""
    rows = _STAINS / np.linalg.norm(_STAINS, axis=1, keepdims=True)
    density = -np.log(np.maximum(pixels, 1) / 255)
    amounts = density @ np.linalg.inv(rows) * [0.7, 1.4, 1.0]
    return np.clip(np.rint(255 * np.exp(-amounts @ rows)), 0, 255).astype(np.uint8)


def other_scanner(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Soften by 0.8 px, raise the gamma of the colours to 1.2, and compress at JPEG quality 50."""
    out = np.empty_like(pixels)
    for row, tile in enumerate(pixels):
        soft = cv2.GaussianBlur(tile, (0, 0), 0.8)
        gamma = np.rint(255 * (soft / 255) ** 1.2).astype(np.uint8)
        code = cv2.imencode(".jpg", gamma, [cv2.IMWRITE_JPEG_QUALITY, 50])[1]
        out[row] = np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR))
    return out


KINDS = {
    "stain": TileKind(change=other_stain),
    "scanner": TileKind(change=other_scanner),
    "33 µm": TileKind(um=33.0),
    "155 µm": TileKind(um=2 * MPP * TILE_PX),
}
# The images of her2st have 0.69 µm/px, which is too coarse for tiles of 33 µm.
HER2ST_KINDS = ("stain", "scanner", "155 µm")


def encode_slide(
    entry: SlideEntry, kind: TileKind, encoder: TileEncoder, work: Path, part_um: float = np.inf
) -> list[NDArray[np.floating]]:
    """Tile a slide by the default rules of ``tcgn-mil tile``, and encode its parts.

    Parameters
    ----------
    entry
        The slide.
    kind
        Size of its tiles, and a change of their pixels.
    encoder
        The encoder.
    work
        Folder for tile files.
    part_um
        Side of the squares into which the slide is cut. By default it is one part.
    """
    tiles = tile_slide(entry, TileSettings(patch=PatchSize(TILE_PX, kind.um / TILE_PX)), work)
    with entry.open() as slide:
        side_px = part_um / slide.mpp
    parts = []
    for rows in parts_of(tiles.coords, side_px):
        with TileSource({entry.slide_id: entry}).open(tiles.select(rows), BATCH) as batches:
            changed = [(kind.change(pixels), corners) for pixels, corners in batches]
        parts.append(encode_tiles(encoder, changed, device=CPU, dtype=np.float32)[0])
    return parts


def parts_of(coords: NDArray[np.int64], side_px: float) -> list[NDArray[np.int64]]:
    """Return the tiles of the square parts of a slide, as row numbers.

    Parts with fewer tiles than the first of `PART_TILES` are left out, if there are several; of
    larger ones, as many tiles as the second are kept, evenly spread.

    Parameters
    ----------
    coords
        (N, 2) level-0 corners of the tiles.
    side_px
        Side of a part in level-0 pixels.
    """
    place = np.floor(coords / side_px)
    squares = np.unique(place, axis=0)
    parts = []
    for square in squares:
        rows = np.flatnonzero((place == square).all(axis=1))
        if len(rows) >= PART_TILES[0] or len(squares) == 1:
            kept = np.linspace(0, len(rows) - 1, min(len(rows), PART_TILES[1])).astype(np.int64)
            parts.append(rows[kept])
    return parts


def her2st_slides(folder: Path) -> list[SlideEntry]:
    """Return the five sections of her2st with their resolution."""
    paths = sorted(folder.glob("ST-imgs/*/*/*.jpg"))
    return [SlideEntry(path.parent.name, path.parent.parent.name, path, MPP) for path in paths]


def synthetic_patients(
    config: SyntheticConfig, patients: Sequence[str], kind: str, encoder: TileEncoder
) -> Iterator[NDArray[np.floating]]:
    """Draw a small slide of each patient and encode its tiles.

    Parameters
    ----------
    config
        Cohort of the demo; the site of a patient decides about its stain.
    patients
        Patients to draw.
    kind
        ``plain``, a key of `KINDS`, or ``organ``: a tissue of lymphocytes, fat and necrosis.
    encoder
        The encoder.
    """
    change = KINDS.get(kind, TileKind())
    for patient in Progress(patients, desc=f"synthetic, {kind}", unit="patient"):
        rng = config.rng(f"flag {patient}")
        fractions = item_fractions(config, patient, "slide")
        if kind == "organ":
            fractions = np.array([0.02, 0.02, 0.06, 0.60, 0.20, 0.10])
        labels = region_map(rng, _SYNTHETIC_UM, 0.6, fractions)
        stain: PatientStain = patient_stain(config, patient, config.site_of(patient))
        image = render(labels, change.um / TILE_PX, stain, rng)
        pixels, corners = _grid(image)
        kept = np.sort(rng.permutation(len(pixels))[:_SYNTHETIC_TILES])
        changed = [(change.change(pixels[kept]), corners[kept])]
        yield encode_tiles(encoder, changed, device=CPU, dtype=np.float32)[0]


def _grid(image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Cut an image into tiles, and keep those of which at least half is darker than glass."""
    corners = np.array(
        [
            (x, y)
            for y in range(0, image.shape[0] - TILE_PX + 1, TILE_PX)
            for x in range(0, image.shape[1] - TILE_PX + 1, TILE_PX)
        ]
    )
    tiles = np.stack([image[y : y + TILE_PX, x : x + TILE_PX] for x, y in corners])
    tissue = (tiles[..., 1] < _GLASS - 15).mean(axis=(1, 2)) > 0.5
    return tiles[tissue], corners[tissue]


def synthetic_config(seed: int, patients: int) -> SyntheticConfig:
    """Return a cohort of patients of six laboratories."""
    return replace(
        SyntheticConfig(seed=seed), n_patients=patients, scanner_mpp=(0.5, 0.4, 0.5, 0.4, 0.5, 0.4)
    )
