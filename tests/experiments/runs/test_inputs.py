"""A run is not continued on other inputs, and a finished one is not returned for them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.runs.inputs import begin_again, record_inputs
from tcgn_mil.experiments.runs.run_folder import INPUTS_FILE, begin_run
from tcgn_mil.experiments.survive.config import SurviveConfig


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path | None]:
    (tmp_path / "table.csv").write_text("a,b\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "one").write_text("1")
    (tmp_path / "run").mkdir()
    return {"table": tmp_path / "table.csv", "folder": tmp_path / "folder", "unused": None}


def test_equal_inputs_pass_wherever_they_lie(files: dict[str, Path | None], tmp_path: Path) -> None:
    run = tmp_path / "run"
    record_inputs(run, files, finished=False)
    assert (run / INPUTS_FILE).is_file()
    record_inputs(run, files, finished=True)
    moved = tmp_path / "moved.csv"
    moved.write_text("a,b\n")
    record_inputs(run, files | {"table": moved}, finished=True)


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("table", "table"),
        ("added", "folder"),
        ("removed", "folder"),
        ("gone", "not there any more"),
    ],
)
def test_a_change_is_refused_and_named(
    files: dict[str, Path | None], tmp_path: Path, change: str, named: str, finished: bool
) -> None:
    run = tmp_path / "run"
    record_inputs(run, files, finished=False)
    if change == "table":
        (tmp_path / "table.csv").write_text("a,c\n")  # the same size
    if change == "added":
        (tmp_path / "folder" / "two").write_text("2")
    if change == "removed":
        (tmp_path / "folder" / "one").unlink()
    if change == "gone":
        (tmp_path / "table.csv").unlink()
    state = "a finished" if finished else "an unfinished"
    with pytest.raises(InputError, match=rf"holds {state} run on other inputs: .*{named}"):
        record_inputs(run, files, finished=finished)


def test_a_run_from_before_inputs_were_recorded_passes(
    files: dict[str, Path | None], tmp_path: Path
) -> None:
    record_inputs(tmp_path / "run", files, finished=True)
    assert not (tmp_path / "run" / INPUTS_FILE).exists()


def test_a_first_try_without_results_binds_nobody(
    files: dict[str, Path | None], tmp_path: Path
) -> None:
    config = SurviveConfig()
    run = begin_run(tmp_path / "new", "survive", config)
    record_inputs(run, files, finished=False)
    (tmp_path / "table.csv").write_text("corrected\n")
    begin_run(run, "survive", config)
    record_inputs(run, files, finished=False)
    (run / "folds.csv").write_text("")
    begin_run(run, "survive", config)
    (tmp_path / "table.csv").write_text("changed\n")
    with pytest.raises(InputError, match="an unfinished run on other inputs: table"):
        record_inputs(run, files, finished=False)


def test_the_record_states_its_version_and_older_ones_are_read(
    files: dict[str, Path | None], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    record_inputs(run, files, finished=False)
    record = json.loads((run / INPUTS_FILE).read_text())
    assert record["schema_version"] == 1
    (run / INPUTS_FILE).write_text(json.dumps(record["digests"]))
    record_inputs(run, files, finished=True)
    (run / INPUTS_FILE).write_text(json.dumps(record["digests"] | {"table": "other"}))
    with pytest.raises(InputError, match="on other inputs: table"):
        record_inputs(run, files, finished=True)
    (run / INPUTS_FILE).write_text(json.dumps(record | {"schema_version": 2}))
    with pytest.raises(InputError, match=r"schema version 2.* upgrade tcgn-mil"):
        record_inputs(run, files, finished=True)


def test_a_run_that_begins_again_on_other_inputs_leaves_no_earlier_result(
    files: dict[str, Path | None], tmp_path: Path
) -> None:
    config, out = SurviveConfig(), tmp_path / "new"

    def again() -> list[str]:
        return begin_again(out, "explain", config, files, keep=frozenset({"work"}))[1]

    assert again() == []
    (out / "work").mkdir()
    (out / "maps").mkdir()
    (out / "maps" / "S1.png").touch()
    (out / "summary.json").write_text("{}")
    assert again() == []
    assert (out / "maps" / "S1.png").is_file()
    assert not (out / "summary.json").exists()  # an unfinished run does not count as finished
    (tmp_path / "folder" / "one").write_text("2")
    (note,) = again()
    assert "folder changed since" in note
    assert not (out / "maps").exists()
    assert (out / "set-aside" / "maps" / "S1.png").is_file()
    assert (out / "work").is_dir()
    assert again() == []
