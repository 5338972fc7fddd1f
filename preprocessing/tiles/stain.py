"""Stain normalisation: bring the colours of a slide to those of a reference, by one transform.

There are two methods. Both are fitted by torchstain's numpy backend (Barbano and Pedersen), which
does not import torch.

- macenko (Macenko et al. 2009, ISBI 1107-1110). By the law of Beer and Lambert the optical density
  of a pixel is a sum of two stain vectors, each times the amount of its stain. The stain vectors
  are the two extreme directions of the densities, and the strength of a stain is the 99th
  percentile of its amounts. Without a reference image the stains are those that were published
  with the method's code.
- reinhard (Reinhard et al. 2001, IEEE Computer Graphics and Applications 21:34-41). The mean and
  the standard deviation of each channel in CIELAB become those of the reference. There are two
  departures from the paper: only stained pixels are used, so that the share of glass does not
  matter; and the transform fades out towards white, because it would give the glass a tint.

The transform is fitted once per slide, to pixels from a sample of its tiles. A fit for each tile,
which is common, fails on pale tiles, and gives every tile the same mixture of stains whatever its
tissue.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.extras import need_extra
from tcgn_mil.preprocessing.slides.readers.plain import read_image
from tcgn_mil.preprocessing.tiles.settings import StainTarget
from tcgn_mil.types.tiles import Stain

METHODS = ("macenko", "reinhard")
PUBLISHED = "published"  # name of the reference in Macenko's code
LIGHT = 240  # intensity of bare glass, as in Macenko's code
FAINTEST = 0.15  # natural optical density of the palest stained pixel, as in Macenko's code
MIN_STAINED_SHARE = 0.02  # smallest share of stained pixels; with fewer the percentiles are noise
MIN_PIXELS = 2000
# Cosine of the angle between the two stain vectors; haematoxylin and eosin have 0.93. Two vectors
# that are more alike than this are one stain, split in two by noise.
MAX_COSINE = 0.995
MAX_PIXELS = 600_000  # used for a fit; more do not change it
# CIELAB lightness of glass, and of a pixel of density FAINTEST. Reinhard's transform fades out
# between the two.
WHITE_L, STAINED_L = 94.0, 83.0
_FIX = "tile without --stain, or remove this slide if it is not stained with H&E"

Transform = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


def stain_target(method: str, image: str | Path | None = None) -> StainTarget:
    """Make a reference to normalise to.

    Parameters
    ----------
    method
        ``macenko`` or ``reinhard``.
    image
        PNG, JPEG or TIFF of typical tissue. It is optional for macenko, which has a published
        reference.

    Raises
    ------
    InputError
        If torchstain is not installed, the method is unknown, the image is missing, unreadable or
        hardly stained, or there is no image for reinhard.

    Examples
    --------
    >>> stain_target("macenko").reference
    'published'
    """
    if method not in METHODS:
        raise InputError(
            f"unknown stain normalisation {method!r}", fix=f"give one of {', '.join(METHODS)}"
        )
    if image is not None:
        try:
            return StainTarget(method, Path(image).name, _fit(read_image(image), method))
        except InputError as error:
            # An error without a path is about the stain, not about the file.
            advice = "give an image of well-stained tissue as --stain-reference"
            fix = error.fix if error.path else advice
            raise InputError(error.reason, path=image, fix=fix) from error
    if method == "reinhard":
        raise InputError(
            "reinhard has no published reference",
            fix="give an image of typical tissue as --stain-reference",
        )
    published = _normaliser(method)
    return StainTarget(method, PUBLISHED, _numbers(published.HERef, published.maxCRef))


def fit_stain(pixels: NDArray[np.uint8], target: StainTarget) -> Stain:
    """Fit the stains of a slide.

    Parameters
    ----------
    pixels
        (..., 3) uint8 RGB of the slide's tissue.
    target
        Reference to normalise to.

    Raises
    ------
    InputError
        If too few of the pixels are stained, or all have one colour only.
    """
    return Stain(target.method, target.reference, target.numbers, _fit(pixels, target.method))


def stain_transform(stain: Stain) -> Transform:
    """Make the function that normalises pixels, from (B, H, W, 3) uint8 RGB to the same."""
    return _macenko(stain) if stain.method == "macenko" else _reinhard(stain)


def _fit(pixels: NDArray[np.uint8], method: str) -> tuple[float, ...]:
    """Fit the parameters of a method, in the order of :class:`~tcgn_mil.types.tiles.Stain`."""
    flat = pixels.reshape(-1, 3)
    flat = flat[:: max(1, len(flat) // MAX_PIXELS)]
    density = _density()[flat]
    # Macenko's code requires the least density in every channel of a stained pixel; for reinhard it
    # is required of the mean over channels.
    density_to_test = density.mean(axis=1) if method == "reinhard" else density.min(axis=1)
    stained = flat[density_to_test >= FAINTEST]
    if len(stained) < max(MIN_PIXELS, MIN_STAINED_SHARE * len(flat)):
        raise InputError(
            f"too little stain to fit {method}: {len(stained) / max(1, len(flat)):.1%} of"
            f" {len(flat)} tissue pixels are stained",
            fix=_FIX,
        )
    if method == "reinhard":
        reinhard = _normaliser(method)
        reinhard.fit(stained[None])
        return _numbers(reinhard.target_means, np.maximum(reinhard.target_stds, 1e-3))
    fitted = _normaliser(method)
    fitted.fit(stained[None], Io=LIGHT, beta=FAINTEST)
    vectors, strengths = fitted.HERef, fitted.maxCRef
    if not (
        np.isfinite(vectors).all()
        and vectors[:, 0] @ vectors[:, 1] < MAX_COSINE
        and strengths.min() > FAINTEST
    ):
        raise InputError(
            f"the pixels show only one stain, but {method} needs haematoxylin and eosin", fix=_FIX
        )
    return _numbers(vectors, strengths)


def _normaliser(method: str) -> Any:
    """Make torchstain's normaliser of a method."""
    need_extra("torchstain", "stain normalisation")
    from torchstain.numpy.normalizers import NumpyMacenkoNormalizer, NumpyReinhardNormalizer

    return NumpyReinhardNormalizer() if method == "reinhard" else NumpyMacenkoNormalizer()


def _numbers(*parts: NDArray[np.floating]) -> tuple[float, ...]:
    """Flatten and round parameters.

    Rounding gives a reference the same identity on machines whose linear algebra differs in the
    last digits.
    """
    return tuple(round(float(value), 5) for part in parts for value in np.ravel(part))


def _density() -> NDArray[np.float32]:
    """Tabulate the natural optical density of each intensity.

    Intensities above that of glass give a negative density.
    """
    return (-np.log((np.arange(256) + 1) / LIGHT)).astype(np.float32)


def _macenko(stain: Stain) -> Transform:
    """Make Macenko's transform.

    Let the columns of S and T (3 x 2) be the stain vectors of the slide and of the reference, and
    s and t their strengths. The amounts of stain in a density d are pinv(S) d. They are scaled by
    t / s, and mixed again by the reference's vectors:

        d' = T diag(t / s) pinv(S) d

    So the whole transform is one 3 x 3 matrix in optical density, the same for all pixels.
    """
    target_vectors, slide_vectors = (
        np.array(numbers[:6]).reshape(3, 2) for numbers in (stain.target, stain.source)
    )
    strength = np.array(stain.target[6:]) / np.array(stain.source[6:])
    matrix = (target_vectors * strength @ np.linalg.pinv(slide_vectors)).astype(np.float32)
    density = _density()

    def transform(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        # An intensity is LIGHT * exp(-d'), so the minus sign is put into the matrix.
        mixed = cv2.transform(density[_rows(pixels)], -matrix)
        return _as_pixels(cv2.exp(mixed), LIGHT, pixels.shape)

    return transform


def _reinhard(stain: Stain) -> Transform:
    """Make Reinhard's transform.

    Each channel of CIELAB becomes (x - mean_slide) * sd_reference / sd_slide + mean_reference. It
    is weighted by the pixel's lightness, so that white stays white.
    """
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
    """Stack a batch to one tall image, because OpenCV does not accept batches."""
    return pixels.reshape(-1, pixels.shape[-2], 3)


def _as_pixels(
    values: cv2.typing.MatLike, light: float, shape: tuple[int, ...]
) -> NDArray[np.uint8]:
    return np.rint(np.clip(values * light, 0, 255)).astype(np.uint8).reshape(shape)
