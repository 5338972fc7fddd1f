"""Import features of tiles, slides or patients that other tools computed.

The command is ``tcgn-mil import-features``. After the import, all later steps read one layout.
Features are copied in blocks of rows. Their values do not change, except that 64 bits become 32.
The encoder's identity becomes ``<layout>:<name>``, for example ``trident:uni[cls]``, so that a
model refuses features of an encoder that it was not trained on. The vector of a slide, or of a
patient who then stands for a slide, becomes a bag of one tile without a position, and its identity
says so: ``trident-slide:titan``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from tcgn_mil.errors import InputError
from tcgn_mil.io.atomic import safe_file_name, write_csv
from tcgn_mil.io.failures import Failure, LeftOut, unexpected, write_failures
from tcgn_mil.io.feature_files import read_feature_info, write_feature_blocks
from tcgn_mil.preprocessing.features.encoder_names import encoder_identity
from tcgn_mil.preprocessing.features.placement import place
from tcgn_mil.preprocessing.features.readers import feature_suffixes, open_foreign
from tcgn_mil.preprocessing.features.readers.base import TILE, ForeignFeatures
from tcgn_mil.preprocessing.features.readers.clam_tensor import SUFFIXES as TENSOR_SUFFIXES
from tcgn_mil.preprocessing.features.readers.numpy_array import SUFFIXES as ARRAY_SUFFIXES
from tcgn_mil.preprocessing.features.settings import ImportSettings
from tcgn_mil.preprocessing.features.source_check import check_sources
from tcgn_mil.preprocessing.features.table_folder import SLIDES
from tcgn_mil.preprocessing.slides.folder import BELOW, NOWHERE
from tcgn_mil.preprocessing.slides.names import SlideFacts
from tcgn_mil.progress import Progress
from tcgn_mil.text import composed, counted, duplicates, preview
from tcgn_mil.types.features import FeatureInfo

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


def import_cohort(
    sources: Mapping[str, Path],
    facts_of: Callable[[str], SlideFacts],
    settings: ImportSettings,
    out_dir: str | Path,
) -> tuple[list[FeatureInfo], list[Failure]]:
    """Import the features of all slides of a cohort.

    All slides must have the encoder, the width and the tile size of the first one that can be
    imported. A slide that cannot be imported is listed in ``failures.csv``. A slide that was
    imported before from the same file with the same settings is kept. For vectors of slides or of
    patients, ``slides.csv`` gets the columns slide_id and patient_id of all slides in the folder.

    Parameters
    ----------
    sources
        Slide id to feature file, as :func:`find_feature_sources` gives them.
    facts_of
        Function from a slide id to its patient and resolution. It may raise InputError.
    settings
        Facts that the files may not hold.
    out_dir
        Folder for the feature files.

    Returns
    -------
    done : list of FeatureInfo
        Descriptions of the feature files, of this call and of earlier ones.
    failures : list of Failure
        Slides that could not be imported.

    Raises
    ------
    InputError
        If `out_dir` is the folder that holds the sources, or the files do not belong together, as
        :func:`~tcgn_mil.preprocessing.features.source_check.check_sources` describes.

    Examples
    --------
    >>> import h5py
    >>> with h5py.File("S1.h5", "w") as file:
    ...     file["features"] = np.zeros(768, np.float32)
    >>> facts_of = lambda slide: SlideFacts("P1")
    >>> done, failures = import_cohort(
    ...     {"S1": Path("S1.h5")}, facts_of, ImportSettings(encoder="titan"), "features"
    ... )
    >>> done[0].encoder, done[0].patient_id, done[0].n_tiles
    ('trident-slide:titan', 'P1', 1)
    """
    out_dir = Path(out_dir)
    if any(path.parent.resolve() == out_dir.resolve() for path in sources.values()):
        raise InputError(
            "is the folder that is imported", path=out_dir, fix="choose another folder for --out"
        )
    check_sources(sources, settings, out_dir)
    done: list[FeatureInfo] = []
    failures: list[Failure] = []
    for slide, path in Progress(sources.items(), desc="import-features", unit="slide"):
        first = done[0] if done else None
        try:
            done.append(_import_slide(slide, path, facts_of(slide), settings, out_dir, first))
        except Exception as error:  # whatever one file does costs its own row only
            failures.append(unexpected(error, slide, "import-features"))
    write_failures(out_dir, failures)
    if done and done[0].per_slide:
        write_slides_list(out_dir)
    return done, failures


def write_slides_list(out_dir: Path) -> None:
    """Write ``slides.csv``, from which ``tcgn-mil bulk --slides`` learns whose vectors these are.

    There may be no slides to learn it from, and the file of a patient is of no slide at all.
    """
    infos = [read_feature_info(file) for file in sorted(out_dir.glob("[!.]*.h5"))]
    slides = [(info.slide_id, info.patient_id) for info in infos]
    write_csv(out_dir / SLIDES, pd.DataFrame(slides, columns=["slide_id", "patient_id"]))


def _import_slide(
    slide: str,
    path: Path,
    facts: SlideFacts,
    settings: ImportSettings,
    out_dir: Path,
    first: FeatureInfo | None,
) -> FeatureInfo:
    with open_foreign(path) as features:
        tiles = place(
            features, mpp=facts.mpp, patch_px=settings.patch_px, patch_mpp=settings.patch_mpp
        )
        rows, width = features.features.shape
        if features.level != TILE:
            _check_vector(features)
        encoder = encoder_identity(features, settings, path)
        info = FeatureInfo(
            slide, facts.patient_id, rows, width, encoder, tiles.spec, positions=tiles.positions
        )
        _check_alike(info, first or info)
        target = out_dir / f"{slide}.h5"
        if not _is_current(target, info, path):
            write_feature_blocks(
                target,
                features.blocks(),
                tiles.coords,
                info,
                dtype=features.features.dtype,
                imported_from=path.name,
            )
    return info


def _check_vector(features: ForeignFeatures) -> None:
    bad = int((~np.isfinite(features.features[:])).sum())
    if bad:
        raise InputError(
            f"its vector has {counted(bad, 'value')} that are not finite",
            fix="compute the vector again with 32-bit precision, or remove the file",
        )


def _check_alike(info: FeatureInfo, first: FeatureInfo) -> None:
    if (info.encoder, info.width) != (first.encoder, first.width):
        raise InputError(
            f"has features of {info.encoder} ({info.width} wide), but those of {first.slide_id}"
            f" are of {first.encoder} ({first.width} wide)",
            fix="import the features of each encoder into a folder of their own",
        )
    if not info.patch.matches(first.patch):
        raise InputError(
            f"has tiles of {info.patch}, but those of {first.slide_id} are {first.patch}",
            fix="tile all slides at one size; if they are of one nominal size on different"
            " scanners, give --patch-mpp",
        )


def _is_current(target: Path, info: FeatureInfo, source: Path) -> bool:
    """Return whether `target` was made from the present `source` with the same settings."""
    if not target.is_file() or target.stat().st_mtime < source.stat().st_mtime:
        return False
    try:
        return read_feature_info(target) == info
    except InputError:
        return False
