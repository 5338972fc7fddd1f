"""Tile the slides of a cohort in several processes; a run that was stopped is resumed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

from tcgn_mil.errors import InputError
from tcgn_mil.io.failures import Failure, unexpected
from tcgn_mil.io.shard_failures import record_failures
from tcgn_mil.io.tile_files import read_tile_settings, read_tiles
from tcgn_mil.preprocessing.parallel import Outcome, outcome_of, run_in_processes
from tcgn_mil.preprocessing.slides.table import SlideEntry
from tcgn_mil.preprocessing.tiles.settings import TileSettings
from tcgn_mil.preprocessing.tiles.tiling import tile_path, tile_slide
from tcgn_mil.progress import Progress
from tcgn_mil.types.shards import Shard

STAGE = "tile"
_DIED = (
    "the process that tiled this slide died twice more when it tiled the slide alone; either memory"
    " ran out, or a library crashed on a damaged file",
    "copy the file again and compare its size with the source's; convert a large plain image to a"
    " tiled, pyramidal TIFF",
)


@dataclass(frozen=True)
class TileWork:
    """Tiles one slide at a time, in any process.

    Attributes
    ----------
    settings, out_dir
        As in :func:`tile_cohort`.
    """

    settings: TileSettings
    out_dir: Path

    def input_of(self, entry: SlideEntry) -> Path:
        """Return the file of a slide."""
        return entry.path.resolve()

    def __call__(self, entry: SlideEntry) -> Failure | None:
        """Tile a slide unless its tile file is current; return the reason if that fails."""
        try:
            if not is_tiled(entry, self.settings, self.out_dir):
                tile_slide(entry, self.settings, self.out_dir)
        except InputError as error:
            return Failure(entry.slide_id, STAGE, _reason(error, entry), error.fix or "")
        except Exception as error:  # whatever a damaged file does to a library costs its own row
            return unexpected(error, entry.slide_id, STAGE)
        return None


Runner: TypeAlias = Callable[[TileWork, Sequence[SlideEntry]], Iterator[Outcome["Failure | None"]]]
"""Works on slides and gives an outcome for each, as :func:`.parallel.run_in_processes` does."""


class CohortTiles(NamedTuple):
    """Slides of a cohort by outcome.

    Attributes
    ----------
    done
        Ids of the slides whose file is there and up to date, in the order given.
    failures
        Slides that failed.
    """

    done: list[str]
    failures: list[Failure]


def tile_cohort(
    entries: Sequence[SlideEntry],
    settings: TileSettings,
    out_dir: str | Path,
    *,
    workers: int = 1,
    shard: Shard | None = None,
    run: Runner | None = None,
) -> CohortTiles:
    """Tile many slides.

    A slide that cannot be tiled becomes a row of ``failures.csv``, and the others are tiled. So
    does a slide whose process dies. A slide whose tile file was made from the same slide with the
    same settings is not tiled again.

    Parameters
    ----------
    entries
        Slides.
    settings
        Size of the tiles, and limits for tissue and quality.
    out_dir
        Folder to write to.
    workers
        Number of processes, each of which works on a slide at a time. The files and their order do
        not depend on it.
    shard
        Share of the slides to tile; None for all.
    run
        Runs the work on other machines instead of `workers` processes of this one.

    Raises
    ------
    InputError
        If `workers` is less than 1.
    """
    if workers < 1:
        raise InputError(f"{workers} workers cannot tile any slide", fix="give --workers 1 or more")
    entries = [entry for entry in entries if shard is None or shard.holds(entry.slide_id)]
    failed: list[Failure | None] = [None] * len(entries)
    work = TileWork(settings, Path(out_dir))
    outcomes = (
        run_in_processes(work, entries, min(workers, len(entries)))
        if run is None
        else run(work, entries)
    )
    bar = Progress(outcomes, desc="tile", unit="slide", total=len(entries))
    for outcome in bar:
        slide = entries[outcome.index].slide_id
        failed[outcome.index] = outcome_of(outcome, slide, STAGE, _DIED)
        bar.failed += failed[outcome.index] is not None
    done = [
        entry.slide_id for entry, failure in zip(entries, failed, strict=True) if failure is None
    ]
    failures = [failure for failure in failed if failure is not None]
    record_failures(out_dir, failures, shard)
    return CohortTiles(done, failures)


def slide_notes(slides: Sequence[str], out_dir: str | Path) -> list[str]:
    """Return what a user should know of tiled slides, each sentence with the slide's name.

    Examples are a resolution that was overridden, and images of the file that were not read.
    """
    return [
        f"{slide}: {note}"
        for slide in slides
        for note in read_tiles(tile_path(out_dir, slide)).notes
    ]


def is_tiled(entry: SlideEntry, settings: TileSettings, out_dir: str | Path) -> bool:
    """Return whether a slide's tile file is whole, and made from this slide with these settings.

    The slide is recognised by its size and its resolution.

    Raises
    ------
    InputError
        If there is a tile file, but the slide can no longer be opened.
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


def _reason(error: InputError, entry: SlideEntry) -> str:
    """Return the reason of an error, with its file if that is not the slide itself."""
    own = error.path is None or error.path == str(entry.path)
    return error.reason if own else f"{error.path}: {error.reason}"
