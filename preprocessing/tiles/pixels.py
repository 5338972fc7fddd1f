"""Read the pixels of tiles in batches."""

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

_SIZE_TOLERANCE = 0.02  # as in PatchSize.matches


def iter_tiles(
    slide: Slide,
    coords: NDArray[np.int64],
    spec: TileSpec,
    batch_size: int,
    *,
    stain: Stain | None = None,
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
    """Read tiles at their own resolution, in the order given.

    Each tile is read from `spec.read_level`, the coarsest pyramid level that is not coarser than
    the tile, and is resampled once. A coarser level would lack detail, and a finer one would cost
    time without a gain. Tile files list tiles row by row; this order reads fastest, because
    neighbours share compressed blocks of the slide.

    Parameters
    ----------
    slide
        Slide that the tiles were laid on.
    coords
        (N, 2) top-left corners in level-0 pixels.
    spec
        Geometry of the tiles.
    batch_size
        Tiles in a batch. The last batch may have fewer.
    stain
        Stain normalisation, applied after resampling; None for pixels as they are.

    Yields
    ------
    pixels, coords
        (B, tile_px, tile_px, 3) uint8 RGB, and (B, 2) int64.

    Raises
    ------
    InputError
        If the tiles were laid for a slide of another resolution or with other levels, or the slide
        cannot be read.
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
    # A slide whose resolution was overridden at tiling may be opened with that of its file.
    same_mpp = any(
        math.isclose(mpp, slide.mpp, rel_tol=MPP_TOLERANCE)
        for mpp in (spec.slide_mpp, spec.file_mpp)
        if mpp is not None
    )
    if not same_mpp or spec.read_level >= len(slide.level_sizes):
        raise InputError(
            f"its tiles were laid for a slide of {spec.slide_mpp:.4g} µm/px, read from level"
            f" {spec.read_level}; this one has {slide.mpp:.4g} µm/px and"
            f" {len(slide.level_sizes)} levels",
            path=slide.path,
            fix="tile the slide again",
        )


def centre_tile(
    name: str, size: tuple[int, int], mpp: float, downsamples: Sequence[float], patch: PatchSize
) -> TileSet:
    """Lay one tile in the centre of an image.

    Parameters
    ----------
    name
        Name of the image, used as the slide id and in messages.
    size
        Width and height of the image in pixels.
    mpp
        Micrometres per pixel of the image.
    downsamples
        Downsamples of its pyramid levels, finest first.
    patch
        Size of the tile.

    Returns
    -------
    TileSet
        A single tile. In an image that is up to 2 % smaller than the patch it is as large as the
        image.

    Raises
    ------
    InputError
        If the image is smaller than that, or too coarse for the patch.

    Examples
    --------
    >>> centre_tile("a", (400, 300), 0.5, [1.0], PatchSize(100, 0.5)).coords.tolist()
    [[150, 100]]
    """
    smallest = min(size)
    if smallest * mpp < patch.um * (1 - _SIZE_TOLERANCE):
        raise InputError(
            f"image {name} of {size[0]} x {size[1]} px at {mpp:g} µm/px is {smallest * mpp:.1f} µm"
            f" across, but the encoder sees {patch.um:.1f} µm",
            fix="check --mpp, or give a larger image: at least"
            f" {int(np.ceil(patch.um / mpp))} px a side",
        )
    spec = TileSpec.for_slide(patch, slide_mpp=mpp, level_downsamples=downsamples)
    side = min(spec.level0_px, smallest)
    spec = dataclasses.replace(
        spec, read_px=min(spec.read_px, round(side / downsamples[spec.read_level]))
    )
    corner = [[round((extent - side) / 2) for extent in size]]
    return TileSet(name, np.array(corner, dtype=np.int64), np.ones(1, dtype=np.float32), spec, size)
