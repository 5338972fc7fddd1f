"""Render a region map as an H&E image: densities of two stains, then light through them.

Light is absorbed by the law of Beer and Lambert. Both stain maps are uint8 in hundredths of optical
density, so that a whole slide takes a few fast passes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from tcgn_mil.experiments.demo.synthetic.config import REGIONS, SyntheticConfig
from tcgn_mil.experiments.demo.synthetic.nuclei import stamp_nuclei
from tcgn_mil.experiments.demo.synthetic.tissue import LABEL_MPP, smooth_field

# Optical density for each unit of stain in red, green and blue. The values are near those of
# Ruifrok & Johnston (2001), with eosin a little more orange.
_HAEMATOXYLIN = np.array([0.65, 0.70, 0.29])
_EOSIN = np.array([0.13, 0.88, 0.44])
_GLASS = np.array([243.0, 242.0, 244.0])
_FINE_MPP = 2.0  # outlines of regions, fat cells and base densities are drawn at this pixel size
_TILE_UM = 768.0  # period of the textures
_FAT_CELL_UM = 62.0
_FAT_WALL_UM = 1.9
# Weight of three layers of fibres, and their length and width in µm.
_FIBRES = ((0.8, 16, 0.7), (0.7, 24, 1.8), (0.5, 34, 5.0))
_UNEVEN_RADIUS_UM, _UNEVEN_SD = 45.0, 0.11
_SOFT_UM = 0.9  # blur of nuclei where the section is thickest
_GRAIN_TILE_PX = 1024
_GRAIN_GREY, _GRAIN_SD = 4.0, 0.6  # mean strength in grey levels, and sd of its logarithm


@dataclass(frozen=True)
class _Look:
    """Densities of one region: haematoxylin, eosin, and the strength of three eosin textures."""

    haematoxylin: float
    eosin: float
    fine: float = 0.0
    fibres: float = 0.0
    granules: float = 0.0


_TUMOUR = _Look(haematoxylin=14, eosin=30, fine=26)
_LOOKS = {
    "tumour_a": _TUMOUR,
    "tumour_b": _TUMOUR,
    "stroma": _Look(haematoxylin=3, eosin=22, fine=14, fibres=44),
    "immune": _Look(haematoxylin=16, eosin=18, fine=16),
    "fat": _Look(haematoxylin=3, eosin=38, fine=8),
    "necrosis": _Look(haematoxylin=3, eosin=14, fine=8, granules=42),
}


@dataclass(frozen=True)
class PatientStain:
    """Strength and colour of the stains in a patient's tissue.

    Attributes
    ----------
    haematoxylin, eosin
        (3,) optical density in red, green and blue for each unit of stain.
    """

    haematoxylin: NDArray[np.float64]
    eosin: NDArray[np.float64]


def patient_stain(config: SyntheticConfig, patient: str, site: int) -> PatientStain:
    """Return the stain of a patient: that of the site, varied for each patient."""
    laboratory, batch = config.rng(f"stain of site {site}"), config.rng(f"stain {patient}")
    vectors = []
    for vector in (_HAEMATOXYLIN, _EOSIN):
        tint = np.exp(laboratory.normal(0, 0.06, 3) + batch.normal(0, 0.03, 3))
        strength = np.exp(laboratory.normal(0, 0.12) + batch.normal(0, 0.10))
        vectors.append(vector * tint * strength)
    return PatientStain(*vectors)


def render(
    labels: NDArray[np.uint8], mpp: float, stain: PatientStain, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Draw a region map as H&E.

    Parameters
    ----------
    labels
        (h, w) region map at :data:`LABEL_MPP`.
    mpp
        µm per pixel of the image.
    stain
        Stain of the patient.
    rng
        Random generator.

    Returns
    -------
    ndarray
        (H, W, 3) uint8 RGB.
    """
    # OpenCV wants width before height.
    size = tuple(round(side * LABEL_MPP / mpp) for side in labels.shape[::-1])
    fine = _fine_labels(labels)
    offset = rng.uniform(0, _TILE_UM, 2)

    def angle(x_um: NDArray, y_um: NDArray) -> NDArray:
        return _fibre_angle(x_um + offset[0], y_um + offset[1])

    haematoxylin = _base(fine, size, "haematoxylin")
    stamp_nuclei(haematoxylin, fine, _FINE_MPP, mpp, angle, rng)
    haematoxylin = _soften(haematoxylin, mpp, rng, labels.shape)
    eosin = _base(fine, size, "eosin")
    for name in ("fine", "fibres", "granules"):
        texture = _tiled(_texture(name, mpp), size, offset / mpp)
        added = cv2.multiply(_base(fine, size, name), texture, scale=1 / 255)
        eosin = np.asarray(cv2.add(eosin, added), dtype=np.uint8)
    haematoxylin, eosin = (
        _uneven(stain_map, rng, labels.shape) for stain_map in (haematoxylin, eosin)
    )
    lumen = _fat_lumen(fine, size, rng)
    haematoxylin, eosin = (
        np.asarray(cv2.multiply(stain_map, lumen, scale=1 / 255), dtype=np.uint8)
        for stain_map in (haematoxylin, eosin)
    )
    image = _transmit(haematoxylin, eosin, stain)
    _add_grain(image, rng, labels.shape)
    return image


def _fine_labels(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return labels at a finer pixel size with rounded outlines.

    Each pixel takes the label whose smoothed mask is highest.
    """
    factor = round(LABEL_MPP / _FINE_MPP)
    size = (labels.shape[1] * factor, labels.shape[0] * factor)
    best, out = np.zeros(size[::-1], np.float32), np.zeros(size[::-1], np.uint8)
    for label in range(len(REGIONS) + 1):
        mask = cv2.resize(
            (labels == label).astype(np.float32), size, interpolation=cv2.INTER_LINEAR
        )
        mask = cv2.GaussianBlur(mask, (0, 0), 1.5)
        ahead = mask > best
        best[ahead], out[ahead] = mask[ahead], label
    return out


def _base(fine: NDArray[np.uint8], size: tuple[int, int], density: str) -> NDArray[np.uint8]:
    """Return one density of every region's look, spread over the image."""
    table = np.zeros(256, np.uint8)
    table[1 : len(REGIONS) + 1] = [round(getattr(_LOOKS[region], density)) for region in REGIONS]
    plain = cv2.GaussianBlur(cv2.LUT(fine, table), (0, 0), 1.0)
    return np.asarray(cv2.resize(plain, size, interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def _uneven(
    stain_map: NDArray[np.uint8], rng: np.random.Generator, shape: tuple[int, int]
) -> NDArray[np.uint8]:
    """Vary the stain smoothly, as section thickness and staining do."""
    field = smooth_field(rng, shape, _UNEVEN_RADIUS_UM / LABEL_MPP)
    factor = _level(128 * np.exp(_UNEVEN_SD * field))
    factor_map = cv2.resize(factor, stain_map.shape[::-1])
    return np.asarray(cv2.multiply(stain_map, factor_map, scale=1 / 128), dtype=np.uint8)


def _soften(
    stain_map: NDArray[np.uint8], mpp: float, rng: np.random.Generator, shape: tuple[int, int]
) -> NDArray[np.uint8]:
    """Vary the focus smoothly, from sharp to a blur of `_SOFT_UM`."""
    field = smooth_field(rng, shape, _UNEVEN_RADIUS_UM / LABEL_MPP)
    share = cv2.resize(_level(255 / (1 + np.exp(-1.5 * field))), stain_map.shape[::-1])
    soft = cv2.GaussianBlur(stain_map, (0, 0), _SOFT_UM / mpp)
    sharp = cv2.multiply(stain_map, cv2.bitwise_not(share), scale=1 / 255)
    mixed = cv2.add(sharp, cv2.multiply(soft, share, scale=1 / 255))
    return np.asarray(mixed, dtype=np.uint8)


def _fat_lumen(
    fine: NDArray[np.uint8], size: tuple[int, int], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Return the share of stain that is kept: 255 in tissue, near 0 inside fat cells.

    Fat cells are the cells of a Voronoi diagram, less their walls.
    """
    keep = np.full(fine.shape, 255, np.uint8)
    rows, columns = np.nonzero(fine == REGIONS.index("fat") + 1)
    grid = np.mgrid[
        0 : fine.shape[0] : _FAT_CELL_UM / _FINE_MPP, 0 : fine.shape[1] : _FAT_CELL_UM / _FINE_MPP
    ]
    centres = grid.reshape(2, -1).T
    centres = centres + rng.uniform(-0.38, 0.38, centres.shape) * _FAT_CELL_UM / _FINE_MPP
    if len(rows) and len(centres) > 1:
        pixels = np.stack([rows, columns], axis=1)
        distances, _ = cKDTree(centres).query(pixels, k=2)
        to_wall_um = (distances[:, 1] - distances[:, 0]) / 2 * _FINE_MPP
        # A cell ends at the border of the region too.
        to_edge_um = cv2.distanceTransform(
            (fine == REGIONS.index("fat") + 1).astype(np.uint8), cv2.DIST_L2, 5
        )
        to_wall_um = np.minimum(to_wall_um, to_edge_um[rows, columns] * _FINE_MPP - 1)
        keep[rows, columns] = np.clip((_FAT_WALL_UM - to_wall_um) * 127 + 128, 8, 255)
    return np.asarray(cv2.resize(keep, size, interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def _transmit(
    haematoxylin: NDArray[np.uint8], eosin: NDArray[np.uint8], stain: PatientStain
) -> NDArray[np.uint8]:
    """Return the light that is left in red, green and blue.

    It is the product of what each stain lets through, found by lookup.
    """
    density = np.arange(256) / 100
    image = np.empty((*haematoxylin.shape, 3), np.uint8)
    for channel in range(3):
        first = cv2.LUT(
            haematoxylin, _level(_GLASS[channel] * np.exp(-density * stain.haematoxylin[channel]))
        )
        second = cv2.LUT(eosin, _level(255 * np.exp(-density * stain.eosin[channel])))
        image[..., channel] = cv2.multiply(first, second, scale=1 / 255)
    return image


def _add_grain(image: NDArray[np.uint8], rng: np.random.Generator, shape: tuple[int, int]) -> None:
    """Add colour grain of uneven strength in place, as pigment and compression cause it.

    It also hides from colour statistics the little that compression says about the shape of nuclei.
    """
    size = image.shape[1::-1]
    field = smooth_field(rng, shape, _UNEVEN_RADIUS_UM / LABEL_MPP)
    strength = cv2.resize(
        _level(_GRAIN_GREY * np.exp(_GRAIN_SD * field - _GRAIN_SD**2 / 2) * 16), size
    )
    for channel in range(3):
        # Brighter and darker grain are added separately, so that everything stays unsigned. The
        # scales 16 (strength) and 32 (grain) are divided out together as 512.
        brighter, darker = (
            _tiled(_grain(sign), size, rng.uniform(0, _GRAIN_TILE_PX, 2)) for sign in (0, 1)
        )
        light = cv2.add(image[..., channel], cv2.multiply(brighter, strength, scale=1 / 512))
        image[..., channel] = cv2.subtract(light, cv2.multiply(darker, strength, scale=1 / 512))


@cache
def _grain(number: int) -> NDArray[np.uint8]:
    """Return periodic grain of about two pixels, half normal with scale 32."""
    return _level(32 * np.abs(_periodic(np.random.default_rng([7, number]), _GRAIN_TILE_PX, 0.9)))


def _level(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _tiled(
    tile: NDArray[np.uint8], size: tuple[int, int], offset_px: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Repeat a periodic tile over (width, height) pixels, starting at `offset_px` of the tile."""
    shifted = np.roll(tile, (-round(offset_px[1]), -round(offset_px[0])), axis=(0, 1))
    width, height = size
    return np.tile(shifted, (-(-height // tile.shape[0]), -(-width // tile.shape[1])))[
        :height, :width
    ].copy()


@cache
def _texture(name: str, mpp: float) -> NDArray[np.uint8]:
    """Return a periodic eosin texture with a mean near 128: fine grain, wavy fibres or granules."""
    rng = np.random.default_rng(["fine", "fibres", "granules"].index(name))
    side = round(_TILE_UM / mpp)
    if name == "fine":
        field = 0.6 * _periodic(rng, side, 0.7 / mpp) + 0.8 * _periodic(rng, side, 4.0 / mpp)
    elif name == "granules":
        field = 1.2 * np.tanh(2 * _periodic(rng, side, 1.1 / mpp)) + 0.7 * _periodic(
            rng, side, 7.0 / mpp
        )
    else:
        straight = np.zeros((side, side), np.float32)
        for weight, length, width in _FIBRES:
            straight += weight * _periodic(rng, side, length / mpp, width / mpp)
        y, x = np.mgrid[0:side, 0:side].astype(np.float32)
        bent = y + (_fibre_bend(x * mpp, y * mpp) / mpp).astype(np.float32)
        field = np.asarray(
            cv2.remap(
                straight,
                x,
                np.mod(bent, side).astype(np.float32),
                cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_WRAP,
            ),
            dtype=np.float32,
        )
    return _level(128 + 60 * field)


def _periodic(
    rng: np.random.Generator, side: int, sigma_x: float, sigma_y: float | None = None
) -> NDArray[np.float32]:
    noise = rng.standard_normal((side, side), dtype=np.float32)
    margin = int(4 * sigma_x) + 1
    wrapped = cv2.copyMakeBorder(noise, margin, margin, margin, margin, cv2.BORDER_WRAP)
    field = cv2.GaussianBlur(wrapped, (0, 0), sigma_x, sigmaY=sigma_y or sigma_x)[
        margin:-margin, margin:-margin
    ]
    return field / field.std()


def _fibre_bend(x_um: NDArray, y_um: NDArray) -> NDArray:
    """Return the displacement of the fibres in µm, periodic over the texture tile."""
    turn = 2 * np.pi / _TILE_UM
    return 60 * np.sin(turn * (2 * x_um + y_um)) + 12 * np.sin(turn * (5 * x_um - 3 * y_um) + 1)


def _fibre_angle(x_um: NDArray, y_um: NDArray) -> NDArray:
    """Return the direction of the fibres in radians.

    Fibres run along the lines on which y + bend is constant.
    """
    step = 0.5
    along_x = (_fibre_bend(x_um + step, y_um) - _fibre_bend(x_um - step, y_um)) / (2 * step)
    along_y = 1 + (_fibre_bend(x_um, y_um + step) - _fibre_bend(x_um, y_um - step)) / (2 * step)
    return np.arctan2(-along_x, along_y)
