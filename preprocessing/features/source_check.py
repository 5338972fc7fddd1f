"""Check that the files of a folder belong together, before any of them is imported.

A file that cannot be read costs one row of the import. Files that hold different things are an
error of the whole folder: a model would have to read vectors of slides beside features of tiles, or
features of two poolings, and which of them is meant cannot be told from the files.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tcgn_mil.errors import InputError
from tcgn_mil.io.feature_files import read_feature_info
from tcgn_mil.preprocessing.features.encoder_names import encoder_identity
from tcgn_mil.preprocessing.features.readers import open_foreign
from tcgn_mil.preprocessing.features.readers.base import TILE, ForeignFeatures, Level
from tcgn_mil.preprocessing.features.settings import ImportSettings
from tcgn_mil.progress import Progress


class SourceFacts(NamedTuple):
    """Contents of a feature file of another tool.

    Attributes
    ----------
    path
        The file.
    level
        What a row of its features describes.
    encoder
        Identity of the encoder; empty if it cannot be told.
    width
        Number of features.
    """

    path: Path
    level: Level
    encoder: str
    width: int

    def __str__(self) -> str:
        what = "features of tiles" if self.level == TILE else f"a vector of a {self.level}"
        by = f" by {self.encoder}" if self.encoder else ""
        return f"{self.path.name} holds {what}{by} ({self.width} wide)"


def level_of(sources: Mapping[str, Path]) -> Level | None:
    """Return the level of the first file that can be read; None if there is none."""
    for path in sources.values():
        try:
            with open_foreign(path) as features:
                return features.level
        except Exception:
            continue  # a row of failures.csv when it is imported
    return None


def check_sources(
    sources: Mapping[str, Path], settings: ImportSettings, out_dir: Path
) -> list[SourceFacts]:
    """Check that the files hold features of one kind, and that `out_dir` has no others.

    Parameters
    ----------
    sources
        Slide id to feature file.
    settings
        Facts that the files may not hold.
    out_dir
        Folder for the feature files; it need not exist.

    Returns
    -------
    list of SourceFacts
        Contents of the files that can be read.

    Raises
    ------
    InputError
        If some files hold vectors of slides or of patients and others something else, vectors
        differ in encoder or width, or features of one encoder were pooled in two ways. The message
        names two files. Also if `out_dir` has features of another encoder.
    """
    facts: list[SourceFacts] = []
    for path in Progress(sources.values(), desc="look at features", unit="slide", leave=False):
        try:
            with open_foreign(path) as features:
                facts.append(_facts(features, settings, path))
        except Exception:
            continue  # a row of failures.csv when it is imported
    for other in facts[1:]:
        _check_pair(facts[0], other)
    if facts:
        _check_folder(sources, facts[0], out_dir)
    return facts


def _facts(features: ForeignFeatures, settings: ImportSettings, path: Path) -> SourceFacts:
    try:
        encoder = encoder_identity(features, settings, path)
    except InputError:
        encoder = ""  # also a row of failures.csv; its level counts here
    return SourceFacts(path, features.level, encoder, features.features.shape[1])


def _check_pair(first: SourceFacts, other: SourceFacts) -> None:
    """Raise InputError if two files of a folder hold things that no model reads together."""
    two_encoders = bool(first.encoder and other.encoder) and first.encoder != other.encoder
    if first.level != other.level:
        fix = "give a folder that holds one of the two"
    elif other.level != TILE and (two_encoders or first.width != other.width):
        fix = "give a folder with the vectors of one encoder"
    elif two_encoders and _unpooled(first.encoder) == _unpooled(other.encoder):
        fix = "import the features of each pooling into a folder of their own"
    else:
        return
    raise InputError(f"{first}, but {other}", path=first.path.parent, fix=fix)


def _unpooled(encoder: str) -> str:
    """Return the identity of an encoder without its pooling."""
    return encoder.partition("[")[0]


def _check_folder(sources: Mapping[str, Path], first: SourceFacts, out_dir: Path) -> None:
    """Refuse a folder with features of other slides by another encoder."""
    for file in sorted(out_dir.glob("[!.]*.h5")):
        if file.stem in sources:
            continue
        try:
            info = read_feature_info(file)
        except InputError:
            continue
        if first.encoder and (info.encoder, info.width) != (first.encoder, first.width):
            raise InputError(
                f"{file.name} holds features of {info.encoder} ({info.width} wide) in this folder,"
                f" but {first}",
                path=out_dir,
                fix="choose another folder for --out",
            )
