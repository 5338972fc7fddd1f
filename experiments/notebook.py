"""Functions for notebooks: work on one slide in one call.

Together with the ``run`` functions of the verbs they are offered as ``tcgn_mil.<name>``.
"""

from __future__ import annotations

import warnings
from pathlib import Path

from tcgn_mil.devices import resolve_device
from tcgn_mil.errors import InputError
from tcgn_mil.experiments.encode.run import EncodedTiles
from tcgn_mil.experiments.encode.run import encode_slide as encode_tiles_of
from tcgn_mil.inference.tile_encoder import TileEncoder, open_encoder
from tcgn_mil.io.failures import describe_left_out
from tcgn_mil.preprocessing.interop.tile_source import TileSource
from tcgn_mil.preprocessing.slides.table import SlideEntry, search_slides
from tcgn_mil.preprocessing.tiles import tiling
from tcgn_mil.preprocessing.tiles.settings import TileSettings
from tcgn_mil.types.tiles import TileSet


def tile_slide(
    slide: str | Path,
    out_dir: str | Path,
    *,
    settings: TileSettings | None = None,
    mpp: float | None = None,
    override_mpp: bool = False,
) -> TileSet:
    """Find the tissue of one slide and lay tiles on it, as ``tcgn-mil tile`` does.

    Parameters
    ----------
    slide
        A slide or a plain image.
    out_dir
        Folder that receives ``<slide>.h5`` and pictures of the slide and of its tiles.
    settings
        Size of the tiles and rules for keeping them; the default is the field of TCGN.
    mpp
        µm per pixel of level 0, if the file does not state it.
    override_mpp
        Use `mpp` in spite of the file.

    Returns
    -------
    TileSet
        The tiles that were kept, (N, 2) level-0 coordinates with their quality.

    Raises
    ------
    InputError
        If the slide cannot be read, has no known resolution, or shows no tissue.
    """
    entry = _only_entry(slide, mpp, override_mpp=override_mpp)
    return tiling.tile_slide(entry, settings or TileSettings(), out_dir)


def encode_slide(
    slide: str | Path,
    tiles: TileSet,
    encoder: TileEncoder | str,
    *,
    device: str = "auto",
    batch_size: int = 64,
    mpp: float | None = None,
) -> EncodedTiles:
    """Encode tiles of one slide, as ``tcgn-mil encode`` does, and return the features.

    Parameters
    ----------
    slide
        The slide on which the tiles were laid.
    tiles
        From :func:`tile_slide`, or some of them (``tiles.select(rows)``).
    encoder
        From :func:`tcgn_mil.open_encoder`, or a name that this function opens, such as the path of
        a checkpoint or ``uni2-h``.
    device
        ``auto`` (a GPU where there is one), ``cpu``, ``cuda`` or ``mps``.
    batch_size
        Tiles in a batch.
    mpp
        µm per pixel of level 0, if the file does not state it.

    Returns
    -------
    EncodedTiles
        Features (N, D) as float16, coordinates (N, 2) and colour statistics of the tiles.

    Examples
    --------
    A picture with a square of tissue stands for a slide, and a small network for the encoder.

    >>> import numpy as np, tcgn_mil
    >>> from PIL import Image
    >>> tissue = np.random.default_rng(0).normal((190, 110, 160), 35, (600, 600, 3))
    >>> picture = np.full((800, 1000, 3), 245, np.uint8)
    >>> picture[100:700, 200:800] = tissue.clip(0, 255)
    >>> Image.fromarray(picture).save("slide.png")
    >>> tiles = tcgn_mil.tile_slide("slide.png", "tiles", mpp=0.5)
    >>> encoder = tcgn_mil.open_encoder("timm:resnet10t", untrained=True)
    >>> encoded = tcgn_mil.encode_slide("slide.png", tiles, encoder, device="cpu", mpp=0.5)
    >>> encoded.features.shape == (len(tiles), 512)
    True
    """
    entry = _only_entry(slide, mpp)
    source = TileSource({tiles.slide_id: entry})
    opened = open_encoder(encoder) if isinstance(encoder, str) else encoder
    return encode_tiles_of(
        tiles, source, opened, device=resolve_device(device), batch_size=batch_size
    )


def _only_entry(slide: str | Path, mpp: float | None, *, override_mpp: bool = False) -> SlideEntry:
    entries, left_out = search_slides(slide, mpp=mpp, override_mpp=override_mpp)
    for sentence in describe_left_out(left_out):
        warnings.warn(f"{slide}: {sentence}", stacklevel=3)
    if len(entries) != 1:
        raise InputError(
            f"holds {len(entries)} slides, not one", path=slide, fix="give the file of one slide"
        )
    return entries[0]
