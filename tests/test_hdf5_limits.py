"""HDF5 files that claim far more than they hold, or that lead elsewhere, are refused unread."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.hdf5_limits import check_hdf5
from tcgn_mil.io.anndata_file import open_anndata
from tcgn_mil.io.feature_files import read_features
from tcgn_mil.io.tile_files import read_tiles


def write(path: Path, fill: Callable[[h5py.File], None]) -> Path:
    with h5py.File(path, "w") as file:
        fill(file)
    return path


def bomb(file: h5py.File) -> None:
    file.create_dataset("features", (2**24, 512), "f4", chunks=(256, 512), compression="gzip")
    file.create_dataset("coords", (2**24, 2), "i8", chunks=(4096, 2))


def of_zeros(file: h5py.File) -> None:
    file.create_dataset("features", data=np.zeros((40_000, 512), np.float32), compression="gzip")
    file.create_dataset("coords", data=np.zeros((40_000, 2), np.int64))


def test_a_claim_without_data_is_refused_at_once_by_every_reader(tmp_path: Path) -> None:
    path = write(tmp_path / "bomb.h5", bomb)
    assert path.stat().st_size < 10_000
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    for read in (read_features, read_tiles):
        with pytest.raises(InputError, match=r"bomb\.h5: .*(claims [\d.]+ GB|is not a tile file)"):
            read(path)
    path.rename(tmp_path / "bomb.h5ad")
    with pytest.raises(InputError, match=r"claims [\d.]+ GB, but 0 bytes are stored"):
        open_anndata(tmp_path / "bomb.h5ad", what="cohort", missing_fix="", broken_fix="")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KB
    assert time.perf_counter() - start < 10


def test_compressed_zeros_are_no_bomb(tmp_path: Path) -> None:
    with h5py.File(write(tmp_path / "zeros.h5", of_zeros)) as file:
        check_hdf5(file, "zeros.h5")


def test_data_of_other_files_are_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret.bin"
    secret.write_bytes(np.ones(100, np.float32).tobytes())
    write(tmp_path / "other.h5", lambda file: file.create_dataset("a", data=[1.0]))

    def raw(file: h5py.File) -> None:
        file.create_dataset("features", (10, 10), "f4", external=[(str(secret), 0, 400)])
        file.create_dataset("coords", data=np.zeros((10, 2), np.int64))

    def link(file: h5py.File) -> None:
        file["features"] = h5py.ExternalLink("other.h5", "/a")
        file["coords"] = np.zeros((1, 2), np.int64)

    def virtual(file: h5py.File) -> None:
        layout = h5py.VirtualLayout((1, 1), "f8")
        layout[0] = h5py.VirtualSource(str(tmp_path / "other.h5"), "a", shape=(1,))
        file.create_virtual_dataset("features", layout)
        file["coords"] = np.zeros((1, 2), np.int64)

    for name, fill, message in (
        ("raw.h5", raw, "dataset features lies in another file"),
        ("link.h5", link, "features is a link to another file"),
        ("virtual.h5", virtual, "dataset features lies in another file"),
    ):
        with pytest.raises(InputError, match=rf"{name}: {message}"):
            read_features(write(tmp_path / name, fill))


def test_texts_that_would_never_end_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "texts.h5", lambda file: file.attrs.update(name="S1", more="x" * 99))
    content = bytearray(path.read_bytes())
    with h5py.File(path) as file:
        check_hdf5(file, path)  # an undamaged file passes
    start = content.index(b"GCOL")
    content[start + 16 : start + 18] = b"\0\0"  # its first object is free space ...
    content[start + 24 : start + 32] = bytes(8)  # ... of no size
    path.write_bytes(content)
    with h5py.File(path) as file, pytest.raises(InputError, match=r"texts\.h5: .*does not end"):
        check_hdf5(file, path)


def test_groups_that_hold_themselves_end(tmp_path: Path) -> None:
    def loop(file: h5py.File) -> None:
        group = file.create_group("a")
        group["again"] = group
        group["root"] = h5py.SoftLink("/")
        group["nowhere"] = h5py.SoftLink("/none")

    with h5py.File(write(tmp_path / "loop.h5", loop)) as file:
        check_hdf5(file, "loop.h5")
