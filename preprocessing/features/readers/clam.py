"""Read feature files of CLAM in HDF5.

A file holds ``features`` (N, D) and ``coords`` (N, 2), without attributes. It names neither its
encoder nor the size of its tiles. The user gives both.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

import h5py

from tcgn_mil.preprocessing.features.readers.base import FeatureReader, ForeignFeatures
from tcgn_mil.preprocessing.features.readers.hdf5_datasets import (
    SUFFIXES,
    coord_array,
    feature_dataset,
    holds,
    open_layout,
)


def is_clam(path: Path) -> bool:
    """Return whether an HDF5 file has ``features``, which TRIDENT's files have as well."""
    return holds(path, lambda file: "features" in file)


def open_clam(path: Path) -> AbstractContextManager[ForeignFeatures]:
    """Open a feature file of CLAM."""
    return open_layout(path, _read)


def _read(file: h5py.File, path: Path) -> ForeignFeatures:
    features = feature_dataset(file, "features", path)
    return ForeignFeatures("clam", features, coord_array(file, len(features), path))


READER = FeatureReader("clam", SUFFIXES, is_clam, open_clam)
