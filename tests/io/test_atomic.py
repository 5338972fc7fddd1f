"""Files are written as a whole or not at all, and unsafe file names are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.io.atomic import atomic_path, safe_file_name, write_json


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


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "a\\b", ".hidden", "a\nb", "x" * 300]
)
def test_names_that_could_leave_the_folder_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="cannot be a file name"):
        safe_file_name(name, what="slide id")


@pytest.mark.parametrize("name", ["TCGA-3C-AALI-01Z-00-DX1.F6E9", "Gewebe ü 1", "a..b"])
def test_ordinary_names_pass(name: str) -> None:
    assert safe_file_name(name, what="slide id") == name


def test_nan_is_no_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", {"r": float("nan")})
    assert not list(tmp_path.iterdir())
