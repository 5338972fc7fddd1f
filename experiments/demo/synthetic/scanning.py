"""What goes wrong on a slide: a pen mark, or a patch out of focus."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from tcgn_mil.experiments.demo.synthetic.config import SyntheticConfig
from tcgn_mil.experiments.demo.synthetic.tissue import LABEL_MPP

_INKS = {"blue": (35, 60, 150), "green": (20, 110, 70), "black": (35, 35, 40)}
_PEN_WIDTH = 0.025  # shares of the slide's width
_PEN_LENGTH = 0.35
_BLUR_SIDE = 0.22
_BLUR_SIGMA_UM = 6.0
_INK_OPACITY = 0.85


class SlideArtefact(NamedTuple):
    """One artefact on a slide: its kind (pen or blur), box in level-0 pixels, and what else is needed to draw it."""

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
    """Decide which artefacts a slide has, and where."""
    rng = config.rng(f"artefacts {slide}")
    size = np.round(np.array(labels.shape[::-1]) * LABEL_MPP / mpp).astype(int)
    pen, blur = rng.random(2)
    found = []
    if pen < config.pen_probability:
        box = np.array([_PEN_LENGTH * size[0], 0.1 * size[0]]).astype(int)
        # Along the upper or lower border, where it lies on glass and reaches into tissue.
        corner = rng.uniform([0.05, 0.03], [0.55, 0.12]) * size
        corner[1] += 0.68 * size[1] * rng.integers(2)
        corner = np.clip(corner, 0, size - box).astype(int)
        ink = str(rng.choice(sorted(_INKS)))
        found.append(
            SlideArtefact("pen", *corner.tolist(), *box.tolist(), ink, rng.uniform(0, 2 * np.pi))
        )
    if blur < config.blur_probability:
        side = int(_BLUR_SIDE * size[0])
        rows, columns = np.nonzero(labels)
        pick = rng.integers(len(rows))
        centre = np.array([columns[pick], rows[pick]]) * LABEL_MPP / mpp
        corner = np.clip(centre - side / 2, 0, size - side).astype(int)
        found.append(SlideArtefact("blur", *corner.tolist(), side, side))
    return found


def apply_artefact(image: NDArray[np.uint8], artefact: SlideArtefact, mpp: float) -> None:
    """Draw one artefact into an (H, W, 3) uint8 RGB image of `mpp` µm per pixel, in place."""
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
    cover = (mask / 255 * _INK_OPACITY)[..., None]
    box[:] = np.rint(box * (1 - cover) + np.array(_INKS[artefact.ink]) * cover).astype(np.uint8)
