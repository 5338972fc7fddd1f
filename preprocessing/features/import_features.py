"""Import tile features of other tools as feature files of this package.

The command is ``tcgn-mil import-features``. After the import, all later steps read one layout.
Features are copied in blocks of rows, and their values and dtype do not change. The encoder's
identity becomes ``<layout>:<name>``, for example ``trident:uni_v1``, so that a model refuses
features of an encoder that it was not trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from tqdm import tqdm

from tcgn_mil.errors import InputError
from tcgn_mil.io.atomic import safe_file_name
from tcgn_mil.io.failures import Failure, write_failures
from tcgn_mil.io.feature_files import read_feature_info, write_feature_blocks
from tcgn_mil.preprocessing.features.placement import place
from tcgn_mil.preprocessing.features.readers import feature_suffixes, open_foreign
from tcgn_mil.preprocessing.features.readers.base import ForeignFeatures
from tcgn_mil.preprocessing.features.readers.clam_tensor import SUFFIXES as TENSOR_SUFFIXES
from tcgn_mil.preprocessing.features.settings import ImportSettings
from tcgn_mil.preprocessing.slides.names import SlideFacts
from tcgn_mil.text import duplicates, preview
from tcgn_mil.types.features import FeatureInfo


def find_feature_sources(source: str | Path) -> dict[str, Path]:
    """Find the feature files of a folder.

    Parameters
    ----------
    source
        One feature file, or a folder. A folder may be CLAM's, with ``h5_files`` and ``pt_files``; a
        TRIDENT job with one folder ``features_*``, directly in it or one level below; any folder of
        .h5 or .pt files; or, as STAMP writes them, a folder with such files anywhere below it. A
        .pt file is used only for a slide without an .h5 file, because it holds no positions.

    Returns
    -------
    dict
        Slide id (the file's name without its suffix) to feature file, in order of the ids.

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
        return {safe_file_name(source.stem, what="slide id"): source}
    jobs = sorted(
        path
        for pattern in ("features_*", "*/features_*")
        for path in source.glob(pattern)
        if path.is_dir()
    )
    if len(jobs) > 1:
        names = preview([str(path.relative_to(source)) for path in jobs])
        raise InputError(
            f"holds features of several encoders: {names}",
            path=source,
            fix="give one of these folders",
        )
    places = (
        jobs
        or [path for name in ("h5_files", "pt_files") if (path := source / name).is_dir()]
        or [source]
    )
    # STAMP keeps the files of a slide in folders of its own, so search below if there is none here.
    paths = [path for folder in places for path in _files_in(folder, "*")]
    paths = paths or _files_in(source, "**/*")
    with_positions = [path for path in paths if path.suffix not in TENSOR_SUFFIXES]
    slides = {path.stem for path in with_positions}
    chosen = with_positions + [
        path for path in paths if path.suffix in TENSOR_SUFFIXES and path.stem not in slides
    ]
    if not chosen:
        raise InputError(
            f"holds no feature file ({', '.join(f'*{end}' for end in feature_suffixes())})",
            path=source,
            fix="give the folder that holds the feature files",
        )
    if repeated := duplicates([path.stem for path in chosen]):
        raise InputError(
            f"two files are of slide {preview(repeated)}",
            path=source,
            fix="give a folder with one file for each slide",
        )
    return {
        safe_file_name(path.stem, what="slide id"): path
        for path in sorted(chosen, key=lambda path: path.stem)
    }


def _files_in(folder: Path, pattern: str) -> list[Path]:
    return sorted(
        path
        for path in folder.glob(pattern)
        if path.suffix in feature_suffixes() and path.is_file() and not path.name.startswith(".")
    )


def import_cohort(
    sources: Mapping[str, Path],
    facts_of: Callable[[str], SlideFacts],
    settings: ImportSettings,
    out_dir: str | Path,
) -> tuple[list[FeatureInfo], list[Failure]]:
    """Import the features of all slides of a cohort.

    All slides must have the encoder, the width and the tile size of the first one that can be
    imported. A slide that cannot be imported is listed in ``failures.csv``. A slide that was
    imported before from the same file with the same settings is kept.

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
        If `out_dir` is the folder that holds the sources.
    """
    out_dir = Path(out_dir)
    if any(path.parent.resolve() == out_dir.resolve() for path in sources.values()):
        raise InputError(
            "is the folder that is imported", path=out_dir, fix="choose another folder for --out"
        )
    done: list[FeatureInfo] = []
    failures: list[Failure] = []
    for slide, path in tqdm(sources.items(), desc="import-features", unit="slide"):
        first = done[0] if done else None
        try:
            done.append(_import_slide(slide, path, facts_of(slide), settings, out_dir, first))
        except InputError as error:
            failures.append(Failure(slide, "import-features", error.reason, error.fix or ""))
    write_failures(out_dir, failures)
    return done, failures


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
        encoder = f"{features.layout}:{_encoder(features, settings)}"
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


def _encoder(features: ForeignFeatures, settings: ImportSettings) -> str:
    given = (settings.encoder or "").strip()
    if not (features.encoder or given):
        raise InputError("does not name its encoder", fix="give it with --encoder")
    if features.encoder and given not in ("", features.encoder):
        raise InputError(
            f"is of encoder {features.encoder}, not {given}",
            fix=f"remove the option --encoder, or give the files of {given}",
        )
    return features.encoder or given


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
