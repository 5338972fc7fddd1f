"""Measure the quality of tiles: the share that is out of focus, under ink, and under folds.

Focus
    The optical density is filtered by two band-passes: differences between neighbouring pixels of
    2 µm (fine), and structure at the scale of nuclei (coarse). The focus is the spread in the fine
    band over the spread in the coarse band,

        focus = sqrt(E[(d - G2 * d)^2] / E[(G2 * d - G8 * d)^2]),

    where d is the density and Gs a Gaussian with a standard deviation of s µm. In the ratio the
    strength of the stain and the number of cells cancel out. On 33 real images in focus, 99 % of
    the tiles of each have 0.38 to 1.8. Blurred by a Gaussian of 4 µm, 99 % have less than 0.27; of
    3 µm, less than 0.39.

Folds
    In a fold several layers of tissue lie on top of each other, and leave no pale gap between them.
    So the lower envelope of the density is compared with the slide's own median. Dense nuclei fill
    the gaps as well, but with haematoxylin, which absorbs red. Whatever is much bluer than the
    slide's tissue is therefore not called a fold, because lymphoid aggregates and tumour nests must
    not be lost. The price is that folds of three layers are found, as where tissue is turned back
    upon itself, but most folds of two layers are missed, and many folds of dense nuclei.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from tcgn_mil.preprocessing.slides.readers.base import Slide
from tcgn_mil.preprocessing.slides.resample import resample_to
from tcgn_mil.preprocessing.tiles.grid import tile_means
from tcgn_mil.preprocessing.tiles.ink import disk, optical_density, total_density
from tcgn_mil.preprocessing.tiles.settings import MIN_FOCUS
from tcgn_mil.types.tiles import TileQuality

QUALITY_MPP = 2.0
# Standard deviations of the Gaussians that bound the two bands.
_FINE_UM, _COARSE_UM = 2.0, 8.0
# Spread of the density in the coarse band; the palest tissue in focus has 0.010.
_MIN_CONTRAST = 0.008
_LOCAL_UM = 15.0  # standard deviation of the window in which focus is measured
# A slide whose median focus exceeds 1 / 1.35 is sharper than most; `min_focus` then rises with it.
_SHARP = 1.35
_MIN_TISSUE_TO_FOCUS = 0.02  # share of tissue in a tile that is needed to measure its focus
_GAP_UM = 22.0  # distance between nuclei; the lower envelope is taken in a disk of this width
_ENVELOPE_UM = 8.0
# Times the slide's median. At 1.9 a slide of pale dermis loses a tenth of its tiles, which are
# epidermis.
_FOLD_DENSITY = 2.5
_MAX_RED = 0.05  # share of red in the density, above the slide's median
_THINNEST_FOLD_UM = 32.0
# Near the edge of blur or of a fold the filters also see what is beside it, and recognise neither.
# Both are widened by this much.
_LOST_RIM_UM = 16.0
_MARGIN_UM = 48.0  # reach of the filters
_BLOCK_PX = 128  # a slide is read in blocks of this many pixels of the tissue mask
_COARSEST_MPP = 3.0  # coarser slides do not show whether they are in focus


class QualityMaps(NamedTuple):
    """Maps over a slide on the grid of its tissue mask, (h, w) float32.

    Attributes
    ----------
    fine, coarse
        Squared density in the two bands.
    envelope
        Lower envelope of the density.
    red
        Share of red in the density.
    """

    fine: NDArray[np.float32]
    coarse: NDArray[np.float32]
    envelope: NDArray[np.float32]
    red: NDArray[np.float32]


def measure_quality(
    slide: Slide,
    tissue: NDArray[np.bool_],
    pen: NDArray[np.bool_],
    coords: NDArray[np.int64],
    level0_px: float,
    *,
    min_focus: float = MIN_FOCUS,
) -> TileQuality:
    """Measure the quality of tiles.

    Parameters
    ----------
    slide
        Slide, which is read at about 2 µm per pixel, block by block, where there is tissue.
    tissue, pen
        Masks (h, w) bool over the whole slide.
    coords
        (N, 2) top-left corners in level-0 pixels.
    level0_px
        Side of a tile in level-0 pixels.
    min_focus
        Tissue with a lower focus is out of focus.

    Returns
    -------
    TileQuality
        On a slide that is coarser than 3 µm per pixel only the share of ink is measured.
    """
    size = slide.size
    inked = np.clip(tile_means(pen, coords, level0_px, size), 0, 1).astype(np.float32)
    if slide.mpp > _COARSEST_MPP:
        none = np.zeros(len(coords), dtype=np.float32)
        return TileQuality(np.full(len(coords), np.nan, dtype=np.float32), none, inked, none)
    maps, mpp = quality_maps(slide, tissue), slide_mask_mpp(slide, tissue)
    fine, coarse = (
        np.maximum(tile_means(band * tissue, coords, level0_px, size), 0)
        for band in (maps.fine, maps.coarse)
    )
    covered = tile_means(tissue, coords, level0_px, size)
    told = (covered > _MIN_TISSUE_TO_FOCUS) & (coarse > _MIN_CONTRAST**2 * covered)
    focus = np.where(told, np.sqrt(fine / np.maximum(coarse, 1e-12)), np.nan)
    blurred = tile_means(
        find_blur(maps, tissue, mpp, min_focus), coords, level0_px, size
    ) / np.maximum(covered, 1e-6)
    folded = tile_means(find_folds(maps, tissue, mpp), coords, level0_px, size)
    shares = (
        np.clip(share, 0, 1).astype(np.float32) for share in (np.where(told, blurred, 0), folded)
    )
    return TileQuality(focus.astype(np.float32), next(shares), inked, next(shares))


def slide_mask_mpp(slide: Slide, mask: NDArray[np.bool_]) -> float:
    """Return the micrometres per pixel of a mask over the whole slide."""
    return slide.mpp * math.sqrt(slide.size[0] * slide.size[1] / mask.size)


def find_blur(
    maps: QualityMaps, tissue: NDArray[np.bool_], mpp: float, min_focus: float
) -> NDArray[np.bool_]:
    """Find the tissue that is out of focus.

    Parameters
    ----------
    maps
        Maps of :func:`quality_maps`.
    tissue
        (h, w) bool.
    mpp
        Micrometres per pixel of the maps.
    min_focus
        Tissue with a lower focus is out of focus. In a slide that is sharper than most the limit is
        raised in proportion, since the same blur leaves it a higher value.

    Returns
    -------
    (h, w) bool
        Tissue without any structure, which is far out of focus or empty, is included.
    """
    fine, coarse, covered = (
        cv2.GaussianBlur(np.where(tissue, band, 0).astype(np.float32), (0, 0), _LOCAL_UM / mpp)
        for band in (maps.fine, maps.coarse, np.ones(tissue.shape))
    )
    if not tissue.any():
        return np.zeros_like(tissue)
    flat = coarse <= _MIN_CONTRAST**2 * covered
    focus = np.sqrt(fine / np.maximum(coarse, 1e-12))
    least = (
        min_focus * max(1.0, _SHARP * float(np.median(focus[tissue & ~flat])))
        if (tissue & ~flat).any()
        else 0.0
    )
    return tissue & _widen(tissue & np.where(flat, min_focus > 0, focus < least), mpp)


def find_folds(maps: QualityMaps, tissue: NDArray[np.bool_], mpp: float) -> NDArray[np.bool_]:
    """Find folded tissue, (h, w) bool; `mpp` is the maps' micrometres per pixel."""
    if not tissue.any():
        return np.zeros_like(tissue)
    dense = maps.envelope > _FOLD_DENSITY * np.median(maps.envelope[tissue])
    blue = maps.red > np.median(maps.red[tissue]) + _MAX_RED
    folded = (dense & ~blue & tissue).astype(np.uint8)
    folded = cv2.morphologyEx(folded, cv2.MORPH_OPEN, disk(_THINNEST_FOLD_UM / 2 / mpp))
    return tissue & _widen(folded > 0, mpp)


def _widen(mask: NDArray[np.bool_], mpp: float) -> NDArray[np.bool_]:
    return cv2.dilate(mask.astype(np.uint8), disk(_LOST_RIM_UM / mpp)).astype(bool)


def quality_maps(slide: Slide, tissue: NDArray[np.bool_]) -> QualityMaps:
    """Read the slide where there is tissue, and compute the maps there; they are 0 elsewhere."""
    maps = QualityMaps(*(np.zeros(tissue.shape, dtype=np.float32) for _ in QualityMaps._fields))
    mpp = slide_mask_mpp(slide, tissue)
    for block, density in _read_blocks(slide, tissue, mpp):
        rows, columns = block
        wanted = (columns.stop - columns.start, rows.stop - rows.start)
        margin = round(_MARGIN_UM / QUALITY_MPP)
        for whole, values in zip(maps, _filter(density), strict=True):
            inner = values[margin : values.shape[0] - margin, margin : values.shape[1] - margin]
            whole[block] = cv2.resize(inner, wanted, interpolation=cv2.INTER_AREA)
    return maps


def _filter(density: NDArray[np.float32]) -> tuple[NDArray[np.floating], ...]:
    """Compute the maps of a block at `QUALITY_MPP`, in the order of :class:`QualityMaps`.

    `density` is (H, W, 3).
    """
    total = total_density(density)
    red, green, blue = cv2.split(density)
    fine, coarse = (_blur(total, um) for um in (_FINE_UM, _COARSE_UM))
    # Gaps are looked for in green and blue, which both eosin and haematoxylin absorb. The erosion
    # takes the least density in a disk: it stays high only where no gap is near.
    gaps = cv2.erode(_blur(green + blue, 1.5 * QUALITY_MPP), disk(_GAP_UM / 2 / QUALITY_MPP))
    share = _blur(red, 6 * QUALITY_MPP) / np.maximum(_blur(total, 6 * QUALITY_MPP), 1e-3)
    return (total - fine) ** 2, (fine - coarse) ** 2, _blur(gaps, _ENVELOPE_UM), share


def _blur(values: cv2.typing.MatLike, sd_um: float) -> NDArray[np.float32]:
    return np.asarray(cv2.GaussianBlur(values, (0, 0), sd_um / QUALITY_MPP), dtype=np.float32)


def _read_blocks(
    slide: Slide, tissue: NDArray[np.bool_], mpp: float
) -> Iterator[tuple[tuple[slice, slice], NDArray[np.float32]]]:
    """Read the blocks of the mask that hold tissue.

    Yields the block, as slices of the mask, and the optical density there at `QUALITY_MPP`. The
    density is wider than the block by `_MARGIN_UM` on each side, so that the filters see the same
    neighbourhood as in one piece. `mpp` is the mask's micrometres per pixel.
    """
    finer = [
        i
        for i, downsample in enumerate(slide.level_downsamples)
        if downsample * slide.mpp <= QUALITY_MPP * 1.001
    ]
    level = finer[-1] if finer else 0
    level_mpp = slide.mpp * slide.level_downsamples[level]
    margin = round(_MARGIN_UM / QUALITY_MPP)
    for top in range(0, tissue.shape[0], _BLOCK_PX):
        for left in range(0, tissue.shape[1], _BLOCK_PX):
            block = (
                slice(top, min(top + _BLOCK_PX, tissue.shape[0])),
                slice(left, min(left + _BLOCK_PX, tissue.shape[1])),
            )
            if not tissue[block].any():
                continue
            # Size in pixels of `QUALITY_MPP`; below it is converted to pixels of the level.
            height, width = (
                round((part.stop - part.start) * mpp / QUALITY_MPP) + 2 * margin for part in block
            )
            x, y = (
                round((start * mpp - margin * QUALITY_MPP) / slide.mpp) for start in (left, top)
            )
            read = slide.read(
                x,
                y,
                level,
                *(max(1, round(side * QUALITY_MPP / level_mpp)) for side in (width, height)),
            )
            yield block, optical_density(resample_to(read, width, height))
