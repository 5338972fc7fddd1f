"""Stain normalisation: a slide's colours brought to those of a reference, by one transform a slide.

Two methods, both fitted by torchstain's numpy backend (Barbano & Pedersen; it imports no torch):

- macenko (Macenko et al. 2009, ISBI 1107-1110): the two stain vectors are the extreme directions of the optical
  density, their strengths the 99th percentiles of what is stained. Swapping them for the reference's is one 3 x 3
  matrix in optical density. Without a reference image the stains are those that came with the method's published code.
- reinhard (Reinhard et al. 2001, IEEE Comput. Graph. Appl. 21:34-41): mean and standard deviation of each channel in
  CIELAB become the reference's. Departures from the paper: taken over stained pixels, so that the share of glass does
  not matter; and faded out towards white, or the glass would take on a tint.

Both are fitted once a slide on pixels of a sample of its tiles. Fitted tile by tile, as is common, they fail on pale
tiles, and give every tile the same mix of stains whatever its tissue.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from torchstain.numpy.normalizers import NumpyMacenkoNormalizer, NumpyReinhardNormalizer

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.slides.readers.plain import read_image
from tcgn_mil.types.tiles import Stain

METHODS = ("macenko", "reinhard")
PUBLISHED = "published"  # the reference of Macenko's code
LIGHT = 240  # intensity of bare glass, as in that code
FAINTEST = 0.15  # natural optical density under which a pixel is no tissue, as there
LEAST_STAINED = 0.02  # of the pixels: fewer, and the percentiles are those of noise
LEAST_PIXELS = 2000
MOST_ALIKE = 0.995  # cosine of the two stain vectors; haematoxylin and eosin have 0.93
MOST_PIXELS = 600_000
WHITE_L, STAINED_L = (
    94.0,
    83.0,
)  # lightness of glass, and of FAINTEST: Reinhard's transform fades out between them
_FIX = "tile without --stain, or leave the slide out; look whether it is stained with H&E"
Transform = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


@dataclass(frozen=True)
class StainTarget:
    """What slides are normalised to.

    Attributes
    ----------
    method
        macenko or reinhard.
    reference
        Base name of the reference image, or `PUBLISHED`.
    numbers
        Its parameters, as in :class:`~tcgn_mil.types.tiles.Stain`.
    """

    method: str
    reference: str
    numbers: tuple[float, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for the settings of a tile file."""
        return {"method": self.method, "reference": self.reference, "numbers": list(self.numbers)}


def stain_target(method: str, image: str | Path | None = None) -> StainTarget:
    """The reference to normalise to.

    Parameters
    ----------
    method
        One of `METHODS`.
    image
        PNG, JPEG or TIFF of typical tissue; macenko can do without.

    Raises
    ------
    InputError
        If the method is unknown, the image is missing, unreadable or hardly stained, or reinhard has none.
    """
    if method not in METHODS:
        raise InputError(
            f"unknown stain normalisation {method!r}", fix=f"give one of {', '.join(METHODS)}"
        )
    if image is not None:
        try:
            return StainTarget(method, Path(image).name, _fit(read_image(image), method))
        except InputError as error:
            fix = (
                error.fix
                if error.path
                else "give an image of well-stained tissue as --stain-reference"
            )
            raise InputError(error.reason, path=image, fix=fix) from error
    if method == "reinhard":
        raise InputError(
            "reinhard has no published reference",
            fix="give an image of typical tissue as --stain-reference",
        )
    published = NumpyMacenkoNormalizer()
    return StainTarget(method, PUBLISHED, _numbers(published.HERef, published.maxCRef))


def fit_stain(pixels: NDArray[np.uint8], target: StainTarget) -> Stain:
    """Fit a slide's stains on ``pixels`` (..., 3) uint8 RGB of its tissue.

    Raises
    ------
    InputError
        If too little of it is stained, or with one colour only.
    """
    return Stain(target.method, target.reference, target.numbers, _fit(pixels, target.method))


def stain_transform(stain: Stain) -> Transform:
    """A function from (B, H, W, 3) uint8 RGB to the same, normalised."""
    return _macenko(stain) if stain.method == "macenko" else _reinhard(stain)


def _fit(pixels: NDArray[np.uint8], method: str) -> tuple[float, ...]:
    flat = pixels.reshape(-1, 3)
    flat = flat[:: max(1, len(flat) // MOST_PIXELS)]
    density = _density()[flat]
    faint = (
        density.mean(axis=1) if method == "reinhard" else density.min(axis=1)
    )  # macenko as in its published code
    stained = flat[faint >= FAINTEST]
    if len(stained) < max(LEAST_PIXELS, LEAST_STAINED * len(flat)):
        raise InputError(
            f"too little stain to fit {method}: {len(stained) / max(1, len(flat)):.1%} of {len(flat)} tissue pixels",
            fix=_FIX,
        )
    if method == "reinhard":
        lab = NumpyReinhardNormalizer()
        lab.fit(stained[None])
        return _numbers(lab.target_means, np.maximum(lab.target_stds, 1e-3))
    fitted = NumpyMacenkoNormalizer()
    fitted.fit(stained[None], Io=LIGHT, beta=FAINTEST)
    vectors, strengths = fitted.HERef, fitted.maxCRef
    if not (
        np.isfinite(vectors).all()
        and vectors[:, 0] @ vectors[:, 1] < MOST_ALIKE
        and strengths.min() > FAINTEST
    ):
        raise InputError(
            f"one colour of stain only, {method} needs haematoxylin and eosin", fix=_FIX
        )
    return _numbers(vectors, strengths)


def _numbers(*parts: NDArray[np.floating]) -> tuple[float, ...]:
    """Rounded, so that a reference has one identity whatever linear algebra fitted it."""
    return tuple(round(float(value), 5) for part in parts for value in np.ravel(part))


def _density() -> NDArray[np.float32]:
    """(256,) natural optical density of each intensity, a little negative where it is brighter than glass."""
    return (-np.log((np.arange(256) + 1) / LIGHT)).astype(np.float32)


def _macenko(stain: Stain) -> Transform:
    theirs, ours = (np.array(numbers[:6]).reshape(3, 2) for numbers in (stain.target, stain.source))
    strength = np.array(stain.target[6:]) / np.array(stain.source[6:])
    matrix = (theirs * strength @ np.linalg.pinv(ours)).astype(np.float32)
    density = _density()

    def transform(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        mixed = cv2.transform(density[_rows(pixels)], -matrix)
        return _as_pixels(cv2.exp(mixed), LIGHT, pixels.shape)

    return transform


def _reinhard(stain: Stain) -> Transform:
    target, source = (
        np.array(numbers, dtype=np.float32) for numbers in (stain.target, stain.source)
    )
    scale = target[3:] / source[3:]
    matrix = np.column_stack([np.diag(scale), target[:3] - scale * source[:3]]).astype(np.float32)

    def transform(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        rows = _rows(pixels)
        lab = cv2.cvtColor(rows.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
        weight = np.clip((WHITE_L - lab[..., :1]) / (WHITE_L - STAINED_L), 0, 1)
        lab += weight * (cv2.transform(lab, matrix) - lab)
        return _as_pixels(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), 255, pixels.shape)

    return transform


def _rows(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A batch as one tall image, as OpenCV takes it."""
    return pixels.reshape(-1, pixels.shape[-2], 3)


def _as_pixels(
    values: NDArray[np.float32], light: float, shape: tuple[int, ...]
) -> NDArray[np.uint8]:
    return np.rint(np.clip(values * light, 0, 255)).astype(np.uint8).reshape(shape)
