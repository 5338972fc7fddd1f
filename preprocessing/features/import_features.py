"""Import features of tiles, slides or patients that other tools computed.

The command is ``tcgn-mil import-features``. After the import, all later steps read one layout.
Features are copied in blocks of rows. Their values do not change, except that 64 bits become 32.
The encoder's identity becomes ``<layout>:<name>``, for example ``trident:uni[cls]``, so that a
model refuses features of an encoder that it was not trained on. The vector of a slide, or of a
patient who then stands for a slide, becomes a bag of one tile without a position, and its identity
says so: ``trident-slide:titan``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from tcgn_mil.errors import InputError
from tcgn_mil.io.atomic import write_csv
from tcgn_mil.io.failures import Failure, unexpected, write_failures
from tcgn_mil.io.feature_files import read_feature_info, write_feature_blocks
from tcgn_mil.io.hdf5 import read_provenance
from tcgn_mil.preprocessing.features.encoder_names import encoder_identity
from tcgn_mil.preprocessing.features.placement import place
from tcgn_mil.preprocessing.features.readers import open_foreign
from tcgn_mil.preprocessing.features.readers.base import TILE, ForeignFeatures
from tcgn_mil.preprocessing.features.settings import ImportSettings
from tcgn_mil.preprocessing.features.source_check import check_sources
from tcgn_mil.preprocessing.features.table_folder import SLIDES
from tcgn_mil.preprocessing.slides.names import SlideFacts
from tcgn_mil.progress import Progress, tell
from tcgn_mil.resume.cohort_list import plan_cohort
from tcgn_mil.resume.digests import input_digest
from tcgn_mil.resume.set_aside import set_aside
from tcgn_mil.text import counted, preview
from tcgn_mil.types.features import FeatureInfo


def import_cohort(
    sources: Mapping[str, Path],
    facts_of: Callable[[str], SlideFacts],
    settings: ImportSettings,
    out_dir: str | Path,
    *,
    source: str | Path | None = None,
    choice: str = "",
) -> tuple[list[FeatureInfo], list[Failure]]:
    """Import the features of all slides of a cohort.

    All slides must have the encoder, the width and the tile size of the first one that can be
    imported. A slide that cannot be imported is listed in ``failures.csv``. A slide that was
    imported before from a file of the same content with the same settings is kept. For vectors of
    slides or of patients, ``slides.csv`` gets the columns slide_id and patient_id of all slides.

    Parameters
    ----------
    sources
        Slide id to feature file, as :func:`~.search.find_feature_sources` gives them.
    facts_of
        Function from a slide id to its patient and resolution. It may raise InputError.
    settings
        Facts that the files may not hold.
    out_dir
        Folder for the feature files.
    source, choice
        Folder that was searched, and the options of the search. Features of slides that it no
        longer holds are then set aside, and standard error says so.

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
    if source is not None:
        planned = plan_cohort(out_dir, source, [*sources], choice=choice)
        planned.apply(lambda name: [out_dir / f"{name}.h5"])
        for sentence in planned.sentences():
            tell(sentence)
    done: list[FeatureInfo] = []
    failures: list[Failure] = []
    again: list[str] = []
    for slide, path in Progress(sources.items(), desc="import-features", unit="slide"):
        first = done[0] if done else None
        try:
            done.append(
                _import_slide(slide, path, facts_of(slide), settings, out_dir, first, again)
            )
        except Exception as error:  # whatever one file does costs its own row only
            failures.append(unexpected(error, slide, "import-features"))
            # Features of an earlier import are not those of the present file.
            set_aside(out_dir, [out_dir / f"{slide}.h5"])
    if again:
        said = f"changed since the last import and imported again: {preview(again)}"
        tell(f"{counted(len(again), 'slide')} {said}")
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
    again: list[str],
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
        digest = input_digest(path)
        if not _is_current(target, info, path, digest):
            if target.exists():
                again.append(slide)
            write_feature_blocks(
                target,
                features.blocks(),
                tiles.coords,
                info,
                dtype=features.features.dtype,
                imported_from=path.name,
                source_digest=digest,
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


def _is_current(target: Path, info: FeatureInfo, source: Path, digest: str) -> bool:
    """Return whether `target` was made from the present `source` with the same settings.

    Files of earlier versions state no digest, and are made again if their source is younger.
    """
    if not target.is_file():
        return False
    try:
        recorded = read_provenance(target, kind="feature").get("source_digest")
        same = read_feature_info(target) == info
    except InputError:
        return False
    if recorded is None:
        return same and target.stat().st_mtime >= source.stat().st_mtime
    return same and recorded == digest
