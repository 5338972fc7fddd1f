"""Join the rows of a table of a SpatialData store with the shapes that it annotates.

The column ``region_key`` of a table names the region of each row, and ``instance_key`` the shape.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.sections.readers.spatial_store.contents import Region
from tcgn_mil.preprocessing.zarr_store import COPY_AGAIN, DAMAGED
from tcgn_mil.text import duplicates, preview

_NO_SHAPE = "has counts, but no shape in the store"
_MAX_SHAPES = 20_000_000


@contextlib.contextmanager
def open_region(region: Region) -> Iterator[tuple[Any, Any]]:
    """Open a store, and give it with the table of a region.

    Raises
    ------
    InputError
        If the store cannot be read, or the table or the region is damaged or missing.
    """
    import spatialdata

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is missing is named below
            data = spatialdata.read_zarr(region.store, on_bad_files="warn")
    except DAMAGED as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(
            f"cannot be read as SpatialData ({reason[:200]})", path=region.store, fix=COPY_AGAIN
        ) from error
    table = data.tables.get(region.table.name)
    for name, element in ((region.table.name, table), (region.name, data.get(region.name))):
        if element is None:
            raise InputError(
                f"its element {name} is missing or damaged", path=region.store, fix=COPY_AGAIN
            )
    yield data, table


def check_rows(store: Path) -> None:
    """Raise InputError if a file of shapes claims more of them than are read."""
    import pyarrow.parquet

    for file in sorted((store / "shapes").rglob("*.parquet")):
        try:
            rows = pyarrow.parquet.ParquetFile(file).metadata.num_rows
        except (OSError, ValueError):
            continue  # a damaged element is missing when the store is opened
        if rows > _MAX_SHAPES:
            raise InputError(
                f"claims {rows} shapes, more than the {_MAX_SHAPES // 10**6} million that are read",
                path=file,
                fix="give a store of the section alone",
            )


def rows_of(table: Any, region: Region) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Return the rows of a region in its table, and the instance of each row.

    Raises
    ------
    InputError
        If the columns that tell this are missing, a spot is named twice, or there is no row.
    """
    attributes = table.uns.get("spatialdata_attrs", {})
    region_key, instance_key = attributes.get("region_key"), attributes.get("instance_key")
    absent = [key for key in (region_key, instance_key) if key not in table.obs]
    if absent:
        raise InputError(
            f"has no column {preview(absent)} in obs, which its spatialdata_attrs name",
            path=region.table,
            fix="write the table again by TableModel.parse",
        )
    repeated = duplicates(table.obs_names)
    if repeated:
        raise InputError(
            f"names spot {preview(repeated)} more than once",
            path=region.table,
            fix="call obs_names_make_unique on the table before you write the store",
        )
    rows = np.flatnonzero(table.obs[region_key].astype(str).to_numpy() == region.name)
    if not len(rows):
        raise InputError(
            f"has no row of region {region.name}",
            path=region.table,
            fix=f"check obs[{region_key!r}]",
        )
    return rows, table.obs[instance_key].to_numpy()[rows]


def join_rows(
    table: Any,
    rows: NDArray[np.int64],
    instances: NDArray[Any],
    centres: pd.DataFrame,
    region: Region,
) -> tuple[NDArray[np.int64], pd.DataFrame, list[tuple[str, str]], list[str]]:
    """Join the rows of a table and the shapes of its region by their instances.

    Parameters
    ----------
    table
        The table.
    rows, instances
        Rows of the region in the table, and their instances.
    centres
        Centres of the shapes, indexed by instance.
    region
        The region, for messages.

    Returns
    -------
    rows : (S,) int64
        Rows that have a shape.
    centres : DataFrame
        Their centres, S rows.
    dropped : list of tuple
        Name and reason of each other row.
    notes : list of str
        How many shapes have no row.

    Raises
    ------
    InputError
        If an instance is repeated, or no row has a shape.
    """
    own = pd.Index(instances)
    for what, index in (("shape", centres.index), ("row", own)):
        if not index.is_unique:
            raise InputError(
                f"names a {what} of {region.name} more than once:"
                f" {preview([str(name) for name in index[index.duplicated()]])}",
                path=region.table,
                fix="give each shape one row of the table",
            )
    places = centres.index.get_indexer(own)
    finite = np.isfinite(centres.to_numpy()).all(axis=1)
    has = (places >= 0) & finite[places]
    if not has.any():
        raise InputError(
            f"names {preview([str(name) for name in own[:2]])}, but the shapes of {region.name} are"
            f" {preview([str(name) for name in centres.index[:2]])}",
            path=region.table,
            fix="check the column that instance_key names",
        )
    dropped = [(str(name), _NO_SHAPE) for name in table.obs_names[rows[~has]]]
    without = len(centres) - int(has.sum())
    notes = [f"{without} shapes of {region.name} have no counts"] if without else []
    return rows[has], centres.iloc[places[has]], dropped, notes
