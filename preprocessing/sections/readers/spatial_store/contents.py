"""List the tables, regions and images of a SpatialData store from its metadata alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.slides.readers.ngff import is_ngff
from tcgn_mil.preprocessing.zarr_store import SUFFIX, is_store, read_attributes
from tcgn_mil.text import duplicates, preview

_TABLES = ("tables", "table")
_ENCODING = "ngff:regions_table"
# Visium HD: the bins of one section, in several sizes, are several regions.
_BINS = re.compile(r"_?square_\d{3}um")


@dataclass(frozen=True)
class Region:
    """A region of a table: the shapes, points or labels to which rows of the table belong.

    Attributes
    ----------
    store
        Folder of the store.
    table
        Folder of the table.
    name
        Name of the region.
    """

    store: Path
    table: Path
    name: str


def is_spatial_store(path: Path) -> bool:
    """Return whether a folder is a store of SpatialData."""
    return is_store(path) and (
        "spatialdata_attrs" in read_attributes(path)
        or any(is_store(each) for name in _TABLES for each in _folders(path / name))
    )


def stores_of(source: Path) -> list[Path]:
    """Return the store that a folder is, or the stores in it; empty if it is neither."""
    if is_spatial_store(source):
        return [source]
    return [each for each in _folders(source) if each.suffix == SUFFIX and is_spatial_store(each)]


def table_in_store(source: Path) -> tuple[Path, Path] | None:
    """Return the store and the table, if a path leads to a table in a store."""
    store = source.parent.parent
    if source.parent.name in _TABLES and is_spatial_store(store) and is_store(source):
        return store, source
    return None


def find_regions(store: Path, table: Path | None = None) -> list[Region]:
    """Return the regions of a store, each of which is a section.

    Parameters
    ----------
    store
        Folder of the store.
    table
        Folder of the table to read; all tables if None.

    Raises
    ------
    InputError
        If no table has a region; or if several tables have the same region, or bins of several
        sizes of one section, so that one of them has to be chosen.
    """
    tables = (
        [table]
        if table is not None
        else [each for name in _TABLES for each in _folders(store / name) if is_store(each)]
    )
    regions = [Region(store, each, name) for each in tables for name in _regions_of(each)]
    if not regions:
        raise InputError(
            "has no table whose rows belong to shapes or points (no region), so that its counts"
            " have no place",
            path=store if table is None else table,
            fix="annotate a table by TableModel.parse(adata, region=..., region_key=...,"
            " instance_key=...), and write the store again",
        )
    repeated = duplicates([_BINS.sub("", each.name) for each in regions])
    if repeated and len(tables) > 1:
        names = [each.name for each in regions if _BINS.sub("", each.name) == repeated[0]]
        raise InputError(
            f"has several tables for one section: {preview(sorted({t.name for t in tables}))}"
            f" (regions {preview(names)})",
            path=store,
            fix=f"give the table to read, for example {tables[0]}",
        )
    return regions


def image_names(store: Path) -> list[str]:
    """Return the names of the images of a store."""
    return [each.name for each in _folders(store / "images") if is_ngff(each)]


def _regions_of(table: Path) -> list[str]:
    attributes = read_attributes(table)
    if attributes.get("spatialdata-encoding-type") != _ENCODING:
        return []
    region = attributes.get("region")
    names = region if isinstance(region, list) else [region]
    return [name for name in names if isinstance(name, str) and name]


def _folders(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from sorted(
            each for each in folder.iterdir() if each.is_dir() and not each.name.startswith(".")
        )
