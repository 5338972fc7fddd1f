"""Read and write tiles/<slide>.h5, the coordinates of a slide's tiles.

Pixels are not stored, because they can be read from the slide. The HDF5 file has these datasets and
root attributes:

- ``coords`` (N, 2) int64, top-left corners in level-0 pixels, x then y;
- ``tissue_fraction`` (N,) float32;
- ``focus``, ``blur``, ``pen`` and ``fold`` (N,) float32, if quality was measured;
- the group ``rejected`` with the same arrays of the K rejected tiles, and ``verdict`` (K,) uint8,
  whose codes are named by the attribute ``verdicts``, if there was quality control;
- ``slide_id``, ``patient_id``, ``slide_file`` (name of the slide file), ``slide_width``,
  ``slide_height``, ``schema_version``; ``spec``, ``settings``, ``provenance``, and if there are
  any ``stain`` and ``notes``, as JSON;
- ``slide_digest``, a digest of the slide, and ``made_from``, a hash of it and of all settings.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.reading import reads
from tcgn_mil.io.atomic import safe_file_name
from tcgn_mil.io.hdf5 import (
    check_coords,
    create_hdf5,
    json_attr,
    open_hdf5,
    read_stain,
    root_attr,
    tile_spec,
    write_stain,
)
from tcgn_mil.types.tile_geometry import TileSpec
from tcgn_mil.types.tiles import VERDICTS, RejectedTiles, TileQuality, TileSet

_QUALITY = ("focus", "blur", "pen", "fold")


class TileRecord(NamedTuple):
    """Tiles of a tile file, and the hash of what decided them.

    Attributes
    ----------
    tiles
        The tiles.
    made_from
        Hash of all that decided the tiles; empty if the file does not state it.
    """

    tiles: TileSet
    made_from: str


def write_tiles(path: str | Path, tiles: TileSet, *, slide_file: str, made_from: str = "") -> None:
    """Write the tiles of a slide atomically.

    Parameters
    ----------
    path
        File to write.
    tiles
        The tiles.
    slide_file
        Name of the slide file, without folders.
    made_from
        Hash of all that decides the tiles, by which a resumed run recognises them.
    """
    with create_hdf5(path) as file:
        file.create_dataset("coords", data=tiles.coords.astype(np.int64))
        file.create_dataset("tissue_fraction", data=tiles.tissue_fraction.astype(np.float32))
        file.attrs["slide_id"] = tiles.slide_id
        file.attrs["patient_id"] = tiles.patient_id
        file.attrs["slide_file"] = slide_file
        file.attrs["spec"] = json.dumps(tiles.spec.as_dict())
        file.attrs["settings"] = json.dumps(dict(tiles.settings), sort_keys=True)
        file.attrs["slide_width"], file.attrs["slide_height"] = tiles.slide_size
        if tiles.notes:
            file.attrs["notes"] = json.dumps(tiles.notes)
        for name, value in (("slide_digest", tiles.slide_digest), ("made_from", made_from)):
            if value:
                file.attrs[name] = value
        write_stain(file, tiles.stain)
        if tiles.quality is not None:
            _write_quality(file, tiles.quality)
        if tiles.rejected is not None:
            group = file.create_group("rejected")
            group.create_dataset("coords", data=tiles.rejected.coords.astype(np.int64))
            group.create_dataset(
                "tissue_fraction", data=tiles.rejected.tissue_fraction.astype(np.float32)
            )
            group.create_dataset("verdict", data=tiles.rejected.verdict.astype(np.uint8))
            group.attrs["verdicts"] = json.dumps(VERDICTS)
            _write_quality(group, tiles.rejected.quality)


@reads("a tile file", fix="tile the slide again")
def read_tiles(path: str | Path) -> TileSet:
    """Read a tile file.

    Parameters
    ----------
    path
        A file that :func:`write_tiles` wrote.

    Returns
    -------
    TileSet

    Raises
    ------
    InputError
        If the file is missing, damaged or of another kind, or its arrays differ in length.
    """
    return read_tile_record(path).tiles


@reads("a tile file", fix="tile the slide again")
def read_tile_record(path: str | Path) -> TileRecord:
    """Read a tile file with what its tiles were made from, by opening it once.

    Parameters and errors are those of :func:`read_tiles`.
    """
    with open_hdf5(path, kind="tile", needs=("coords", "tissue_fraction")) as file:
        return TileRecord(tiles_in(file, path), str(file.attrs.get("made_from", "")))


def tiles_in(file: h5py.File, path: str | Path) -> TileSet:
    """Return the tiles of an open tile file of this package.

    Parameters
    ----------
    file
        File that :func:`~tcgn_mil.io.hdf5.open_hdf5` opened.
    path
        Its path, for error messages.

    Raises
    ------
    InputError
        If its arrays differ in length, or an attribute is missing.
    """
    root = file["/"]  # h5py finds the attributes of a group faster than those of a file
    coords = file["coords"][:]
    check_coords(coords, path=path)
    if file["tissue_fraction"].shape != (len(coords),):
        raise InputError(
            f"has {len(coords)} tiles, but tissue fractions of shape"
            f" {file['tissue_fraction'].shape}",
            path=path,
            fix="tile the slide again",
        )
    return TileSet(
        slide_id=safe_file_name(str(root_attr(root, "slide_id", kind="tile")), what="its slide id"),
        coords=coords.astype(np.int64),
        tissue_fraction=file["tissue_fraction"][:].astype(np.float32),
        spec=tile_spec(root, kind="tile"),
        slide_size=(
            int(root_attr(root, "slide_width", kind="tile")),
            int(root_attr(root, "slide_height", kind="tile")),
        ),
        patient_id=str(root.attrs.get("patient_id", "")),
        quality=_read_quality(file, len(coords), path),
        rejected=_read_rejected(file, path),
        stain=read_stain(root, kind="tile"),
        settings=json_attr(root, "settings", kind="tile"),
        notes=(*json.loads(root.attrs.get("notes", "[]")),),
        slide_digest=str(root.attrs.get("slide_digest", "")),
    )


def _write_quality(group: Any, quality: TileQuality) -> None:
    for name in _QUALITY:
        group.create_dataset(name, data=getattr(quality, name).astype(np.float32))


def _read_quality(group: Any, count: int, path: str | Path) -> TileQuality | None:
    if not all(name in group for name in _QUALITY):
        return None
    values = {name: group[name][:].astype(np.float32) for name in _QUALITY}
    _check_lengths({name: len(value) for name, value in values.items()}, count, path)
    return TileQuality(**values)


def _read_rejected(file: Any, path: str | Path) -> RejectedTiles | None:
    if "rejected" not in file:
        return None
    group = file["rejected"]
    coords = group["coords"][:]
    check_coords(coords, path=path)
    quality = _read_quality(group, len(coords), path)
    fractions, verdict = (
        group["tissue_fraction"][:].astype(np.float32),
        group["verdict"][:].astype(np.uint8),
    )
    _check_lengths({"tissue_fraction": len(fractions), "verdict": len(verdict)}, len(coords), path)
    if quality is None or (len(verdict) and not 0 < verdict.min() <= verdict.max() < len(VERDICTS)):
        raise InputError(
            "its rejected tiles have no quality or no valid verdict",
            path=path,
            fix="tile the slide again",
        )
    return RejectedTiles(coords.astype(np.int64), fractions, quality, verdict)


def _check_lengths(lengths: dict[str, int], count: int, path: str | Path) -> None:
    for name, length in lengths.items():
        if length != count:
            raise InputError(
                f"has {count} tiles, but {length} values of {name}",
                path=path,
                fix="tile the slide again",
            )


@reads("a tile file", fix="tile the slide again")
def read_tile_settings(path: str | Path) -> tuple[TileSpec, dict[str, Any]]:
    """Read the geometry and the settings of a tile file, to decide whether it is up to date.

    Parameters
    ----------
    path
        A tile file.

    Returns
    -------
    spec : TileSpec
        Geometry of the tiles.
    settings : dict
        Rules for tissue and quality.
    """
    with open_hdf5(path, kind="tile", needs=("coords",)) as file:
        return tile_spec(file, kind="tile"), json_attr(file, "settings", kind="tile")
