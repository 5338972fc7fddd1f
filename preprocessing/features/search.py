"""Find the feature files of other tools in a folder, and tell which files are left out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tcgn_mil.errors import InputError
from tcgn_mil.io.atomic import safe_file_name
from tcgn_mil.io.failures import LeftOut
from tcgn_mil.preprocessing.features.readers import feature_suffixes
from tcgn_mil.preprocessing.features.readers.clam_tensor import SUFFIXES as TENSOR_SUFFIXES
from tcgn_mil.preprocessing.features.readers.numpy_array import SUFFIXES as ARRAY_SUFFIXES
from tcgn_mil.preprocessing.slides.folder import BELOW, NOWHERE
from tcgn_mil.text import composed, duplicates, preview

_TRIDENT_FOLDERS = ("features", "slide_features")
WITHOUT_POSITIONS = (*TENSOR_SUFFIXES, *ARRAY_SUFFIXES)
OTHER_KIND = "has the suffix of no layout of features"


class FoundFeatures(NamedTuple):
    """Feature files of a folder.

    Attributes
    ----------
    files
        Slide id (the file's name without its suffix) to feature file, in order of the ids.
    left_out
        Other files, with the reason.
    """

    files: dict[str, Path]
    left_out: list[LeftOut]


def find_feature_sources(source: str | Path) -> dict[str, Path]:
    """Return the feature files of :func:`search_features` by slide id."""
    return search_features(source).files


def search_features(
    source: str | Path, *, recursive: bool = False, of_tiles: bool = False
) -> FoundFeatures:
    """Find the feature files of a folder, and tell which files are left out.

    Parameters
    ----------
    source
        One feature file, or a folder. A folder may be CLAM's, with ``h5_files`` and ``pt_files``; a
        TRIDENT job with one folder ``features_*`` or ``slide_features_*``, directly in it or one
        level below; any folder of feature files; or, as STAMP writes them, a folder with such
        files anywhere below it. A file of a tensor or an array is used only for a slide without an
        HDF5 file, because it holds no positions.
    recursive
        Take the files in all folders below as well.
    of_tiles
        Features of tiles are wanted. Of a TRIDENT job that has features of tiles and of slides, the
        former are taken.

    Returns
    -------
    FoundFeatures

    Raises
    ------
    InputError
        If there is no feature file, two files have one slide id, or a TRIDENT job has features of
        several encoders.
    """
    source = Path(source)
    if not source.exists():
        raise InputError("no such file or folder of features", path=source, fix="check the path")
    if source.is_file():
        return FoundFeatures({_slide_id(source): source}, [])
    jobs, left_out = _choose_job(source, of_tiles)
    places = (
        jobs
        or [path for name in ("h5_files", "pt_files") if (path := source / name).is_dir()]
        or [source]
    )
    everywhere = sorted(path for place in places for path in place.rglob("*"))
    everywhere = [path for path in everywhere if path.is_symlink() or path.is_file()]
    shown = [path for path in everywhere if not _is_hidden(path, source)]
    nowhere = [path for path in shown if not path.exists()]
    paths = [path for path in shown if path.exists() and _is_feature_file(path)]
    others = [path for path in shown if path.exists() and not _is_feature_file(path)]
    # STAMP keeps the files of a slide in folders of its own, so search below if there is none here.
    top = [path for path in paths if path.parent in places]
    if top and not recursive:
        left_out += _left_out(source, [path for path in paths if path not in set(top)], BELOW)
        others = [path for path in others if path.parent in places]
        paths = top
    left_out += _left_out(source, nowhere, NOWHERE) + _left_out(source, others, OTHER_KIND)
    with_positions = [path for path in paths if path.suffix.lower() not in WITHOUT_POSITIONS]
    slides = {path.stem for path in with_positions}
    chosen = with_positions + [
        path
        for path in paths
        if path.suffix.lower() in WITHOUT_POSITIONS and path.stem not in slides
    ]
    if not chosen:
        raise InputError(
            f"holds no feature file ({', '.join(f'*{end}' for end in feature_suffixes())})",
            path=source,
            fix="give the folder that holds the feature files",
        )
    if repeated := duplicates([_slide_id(path) for path in chosen]):
        raise InputError(
            f"two files are of slide {preview(repeated)}",
            path=source,
            fix="give a folder with one file for each slide",
        )
    files = {_slide_id(path): path for path in sorted(chosen, key=lambda path: path.stem)}
    return FoundFeatures(files, left_out)


def _choose_job(source: Path, of_tiles: bool) -> tuple[list[Path], list[LeftOut]]:
    """Return the folder of features of a TRIDENT job, if it is one, and those left out."""
    found = {
        name: sorted(
            path for job in ("", "*/") for path in source.glob(f"{job}{name}_*") if path.is_dir()
        )
        for name in _TRIDENT_FOLDERS
    }
    tiles, vectors = found.values()
    if of_tiles and len(tiles) == 1:
        return tiles, _left_out(source, vectors, "holds vectors of slides, not features of tiles")
    jobs = sorted([*tiles, *vectors])
    if len(jobs) > 1:
        names = preview([str(path.relative_to(source)) for path in jobs])
        raise InputError(
            f"holds features of several encoders: {names}",
            path=source,
            fix="give one of these folders",
        )
    return jobs, []


def _slide_id(path: Path) -> str:
    return safe_file_name(composed(path.stem), what="slide id")


def _is_feature_file(path: Path) -> bool:
    return path.suffix.lower() in feature_suffixes()


def _is_hidden(path: Path, source: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(source).parts)


def _left_out(source: Path, paths: Sequence[Path], reason: str) -> list[LeftOut]:
    return [LeftOut(str(path.relative_to(source)), reason) for path in paths]
