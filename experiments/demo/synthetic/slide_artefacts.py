"""Plant artefacts on images of tissue: pen marks, patches out of focus, and folds.

Quality control is measured on the pixels that each artefact covers. ``plant_pen``, ``plant_blur``
and ``plant_fold`` serve that test and return those pixels. ``draw_artefacts`` and
``apply_artefact`` put pen marks and blur on the slides of the cohort.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from tcgn_mil.experiments.demo.synthetic.config import SyntheticConfig
from tcgn_mil.experiments.demo.synthetic.tissue import LABEL_MPP

INKS = {
    "blue": (35, 60, 150),
    "green": (20, 110, 70),
    "black": (35, 35, 40),
    "red": (190, 20, 40),
    "violet": (70, 30, 120),
    "turquoise": (0, 140, 150),
}
_INK_OPACITY = (0.75, 0.95)
_PEN_WIDTH_UM, _PEN_LENGTH_UM = (250, 400), (900, 1800)
_BLUR_RADIUS_UM = (250, 450)
_FOLD_WIDTH_UM, _FOLD_LENGTH_UM = (90, 180), (600, 1500)
_FOLD_SHIFT_UM = (60, 160)
_FEATHER_UM = 15.0

# Artefacts of the cohort's slides; lengths are shares of the slide's width.
_SLIDE_INKS = ("black", "blue", "green")
_PEN_WIDTH = 0.025
_PEN_LENGTH = 0.35
_BLUR_SIDE = 0.22
_BLUR_SIGMA_UM = 6.0
_SCANNED_INK_OPACITY = 0.85


def plant_pen(
    image: NDArray[np.uint8],
    where: NDArray[np.bool_],
    mpp: float,
    rng: np.random.Generator,
    *,
    ink: str,
) -> NDArray[np.bool_]:
    """Draw a stroke of a felt-tip pen, in place.

    Parameters
    ----------
    image
        (H, W, 3) uint8 RGB.
    where
        (H, W) mask of the places through which the stroke may run.
    mpp
        µm per pixel.
    rng
        Random generator.
    ink
        Colour among :data:`INKS`.

    Returns
    -------
    ndarray
        (H, W) mask of the pixels of the stroke.
    """
    stroke = _band(where, mpp, rng, _PEN_WIDTH_UM, _PEN_LENGTH_UM)
    cover = np.float32(rng.uniform(*_INK_OPACITY))
    image[stroke] = np.rint(
        image[stroke] * (1 - cover) + np.array(INKS[ink], dtype=np.float32) * cover
    )
    return stroke


def plant_blur(
    image: NDArray[np.uint8],
    where: NDArray[np.bool_],
    mpp: float,
    rng: np.random.Generator,
    *,
    sd_um: float,
) -> NDArray[np.bool_]:
    """Put a round field out of focus, in place; return its pixels.

    The field is blurred by a Gaussian of `sd_um`. The noise of a camera is not blurred with the
    tissue, so two grey levels of noise are added.
    """
    x, y = _somewhere(where, rng)
    axes = tuple(round(rng.uniform(*_BLUR_RADIUS_UM) / mpp) for _ in range(2))
    field = np.zeros(where.shape, np.uint8)
    cv2.ellipse(field, (x, y), axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
    near = _window(field, round(4 * max(sd_um, _FEATHER_UM) / mpp))
    sharp = image[near]
    share = cv2.GaussianBlur(field[near].astype(np.float32), (0, 0), _FEATHER_UM / mpp)[..., None]
    blurred = cv2.GaussianBlur(sharp, (0, 0), sd_um / mpp) + 2 * rng.standard_normal(
        sharp.shape, dtype=np.float32
    )
    image[near] = np.clip(np.rint(sharp * (1 - share) + blurred * share), 0, 255).astype(np.uint8)
    return field.astype(bool)


def plant_fold(
    image: NDArray[np.uint8],
    where: NDArray[np.bool_],
    mpp: float,
    rng: np.random.Generator,
    *,
    layers: int = 3,
) -> NDArray[np.bool_]:
    """Fold tissue upon itself along a band, in place; return its pixels.

    The optical densities of `layers` places add up, so their transmitted light is multiplied.
    """
    band = _band(where, mpp, rng, _FOLD_WIDTH_UM, _FOLD_LENGTH_UM) & where
    near = _window(band, round(_FOLD_SHIFT_UM[1] / mpp) + 1)
    folded, light, tissue = band[near], image[near].astype(np.float32) / 255, where[near]
    through = light.copy()
    for _ in range(layers - 1):
        shift = np.rint(rng.uniform(*_FOLD_SHIFT_UM) * _direction(rng) / mpp).astype(int)
        over = np.roll(light, tuple(shift), axis=(0, 1))
        under = np.roll(tissue, tuple(shift), axis=(0, 1)) & folded
        through[under] *= over[under]
    image[near][folded] = np.rint(through[folded] * 255).astype(np.uint8)
    return band


def _band(
    where: NDArray[np.bool_],
    mpp: float,
    rng: np.random.Generator,
    width_um: tuple[float, float],
    length_um: tuple[float, float],
) -> NDArray[np.bool_]:
    """Return the mask of a curved band through a place in `where`."""
    centre, direction = np.array(_somewhere(where, rng)), _direction(rng)
    length = rng.uniform(*length_um) / mpp
    along = np.linspace(-0.5, 0.5, 60)
    aside = 0.08 * length * np.sin(rng.uniform(0, 2 * np.pi) + 5 * along)
    line = centre + along[:, None] * length * direction + aside[:, None] * direction[::-1] * [-1, 1]
    mask = np.zeros(where.shape, np.uint8)
    thickness = round(rng.uniform(*width_um) / mpp)
    cv2.polylines(mask, [np.rint(line).astype(np.int32)], False, 1, thickness, cv2.LINE_8)
    return mask.astype(bool)


def _window(mask: NDArray[np.generic], margin: int) -> tuple[slice, slice]:
    """Return rows and columns around the part of a mask that is set.

    An artefact changes and reads nothing outside this window.
    """
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return slice(max(0, y - margin), y + height + margin), slice(
        max(0, x - margin), x + width + margin
    )


def _somewhere(where: NDArray[np.bool_], rng: np.random.Generator) -> tuple[int, int]:
    """Return x and y of a random pixel of `where`."""
    rows, columns = np.nonzero(where)
    pick = rng.integers(len(rows))
    return int(columns[pick]), int(rows[pick])


def _direction(rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a random unit vector."""
    angle = rng.uniform(0, 2 * np.pi)
    return np.array([np.cos(angle), np.sin(angle)])


class SlideArtefact(NamedTuple):
    """One artefact on a slide.

    Attributes
    ----------
    kind
        ``pen`` or ``blur``.
    x, y, width, height
        Box in pixels of level 0.
    ink, phase
        Colour and waviness of a pen mark.
    """

    kind: str
    x: int
    y: int
    width: int
    height: int
    ink: str = ""
    phase: float = 0.0


def draw_artefacts(
    config: SyntheticConfig, slide: str, labels: NDArray[np.uint8], mpp: float
) -> list[SlideArtefact]:
    """Decide at random which artefacts a slide has, and where."""
    rng = config.rng(f"artefacts {slide}")
    size = np.round(np.array(labels.shape[::-1]) * LABEL_MPP / mpp).astype(int)
    pen, blur = rng.random(2)
    artefacts = []
    if pen < config.pen_probability:
        box = np.array([_PEN_LENGTH * size[0], 0.1 * size[0]]).astype(int)
        # The mark lies along the upper or lower border, on glass and reaching into tissue.
        corner = rng.uniform([0.05, 0.03], [0.55, 0.12]) * size
        corner[1] += 0.68 * size[1] * rng.integers(2)
        corner = np.clip(corner, 0, size - box).astype(int)
        ink = str(rng.choice(_SLIDE_INKS))
        x, y = map(int, corner)
        width, height = map(int, box)
        artefacts.append(SlideArtefact("pen", x, y, width, height, ink, rng.uniform(0, 2 * np.pi)))
    if blur < config.blur_probability:
        side = int(_BLUR_SIDE * size[0])
        rows, columns = np.nonzero(labels)
        pick = rng.integers(len(rows))
        centre = np.array([columns[pick], rows[pick]]) * LABEL_MPP / mpp
        corner = np.clip(centre - side / 2, 0, size - side).astype(int)
        x, y = map(int, corner)
        artefacts.append(SlideArtefact("blur", x, y, side, side))
    return artefacts


def apply_artefact(image: NDArray[np.uint8], artefact: SlideArtefact, mpp: float) -> None:
    """Draw one artefact into an image (H, W, 3) uint8 RGB of `mpp` µm per pixel, in place."""
    box = image[artefact.y : artefact.y + artefact.height, artefact.x : artefact.x + artefact.width]
    if artefact.kind == "blur":
        cv2.GaussianBlur(box.copy(), (0, 0), _BLUR_SIGMA_UM / mpp, dst=box)
        return
    thickness = max(3, round(_PEN_WIDTH * image.shape[1]))
    reach = np.linspace(0, 1, 60)
    x = thickness + reach * (artefact.width - 2 * thickness)
    sway = np.sin(artefact.phase + 5 * reach) * (artefact.height / 2 - thickness)
    line = np.rint(np.stack([x, artefact.height / 2 + sway], axis=1)).astype(np.int32)
    mask = np.zeros(box.shape[:2], np.uint8)
    cv2.polylines(mask, [line], False, 255, thickness, cv2.LINE_AA)
    cover = (mask / 255 * _SCANNED_INK_OPACITY)[..., None]
    box[:] = np.rint(box * (1 - cover) + np.array(INKS[artefact.ink]) * cover).astype(np.uint8)
