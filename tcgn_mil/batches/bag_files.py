"""Read the bag of a patient, which is the tiles of all of its slides, from feature files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.batches.loading import sample_rows
from tcgn_mil.errors import InputError
from tcgn_mil.io.feature_files import FeatureInfo, read_feature_info, read_stored_features
from tcgn_mil.types.tiles import stain_identity


class Bag(NamedTuple):
    """Tiles of one patient.

    Attributes
    ----------
    features
        (N, D) float32, or float16 in a :class:`~tcgn_mil.batches.feature_bags.BagDataset` if the
        files store it. NaN is a missing value, which only features from a table may have.
    coords
        (N, 2) int64, x and y in level-0 pixels.
    slide_index
        (N,) int64, index of the slide of each tile among the patient's slides.
    """

    features: NDArray[Any]
    coords: NDArray[np.int64]
    slide_index: NDArray[np.int64]

    def select(self, rows: NDArray[np.integer]) -> Bag:
        """Return the bag of some of the tiles."""
        return Bag(self.features[rows], self.coords[rows], self.slide_index[rows])


class FeatureFile(NamedTuple):
    """A feature file with its header, which is read once and not in every epoch."""

    path: Path
    info: FeatureInfo


def open_slides(paths: Sequence[str | Path]) -> tuple[FeatureFile, ...]:
    """Read the headers of feature files, and check that the files can be used together.

    Raises
    ------
    InputError
        If the files are not of one encoder (see :func:`check_same_encoder`).
    """
    infos = [read_feature_info(path) for path in paths]
    check_same_encoder(infos, paths)
    return tuple(FeatureFile(Path(path), info) for path, info in zip(paths, infos, strict=True))


def check_same_encoder(infos: Sequence[FeatureInfo], paths: Sequence[str | Path]) -> FeatureInfo:
    """Check that feature files can be used together, and return the first header.

    Parameters
    ----------
    infos, paths
        Headers and names of the files, in the same order.

    Raises
    ------
    InputError
        If there is no file, or the files differ in encoder, width, tile size or stain
        normalisation.
    """
    if not infos:
        raise InputError(
            "no feature file is given", fix="run tcgn-mil encode or import-features first"
        )
    first, first_name = infos[0], Path(paths[0]).name
    for info, path in zip(infos, paths, strict=True):
        if (info.encoder, info.width) != (first.encoder, first.width):
            raise InputError(
                f"features of {info.encoder} ({info.width} wide), but those of {first_name} are of"
                f" {first.encoder} ({first.width} wide)",
                path=path,
                fix="encode all slides of a cohort with one encoder",
            )
        if not info.patch.matches(first.patch):
            raise InputError(
                f"tiles of {info.patch}, but those of {first_name} are {first.patch}",
                path=path,
                fix="tile all slides of a cohort at one size",
            )
        if stain_identity(info.stain) != stain_identity(first.stain):
            raise InputError(
                f"stain normalisation {stain_identity(info.stain)}, but that of {first_name} is"
                f" {stain_identity(first.stain)}",
                path=path,
                fix="tile and encode all slides of a cohort with the same --stain and"
                " --stain-reference, or all without",
            )
    return first


def mean_features(features: NDArray[np.floating]) -> NDArray[np.float32]:
    """Average features over tiles, or over slides, leaving missing values out.

    Parameters
    ----------
    features
        (N, D), NaN where a value is missing.

    Returns
    -------
    (D,) float32, NaN for a feature that is missing in all N rows.

    Examples
    --------
    >>> import numpy as np
    >>> mean_features(np.array([[1.0, np.nan], [3.0, 5.0]]))
    array([2., 5.], dtype=float32)
    """
    mean = features.mean(axis=0, dtype=np.float64)
    if np.isnan(mean).any():
        known = ~np.isnan(features)
        total = np.where(known, features, 0).sum(axis=0, dtype=np.float64)
        count = known.sum(axis=0)
        mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return mean.astype(np.float32)


def read_bag(
    paths: Sequence[str | Path],
    *,
    max_tiles: int | None = None,
    generator: np.random.Generator | None = None,
) -> Bag:
    """Read the tiles of a patient's slides, with features as float32.

    Parameters
    ----------
    paths
        Feature files of the slides.
    max_tiles
        If there are more tiles, a sample of this size is drawn without replacement over all
        slides. None reads all tiles.
    generator
        Source of randomness of the sample; by default a generator with seed 0.

    Raises
    ------
    InputError
        If there is no tile, a feature is not finite, or the files differ in width, encoder, tile
        size or stain normalisation.
    """
    bag = read_slides(open_slides(paths), max_tiles=max_tiles, generator=generator)
    return bag._replace(features=bag.features.astype(np.float32, copy=False))


def read_slides(
    slides: Sequence[FeatureFile], *, max_tiles: int | None, generator: np.random.Generator | None
) -> Bag:
    """Read the tiles of slides whose headers were read, with features as they are stored.

    See :func:`read_bag`. Features are float32 if one of the files stores them so.
    """
    counts = [slide.info.n_tiles for slide in slides]
    total = sum(counts)
    if total == 0:
        raise InputError(
            "the patient has no tile",
            path=slides[0].path,
            fix="check the tissue of the slide in its overlay picture",
        )
    rows: Sequence[NDArray[np.int64] | None] = [None] * len(slides)
    if max_tiles is not None and total > max_tiles:
        rows = sample_rows(counts, max_tiles, generator or np.random.default_rng(0))
        counts = [len(chosen) for chosen in rows if chosen is not None]
    parts = [
        read_stored_features(slide.path, chosen, info=slide.info)
        for slide, chosen, count in zip(slides, rows, counts, strict=True)
        if count
    ]
    index = np.repeat(np.arange(len(counts)), counts)
    if len(parts) == 1:  # without a copy
        return Bag(parts[0].features, parts[0].coords, index)
    features = np.empty(
        (sum(counts), slides[0].info.width), np.result_type(*(part.features for part in parts))
    )
    np.concatenate([part.features for part in parts], out=features)
    return Bag(features, np.concatenate([part.coords for part in parts]), index)
