"""Draw nuclei: a bank of small haematoxylin images, and the places where they are stamped.

The two tumour subtypes differ in morphology and not in colour. Subtype A has round nuclei; B has
fewer, larger, elongated ones. Colour statistics must not tell them apart, or ridge on colour would
solve a task that is meant to need morphology. To first order, a histogram of colour sees two things
of nuclei, through any blur: their area and the length of their outline, each per area of tissue.
Both are therefore the same in A and B. The nuclei of B are larger in radius by the factor by which
the outline of an ellipse is longer than that of a circle of the same area, and they are fewer by
the square of that factor. Edges, chromatin and strength of stain are the same in µm, and tumour
nuclei never overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from tcgn_mil.experiments.demo.synthetic.config import REGIONS

_VARIANTS = 16
_EDGE_UM = 1.0  # width of a nucleus's soft edge
_CHROMATIN_UM = 0.6
_CHROMATIN_CONTRAST = 0.12
# A place with less haematoxylin than this holds no nucleus. The plain tissue of all regions does.
_FREE_DENSITY = 34
_SIZES = (0.85, 1.15)  # smallest and largest radius of the variants, over that of the kind
_MEAN_SQUARE_SIZE = (_SIZES[0] ** 2 + _SIZES[0] * _SIZES[1] + _SIZES[1] ** 2) / 3
_TRIES = 8  # candidates for each tumour nucleus wanted


@dataclass(frozen=True)
class NucleusKind:
    """One kind of nucleus in one region.

    Attributes
    ----------
    region
        Region in which it lies.
    radius_um
        Radius of a circle of the same area in µm.
    density
        Haematoxylin in hundredths of optical density.
    aspect
        Length over width.
    spacing_um
        Spacing of the jittered grid on which nuclei lie, where `coverage` is 0. They may overlap.
    coverage
        Share of the region that nuclei cover. If it is above 0, they are placed at random without
        overlap until it is reached.
    follows_fibres
        Whether nuclei are aligned with the fibres.
    """

    region: str
    radius_um: float
    density: float
    aspect: float = 1.0
    spacing_um: float = 0.0
    coverage: float = 0.0
    follows_fibres: bool = False

    @property
    def orientations(self) -> int:
        """Number of orientations over half a turn; round nuclei need few."""
        return 4 if self.aspect == 1 else 12


_RADIUS_A_UM, _ASPECT_B = 3.1, 3.0
_TUMOUR_COVERAGE = 0.26


def _outline_ratio(aspect: float) -> float:
    """Return the perimeter of an ellipse over that of the circle of the same area.

    This is Ramanujan's first approximation.
    """
    a, b = np.sqrt(aspect), 1 / np.sqrt(aspect)
    return float(3 * (a + b) - np.sqrt((3 * a + b) * (a + 3 * b))) / 2


NUCLEI = (
    NucleusKind("tumour_a", _RADIUS_A_UM, 112, coverage=_TUMOUR_COVERAGE),
    NucleusKind(
        "tumour_b",
        _RADIUS_A_UM * _outline_ratio(_ASPECT_B),
        112,
        aspect=_ASPECT_B,
        coverage=_TUMOUR_COVERAGE,
    ),
    NucleusKind("stroma", 3.2, 105, aspect=4.5, spacing_um=24.0, follows_fibres=True),
    NucleusKind("stroma", 2.5, 130, spacing_um=70.0),
    NucleusKind("immune", 2.6, 140, spacing_um=6.4),
    NucleusKind("fat", 2.2, 110, aspect=2.5, spacing_um=45.0),
    NucleusKind("necrosis", 1.6, 105, spacing_um=26.0),
)


def stamp_nuclei(
    haematoxylin: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    label_mpp: float,
    mpp: float,
    fibre_angle: Callable[[NDArray, NDArray], NDArray],
    rng: np.random.Generator,
) -> None:
    """Stamp the nuclei of every region into a density map, in place.

    Parameters
    ----------
    haematoxylin
        (H, W) uint8 map in hundredths of optical density, of `mpp` µm per pixel.
    labels
        (h, w) region map of the same field, of `label_mpp` µm per pixel.
    label_mpp, mpp
        Pixel sizes in µm.
    fibre_angle
        Function that returns the direction of the fibres in radians at positions x, y in µm.
    rng
        Random generator.
    """
    height, width = haematoxylin.shape
    for kind in NUCLEI:
        bank = _bank(kind, mpp)
        mask = labels == REGIONS.index(kind.region) + 1
        wanted = -1
        if kind.coverage:
            wanted = round(
                kind.coverage
                * mask.sum()
                * label_mpp**2
                / (np.pi * kind.radius_um**2 * _MEAN_SQUARE_SIZE)
            )
            x_um, y_um = _random_places(rng, mask, label_mpp, _TRIES * wanted)
        else:
            x_um, y_um = _jittered_grid(rng, width * mpp, height * mpp, kind.spacing_um)
            rows = np.minimum((y_um / label_mpp).astype(int), labels.shape[0] - 1)
            columns = np.minimum((x_um / label_mpp).astype(int), labels.shape[1] - 1)
            x_um, y_um = x_um[mask[rows, columns]], y_um[mask[rows, columns]]
        orientations = rng.integers(kind.orientations, size=len(x_um))
        if kind.follows_fibres:
            angle = fibre_angle(x_um, y_um) + rng.normal(0, 0.15, size=len(x_um))
            orientations = (
                np.rint(angle / np.pi * kind.orientations).astype(int) % kind.orientations
            )
        variants = rng.integers(_VARIANTS, size=len(x_um))
        sprites = [
            bank[variant][turn]
            for variant, turn in zip(variants.tolist(), orientations.tolist(), strict=True)
        ]
        corners = zip(
            (x_um / mpp).astype(int).tolist(), (y_um / mpp).astype(int).tolist(), strict=True
        )
        _stamp_all(haematoxylin, zip(sprites, corners, strict=True), wanted)


def _stamp_all(
    density: NDArray[np.uint8],
    places: Iterable[tuple[NDArray[np.uint8], tuple[int, int]]],
    wanted: int,
) -> None:
    """Stamp images of nuclei centred at (x, y).

    With `wanted` of 0 or more, only free places are used, and at most that many.
    """
    for sprite, (x, y) in places:
        if wanted == 0:
            return
        half = sprite.shape[0] // 2
        if x < half or y < half:
            continue
        view = density[y - half : y + half + 1, x - half : x + half + 1]
        if view.shape != sprite.shape:
            continue
        if wanted > 0:
            if np.minimum(view, sprite).max() > _FREE_DENSITY:
                continue
            wanted -= 1
        np.maximum(view, sprite, out=view)


def _random_places(
    rng: np.random.Generator, mask: NDArray[np.bool_], label_mpp: float, number: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return random positions in µm inside a mask."""
    rows, columns = np.nonzero(mask)
    pick = rng.integers(max(1, len(rows)), size=number if len(rows) else 0)
    x_um, y_um = ((axis[pick] + rng.random(len(pick))) * label_mpp for axis in (columns, rows))
    return x_um, y_um


def _jittered_grid(
    rng: np.random.Generator, width_um: float, height_um: float, spacing_um: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return positions in µm with about even spacing; every other row is shifted."""
    columns, rows = int(width_um / spacing_um), int(height_um / spacing_um)
    x, y = np.meshgrid(np.arange(columns) + 0.5, np.arange(rows) + 0.5)
    x = x + 0.5 * (np.arange(rows)[:, None] % 2) - 0.25
    x, y = ((axis + rng.uniform(-0.3, 0.3, axis.shape)).ravel() * spacing_um for axis in (x, y))
    inside = (x >= 0) & (y >= 0) & (x < width_um) & (y < height_um)
    return x[inside], y[inside]


@cache
def _bank(kind: NucleusKind, mpp: float) -> list[list[NDArray[np.uint8]]]:
    """Return the images of one kind of nucleus at one pixel size, by variant and orientation.

    Each variant has the same random shape in all kinds.
    """
    return [
        [
            _sprite(kind, mpp, variant, np.pi * turn / kind.orientations)
            for turn in range(kind.orientations)
        ]
        for variant in range(_VARIANTS)
    ]


def _sprite(kind: NucleusKind, mpp: float, variant: int, angle: float) -> NDArray[np.uint8]:
    rng = np.random.default_rng([variant])
    radius = kind.radius_um * (_SIZES[0] + (_SIZES[1] - _SIZES[0]) * (variant + 0.5) / _VARIANTS)
    lobes, phase = rng.normal(0, 0.045, 3), rng.uniform(0, 2 * np.pi, 3)
    strength = rng.uniform(0.85, 1.1)
    shift = rng.uniform(-0.5, 0.5, 2) * mpp
    long, short = radius * np.sqrt(kind.aspect), radius / np.sqrt(kind.aspect)
    half = int(np.ceil((1.2 * long + _EDGE_UM) / mpp)) + 1
    y, x = np.mgrid[-half : half + 1, -half : half + 1] * mpp
    x, y = x + shift[0], y + shift[1]
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    level = np.hypot(along / long, across / short) + 1e-9
    direction = np.arctan2(across / short, along / long)
    outline = 1 + sum(lobes[k] * np.cos((k + 2) * direction + phase[k]) for k in range(3))
    # To first order, the distance to the outline is the difference of level and outline over the
    # gradient of the level.
    gradient = np.hypot(along / long**2, across / short**2) / level + 1e-9
    inside = np.clip((outline - level) / gradient / _EDGE_UM + 0.5, 0, 1)
    grain = cv2.GaussianBlur(rng.standard_normal(x.shape), (0, 0), _CHROMATIN_UM / mpp)
    grain *= 2 * np.sqrt(np.pi) * _CHROMATIN_UM / mpp  # to unit variance
    density = (
        kind.density * strength * inside**2 * (3 - 2 * inside) * (1 + _CHROMATIN_CONTRAST * grain)
    )
    return np.clip(density, 0, 255).astype(np.uint8)
