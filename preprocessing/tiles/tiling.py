"""Tile one slide: find tissue, lay the grid, judge the tiles, and write tile file and pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.io.tile_files import write_tiles
from tcgn_mil.preprocessing.slides.readers.base import Slide
from tcgn_mil.preprocessing.slides.resample import resample_to
from tcgn_mil.preprocessing.slides.table import SlideEntry
from tcgn_mil.preprocessing.tiles.grid import lay_grid, tissue_fractions
from tcgn_mil.preprocessing.tiles.ink import is_grey, optical_density
from tcgn_mil.preprocessing.tiles.overlay import draw_tiles, overlay_mpp, write_picture
from tcgn_mil.preprocessing.tiles.pixels import iter_tiles
from tcgn_mil.preprocessing.tiles.quality import measure_quality
from tcgn_mil.preprocessing.tiles.settings import STAIN_SAMPLE, StainTarget, TileSettings
from tcgn_mil.preprocessing.tiles.stain import fit_stain
from tcgn_mil.preprocessing.tiles.tissue import Glass, survey
from tcgn_mil.text import content_hash
from tcgn_mil.types.tile_geometry import TileSpec
from tcgn_mil.types.tiles import VERDICTS, RejectedTiles, Stain, TileQuality, TileSet

# 8-bit value that three quarters of the pixels of a slide exceed, as glass and tissue do in
# brightfield.
DARK = 60


def tile_path(out_dir: str | Path, slide_id: str) -> Path:
    """Return the path of a slide's tile file."""
    return Path(out_dir) / f"{slide_id}.h5"


def overlay_path(out_dir: str | Path, slide_id: str) -> Path:
    """Return the path of the picture that shows a slide's tissue and tiles."""
    return Path(out_dir) / f"{slide_id}.jpg"


def thumbnail_path(out_dir: str | Path, slide_id: str) -> Path:
    """Return the path of a slide's plain picture, on which maps are drawn later."""
    return Path(out_dir) / f"{slide_id}_thumbnail.jpg"


def tile_files(out_dir: str | Path, slide_id: str) -> list[Path]:
    """Return the files that tiling writes for a slide, in the order in which they are written."""
    return [
        thumbnail_path(out_dir, slide_id),
        overlay_path(out_dir, slide_id),
        tile_path(out_dir, slide_id),
    ]


def tiles_made_from(entry: SlideEntry, digest: str, settings: TileSettings) -> str:
    """Return a hash of all that decides the tiles of a slide.

    Parameters
    ----------
    entry
        The slide. Its patient and the resolution that the user states enter.
    digest
        Digest of the slide's files.
    settings
        Size of the tiles, and limits for tissue and quality.
    """
    mpp = entry.fallback_mpp if entry.mpp is None else entry.mpp
    stated = [entry.slide_id, entry.patient_id, mpp, entry.override_mpp]
    size = [settings.patch.px, settings.patch.mpp, settings.stride_px]
    return content_hash([digest, stated, size, settings.as_dict()])


def tile_slide(entry: SlideEntry, settings: TileSettings, out_dir: str | Path) -> TileSet:
    """Tile one slide.

    Writes ``<slide_id>.h5``, its overlay ``<slide_id>.jpg`` and ``<slide_id>_thumbnail.jpg``.

    Parameters
    ----------
    entry
        Slide.
    settings
        Size of the tiles, and limits for tissue and quality.
    out_dir
        Folder to write to.

    Returns
    -------
    TileSet
        The kept tiles, as they are written.

    Raises
    ------
    InputError
        If the slide cannot be read, has no known resolution, is too coarse or smaller than a tile,
        shows no tissue, or its stain cannot be fitted.

    Examples
    --------
    A made slide, whose tissue is a square of noise on white glass:

    >>> import tempfile
    >>> from PIL import Image
    >>> image = np.full((1200, 1200, 3), 245, dtype=np.uint8)
    >>> noise = np.random.default_rng(0).integers(60, 200, (100, 100, 1))
    >>> image[200:1000, 200:1000] = np.kron(noise, np.ones((8, 8, 1))) * [1, 0.6, 0.9]
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = Path(folder.name) / "made.png"
    >>> Image.fromarray(image).save(path)
    >>> entry = SlideEntry("made", "patient", path, mpp=0.5)
    >>> tiles = tile_slide(entry, TileSettings(), path.parent)
    >>> print(len(tiles) > 10, tiles.spec.patch)
    True 77.3 µm (112 px at 0.69 µm/px)
    >>> sorted(file.name for file in path.parent.glob("made*.*"))
    ['made.h5', 'made.jpg', 'made.png', 'made_thumbnail.jpg']
    >>> folder.cleanup()
    """
    # The digest comes first, so that a slide that changes meanwhile is noticed the next time.
    digest = entry.digest()
    with entry.open() as slide:
        spec = settings.for_slide(slide)
        thumbnail = slide.thumbnail(settings.tissue_mpp)
        notes = (*slide.notes, *_grey_note(thumbnail, slide.path))
        glass = survey(thumbnail, settings.tissue_mpp)
        tiles = replace(
            _select(entry, slide, spec, glass, settings),
            settings=settings.as_dict(),
            notes=notes,
            slide_digest=digest,
        )
        if settings.stain is not None:
            tiles = replace(tiles, stain=_fit_stain(slide, tiles, settings.stain))
        base = _overlay_base(slide, thumbnail, settings.tissue_mpp)
        picture = draw_tiles(base, glass.tissue, tiles)
    # The tile file is written last. So where there is a tile file, the pictures are there too.
    write_picture(thumbnail_path(out_dir, entry.slide_id), base)
    write_picture(overlay_path(out_dir, entry.slide_id), picture)
    write_tiles(
        tile_path(out_dir, entry.slide_id),
        tiles,
        slide_file=entry.path.name,
        made_from=tiles_made_from(entry, digest, settings),
    )
    return tiles


def _select(
    entry: SlideEntry, slide: Slide, spec: TileSpec, glass: Glass, settings: TileSettings
) -> TileSet:
    """Lay the grid, and divide the tiles with enough tissue into kept and rejected ones."""
    coords = lay_grid(slide.size, spec, downsample=slide.level_downsamples[spec.read_level])
    if not len(coords):
        raise InputError(
            f"has {slide.size[0]} x {slide.size[1]} pixels, too few for one tile of {spec.patch},"
            f" which takes {spec.level0_px:.0f}",
            path=slide.path,
            fix="use a larger region, or check its µm per pixel",
        )
    fractions = tissue_fractions(glass.tissue, coords, spec.level0_px, slide.size)
    inked = tissue_fractions(glass.pen, coords, spec.level0_px, slide.size)
    # Tissue under ink cannot be seen. A tile under ink is therefore a candidate whatever its tissue
    # fraction, so that it is listed among the rejected tiles and counted.
    candidate = (fractions >= settings.min_tissue) | (inked > settings.max_pen)
    total = len(coords)
    coords, fractions = coords[candidate], fractions[candidate]
    quality = measure_quality(slide, *glass, coords, spec.level0_px, min_focus=settings.min_focus)
    verdict = judge(quality, settings)
    keep = (verdict == 0) & (fractions >= settings.min_tissue)
    if not keep.any():
        raise _nothing_left(slide, total, fractions, verdict, settings)
    out = verdict > 0
    rejected = RejectedTiles(coords[out], fractions[out], quality[out], verdict[out])
    return TileSet(
        entry.slide_id,
        coords[keep],
        fractions[keep],
        spec,
        slide.size,
        entry.patient_id,
        quality[keep],
        rejected,
    )


def judge(quality: TileQuality, settings: TileSettings) -> NDArray[np.uint8]:
    """Judge tiles by their quality.

    Parameters
    ----------
    quality
        Quality of N tiles.
    settings
        Limits.

    Returns
    -------
    (N,) uint8
        Positions in :data:`~tcgn_mil.types.tiles.VERDICTS`: 0 for tiles to keep. A tile with
        several faults gets the first of pen, fold, out of focus, because ink and folds also
        disturb the measure of focus.
    """
    faults = {
        "pen": quality.pen > settings.max_pen,
        "fold": quality.fold > settings.max_fold,
        "out of focus": quality.blur > settings.max_blur,
    }
    verdict = np.zeros(len(quality.pen), dtype=np.uint8)
    for name, faulty in reversed(faults.items()):
        verdict[faulty] = VERDICTS.index(name)
    return verdict


def _nothing_left(
    slide: Slide,
    total: int,
    fractions: NDArray[np.float32],
    verdict: NDArray[np.uint8],
    settings: TileSettings,
) -> InputError:
    """Make the error that tells why a slide has no tile to keep."""
    counts = {name: int((verdict == code).sum()) for code, name in enumerate(VERDICTS) if code}
    reasons = [f"{count} {name}" for name, count in counts.items() if count]
    if not reasons:
        return InputError(
            f"shows no tissue: of {total} tiles none has {settings.min_tissue:.0%} tissue",
            path=slide.path,
            fix="look at the slide; if its tissue is sparse, give a smaller --min-tissue",
        )
    return InputError(
        f"has no usable tile: of {total}, {int((fractions >= settings.min_tissue).sum())} show"
        f" tissue; quality control rejected {', '.join(reasons)}",
        path=slide.path,
        fix="look at the slide; give --max-blur 1, --max-pen 1 or --max-fold 1 to keep such tiles",
    )


def _fit_stain(slide: Slide, tiles: TileSet, target: StainTarget) -> Stain:
    """Fit the stains on a sample of tiles.

    The sample is seeded by the slide's id, so that it is the same in every run and on every number
    of processes.
    """
    seed = int(content_hash(tiles.slide_id), 16)
    count = min(STAIN_SAMPLE, len(tiles))
    rows = np.sort(np.random.default_rng(seed).choice(len(tiles), count, replace=False))
    try:
        ((pixels, _),) = iter_tiles(slide, tiles.coords[rows], tiles.spec, count)
        return fit_stain(pixels, target)
    except InputError as error:
        raise InputError(error.reason, path=error.path or slide.path, fix=error.fix) from error


def _grey_note(thumbnail: NDArray[np.uint8], path: Path) -> tuple[str, ...]:
    """Return a note on a slide without colours; refuse a dark one, which shows fluorescence."""
    if not is_grey(optical_density(thumbnail)):
        return ()
    if np.percentile(thumbnail, 25) < DARK:
        raise InputError(
            "is grey and dark, as images of fluorescence are; tissue is looked for on bright glass",
            path=path,
            fix="give the brightfield image of this section",
        )
    return ("its pixels are grey; encoders were trained on stained colours",)


def _overlay_base(
    slide: Slide, thumbnail: NDArray[np.uint8], thumbnail_mpp: float
) -> NDArray[np.uint8]:
    """Return the slide at a size to look at, made from the thumbnail if that is fine enough."""
    mpp = overlay_mpp(slide.size, slide.mpp)
    if mpp < thumbnail_mpp:
        return slide.thumbnail(mpp)
    width, height = (max(1, round(side * slide.mpp / mpp)) for side in slide.size)
    return resample_to(thumbnail, min(width, thumbnail.shape[1]), min(height, thumbnail.shape[0]))
