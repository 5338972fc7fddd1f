"""failures.csv lists failed slides, and does not exist if none failed."""

from __future__ import annotations

import csv
from pathlib import Path

from tcgn_mil.io.failures import Failure, write_failures


def test_each_failure_is_a_row(tmp_path: Path) -> None:
    write_failures(
        tmp_path / "new",
        [
            Failure("s1", "tile", "no mpp, none given", 'give "--mpp"'),
            Failure("s2", "encode", "cut off"),
        ],
    )
    with (tmp_path / "new" / "failures.csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == [
            {
                "slide": "s1",
                "stage": "tile",
                "reason": "no mpp, none given",
                "likely_fix": 'give "--mpp"',
            },
            {"slide": "s2", "stage": "encode", "reason": "cut off", "likely_fix": ""},
        ]


def test_a_run_without_failures_removes_an_older_list(tmp_path: Path) -> None:
    write_failures(tmp_path, [Failure("s1", "tile", "x")])
    write_failures(tmp_path, [])
    assert not list(tmp_path.iterdir())
