"""Read feature files of STAMP: ``feats`` and ``coords`` in HDF5, with positions in µm.

The side of a tile is in the attribute ``tile_size_um``. Older files call it ``tile_size`` and do
not give it in pixels. The attribute ``extractor`` names the encoder; in older files a hash follows.
"""

from __future__ import annotations

import re
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
    size_attribute,
    text_attribute,
)

_HASH = re.compile(r"-[0-9a-fA-F]{6,64}$")


def without_hash(name: str) -> str:
    """Return a name of STAMP without the hash of its code or of the weights.

    Examples
    --------
    >>> without_hash("mahmood-uni-02627079"), without_hash("virchow-full")
    ('mahmood-uni', 'virchow-full')
    """
    return _HASH.sub("", name)


def is_stamp(path: Path) -> bool:
    """Return whether an HDF5 file has ``feats``."""
    return holds(path, lambda file: "feats" in file)


def open_stamp(path: Path) -> AbstractContextManager[ForeignFeatures]:
    """Open a feature file of STAMP."""
    return open_layout(path, _read)


def _read(file: h5py.File, path: Path) -> ForeignFeatures:
    kind = text_attribute(file.attrs, "feat_type") or "tile"
    unit = text_attribute(file.attrs, "unit")
    if kind != "tile":
        raise InputError(
            f"holds features of a {kind!r}, which are not known here",
            path=path,
            fix="give features of tiles, slides or patients",
        )
    if unit != "um":
        raise InputError(
            f"gives its coords in {unit or 'an unknown unit'}, not um",
            path=path,
            fix="encode it with STAMP 2 or newer",
        )
    features = feature_dataset(file, "feats", path)
    side = "tile_size_um" if "tile_size_um" in file.attrs else "tile_size"
    in_px = "tile_size_px" in file.attrs
    return ForeignFeatures(
        "stamp",
        features,
        coord_array(file, len(features), path, whole=False),
        encoder=without_hash(text_attribute(file.attrs, "extractor")),
        patch_px=round(size_attribute(file, "tile_size_px", path)) if in_px else None,
        patch_um=size_attribute(file, side, path),
    )


READER = FeatureReader("stamp", SUFFIXES, is_stamp, open_stamp)
