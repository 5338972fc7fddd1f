"""failures.csv lists failed slides, and does not exist if none failed."""

from __future__ import annotations

import csv
import errno
import os
from pathlib import Path

from tcgn_mil.io.failures import Failure, unexpected, write_failures


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


def test_a_full_disk_is_not_blamed_on_the_slide() -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "tiles/s1.h5")
    row = unexpected(full, "s1", "tile")
    assert row.reason == "could not be written: No space left on device"
    assert row.likely_fix.startswith("free some space")
    assert "not foreseen" in unexpected(OSError(errno.EIO, "x"), "s1", "tile").reason
