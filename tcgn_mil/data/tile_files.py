"""tiles/<slide>.h5: where the tiles of a slide lie (coordinates, never pixels)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tcgn_mil.contracts import TileSet, TileSpec
from tcgn_mil.data.hdf5 import check_coords, create_hdf5, json_attr, open_hdf5, root_attr, tile_spec
from tcgn_mil.errors import InputError


def write_tiles(path: str | Path, tiles: TileSet, *, slide_file: str, settings: dict | None = None) -> None:
    """Write `tiles` atomically.

    Layout: ``coords`` (N, 2) int64 level-0 top-left x, y; ``tissue_fraction`` (N,) float32; root attributes
    ``slide_id``, ``patient_id``, ``slide_file`` (base name), ``spec`` (JSON of TileSpec), ``slide_width``,
    ``slide_height``, ``settings`` (JSON: what the tissue finder was asked), ``schema_version``, ``provenance``.
    """
    with create_hdf5(path) as file:
        file.create_dataset("coords", data=tiles.coords.astype(np.int64))
        file.create_dataset("tissue_fraction", data=tiles.tissue_fraction.astype(np.float32))
        file.attrs["slide_id"] = tiles.slide_id
        file.attrs["patient_id"] = tiles.patient_id
        file.attrs["slide_file"] = slide_file
        file.attrs["spec"] = json.dumps(tiles.spec.as_dict())
        file.attrs["settings"] = json.dumps(settings or {}, sort_keys=True)
        file.attrs["slide_width"], file.attrs["slide_height"] = tiles.slide_size


def read_tiles(path: str | Path) -> TileSet:
    """Read a tile file written by :func:`write_tiles`.

    Raises
    ------
    InputError
        If it is missing, damaged, of another kind, or its arrays differ in length.
    """
    with open_hdf5(path, kind="tile", needs=("coords", "tissue_fraction")) as file:
        coords = file["coords"][:]
        check_coords(coords, path=path)
        if file["tissue_fraction"].shape != (len(coords),):
            raise InputError(
                f"has {len(coords)} tiles, but tissue fractions {file['tissue_fraction'].shape}",
                path=path,
                fix="tile the slide again",
            )
        return TileSet(
            slide_id=str(root_attr(file, "slide_id", kind="tile")),
            coords=coords.astype(np.int64),
            tissue_fraction=file["tissue_fraction"][:].astype(np.float32),
            spec=tile_spec(file, kind="tile"),
            slide_size=(
                int(root_attr(file, "slide_width", kind="tile")),
                int(root_attr(file, "slide_height", kind="tile")),
            ),
            patient_id=str(file.attrs.get("patient_id", "")),
        )


def read_tile_settings(path: str | Path) -> tuple[TileSpec, dict]:
    """The spec and tissue settings a tile file was made with, to decide whether it can be kept."""
    with open_hdf5(path, kind="tile", needs=("coords",)) as file:
        return tile_spec(file, kind="tile"), json_attr(file, "settings", kind="tile")
