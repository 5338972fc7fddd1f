"""Columns are found by their names, and missing or repeated names are refused."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.io.tables.delimited import (
    column_names,
    read_columns,
    read_named_columns,
    read_text_columns,
)


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


@pytest.mark.parametrize(
    ("above", "header", "names"),
    [
        ("#a\tb\n#c\td\n#1\t1\n", "id\tpart", ["id", "part"]),
        ("## made by x\n", "#id\tpart", ["#id", "part"]),
        ("# made by x\n", "id\tpart", ["id", "part"]),
        ("", "#id\tpart", ["#id", "part"]),
    ],
)
def test_comments_above_the_header(
    tmp_path: Path, above: str, header: str, names: list[str]
) -> None:
    path = tmp_path / "t.tsv"
    path.write_text(f"{above}{header}\n1\ttrain\n2\n")
    lines = above.count("\n")
    assert column_names(path) == names
    with pytest.raises(InputError, match=f"line {lines + 3} has 1 cells under 2 columns"):
        read_text_columns(path)
    path.write_text(f"{above}{header}\n1\ttrain\n2\ttest\n")
    assert list(read_text_columns(path).index) == [lines + 2, lines + 3]
    assert read_columns(path, [1], ids=0)["part"].to_dict() == {"1": "train", "2": "test"}


def test_parquet_is_read_as_its_csv_would_be(tmp_path: Path) -> None:
    table = pd.DataFrame({"id": ["a", "b", "c"], "n": [1.0, None, 2.5], "part": ["x", None, "y"]})
    table.to_parquet(tmp_path / "t.parquet")
    table.to_csv(tmp_path / "t.csv", index=False)
    for path in (tmp_path / "t.parquet", tmp_path / "t.csv"):
        assert read_named_columns(path, ("part", "id")).to_dict("list") == {
            "id": ["a", "b", "c"],
            "part": ["x", "", "y"],
        }
    cells = read_text_columns(tmp_path / "t.parquet")
    assert cells["n"].tolist() == ["1", "", "2.5"]
    assert list(cells.index) == [2, 3, 4]
