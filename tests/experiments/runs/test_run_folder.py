"""Run folders that cannot be made, and the version of a summary."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.runs.run_folder import begin_run, finish_run, finished_summary


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(InputError, match=r"out: cannot be made a folder .*Fix: give another --out"):
        begin_run(tmp_path / "out", "explain", {})
    assert (tmp_path / "out").read_text() == "mine"


def test_a_summary_states_its_version_and_a_later_one_is_refused(tmp_path: Path) -> None:
    summary = finish_run(tmp_path, {"genes": 3})
    assert summary == {"schema_version": 1, "genes": 3} == finished_summary(tmp_path)
    (tmp_path / "summary.json").write_text('{"genes": 3}')  # an older one
    assert finished_summary(tmp_path) == {"genes": 3}
    (tmp_path / "summary.json").write_text(json.dumps(summary | {"schema_version": 2}))
    with pytest.raises(InputError, match=r"summary.json: has schema version 2.* upgrade tcgn-mil"):
        finished_summary(tmp_path)
