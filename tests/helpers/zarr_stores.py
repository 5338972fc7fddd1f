"""Small stores of OME-Zarr, written to the letter of the specification and without ome-zarr."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import zarr
from numpy.typing import NDArray

RGB = [{"label": name} for name in ("Red", "Green", "Blue")]


def write_ngff(
    path: Path,
    image: NDArray[Any],
    *,
    version: str = "0.4",
    axes: str = "cyx",
    pixel: tuple[float, float] | None = (0.5, 0.5),
    unit: str | None = "micrometer",
    channels: list[dict[str, str]] | None = RGB,
    levels: int = 3,
) -> Path:
    """Write (H, W, C) pixels as an image group with levels that are half as wide each.

    `pixel` is the width and the height of a pixel in `unit`.
    """
    path.mkdir(parents=True)
    lengths = {"c": image.shape[2]}
    datasets = []
    for level in range(levels):
        part = image[:: 2**level, :: 2**level]
        placed = part.transpose(["yxc".index(axis) for axis in axes if axis in "cyx"])
        shape = [1 if axis in "tz" else 0 for axis in axes]
        sizes = iter(placed.shape)
        placed = placed.reshape([side or next(sizes) for side in shape])
        chunks = tuple(256 if axis in "yx" else lengths.get(axis, 1) for axis in axes)
        array = zarr.create_array(
            str(path / str(level)),
            shape=placed.shape,
            chunks=chunks,
            dtype=placed.dtype,
            zarr_format=2 if version == "0.4" else 3,
            fill_value=0,
        )
        array[...] = placed
        scale = [1.0] * len(axes)
        if pixel is not None:
            scale[axes.index("x")], scale[axes.index("y")] = (side * 2**level for side in pixel)
        datasets.append(
            {
                "path": str(level),
                "coordinateTransformations": [{"type": "scale", "scale": scale}],
            }
        )
    kinds = {"c": "channel", "t": "time"}
    described = [{"name": axis, "type": kinds.get(axis, "space")} for axis in axes]
    if unit is not None:
        described = [
            each | ({"unit": unit} if each["type"] == "space" else {}) for each in described
        ]
    own: dict[str, Any] = {
        "multiscales": [{"version": version, "axes": described, "datasets": datasets}]
    }
    if channels is not None:
        own["omero"] = {"channels": channels}
    write_attributes(path, own, version=version)
    return path


def write_attributes(group: Path, own: dict[str, Any], *, version: str = "0.4") -> None:
    """Write the attributes of a group, under ``ome`` in version 0.5."""
    group.mkdir(parents=True, exist_ok=True)
    if version == "0.4":
        (group / ".zgroup").write_text('{"zarr_format": 2}')
        (group / ".zattrs").write_text(json.dumps(own))
        return
    attributes = {"ome": {"version": version, **own}}
    content = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    (group / "zarr.json").write_text(json.dumps(content))
