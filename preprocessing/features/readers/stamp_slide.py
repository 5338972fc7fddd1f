"""Read slide and patient features of STAMP: ``feats`` (D,), one vector for each file.

The attribute ``encoder`` names the slide encoder, and ``feat_type`` says whether the vector is of a
slide or of a patient. The file of a patient is named after the patient. Early files have no
``feat_type``; the folder, ``<encoder>-slide`` or ``<encoder>-pat``, with or without a hash after
it, says it for them. None of the files has positions.
"""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from pathlib import Path

import h5py

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.features.readers.base import (
    PATIENT,
    SLIDE,
    FeatureReader,
    ForeignFeatures,
    Level,
)
from tcgn_mil.preprocessing.features.readers.hdf5_datasets import (
    SUFFIXES,
    holds,
    open_layout,
    text_attribute,
    vector_dataset,
)
from tcgn_mil.preprocessing.features.readers.stamp import without_hash

_FOLDER_END = re.compile(r"-(slide|pat)$")


def is_stamp_slide(path: Path) -> bool:
    """Return whether an HDF5 file has ``feats`` that are of a slide or of a patient."""
    return holds(path, lambda file: "feats" in file and _says_vector(file))


def open_stamp_slide(path: Path) -> AbstractContextManager[ForeignFeatures]:
    """Open a file of slide or patient features of STAMP."""
    return open_layout(path, _read)


def _says_vector(file: h5py.File) -> bool:
    kind = text_attribute(file.attrs, "feat_type")
    # Files of tiles name an extractor in place of an encoder.
    early = not kind and "coords" not in file and bool(text_attribute(file.attrs, "encoder"))
    return kind in (SLIDE, PATIENT) or early


def _read(file: h5py.File, path: Path) -> ForeignFeatures:
    return ForeignFeatures(
        "stamp",
        vector_dataset(file, "feats", path),
        None,
        encoder=text_attribute(file.attrs, "encoder"),
        level=_level(file, path),
    )


def _level(file: h5py.File, path: Path) -> Level:
    kind = text_attribute(file.attrs, "feat_type")
    if not kind:
        ends = [_FOLDER_END.search(without_hash(folder.name)) for folder in path.resolve().parents]
        words = [end.group(1) for end in ends if end]
        if not words:
            raise InputError(
                "does not say whether its vector is of a slide or of a patient",
                path=path,
                fix="give it in a folder that is named as STAMP does, such as titan-slide or"
                " titan-pat",
            )
        kind = words[0]
    return SLIDE if kind == SLIDE else PATIENT


READER = FeatureReader("stamp-slide", SUFFIXES, is_stamp_slide, open_stamp_slide)
