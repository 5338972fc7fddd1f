"""Small files that ask for gigabytes, and a measure of what it costs to refuse them.

As a command, ``bombs.py NAME PATH`` reads one of them and prints seconds, megabytes and the error.
"""

from __future__ import annotations

import json
import struct
import sys
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fuzz_targets as files
import h5py
import numpy as np
import tifffile
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tcgn_mil.errors import InputError
from tcgn_mil.io.tables.patient_table import read_patient_table
from tcgn_mil.preprocessing.clinical.options import ClinicalOptions
from tcgn_mil.preprocessing.clinical.reader import read_clinical

GIGABYTE = 2**30


def _of_chunk(chunk: bytes, times: int) -> bytes:
    """Return a .gz file of a repeated chunk, without the work of packing it many times."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(chunk) + packer.flush(zlib.Z_FULL_FLUSH)
    head = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03"
    # The check sum is wrong, but a reader comes to it after three gigabytes only.
    end = b"\x03\x00" + struct.pack("<II", 0, len(chunk) * times % 2**32)
    return head + block * times + end


def _gz(name: str, line: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        chunk = line * (2**24 // len(line))
        (folder / name).write_bytes(_of_chunk(chunk, 3 * GIGABYTE // len(chunk)))
        return folder / name

    return make


def _zip(name: str, member: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        packed = _of_chunk(b"0," * 2**22, 3 * GIGABYTE // 2**23)[10:-8]
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr(member, b"x")
        # An archive with one deflated member, written by hand.
        encoded = member.encode()
        sizes = struct.pack("<III", 0, len(packed), 3 * GIGABYTE)
        local = b"PK\x03\x04" + struct.pack("<HHHHH", 20, 0, 8, 0, 0) + sizes
        local += struct.pack("<HH", len(encoded), 0) + encoded
        central = b"PK\x01\x02" + struct.pack("<HHHHHH", 20, 20, 0, 8, 0, 0) + sizes
        central += struct.pack("<HHHHHII", len(encoded), 0, 0, 0, 0, 0, 0) + encoded
        start = len(local) + len(packed)
        end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(central), start, 0)
        (folder / name).write_bytes(local + packed + central + end)
        return folder / name

    return make


def _claim(folder: Path) -> Path:
    with h5py.File(folder / "S1.h5", "w") as file:
        file.create_dataset("features", (2**24, 512), "f4", chunks=(256, 512), compression="gzip")
        file.create_dataset("coords", (2**24, 2), "i8", chunks=(4096, 2))
    return folder / "S1.h5"


def _aliases(folder: Path) -> Path:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    return files._text("finetune.yaml", "\n".join(lines))(folder)


def _long_yaml(folder: Path) -> Path:
    return files._text("finetune.yaml", "- [1, 2]\n" * 2_000_000)(folder)


def _workbook(folder: Path) -> Path:
    path = files._workbook(folder)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    row = b"<row>" + b"<c/>" * 2000 + b"</row>"
    sheet = members["xl/worksheets/sheet1.xml"]
    members["xl/worksheets/sheet1.xml"] = sheet.replace(b"</sheetData>", row * 10_000)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def _parquet(folder: Path) -> Path:
    import pyarrow
    from pyarrow import parquet

    column = pyarrow.array(np.zeros(5_000_000, np.float32))
    names = [f"G{i}" for i in range(8)]
    parquet.write_table(pyarrow.table([column] * 8, names=names), folder / "p.parquet")
    return folder / "p.parquet"


def _wide(folder: Path) -> Path:
    header = "patient," + ",".join(f"G{i}" for i in range(10**6))
    return files._text("p.csv", f"{header}\nP1{',0' * 10**6}\nP2{',1' * 10**6}\n")(folder)


def _with_header(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        header = json.loads(file.metadata()["tcgn_mil"])
    change(header)
    save_file(tensors, path, metadata={"tcgn_mil": json.dumps(header)})
    return path


def _slide_model(folder: Path) -> Path:
    def change(header: dict[str, Any]) -> None:
        header["in_features"] = 40_000
        header["config"]["embedding"] = 40_000

    return _with_header(files._slide_model(folder), change)


def _encoder(folder: Path) -> Path:
    def change(header: dict[str, Any]) -> None:
        header["model"] = "timm:vit_7b_patch16_dinov3"
        header.pop("architecture", None)

    return _with_header(files._encoder(folder), change)


def _big_tile(folder: Path) -> Path:
    """Write a TIFF of one tile of 40,000 x 40,000 pixels that is not stored (sparse)."""
    path = folder / "S1.tif"
    tifffile.imwrite(
        path, shape=(1024, 1024, 3), dtype=np.uint8, photometric="rgb", tile=(1024, 1024),
        data=iter([np.zeros((1024, 1024, 3), np.uint8)]), compression="adobe_deflate",
        resolution=(20_000, 20_000), resolutionunit=3,
    )  # fmt: skip
    with tifffile.TiffFile(path, mode="r+b") as file:
        tags = file.pages.first.tags
        for name in ("ImageWidth", "ImageLength", "TileWidth", "TileLength"):
            tags[name].overwrite(40_000)
    return path


def _big_ome(folder: Path) -> Path:
    path = _big_tile(folder).rename(folder / "S1.ome.tif")
    text = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="40000" SizeY="40000"'
        ' SizeC="3" SizeZ="1" SizeT="1" PhysicalSizeX="0.5" PhysicalSizeY="0.5">'
        '<Channel ID="Channel:0:0" SamplesPerPixel="3"/><TiffData/></Pixels></Image></OME>'
    )
    with tifffile.TiffFile(path, mode="r+b") as file:
        if "ImageDescription" in file.pages.first.tags:
            file.pages.first.tags["ImageDescription"].overwrite(text)
    return path


def _png(folder: Path) -> Path:
    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    head = struct.pack(">IIBBBBB", 19_000, 19_000, 8, 2, 0, 0, 0)
    body = (
        chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 10_000)) + chunk(b"IEND", b"")
    )
    (folder / "S1.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return folder / "S1.png"


def _array(folder: Path) -> Path:
    with (folder / "S1.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "<f4", "fortran_order": False, "shape": (2**22, 1024)}
        )
        file.write(b"\0" * 1000)
    return folder / "S1.npy"


def _expanded(folder: Path) -> Path:
    torch.save(torch.zeros(1).expand(2**21, 1024), folder / "S1.pt")
    return folder / "S1.pt"


def _json(folder: Path) -> Path:
    path = _gz("scalefactors_json.json.gz", b" " * 64)(folder)
    (folder / "spatial").mkdir()
    return path.rename(folder / "spatial" / path.name)


def _read_scale(path: Path) -> Any:
    from tcgn_mil.preprocessing.sections.readers.tenx.space_ranger import read_scalefactors

    return read_scalefactors(path.parent.parent)


def _anndata_claim(folder: Path) -> Path:
    path = files._expression(folder)
    with h5py.File(path, "r+") as file:
        del file["X"]
        claimed = file.create_dataset("X", (2**16, 2**16), "f4", chunks=(256, 256))
        claimed.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
    return path


def _table(path: Path) -> Any:
    return read_patient_table(path)


def _clinical(path: Path) -> Any:
    return read_clinical(path, ClinicalOptions())


BOMBS: dict[str, tuple[Callable[[Path], Path], Callable[[Path], Any]]] = {
    "HDF5 without data": (_claim, files.read_features),
    "AnnData without data": (_anndata_claim, files.read_expression),
    "YAML aliases": (_aliases, lambda p: files.resolve_config(files.FinetuneConfig, yaml_path=p)),
    "long YAML": (_long_yaml, lambda p: files.resolve_config(files.FinetuneConfig, yaml_path=p)),
    "workbook of empty cells": (_workbook, _clinical),
    "table in .gz": (_gz("p.csv.gz", b"P,0,0,0,0,0,0,0\n"), _table),
    "table in .zip": (_zip("p.csv.zip", "p.csv"), _table),
    "Parquet of zeros": (_parquet, _table),
    "table of a million columns": (_wide, _table),
    "cell types in .zip": (_zip("types.zip", "A1-proportion.tsv"), files.read_cell_types),
    "bulk of a million columns": (_wide, files._read_bulk),
    "bulk in one line": (_gz("p.tsv.gz", b"P\t0\t0\t0"), files._read_bulk),
    "gene sets in .gz": (_gz("sets.gmt.gz", b"S\tx\tG1\tG2\tG3\tG\n"), files.read_gene_sets),
    "JSON in .gz": (_json, _read_scale),
    "slide model": (_slide_model, files.load_slide_model),
    "encoder of seven billion": (_encoder, files.load_encoder),
    "TIFF of one tile": (_big_tile, files._read_slide),
    "OME-TIFF of one tile": (_big_ome, files._read_slide),
    "PNG": (_png, files._read_slide),
    "array": (_array, files._read_foreign),
    "arrays in .npz": (_zip("S1.npz", "features.npy"), files._read_foreign),
    "expanded tensor": (_expanded, files._read_foreign),
}


def megabytes(field: str) -> float:
    """Return a field of /proc/self/status, such as VmRSS or VmHWM (the peak), in megabytes."""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return int(text.partition(f"{field}:")[2].split()[0]) / 1000


def measure(name: str, path: Path) -> dict[str, Any]:
    """Read a bomb; return seconds of this process, megabytes over those before, and the error."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, start = megabytes("VmRSS"), time.process_time()
    said = None
    try:
        BOMBS[name][1](path)
    except InputError as error:
        said = str(error)
    return {
        "seconds": time.process_time() - start,
        "megabytes": megabytes("VmHWM") - before,
        "error": said,
    }


if __name__ == "__main__":
    names, folder = sys.argv[2:], Path(sys.argv[1])
    for each in names or list(BOMBS):
        print(json.dumps({"name": each, **measure(each, next((folder / each).rglob("*.*")))}))
