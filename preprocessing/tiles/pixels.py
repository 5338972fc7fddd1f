"""Reading the pixels of tiles, batch by batch, for whoever encodes them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.slides.readers.base import MPP_TOLERANCE, Slide
from tcgn_mil.preprocessing.slides.resample import resample
from tcgn_mil.preprocessing.tiles.stain import stain_transform
from tcgn_mil.types.tile_geometry import PatchSize, TileSpec
from tcgn_mil.types.tiles import Stain, TileSet


def iter_tiles(
    slide: Slide,
    coords: NDArray[np.int64],
    spec: TileSpec,
    batch_size: int,
    *,
    stain: Stain | None = None,
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
    """Read tiles at their own pixel size, in the order given.

    Each is read from ``spec.read_level``, the nearest finer level, and resampled once. Tile files list tiles row by
    row, which reads fastest, since neighbours share compressed blocks of the slide.

    Parameters
    ----------
    slide
        The slide the tiles were laid on.
    coords
        (N, 2) level-0 top-left corners.
    spec
        Their geometry.
    batch_size
        Tiles at a time; the last batch may hold fewer.
    stain
        Normalisation of their colours, after resampling.

    Yields
    ------
    (B, tile_px, tile_px, 3) uint8 RGB and the (B, 2) coordinates.

    Raises
    ------
    InputError
        If the tiles were laid for a slide of another resolution or other levels, or the slide cannot be read.
    """
    _check_same_slide(slide, spec)
    normalise = None if stain is None else stain_transform(stain)
    for start in range(0, len(coords), batch_size):
        batch = coords[start : start + batch_size]
        pixels = np.empty((len(batch), spec.tile_px, spec.tile_px, 3), dtype=np.uint8)
        for row, (x, y) in enumerate(batch.tolist()):
            read = slide.read(x, y, spec.read_level, spec.read_px, spec.read_px)
            pixels[row] = resample(read, spec.tile_px)
        yield (pixels if normalise is None else normalise(pixels)), batch


def _check_same_slide(slide: Slide, spec: TileSpec) -> None:
    if not math.isclose(spec.slide_mpp, slide.mpp, rel_tol=MPP_TOLERANCE) or spec.read_level >= len(
        slide.level_sizes
    ):
        raise InputError(
            f"its tiles were laid for a slide of {spec.slide_mpp:.4g} µm/px, read from level {spec.read_level};"
            f" this one has {slide.mpp:.4g} µm/px and {len(slide.level_sizes)} levels",
            path=slide.path,
            fix="tile the slide again",
        )


_SIZE_TOLERANCE = 0.02  # as that of PatchSize.matches


def centre_tile(
    name: str, size: tuple[int, int], mpp: float, downsamples: Sequence[float], patch: PatchSize
) -> TileSet:
    """The one tile of `patch`'s physical size at the centre of an image of `size` (width, height) pixels.

    Raises
    ------
    InputError
        If the image is smaller than the patch by over 2 %, or too coarse for it.
    """
    smallest = min(size)
    if smallest * mpp < patch.um * (1 - _SIZE_TOLERANCE):
        raise InputError(
            f"image {name} of {size[0]} x {size[1]} px at {mpp:g} µm/px is {smallest * mpp:.1f} µm across, the encoder"
            f" sees {patch.um:.1f} µm",
            fix=f"check --mpp, or give a larger image: at least {int(np.ceil(patch.um / mpp))} px a side",
        )
    spec = TileSpec.for_slide(patch, slide_mpp=mpp, level_downsamples=downsamples)
    side = min(spec.level0_px, smallest)
    spec = dataclasses.replace(
        spec, read_px=min(spec.read_px, round(side / downsamples[spec.read_level]))
    )
    corner = [[round((extent - side) / 2) for extent in size]]
    return TileSet(name, np.array(corner, dtype=np.int64), np.ones(1, dtype=np.float32), spec, size)
