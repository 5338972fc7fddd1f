"""Read feature files of TRIDENT in HDF5.

A file holds ``features`` and ``coords``. The attributes of ``coords`` give sizes in pixels and
nominal magnifications. Nominal magnifications are ignored, because scanners of one magnification
differ in their µm per pixel.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

import h5py

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.features.readers.base import FeatureReader, ForeignFeatures
from tcgn_mil.preprocessing.features.readers.hdf5_datasets import (
    SUFFIXES,
    coord_array,
    feature_dataset,
    holds,
    open_layout,
    text_attribute,
)
from tcgn_mil.preprocessing.interop.readers.base import has_coords
from tcgn_mil.preprocessing.interop.tile_readers import read_layout
from tcgn_mil.preprocessing.slides.readers import without_slide_suffix
from tcgn_mil.text import composed


def is_trident(path: Path) -> bool:
    """Return whether the attributes of ``coords`` give a tile size.

    TRIDENT copies the attributes of its tile file to ``coords``, also when that tile file was made
    by CLAM (``patch_level``). CLAM itself writes no attributes into a feature file.
    """
    return holds(
        path,
        lambda file: (
            "features" in file
            and has_coords(file)
            and bool({"patch_size_level0", "patch_level"} & set(file["coords"].attrs))
        ),
    )


def open_trident(path: Path) -> AbstractContextManager[ForeignFeatures]:
    """Open a feature file of TRIDENT."""
    return open_layout(path, _read)


def _read(file: h5py.File, path: Path) -> ForeignFeatures:
    features = feature_dataset(file, "features", path)
    coords = coord_array(file, len(features), path)
    tiles = read_layout(path)
    attributes = file["features"].attrs
    names = map(without_slide_suffix, (tiles.name, text_attribute(attributes, "name")))
    other_names = {composed(name) for name in names} - {"", composed(path.stem)}
    if other_names:
        raise InputError(
            f"says it is of slide {other_names.pop()!r}, not {path.stem!r}",
            path=path,
            fix="give each slide its own feature file",
        )
    return ForeignFeatures(
        "trident",
        features,
        coords,
        encoder=text_attribute(attributes, "encoder"),
        patch_px=tiles.tile_px,
        level0_px=tiles.level0_px,
        stride_px=tiles.stride_px,
    )


READER = FeatureReader("trident", SUFFIXES, is_trident, open_trident)
