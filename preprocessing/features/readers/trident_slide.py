"""Read slide features of TRIDENT in HDF5: ``features`` (D,), one vector for each slide.

TRIDENT writes them into folders ``slide_features_<encoder>``, for TITAN, PRISM, CHIEF, GigaPath,
Madeleine and others. The ``coords`` in these files are those of the tiles that the slide encoder
read; the vector itself has no position. No attribute names the slide encoder. Its name is taken
from the folder that the file says it was written to, or from the folder in which the file lies.

A file of another program with ``features`` of this shape is read in the same way.
"""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from pathlib import Path

import h5py

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.features.readers.base import SLIDE, FeatureReader, ForeignFeatures
from tcgn_mil.preprocessing.features.readers.hdf5_datasets import (
    SUFFIXES,
    holds,
    open_layout,
    text_attribute,
    vector_dataset,
)
from tcgn_mil.preprocessing.interop.readers.base import has_coords
from tcgn_mil.preprocessing.slides.readers import without_slide_suffix
from tcgn_mil.text import composed

FOLDER_PREFIX = "slide_features_"
_LONGEST_PATH = 4096


def is_trident_slide(path: Path) -> bool:
    """Return whether ``features`` is one vector of a slide.

    A dataset of shape (1, D) could also be the features of the only tile of a slide. It is a vector
    of the slide if the folder says so, or if the file has no position or several.
    """
    return holds(path, lambda file: _is_vector(file, path))


def open_trident_slide(path: Path) -> AbstractContextManager[ForeignFeatures]:
    """Open a file of slide features of TRIDENT."""
    return open_layout(path, _read)


def _is_vector(file: h5py.File, path: Path) -> bool:
    if isinstance(file.get("features", getlink=True), h5py.ExternalLink):
        return False
    features = file.get("features")
    if not isinstance(features, h5py.Dataset) or not features.size:
        return False
    if features.ndim == 1:
        return True
    if features.ndim not in (2, 3) or features.size != features.shape[-1]:
        return False
    # TRIDENT writes the position of an only tile as (2,) beside a vector of the slide.
    one_tile = has_coords(file) and file["coords"].shape in ((1, 2), (1, 1, 2))
    return not one_tile or bool(_stated_names(features, path))


def _stated_names(features: h5py.Dataset, path: Path) -> list[str]:
    """Return the slide encoder's names in the file and in the name of its folder, if any."""
    written_to = text_attribute(features.attrs, "savetodir", most=_LONGEST_PATH)
    folders = (re.split(r"[/\\]", written_to.rstrip("/\\"))[-1], path.resolve().parent.name)
    names = [name.removeprefix(FOLDER_PREFIX) for name in folders if name.startswith(FOLDER_PREFIX)]
    return [name for name in (text_attribute(features.attrs, "encoder"), *names) if name]


def _read(file: h5py.File, path: Path) -> ForeignFeatures:
    vector = vector_dataset(file, "features", path)
    attributes = file["features"].attrs
    name = text_attribute(attributes, "name")
    if composed(without_slide_suffix(name)) not in ("", composed(path.stem)):
        raise InputError(
            f"says it is of slide {name!r}, not {path.stem!r}",
            path=path,
            fix="give each slide its own feature file",
        )
    encoders = list(dict.fromkeys(_stated_names(file["features"], path)))
    if len(encoders) > 1:
        raise InputError(
            f"says that it is of slide encoder {encoders[0]}, but its folder is named after"
            f" {encoders[1]}",
            path=path,
            fix=f"move the file to a folder {FOLDER_PREFIX}{encoders[0]}",
        )
    encoder = encoders[0] if encoders else ""
    return ForeignFeatures("trident", vector, None, encoder=encoder, level=SLIDE)


READER = FeatureReader("trident-slide", SUFFIXES, is_trident_slide, open_trident_slide)
