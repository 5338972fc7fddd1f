"""Damaged files that readers once did not handle, made by code; each is one line today."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bombs
import fuzz_targets as files
import numpy as np
import pytest
import tifffile

from tcgn_mil.checkpoints.published import DIGESTS, check_published
from tcgn_mil.errors import InputError
from tcgn_mil.io.tables.patient_table import read_patient_table
from tcgn_mil.preprocessing.bulk.readers import read_expression_table


def _header(key: str, value: object) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = files._slide_model(folder)
        return bombs._with_header(path, lambda header: header.update({key: value}))

    return make


def _digests(**values: object) -> Callable[[Path], Path]:
    kept = {"schema_version": 1, "kind": "slide-model", "files": {}}
    return files._text(DIGESTS, json.dumps({**kept, **values}))


def _npy(folder: Path) -> Path:
    """Write a header whose dictionary does not end (tokenize.TokenError of numpy)."""
    path = files._array(folder)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"}", b" ", 1))
    return path


def _no_tile(folder: Path) -> Path:
    """Write an OME-TIFF whose tiles have no width (division by zero in tifffile)."""
    path = files._ome(folder)
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages.first.tags["TileWidth"].overwrite(0)
    return path


def _big_level(folder: Path) -> Path:
    """Write a pyramid with a tile of gigabytes in its second level (OpenSlide ends the process)."""
    path = folder / "S1.tif"
    with tifffile.TiffWriter(path) as writer:
        for side in (256, 128):
            writer.write(
                np.zeros((side, side, 3), np.uint8), tile=(64, 64), photometric="rgb",
                resolution=(20_000, 20_000), resolutionunit=3, subfiletype=int(side < 256),
            )  # fmt: skip
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages[1].tags["TileLength"].overwrite(2**30)
    return path


def _cut_gzip(folder: Path) -> Path:
    """Cut a table off; its last bytes then state a size of gigabytes."""
    text = "patient,a\n" + "".join(f"P{i},{i}\n" for i in range(5000))
    content = gzip.compress(text.encode())
    (folder / "p.csv.gz").write_bytes(content[: len(content) // 2] + b"\xff\xff\xff\xef")
    return folder / "p.csv.gz"


FOUND: dict[str, tuple[Callable[[Path], Path], Callable[[Path], Any], str]] = {
    "a schema version that is text": (_header("schema_version", "x"), files.load_slide_model, ""),
    "genes that are a number": (_header("genes", 1), files.load_slide_model, ""),
    "a fold that is a list": (_header("fold", []), files.load_slide_model, ""),
    "an infinite schema version": (
        _digests(schema_version=float("inf")),
        lambda p: check_published(p.parent, kind="slide-model"),
        "'schema_version' is wrong",
    ),
    "a kind that is a list": (
        _digests(kind=[]),
        lambda p: check_published(p.parent, kind="slide-model"),
        "'kind' is wrong",
    ),
    "an array whose header does not end": (_npy, files._read_foreign, "cannot be read as an array"),
    "a tile without width": (_no_tile, files._read_slide, ""),
    "a tile of gigabytes in a lower level": (_big_level, files._read_slide, "has tiles of"),
    "a path of 300 bytes": (
        files._text("slides.csv", f"path,mpp\n{'ä' * 150}.svs,0.5\n"),
        files.find_slides,
        "",
    ),
    "a table that is cut off": (_cut_gzip, read_patient_table, "cannot be read as a table"),
    "bulk that is cut off": (_cut_gzip, read_expression_table, "cannot be read as a table"),
    "folds with a column twice": (
        files._text("folds.csv", "fold,part,id,id\n0,train,A,B\n"),
        lambda p: files.read_spot_folds(p, {"A": "A"}),
        "has column id more than once",
    ),
    "a table in UTF-16": (
        lambda folder: _utf16(folder / "p.csv"),
        read_patient_table,
        "give UTF-8",
    ),
}


def _utf16(path: Path) -> Path:
    path.write_text("patient,a\nP1,2\n", encoding="utf-16")
    return path


@pytest.mark.parametrize("name", list(FOUND))
def test_what_was_found_is_one_line(name: str, tmp_path: Path) -> None:
    make, read, said = FOUND[name]
    path = make(tmp_path)
    with pytest.raises(InputError) as caught:
        read(path)
    text = str(caught.value)
    assert len(text.splitlines()) == 1
    assert str(tmp_path) in text
    assert said in text
