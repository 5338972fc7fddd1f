"""Summarise the tiling of a cohort: one row per slide, in which outliers are named.

With it the tiling of 500 slides is checked in minutes, because the slides that differ from the rest
of the cohort, by robust z-scores, are shown first.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.io.atomic import write_csv
from tcgn_mil.io.failures import Failure
from tcgn_mil.io.tile_files import TileRecord, read_tile_record
from tcgn_mil.types.tiles import VERDICTS, TileSet, stain_identity

SUMMARY_NAME = "tile_summary.csv"
MIN_SLIDES = 8  # the spread of fewer slides is not known well enough to call one an outlier
OUTLYING = 3.5  # robust z-score, as Iglewicz and Hoaglin (1993) recommend
NORMAL_MAD = 0.6745  # median absolute deviation of a standard normal variable
# Some file systems keep the time of a change to two seconds only. A younger file may change again
# without a sign, so that nothing is kept of it.
_SETTLED_NS = 3 * 10**9
_MOST_KEPT = 50_000


@dataclass(frozen=True)
class SlideSummary:
    """Summary of the tiling of one slide.

    Attributes
    ----------
    slide, patient
        Ids of the slide and of its patient.
    width_px, height_px
        Size of level 0.
    mpp
        Micrometres per pixel of level 0.
    tile_um
        Side of a tile in micrometres.
    kept
        Number of tiles that were kept.
    pen, out_of_focus, fold
        Number of tiles that were rejected for ink, for blur and for a fold.
    median_focus
        Median focus of the tiles with enough tissue, kept or rejected; None if it was not measured.
    pen_share
        Mean share under ink of the same tiles; None if it was not measured.
    tissue_mm2
        Area of the tissue in the kept tiles.
    tissue_share
        This area as a share of the slide.
    stain
        Identity of the stain normalisation.
    notes
        Facts about the slide file, such as an overridden resolution or other images in it.
    flags
        Outlying values within the cohort, in words, separated by commas.
    """

    slide: str
    patient: str
    width_px: int
    height_px: int
    mpp: float
    tile_um: float
    kept: int
    pen: int
    out_of_focus: int
    fold: int
    median_focus: float | None
    pen_share: float | None
    tissue_mm2: float | None
    tissue_share: float | None
    stain: str
    notes: str = ""
    flags: str = ""

    @property
    def rejected_share(self) -> float:
        """Share of the tiles with enough tissue that were rejected."""
        rejected = self.pen + self.out_of_focus + self.fold
        return rejected / max(1, rejected + self.kept)


def summarise_slide(tiles: TileSet) -> SlideSummary:
    """Summarise one slide, without flags."""
    spec, rejected = tiles.spec, tiles.rejected
    counts = np.bincount(
        [] if rejected is None else rejected.verdict, minlength=len(VERDICTS)
    ).tolist()
    lost = dict(zip(VERDICTS, counts, strict=True))
    qualities = [
        part.quality for part in (tiles, rejected) if part is not None and part.quality is not None
    ]
    focus = np.concatenate([quality.focus for quality in qualities]) if qualities else np.empty(0)
    pen = np.concatenate([quality.pen for quality in qualities]) if qualities else np.empty(0)
    # The area of a grid cell, not of a tile: overlapping tiles would count their tissue twice.
    cell_mm2 = (spec.level0_stride_px * spec.slide_mpp / 1000) ** 2
    tissue_mm2 = float(tiles.tissue_fraction.sum(dtype=np.float64)) * cell_mm2
    slide_mm2 = tiles.slide_size[0] * tiles.slide_size[1] * (spec.slide_mpp / 1000) ** 2
    return SlideSummary(
        slide=tiles.slide_id,
        patient=tiles.patient_id,
        width_px=tiles.slide_size[0],
        height_px=tiles.slide_size[1],
        mpp=round(spec.slide_mpp, 4),
        tile_um=round(spec.patch.um, 2),
        kept=len(tiles),
        pen=lost["pen"],
        out_of_focus=lost["out of focus"],
        fold=lost["fold"],
        median_focus=_rounded(_median(focus), 3),
        pen_share=_rounded(float(pen.mean()) if len(pen) else None, 4),
        tissue_mm2=_rounded(tissue_mm2, 3),
        tissue_share=_rounded(tissue_mm2 / slide_mm2, 4),
        stain=stain_identity(tiles.stain),
        notes="; ".join(tiles.notes),
    )


class TilingFacts(NamedTuple):
    """Facts of one tile file, for the pages and messages about a cohort.

    Attributes
    ----------
    summary
        Summary of the tiling, without flags.
    notes
        Facts about the slide file, one sentence each.
    """

    summary: SlideSummary
    notes: tuple[str, ...]


# Facts of the tile files that this process has read, with the state in which each file was.
_KEPT: dict[Path, tuple[tuple[int, ...], TilingFacts]] = {}


def tiling_facts(path: Path) -> TilingFacts:
    """Return the facts of a tile file, which is not read if this process has read it already.

    A file that was changed or replaced since is read again.

    Raises
    ------
    InputError
        If the file is missing or damaged.
    """
    kept = _KEPT.get(path)
    if kept is not None and kept[0] == _state(path):
        return kept[1]
    return _read(path)[1]


def read_and_keep_facts(path: Path) -> TileRecord:
    """Read a tile file, and keep its facts for :func:`tiling_facts`.

    A run that has nothing to do reads each of thousands of files to check it, and needs the facts
    for its messages and for the contact sheet right afterwards.

    Raises
    ------
    InputError
        If the file is missing or damaged.
    """
    return _read(path)[0]


def _read(path: Path) -> tuple[TileRecord, TilingFacts]:
    before = _state(path)
    record = read_tile_record(path)
    facts = TilingFacts(summarise_slide(record.tiles), record.tiles.notes)
    if before and time.time_ns() - before[-1] > _SETTLED_NS:
        if len(_KEPT) >= _MOST_KEPT:
            _KEPT.clear()
        _KEPT[path] = before, facts
    return record, facts


def _state(path: Path) -> tuple[int, ...]:
    """Return what changes when a file is written or replaced, the time of the change last.

    It is empty if the file is missing.
    """
    try:
        facts = path.stat()
    except OSError:
        return ()
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns


class FolderSummary(NamedTuple):
    """Summaries of the slides of a folder, sorted by id, and tile files that cannot be read."""

    slides: list[SlideSummary]
    unreadable: list[Failure]


def summarise_folder(folder: str | Path, without: Sequence[str] = ()) -> FolderSummary:
    """Summarise every slide that has a tile file in a folder, and name outliers.

    Parameters
    ----------
    folder
        Folder of tile files.
    without
        Slides to leave out.
    """
    slides: list[SlideSummary] = []
    unreadable: list[Failure] = []
    skipped = frozenset(without)
    for path in sorted(Path(folder).glob("*.h5")):
        if path.name.startswith(".") or path.stem in skipped:
            continue
        try:
            slides.append(tiling_facts(path).summary)
        except InputError as error:
            unreadable.append(
                Failure(path.stem, "tile", f"{path.name} {error.reason}", error.fix or "")
            )
    return FolderSummary(flag_outliers(slides), unreadable)


def flag_outliers(slides: Sequence[SlideSummary]) -> list[SlideSummary]:
    """Name values that are far from the cohort's median, in the direction that is bad.

    Parameters
    ----------
    slides
        Slides of a cohort.

    Returns
    -------
    list of SlideSummary
        The same slides with their flags. Slides with another tile size than most are flagged too.
    """
    tests = {
        "few tiles": [-np.log10(max(1, slide.kept)) for slide in slides],
        "little tissue": [-(slide.tissue_share or 0.0) for slide in slides],
        "low focus": [
            np.nan if slide.median_focus is None else -slide.median_focus for slide in slides
        ],
        "much pen": [np.nan if slide.pen_share is None else slide.pen_share for slide in slides],
        "many rejected": [slide.rejected_share for slide in slides],
    }
    odd = {
        name: robust_z(np.array(values, dtype=np.float64)) > OUTLYING
        for name, values in tests.items()
    }
    other_sizes = len({slide.tile_um for slide in slides}) > 1
    usual = float(np.median([slide.tile_um for slide in slides])) if slides else 0.0
    flagged = []
    for index, slide in enumerate(slides):
        names = [name for name, is_odd in odd.items() if is_odd[index]]
        if other_sizes and abs(slide.tile_um / usual - 1) > 0.02:
            names.append("another tile size")
        flagged.append(SlideSummary(**{**asdict(slide), "flags": ", ".join(names)}))
    return flagged


def robust_z(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the distance of values from their median in robust standard deviations.

    The standard deviation is estimated by the median absolute deviation from the median, which
    outliers do not change. If more than half of the values are equal, as with ink, which most
    slides do not have, it is 0, and the mean absolute deviation is used instead.

    Parameters
    ----------
    values
        (n,) values; NaN where one is missing.

    Returns
    -------
    (n,) float64
        0 for missing values, and for all if there are fewer than `MIN_SLIDES`.

    Examples
    --------
    >>> robust_z(np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 50.0])).round(1).tolist()
    [-1.2, -0.8, -0.5, -0.2, 0.2, 0.5, 0.8, 15.3]
    """
    finite = values[np.isfinite(values)]
    if len(finite) < MIN_SLIDES:
        return np.zeros(len(values))
    centre = np.median(finite)
    spread = float(np.median(np.abs(finite - centre))) / NORMAL_MAD
    # A normal variable's standard deviation is 1.2533 times its mean absolute deviation.
    spread = spread or 1.2533 * float(np.mean(np.abs(finite - centre)))
    return np.nan_to_num((values - centre) / spread) if spread else np.zeros(len(values))


def write_summary(path: str | Path, slides: Sequence[SlideSummary]) -> None:
    """Write a CSV file with one row per slide. Unknown numbers are left empty."""
    columns = list(SlideSummary.__dataclass_fields__)
    # With dtype object a column with an unknown count keeps its other counts as integers.
    rows = pd.DataFrame([asdict(slide) for slide in slides], columns=columns, dtype=object)
    write_csv(path, rows, digits=None)


def _median(values: NDArray[np.floating]) -> float | None:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else None


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None or not np.isfinite(value) else round(value, digits)
