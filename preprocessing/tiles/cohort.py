"""Tile the slides of a cohort in several processes; a run that was stopped is resumed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

from tcgn_mil.errors import InputError
from tcgn_mil.io.failures import Failure, record_failures, unexpected
from tcgn_mil.preprocessing.parallel import Outcome, outcome_of, run_in_processes
from tcgn_mil.preprocessing.slides.table import SlideEntry
from tcgn_mil.preprocessing.tiles.settings import TileSettings
from tcgn_mil.preprocessing.tiles.summary import read_and_keep_facts, tiling_facts
from tcgn_mil.preprocessing.tiles.tiling import (
    tile_files,
    tile_path,
    tile_slide,
    tiles_made_from,
)
from tcgn_mil.progress import Progress, tell
from tcgn_mil.resume.set_aside import FOLDER, check_files
from tcgn_mil.text import counted, preview
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
        """Tile a slide; return the reason if that fails."""
        try:
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
    same settings is not tiled again. Files that are no longer current are set aside before the
    first slide is tiled, and standard error says how many.

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
    check_workers(workers)
    entries = [entry for entry in entries if shard is None or shard.holds(entry.slide_id)]
    current = current_tiles(entries, settings, out_dir)
    todo = [entry for entry in entries if entry.slide_id not in current]
    failed: list[Failure | None] = [None] * len(todo)
    work = TileWork(settings, Path(out_dir))
    outcomes = (
        run_in_processes(work, todo, min(workers, len(todo))) if run is None else run(work, todo)
    )
    bar = Progress(outcomes, desc="tile", unit="slide", initial=len(current), total=len(entries))
    for outcome in bar:
        slide = todo[outcome.index].slide_id
        failed[outcome.index] = outcome_of(outcome, slide, STAGE, _DIED)
        bar.failed += failed[outcome.index] is not None
    failures = [failure for failure in failed if failure is not None]
    without = {failure.slide for failure in failures}
    done = [entry.slide_id for entry in entries if entry.slide_id not in without]
    record_failures(out_dir, failures, shard)
    return CohortTiles(done, failures)


def check_workers(workers: int) -> None:
    """Raise InputError if there is no process to work."""
    if workers < 1:
        raise InputError(f"{workers} workers cannot tile any slide", fix="give --workers 1 or more")


def slide_notes(slides: Sequence[str], out_dir: str | Path) -> list[str]:
    """Return what a user should know of tiled slides, each sentence with the slide's name.

    Examples are a resolution that was overridden, and images of the file that were not read.
    """
    return [
        f"{slide}: {note}"
        for slide in slides
        for note in tiling_facts(tile_path(out_dir, slide)).notes
    ]


def current_tiles(
    entries: Sequence[SlideEntry], settings: TileSettings, out_dir: str | Path
) -> frozenset[str]:
    """Return the slides whose tiles are current, and set aside those of the others.

    Parameters
    ----------
    entries, settings, out_dir
        As in :func:`tile_cohort`.

    Returns
    -------
    Ids of the slides that need not be tiled.
    """
    by_id = {entry.slide_id: entry for entry in entries}
    checked = check_files(
        out_dir,
        {slide: tile_files(out_dir, slide) for slide in by_id},
        lambda slide, path: is_tiled(by_id[slide], settings, path),
    )
    if checked.changed:
        count = len(checked.changed)
        tell(
            f"{counted(count, 'slide')} changed since the last run, or the settings did, and"
            f" {'is' if count == 1 else 'are'} tiled again: {preview(checked.changed)}. The"
            f" earlier files are in {Path(out_dir) / FOLDER}"
        )
    return checked.current


def is_tiled(entry: SlideEntry, settings: TileSettings, path: Path) -> bool:
    """Return whether a tile file is whole, and made from this slide with these settings.

    The slide is recognised by a digest of its files. Tile files of earlier versions have none;
    there the slide is recognised by its size and its resolution, and must be older than the file.

    Raises
    ------
    InputError
        If the tile file is damaged, or the slide is missing.
    """
    made, made_from = read_and_keep_facts(path)
    if made_from:
        return made_from == tiles_made_from(entry, entry.digest(), settings)
    if path.stat().st_mtime < entry.path.stat().st_mtime:
        return False
    with entry.open() as slide:
        return (
            made.spec == settings.for_slide(slide)
            and made.settings == settings.as_dict()
            and made.patient_id == entry.patient_id
            and made.slide_size == tuple(slide.size)
        )


def _reason(error: InputError, entry: SlideEntry) -> str:
    """Return the reason of an error, with its file if that is not the slide itself."""
    own = error.path is None or error.path == str(entry.path)
    return error.reason if own else f"{error.path}: {error.reason}"
