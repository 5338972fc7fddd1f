"""Runs that are killed, or whose disk is full or gone, end as if nothing had happened.

``python tests/helpers/killing.py`` tries all verbs at all of their renames; here are the first, the
middle and the last of some quick ones.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("the runs are forked, and their rights are Linux's", allow_module_level=True)

from disturbed_runs import DisturbedVerb
from killing import (
    Trial,
    killed_at_moments,
    killed_at_renames,
    limited_files,
    read_only_folders,
    spread,
    try_faults,
    vanished_folders,
)
from verb_cases import CASES, Inputs

QUICK = ("tile", "import-features", "clinical", "associate")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return Inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module", params=QUICK)
def verb(
    request: pytest.FixtureRequest, inputs: Inputs, tmp_path_factory: pytest.TempPathFactory
) -> DisturbedVerb:
    return DisturbedVerb(CASES[request.param], inputs, tmp_path_factory.mktemp("verb"))


def unwell(verb: DisturbedVerb, trials: list[Trial]) -> list[str]:
    return [str(each) for each in try_faults(verb, trials) if not each.is_well]


def test_the_same_run_writes_the_same_bytes(verb: DisturbedVerb) -> None:
    verb.clear()
    assert verb.run().code == 0
    assert not verb.differences()
    assert len(verb.expected) > 3


def test_a_killed_run_ends_with_the_same_bytes(verb: DisturbedVerb) -> None:
    assert not unwell(verb, spread(killed_at_renames(verb), 3))


def test_a_disk_that_takes_no_large_file_is_one_line(verb: DisturbedVerb) -> None:
    assert not unwell(verb, spread(limited_files(verb), 3))


def test_a_folder_that_may_only_be_read_is_one_line(verb: DisturbedVerb) -> None:
    assert not unwell(verb, read_only_folders(verb))


def test_a_folder_that_vanishes_is_one_line(verb: DisturbedVerb) -> None:
    assert not unwell(verb, spread(vanished_folders(verb), 2))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CASES if name not in QUICK])
def test_other_verbs_end_with_the_same_bytes(name: str, inputs: Inputs, tmp_path: Path) -> None:
    verb = DisturbedVerb(CASES[name], inputs, tmp_path)
    few = 1 if name == "spot-cv" else 2  # a run of it takes many seconds
    trials = spread(killed_at_renames(verb), few)
    trials += spread(limited_files(verb), few)
    assert not unwell(verb, [*trials, *killed_at_moments(verb, 1)])
