"""Columns are found by their names, and missing or repeated names are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.io.tables.delimited import read_named_columns


def test_columns_are_found_by_name_in_any_order(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_text("id\tother\tpart\n1\tx\ttrain \n\n2\ty\t\n")
    table = read_named_columns(path, ("part", "id"), ("absent",))
    assert table.to_dict("list") == {"id": ["1", "2"], "part": ["train", ""]}
    assert list(table.index) == [2, 4]  # numbers of the rows in the file


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,other\n1,2\n", "has no column part; its columns are id, other"),
        ("id,part,part\n1,2,3\n", "has column part more than once"),
        ("id,part\n1\n", "line 2 has 1 cells under 2 columns"),
    ],
)
def test_missing_and_repeated_columns_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_named_columns(path, ("id", "part"))
