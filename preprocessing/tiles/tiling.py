"""From slides to tile files: open, find tissue, lay the grid, keep the tiles with tissue, draw them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from tcgn_mil.errors import InputError
from tcgn_mil.io.failures import Failure, write_failures
from tcgn_mil.io.tile_files import read_tile_settings, read_tiles, write_tiles
from tcgn_mil.preprocessing.parallel import run_in_processes
from tcgn_mil.preprocessing.slides.readers.base import Slide
from tcgn_mil.preprocessing.slides.resample import resample_to
from tcgn_mil.preprocessing.slides.table import SlideEntry
from tcgn_mil.preprocessing.tiles.grid import lay_grid, tissue_fractions
from tcgn_mil.preprocessing.tiles.overlay import draw_tiles, overlay_mpp, write_picture
from tcgn_mil.preprocessing.tiles.pixels import iter_tiles
from tcgn_mil.preprocessing.tiles.quality import measure_quality
from tcgn_mil.preprocessing.tiles.settings import STAIN_SAMPLE, TileSettings
from tcgn_mil.preprocessing.tiles.stain import StainTarget, fit_stain
from tcgn_mil.preprocessing.tiles.tissue import Glass, survey
from tcgn_mil.text import content_hash
from tcgn_mil.types.tile_geometry import TileSpec
from tcgn_mil.types.tiles import VERDICTS, RejectedTiles, Stain, TileQuality, TileSet

STAGE = "tile"
_DIED = (
    "the process that tiled it died, and died again with this slide alone: out of memory, or a crash on a damaged file",
    "copy the file again and compare its size with the source's; give a large plain image as a tiled, pyramidal TIFF",
)


class CohortTiles(NamedTuple):
    """Slides whose tile file is there and up to date, in order, and those that failed."""

    done: list[str]
    failures: list[Failure]


def tile_path(out_dir: str | Path, slide_id: str) -> Path:
    """Where a slide's tile file lies."""
    return Path(out_dir) / f"{slide_id}.h5"


def overlay_path(out_dir: str | Path, slide_id: str) -> Path:
    """Where its picture lies."""
    return Path(out_dir) / f"{slide_id}.jpg"


def thumbnail_path(out_dir: str | Path, slide_id: str) -> Path:
    """Where the slide's plain picture lies, which maps are drawn on."""
    return Path(out_dir) / f"{slide_id}_thumbnail.jpg"


def tile_slide(entry: SlideEntry, settings: TileSettings, out_dir: str | Path) -> TileSet:
    """Tile one slide; writes ``<slide_id>.h5``, its overlay ``<slide_id>.jpg`` and ``<slide_id>_thumbnail.jpg``.

    Raises
    ------
    InputError
        If the slide cannot be read, has no known resolution, is too coarse, smaller than a tile, or shows no tissue, or
        its stain cannot be fitted.
    """
    with entry.open() as slide:
        spec = settings.for_slide(slide)
        thumbnail = slide.thumbnail(settings.tissue_mpp)
        glass = survey(thumbnail, settings.tissue_mpp)
        tiles = replace(_select(entry, slide, spec, glass, settings), settings=settings.as_dict())
        if settings.stain is not None:
            tiles = replace(tiles, stain=_fit_stain(slide, tiles, settings.stain))
        base = _overlay_base(slide, thumbnail, settings.tissue_mpp)
        picture = draw_tiles(base, glass.tissue, tiles)
    # The tile file comes last: where it stands, the pictures stand too.
    write_picture(thumbnail_path(out_dir, entry.slide_id), base)
    write_picture(overlay_path(out_dir, entry.slide_id), picture)
    write_tiles(tile_path(out_dir, entry.slide_id), tiles, slide_file=entry.path.name)
    return tiles


def tile_cohort(
    entries: Sequence[SlideEntry], settings: TileSettings, out_dir: str | Path, *, workers: int = 1
) -> CohortTiles:
    """Tile many slides; one that cannot be used costs a row in ``failures.csv``, and the rest go on.

    A slide whose tile file was made from the same slide with the same spec and settings is left as it is. Files, and
    their order, do not depend on the number of `workers`: processes, each with a slide at a time. A slide whose process
    dies twice (out of memory, a crash in a library) is a failure too.
    """
    if workers < 1:
        raise InputError(f"{workers} workers", fix="give --workers 1 or more")
    failed: list[Failure | None] = [None] * len(entries)
    work = partial(_tile_or_fail, settings=settings, out_dir=out_dir)
    outcomes = run_in_processes(work, entries, min(workers, len(entries)))
    for outcome in tqdm(outcomes, desc="tiling", unit="slide", total=len(entries)):
        slide = entries[outcome.index].slide_id
        failed[outcome.index] = Failure(slide, STAGE, *_DIED) if outcome.died else outcome.result
    done = [
        entry.slide_id for entry, failure in zip(entries, failed, strict=True) if failure is None
    ]
    failures = [failure for failure in failed if failure is not None]
    write_failures(out_dir, failures)
    return CohortTiles(done, failures)


def _tile_or_fail(entry: SlideEntry, settings: TileSettings, out_dir: str | Path) -> Failure | None:
    try:
        if not is_tiled(entry, settings, out_dir):
            tile_slide(entry, settings, out_dir)
    except InputError as error:
        return Failure(entry.slide_id, STAGE, _reason(error, entry), error.fix or "")
    return None


def is_tiled(entry: SlideEntry, settings: TileSettings, out_dir: str | Path) -> bool:
    """Whether the tile file is whole and made from this slide, by its size and resolution, with these settings.

    Raises
    ------
    InputError
        If there is a tile file but the slide can no longer be opened.
    """
    path = tile_path(out_dir, entry.slide_id)
    if not path.exists():
        return False
    try:
        made, (_, made_with) = read_tiles(path), read_tile_settings(path)
    except InputError:
        return False  # a damaged file is made again
    with entry.open() as slide:
        return (
            made.spec == settings.for_slide(slide)
            and made_with == settings.as_dict()
            and made.patient_id == entry.patient_id
            and made.slide_size == tuple(slide.size)
        )


def _select(
    entry: SlideEntry, slide: Slide, spec: TileSpec, glass: Glass, settings: TileSettings
) -> TileSet:
    """Tiles with enough tissue, kept or rejected by their quality."""
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
    # A tile under a pen is listed as such, though no tissue can be seen there.
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
    """(N,) positions in `VERDICTS`: the first fault of each tile, 0 for those to keep."""
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
    """Why a slide has no tile to keep."""
    counts = {name: int((verdict == code).sum()) for code, name in enumerate(VERDICTS) if code}
    found = [f"{count} {name}" for name, count in counts.items() if count]
    if not found:
        return InputError(
            f"shows no tissue: of {total} tiles none has {settings.min_tissue:.0%} tissue",
            path=slide.path,
            fix="look at the slide: all glass? lower --min-tissue if its tissue is sparse",
        )
    return InputError(
        f"has no usable tile: of {total}, {int((fractions >= settings.min_tissue).sum())} show tissue; quality"
        f" control left out {', '.join(found)}",
        path=slide.path,
        fix="look at the slide; --max-blur 1, --max-pen 1 or --max-fold 1 keeps what is left out",
    )


def _fit_stain(slide: Slide, tiles: TileSet, target: StainTarget) -> Stain:
    """On a sample of tiles drawn by the slide's id, so that it is the same in every run."""
    seed = int(content_hash(tiles.slide_id), 16)
    count = min(STAIN_SAMPLE, len(tiles))
    rows = np.sort(np.random.default_rng(seed).choice(len(tiles), count, replace=False))
    try:
        ((pixels, _),) = iter_tiles(slide, tiles.coords[rows], tiles.spec, count)
        return fit_stain(pixels, target)
    except InputError as error:
        raise InputError(error.reason, path=error.path or slide.path, fix=error.fix) from error


def _overlay_base(
    slide: Slide, thumbnail: NDArray[np.uint8], thumbnail_mpp: float
) -> NDArray[np.uint8]:
    """The slide at a size to look at, from the thumbnail where that is fine enough."""
    mpp = overlay_mpp(slide.size, slide.mpp)
    if mpp < thumbnail_mpp:
        return slide.thumbnail(mpp)
    width, height = (max(1, round(side * slide.mpp / mpp)) for side in slide.size)
    return resample_to(thumbnail, min(width, thumbnail.shape[1]), min(height, thumbnail.shape[0]))


def _reason(error: InputError, entry: SlideEntry) -> str:
    """The reason, with the file it is about where that is not the slide itself."""
    own = error.path is None or error.path == str(entry.path)
    return error.reason if own else f"{error.path}: {error.reason}"
