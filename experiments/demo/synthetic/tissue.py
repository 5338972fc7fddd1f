"""Lay out tissue: region fractions of patients, and region maps with exactly these fractions."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from tcgn_mil.experiments.demo.synthetic.config import REGIONS, SyntheticConfig

LABEL_MPP = 8.0
"""Pixel size of a region map in µm."""

# Fractions of tumour, stroma, immune, fat and necrosis in the average patient.
_MEAN_FRACTIONS = np.array([0.44, 0.24, 0.14, 0.11, 0.07])
_MIN_FRACTION = 0.02
_SLIDE_CONCENTRATION = 60.0  # high, since slides and sections of one patient are alike
_SUBTYPE_A_RANGE = (0.1, 0.9)
# Typical radius of a region's patches in µm, in the order in which the regions are placed.
_PATCH_RADIUS_UM = {"necrosis": 90.0, "fat": 110.0, "immune": 55.0, "tumour": 85.0}
_SUBTYPE_RADIUS_UM = 110.0
_OUTLINE_RADIUS_UM = 130.0


def patient_fractions(config: SyntheticConfig, patient: str) -> NDArray[np.float64]:
    """Return the expected fraction of a patient's tissue in each of REGIONS, (6,), summing to 1.

    The share of subtype A in the tumour is independent of everything else and symmetric around one
    half, so that neither another fraction nor the colour gives information about it.
    """
    rng = config.rng(f"fractions {patient}")
    broad = rng.dirichlet(config.dirichlet_concentration * _MEAN_FRACTIONS)
    low, high = _SUBTYPE_A_RANGE
    return _with_subtypes(broad, low + (high - low) * rng.beta(0.7, 0.7))


def item_fractions(
    config: SyntheticConfig,
    patient: str,
    item: str,
    *,
    least: float = _MIN_FRACTION,
    least_tumour: float = _MIN_FRACTION,
) -> NDArray[np.float64]:
    """Return the fractions (6,) of a slide or section, which vary around those of its patient.

    Shares below `least`, or `least_tumour` for tumour as a whole, are raised to it before all are
    made to sum to 1.
    """
    rng = config.rng(f"fractions {item}")
    expected = patient_fractions(config, patient)
    tumour = expected[:2].sum()
    broad = rng.dirichlet(_SLIDE_CONCENTRATION * np.array([tumour, *expected[2:]]))
    share = np.clip(expected[0] / tumour + rng.normal(0, 0.05), *_SUBTYPE_A_RANGE)
    floor = np.full(len(broad), least)
    floor[0] = least_tumour
    return _with_subtypes(broad, share, floor=floor)


def _with_subtypes(
    broad: NDArray[np.float64],
    share_a: float,
    *,
    floor: float | NDArray[np.float64] = _MIN_FRACTION,
) -> NDArray[np.float64]:
    broad = np.maximum(broad, floor)
    broad = broad / broad.sum()
    return np.array([broad[0] * share_a, broad[0] * (1 - share_a), *broad[1:]])


def region_map(
    rng: np.random.Generator,
    size_um: tuple[float, float],
    tissue_fraction: float,
    fractions: NDArray[np.float64],
) -> NDArray[np.uint8]:
    """Lay out tissue on glass.

    Each region takes the pixels where a smooth random field of its own is highest among those that
    are left, as many as its fraction requires. The map therefore has exactly these fractions.

    Parameters
    ----------
    rng
        Random generator.
    size_um
        Width and height in µm.
    tissue_fraction
        Share of the area that is tissue.
    fractions
        (6,) share of the tissue in each of REGIONS.

    Returns
    -------
    ndarray
        (height, width) uint8 labels at :data:`LABEL_MPP`; 0 is glass and r + 1 is REGIONS[r].
    """
    width, height = (max(8, round(side / LABEL_MPP)) for side in size_um)
    labels = np.zeros((height, width), dtype=np.uint8)
    tissue = _highest(
        _outline(rng, (height, width)), np.ones((height, width), bool), tissue_fraction
    )
    area = int(tissue.sum())
    share = dict(zip(REGIONS, fractions, strict=True))
    share["tumour"] = share["tumour_a"] + share["tumour_b"]
    left = tissue.copy()
    chosen = {}
    for region, radius_um in _PATCH_RADIUS_UM.items():
        field = smooth_field(rng, (height, width), radius_um / LABEL_MPP)
        chosen[region] = _highest(field, left, share[region] * area / left.sum())
        left &= ~chosen[region]
    chosen["stroma"] = left
    field = smooth_field(rng, (height, width), _SUBTYPE_RADIUS_UM / LABEL_MPP)
    chosen["tumour_a"] = _highest(field, chosen["tumour"], share["tumour_a"] / share["tumour"])
    chosen["tumour_b"] = chosen["tumour"] & ~chosen["tumour_a"]
    for index, region in enumerate(REGIONS):
        labels[chosen[region]] = index + 1
    return labels


def smooth_field(
    rng: np.random.Generator, shape: tuple[int, int], sigma_px: float
) -> NDArray[np.float32]:
    """Return a Gaussian random field of unit variance, smooth over `sigma_px` pixels."""
    margin = int(3 * sigma_px) + 1
    noise = rng.standard_normal((shape[0] + 2 * margin, shape[1] + 2 * margin), dtype=np.float32)
    field = cv2.GaussianBlur(noise, (0, 0), sigma_px)[margin:-margin, margin:-margin]
    return field / field.std()


def measured_fractions(labels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the fraction of the tissue in each of REGIONS, (6,), summing to 1."""
    counts = np.bincount(labels.ravel(), minlength=len(REGIONS) + 1)[1:]
    return counts / counts.sum()


def neighbourhood_fractions(labels: NDArray[np.uint8], diameter_um: float) -> NDArray[np.float32]:
    """Return the share of a disc around every pixel that each label covers.

    Returns
    -------
    ndarray
        (7, height, width) float32: glass, then REGIONS.
    """
    radius = diameter_um / 2 / LABEL_MPP
    reach = int(np.ceil(radius))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disc = (x**2 + y**2 <= radius**2).astype(np.float32)
    disc /= disc.sum()
    covered = [(labels == label).astype(np.float32) for label in range(len(REGIONS) + 1)]
    return np.stack(
        [cv2.filter2D(mask, -1, disc, borderType=cv2.BORDER_REPLICATE) for mask in covered]
    )


def _outline(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return a field that is high inside an irregular rounded shape and low at the border."""
    y, x = (np.linspace(-1, 1, side, dtype=np.float32) for side in shape)
    distance = (np.abs(x)[None, :] ** 4 + np.abs(y)[:, None] ** 4) ** 0.25
    irregularity = 0.07 * smooth_field(rng, shape, _OUTLINE_RADIUS_UM / LABEL_MPP)
    border = np.where(distance > 0.97, 10 * (distance - 0.97), 0)
    return irregularity - distance - border


def _highest(
    field: NDArray[np.float32], among: NDArray[np.bool_], fraction: float
) -> NDArray[np.bool_]:
    """Return the mask of the `fraction` of the pixels in `among` where `field` is highest.

    At least one pixel is chosen.
    """
    inside = np.flatnonzero(among)
    number = min(len(inside), max(1, round(fraction * len(inside))))
    chosen = np.zeros(field.size, dtype=bool)
    chosen[inside[np.argsort(-field.ravel()[inside], kind="stable")[:number]]] = True
    return chosen.reshape(field.shape)
