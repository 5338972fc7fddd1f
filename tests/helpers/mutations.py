"""Damage files by a seed: their bytes, the cells of tables, the nodes of JSON, and HDF5's parts."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

Mutation = Callable[[Path, random.Random], None]

# Values that readers expect least: other types, extremes, and text that other programs interpret.
ODD_VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 2**63, -(2**63), 10**400, 1e308, float("nan"), float("-inf"), "", " ", "x",
    "\x00", "ä" * 150, "../../x", "=1+1", "$x_$", "<script>", [], {}, [[]], [None], {"a": {}},
)  # fmt: skip
ODD_CELLS = (
    "", " ", "NA", "nan", "-inf", "1e400", "-1", "0x10", "1_000", "1,5", '"', '""', "\ufeff", "\t",
    "ä" * 300, "2026-13-45", "TRUE", "#", "=1+1", "1.0.0", "\x00", "\x1b[31m", "9" * 400,
)  # fmt: skip
ODD_ARRAYS: tuple[Any, ...] = (
    np.float64(1), "text", np.zeros(0), np.zeros((2, 0)), np.zeros((1, 2, 3, 4)), np.arange(3),
    np.array([b"\xff\xfe"]), np.array([np.nan]), np.full((4, 2), 2**62), np.zeros(5, "c16"),
    np.array([True]), np.zeros(3, [("a", "i4")]), h5py.Empty("f4"), np.full((3, 3), -1),
)  # fmt: skip


def of_bytes(path: Path, rng: random.Random) -> None:
    """Flip, cut, repeat, overwrite or insert bytes."""
    content = bytearray(path.read_bytes())
    for _ in range(rng.choice((1, 1, 2, 8, 32))):
        at = rng.randrange(len(content) + 1)
        # The head of a file holds what decides over the rest.
        at = min(at, rng.choice((len(content), 64, 2048)))
        kind = rng.randrange(6)
        if kind == 0 and content:
            content[at % len(content)] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del content[at:]
        elif kind == 2:
            content[at:at] = rng.randbytes(rng.choice((1, 4, 64)))
        elif kind == 3:
            number = rng.choice((0, 1, 2**31 - 1, 2**32 - 1, 2**63 - 1, 0xFF))
            packed = struct.pack("<Q", number)[: rng.choice((1, 2, 4, 8))]
            content[at : at + len(packed)] = packed
        elif kind == 4:
            content[at:at] = content[at : at + rng.randrange(1, 200)]
        else:
            del content[at : at + rng.randrange(1, 100)]
    path.write_bytes(content)


def of_cells(path: Path, rng: random.Random) -> None:
    """Change cells, rows or columns of a text table."""
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    separator = max("\t;,", key=text.split("\n", 1)[0].count)
    rows = [line.split(separator) for line in text.splitlines()]
    for _ in range(rng.choice((1, 1, 2, 5))):
        if not rows:
            break
        row = rng.randrange(len(rows))
        kind = rng.randrange(8)
        if kind <= 2 and rows[row]:
            rows[row][rng.randrange(len(rows[row]))] = rng.choice(ODD_CELLS)
        elif kind == 3:
            rows.insert(row, list(rows[row]))
        elif kind == 4:
            del rows[row]
        elif kind == 5 and rows[0]:
            column = rng.randrange(len(rows[0]))
            for cells in rows:
                if column < len(cells):
                    cells.insert(column, cells[column])  # a repeated column
        elif kind == 6 and rows[0]:
            column = rng.randrange(len(rows[0]))
            for cells in rows:
                del cells[column : column + 1]
        else:
            rows[row].append("x")
    separator = rng.choice((separator, separator, separator, ";", "\t", " "))
    ending = rng.choice(("\n", "\n", "\r\n", "\r"))
    changed = ending.join(separator.join(cells) for cells in rows) + rng.choice((ending, ""))
    codec = rng.choice(("utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1"))
    path.write_bytes(changed.encode(codec, errors="replace"))


def odd_json(text: str, rng: random.Random) -> str:
    """Return a JSON text one of whose nodes is another value, or is gone."""
    value = json.loads(text)
    places: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        node = waiting.pop()
        keys = list(node) if isinstance(node, dict) else range(len(node))
        for key in keys:
            places.append((node, key))
            if isinstance(node[key], (dict, list)):
                waiting.append(node[key])
    if not places or rng.random() < 0.05:
        return rng.choice(("", "[]", "null", "1", '"x"', "{", "[" * 100_000, "NaN", "{}" * 2))
    for _ in range(rng.choice((1, 1, 2))):
        node, key = rng.choice(places)
        try:
            if rng.random() < 0.25:
                del node[key]
            else:
                node[key] = rng.choice(ODD_VALUES)
        except (KeyError, IndexError):
            continue
    return json.dumps(value)


def of_json(path: Path, rng: random.Random) -> None:
    """Change a node of a JSON file."""
    path.write_text(odd_json(path.read_text(encoding="utf-8"), rng), encoding="utf-8")


def of_hdf5(path: Path, rng: random.Random) -> None:
    """Change, remove or add a dataset, a group or an attribute of an HDF5 file."""
    with h5py.File(path, "r+") as file:
        items: list[Any] = [file]
        file.visititems(lambda _, item: items.append(item))
        for _ in range(rng.choice((1, 1, 2))):
            item = rng.choice(items)
            if not item:
                continue
            names = list(item.attrs)
            if names and rng.random() < 0.5:
                _change_attribute(item, rng.choice(names), rng)
            elif item.name != "/":
                _change_item(file, item.name, rng)


def _change_attribute(item: Any, name: str, rng: random.Random) -> None:
    value = item.attrs[name]
    if rng.random() < 0.2:
        del item.attrs[name]
    elif isinstance(value, str) and value.startswith("{") and rng.random() < 0.8:
        item.attrs[name] = odd_json(value, rng)
    else:
        item.attrs[name] = rng.choice((*ODD_ARRAYS[:6], -1, 0, 2**62, "", "x" * 300, "{}", "[]"))


def _change_item(file: h5py.File, name: str, rng: random.Random) -> None:
    item = file.get(name)
    attributes = dict(item.attrs) if item is not None else {}
    stored = item[()] if isinstance(item, h5py.Dataset) else None
    del file[name]
    kind = rng.randrange(6)
    if kind == 0:
        return
    if kind == 1:
        file.create_group(name)
    elif kind == 2 and isinstance(stored, np.ndarray) and stored.ndim:
        file[name] = stored[: len(stored) // 2]
    elif kind == 3 and isinstance(stored, np.ndarray) and stored.dtype.kind in "iuf":
        file[name] = stored.astype(rng.choice(("f8", "i1", "u8", "S8", "f2")))
    elif kind == 4 and isinstance(stored, np.ndarray) and stored.dtype.kind in "if" and stored.size:
        stored.flat[rng.randrange(stored.size)] = rng.choice((-1, 0, 100, -(2**15)))
        file[name] = stored
    else:
        file[name] = rng.choice(ODD_ARRAYS)
    for key, value in attributes.items():
        file[name].attrs[key] = value


def of_safetensors(path: Path, rng: random.Random) -> None:
    """Change the header of a safetensors file, or the JSON text of this package in it."""
    content = path.read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    header = content[8 : 8 + size].decode()
    values = json.loads(header)
    own = values.get("__metadata__", {})
    if own and rng.random() < 0.8:
        key = rng.choice(sorted(own))
        own[key] = odd_json(own[key], rng) if own[key][:1] in "{[" else "x"
        header = json.dumps(values)
    else:
        header = odd_json(header, rng)
    encoded = header.encode()
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + content[8 + size :])


def of_lines(path: Path, rng: random.Random) -> None:
    """Swap, repeat or replace lines of a text file such as YAML."""
    lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    odd = (
        "a: &x [1]", "b: *x", "c: !!int x", "d: 2026-13-45", "e: " + "[" * 200, "? [1]", "\tx", "%",
        "<<: {a: 1}", "f: !!python/object:os.system {}", "---", "- 1", "g: 1e999", "\x07", "é: ü",
    )  # fmt: skip
    for _ in range(rng.choice((1, 1, 2))):
        at = rng.randrange(len(lines) + 1)
        kind = rng.randrange(4)
        if kind == 0:
            lines.insert(at, rng.choice(odd))
        elif kind == 1 and lines:
            lines.insert(at, rng.choice(lines))
        elif kind == 2 and lines:
            line = lines[at % len(lines)]
            lines[at % len(lines)] = f"{line.split(':')[0]}: {rng.choice(ODD_CELLS)}"
        elif lines:
            del lines[at % len(lines)]
    path.write_text("\n".join(lines), encoding="utf-8", errors="surrogateescape")
