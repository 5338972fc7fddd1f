"""A cohort's tiling in numbers, read from its tile files: one row a slide, outliers named.

So that 500 slides are checked in minutes: what is odd comes first, by robust z-scores within the cohort.
"""

from __future__ import annotations

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
from tcgn_mil.io.tile_files import read_tiles
from tcgn_mil.types.tiles import VERDICTS, TileSet, stain_identity

SUMMARY_NAME = "tile_summary.csv"
LEAST_SLIDES = 8  # fewer have no spread to speak of
OUTLYING = 3.5  # robust z-score (Iglewicz and Hoaglin 1993)
NORMAL_MAD = 0.6745  # median absolute deviation of a standard normal variable


@dataclass(frozen=True)
class SlideSummary:
    """The tiling of one slide.

    Attributes
    ----------
    slide, patient
        Ids.
    width_px, height_px, mpp
        Level 0 and its µm per pixel.
    tile_um
        Side of a tile.
    kept, pen, out_of_focus, fold
        Tiles kept, and rejected by each verdict.
    median_focus, pen_share
        Median focus, and mean share under ink, of the tiles with enough tissue, kept or rejected; None where quality
        was not measured.
    tissue_mm2, tissue_share
        Tissue in the kept tiles, as an area and as a share of the slide.
    stain
        Identity of the stain normalisation.
    flags
        What is odd about it within its cohort.
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
    flags: str = ""

    @property
    def rejected_share(self) -> float:
        """Of the tiles with enough tissue."""
        rejected = self.pen + self.out_of_focus + self.fold
        return rejected / max(1, rejected + self.kept)


def summarise(tiles: TileSet) -> SlideSummary:
    """Numbers of one slide, without flags."""
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
    cell_mm2 = (
        spec.level0_stride_px * spec.slide_mpp / 1000
    ) ** 2  # overlapping tiles share their tissue
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
    )


class FolderSummary(NamedTuple):
    """Slides of a folder, sorted, and the tile files in it that cannot be read."""

    slides: list[SlideSummary]
    unreadable: list[Failure]


def summarise_folder(folder: str | Path, without: Sequence[str] = ()) -> FolderSummary:
    """Every slide with a tile file in `folder` but those named, with flags."""
    slides: list[SlideSummary] = []
    unreadable: list[Failure] = []
    for path in sorted(Path(folder).glob("*.h5")):
        if path.name.startswith(".") or path.stem in set(without):
            continue
        try:
            slides.append(summarise(read_tiles(path)))
        except InputError as error:
            unreadable.append(
                Failure(path.stem, "tile", f"{path.name} {error.reason}", error.fix or "")
            )
    return FolderSummary(flag_outliers(slides), unreadable)


def flag_outliers(slides: Sequence[SlideSummary]) -> list[SlideSummary]:
    """Name what is far off the cohort's median, in the direction that is bad."""
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
        names = [name for name, found in odd.items() if found[index]]
        if other_sizes and abs(slide.tile_um / usual - 1) > 0.02:
            names.append("another tile size")
        flagged.append(SlideSummary(**{**asdict(slide), "flags": ", ".join(names)}))
    return flagged


def robust_z(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) distance from the median in robust standard deviations; 0 where there is too little to tell.

    Where over half of the values are equal (no pen on most slides) the mean absolute deviation stands in for the
    median one.
    """
    known = values[np.isfinite(values)]
    if len(known) < LEAST_SLIDES:
        return np.zeros(len(values))
    centre = np.median(known)
    spread = float(np.median(np.abs(known - centre))) / NORMAL_MAD
    spread = spread or 1.2533 * float(np.mean(np.abs(known - centre)))
    return np.nan_to_num((values - centre) / spread) if spread else np.zeros(len(values))


def write_summary(path: str | Path, slides: Sequence[SlideSummary]) -> None:
    """Write one row a slide atomically; unknown numbers are empty."""
    columns = list(SlideSummary.__dataclass_fields__)
    # With dtype object an unknown count does not turn the other counts into fractions.
    rows = pd.DataFrame([asdict(slide) for slide in slides], columns=columns, dtype=object)
    write_csv(path, rows, digits=None)


def _median(values: NDArray[np.floating]) -> float | None:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else None


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None or not np.isfinite(value) else round(value, digits)
