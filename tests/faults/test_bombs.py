"""Small files that ask for gigabytes are refused within a second and 300 MB."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import bombs
import pytest

pytestmark = pytest.mark.slow

SECONDS, MEGABYTES = 1.0, 300.0


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Make all bombs, and read them in a process of their own."""
    folder = tmp_path_factory.mktemp("bombs")
    for name, (make, _) in bombs.BOMBS.items():
        (folder / name).mkdir()
        make(folder / name)
    done = subprocess.run(
        [sys.executable, bombs.__file__, folder], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return {row["name"]: row for row in rows}


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
@pytest.mark.parametrize("name", list(bombs.BOMBS))
def test_a_bomb_is_refused_before_it_costs_much(
    name: str, measured: dict[str, dict[str, Any]]
) -> None:
    row = measured[name]
    assert row["error"] is not None, "it was read"
    assert len(row["error"].splitlines()) == 1
    assert row["seconds"] < SECONDS
    assert row["megabytes"] < MEGABYTES
