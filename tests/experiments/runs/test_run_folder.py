"""Run folders that cannot be made."""

from __future__ import annotations

from pathlib import Path

import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.runs.run_folder import begin_run


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(InputError, match=r"out: cannot be made a folder .*Fix: give another --out"):
        begin_run(tmp_path / "out", "explain", {})
    assert (tmp_path / "out").read_text() == "mine"
