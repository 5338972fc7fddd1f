"""Files are written as a whole or not at all, and unsafe file names are refused."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.io.atomic import atomic_path, safe_file_name, temporary_prefix, write_json


def test_a_failed_write_leaves_the_old_file_and_no_debris(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "table.csv"
    with atomic_path(path) as temporary:
        temporary.write_text("old")

    def write_half() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        write_half()
    assert path.read_text() == "old"
    assert [file.name for file in path.parent.iterdir()] == ["table.csv"]


def test_the_temporary_name_keeps_the_suffix(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "a.h5ad") as temporary:
        assert temporary.suffix == ".h5ad"
        assert temporary.parent == tmp_path
        temporary.write_text("x")


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    code = (
        "import os, sys; from tcgn_mil.io.atomic import atomic_path\n"
        "with atomic_path(sys.argv[1]) as path: path.write_text('half'); os.kill(os.getpid(), 9)"
    )
    target = tmp_path / "table.csv"
    killed = subprocess.run([sys.executable, "-c", code, str(target)], check=False)
    assert killed.returncode == -9
    (left,) = tmp_path.iterdir()
    living = tmp_path / left.name.replace(f"-{left.name.split('-')[1]}-", f"-{os.getpid()}-")
    elsewhere = tmp_path / left.name.replace(left.name.split(".")[2][:8], "0" * 8)
    other = tmp_path / ".notes.tmp"
    for path in (living, elsewhere, other):
        path.write_text("kept")
    write_json(tmp_path / "new.json", {})
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"new.json", living.name, elsewhere.name, other.name}


def test_a_long_name_is_written(tmp_path: Path) -> None:
    path = tmp_path / ("ä" * 120 + ".json")  # 245 bytes
    write_json(path, {"a": 1})
    assert path.is_file()


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "a\\b", ".hidden", "a\nb", "x" * 300]
)
def test_names_that_could_leave_the_folder_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"cannot be a file name|at most 200"):
        safe_file_name(name, what="slide id")


@pytest.mark.parametrize("name", ["TCGA-3C-AALI-01Z-00-DX1.F6E9", "Gewebe ü 1", "a..b"])
def test_ordinary_names_pass(name: str) -> None:
    assert safe_file_name(name, what="slide id") == name


def test_nan_is_no_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", {"r": float("nan")})
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_told_whatever_a_library_makes_of_it(tmp_path: Path) -> None:
    """HDF5 states the number in a text, and NumPy states none."""
    for error in (
        RuntimeError("cannot write (errno = 28, error message = 'No space left on device')"),
        OSError("1024 requested and 512 written"),
    ):
        with pytest.raises(OSError, match=r"S1\.h5") as told, atomic_path(tmp_path / "S1.h5"):
            raise error
        assert told.value.errno == errno.ENOSPC
    with pytest.raises(ValueError, match="a mistake"), atomic_path(tmp_path / "S1.h5"):
        raise ValueError("a mistake")


def test_a_folder_that_vanishes_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with (
        pytest.raises(InputError, match="out: was removed while files were written"),
        atomic_path(folder / "S1.h5"),
    ):
        shutil.rmtree(folder)


def test_a_folder_that_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], stdout=-1)
    mine = temporary_prefix("published")
    left = tmp_path / f"{mine.replace(str(os.getpid()), ended.stdout.decode().strip())}x.tmp"
    living = tmp_path / f"{mine}x.tmp"
    for folder in (left, living):
        folder.mkdir()
        (folder / "weights").write_text("half")
    write_json(tmp_path / "new.json", {})
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([living.name, "new.json"])
