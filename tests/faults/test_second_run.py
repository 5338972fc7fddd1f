"""A second run on one output folder is refused, and names the first."""

from __future__ import annotations

import inspect
import os
import platform
from pathlib import Path

import pytest
from changing_slides import Cohort, ask

from tcgn_mil.experiments.verbs import verbs
from tcgn_mil.resume.folder_lock import folder_lock


def test_a_second_run_is_refused_and_the_first_named(cohort: Cohort) -> None:
    before = cohort.files_in("tiles")
    with folder_lock(cohort.folder / "tiles"):
        answer = cohort.tile("--stride-px", 16)
        assert answer.code == 2
        assert f"tiles: is in use by process {os.getpid()} on " in answer.err
    assert cohort.files_in("tiles") == before
    assert cohort.tile().code == 0
    assert not list((cohort.folder / "tiles").glob(".*"))


def test_shares_run_side_by_side_and_not_beside_a_run_of_all(cohort: Cohort) -> None:
    tiles = cohort.folder / "tiles"
    refusal = f"tiles: is in use by process {os.getpid()} on {platform.node()}, which began at "
    with folder_lock(tiles):
        assert refusal in cohort.tile("--shard", "1/2").err
    with folder_lock(tiles, name="shard-1-of-2", shard=True):
        for options in ((), ("--shard", "1/2"), ("--shard", "01/2")):
            answer = cohort.tile(*options)
            assert (answer.code, answer.out) == (2, "")
            assert refusal in answer.err
        assert cohort.tile("--shard", "2/2").code == 0


@pytest.mark.parametrize("workers", [("--engine", "ray"), ("--devices", "cpu:2")])
def test_other_workers_are_refused_as_well(cohort: Cohort, workers: tuple[str, str]) -> None:
    """The command holds the lock, whatever does its work."""
    given = ("--tiles", cohort.folder / "tiles", "--encoder", cohort.encoder)
    command = ("encode", cohort.folder / "slides.csv", *given, "--out", cohort.folder / "features")
    with folder_lock(cohort.folder / "features", name="shard-1-of-2", shard=True):
        answer = ask(*command, *workers)
    assert answer.code == 2
    assert f"features: is in use by process {os.getpid()} on " in answer.err


def test_two_output_files_may_share_a_folder(tmp_path: Path) -> None:
    table = tmp_path / "bulk.csv"
    table.write_text("id,CD3D,TP53\nTCGA-AA-0001-01A,2.5,1\n")
    options = ("bulk", table, "--unit", "fpkm", "--slides", tmp_path / "slides.csv")
    (tmp_path / "slides.csv").write_text("slide_id,patient_id\nS1,TCGA-AA-0001\n")
    with folder_lock(tmp_path, name="file-first.h5ad"):
        assert "is in use" in ask(*options, "--out", tmp_path / "first.h5ad").err
        assert ask(*options, "--out", tmp_path / "second.h5ad").code == 0


@pytest.mark.parametrize("verb", [verb for verb in verbs() if not verb.shares_folder])
def test_every_verb_that_writes_says_where(verb) -> None:
    """The lock is that of ``out``; a verb without it writes nothing."""
    makes_nothing = verb.name in ("encoders", "status", "doctor", "config")
    assert makes_nothing or "out" in inspect.signature(verb.command).parameters
