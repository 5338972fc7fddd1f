"""Two processes of torchrun do a whole run as one process does, and fail with one line."""

from __future__ import annotations

import json
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from shared_runs import (
    empty_pictures,
    kernel_config,
    prepare,
    slide_config,
    spot_config,
    stopping_in,
    torchrun,
    tuned_config,
)
from slides_in_memory import run_in_memory

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.slide_level import run as finetuning
from tcgn_mil.experiments.spot_level import cross_validate

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Do the runs by one process, and by two. The last run of the two stops by an error."""
    folder = tmp_path_factory.mktemp("shared")
    with empty_pictures():
        prepare(folder)
        finetuning.run(slide_config(folder), folder / "slides-1")
        with stopping_in(fold=1, epoch=1), pytest.raises(InputError, match="on holiday"):
            finetuning.run(slide_config(folder), folder / "slides-1-then-2")
        finetuning.run(kernel_config(folder), folder / "kernel-1")
        run_in_memory(tuned_config(folder), folder / "tuned-1")
        cross_validate.run(spot_config(folder), folder / "spots-1")
        (folder / "stderr").write_text(torchrun(folder).stderr)
    return folder


def files_of(run: Path) -> set[str]:
    """Return the files of a run; event files of TensorBoard have a name of their own each time."""
    return {
        str(path.relative_to(run).parent if "tensorboard" in path.parts else path.relative_to(run))
        for path in run.rglob("*")
        if path.is_file() and not path.name.startswith(".") and path.name != "log.jsonl"
    }


def check_same_slide_run(one: Path, several: Path) -> None:
    assert files_of(several) == files_of(one)
    curves = [pd.read_csv(run / "curves_figure.csv") for run in (one, several)]
    numbers = [table.select_dtypes("number").to_numpy() for table in curves]
    assert np.abs(numbers[0] - numbers[1]).max() < 1e-4
    first, second = (anndata.read_h5ad(run / "out_of_fold.h5ad") for run in (one, several))
    assert first.obs_names.equals(second.obs_names)
    np.testing.assert_allclose(second.X, first.X, atol=1e-3)
    nulls = sorted((one / "null").iterdir())
    assert len(nulls) == 3
    for path in nulls:  # r of each refit in its place, and the number of patients behind it
        np.testing.assert_allclose(
            np.load(several / "null" / path.name), np.load(path), atol=1e-3, equal_nan=True
        )


def test_slide_models_of_two_processes_are_those_of_one(folder: Path) -> None:
    check_same_slide_run(folder / "slides-1", folder / "slides-2")


def test_two_processes_go_on_where_one_stopped(folder: Path) -> None:
    check_same_slide_run(folder / "slides-1", folder / "slides-1-then-2")


def test_closed_form_models_of_two_processes_are_those_of_one(folder: Path) -> None:
    one, several = folder / "kernel-1", folder / "kernel-2"
    assert files_of(several) == files_of(one)
    for name in ("genes.csv", "headline.csv", "predictable_genes.csv"):
        assert (several / name).read_bytes() == (one / name).read_bytes()


def test_encoders_that_two_processes_tune_are_those_of_one(folder: Path) -> None:
    one, several = folder / "tuned-1", folder / "tuned-2"
    assert files_of(several) == files_of(one)
    first, second = (anndata.read_h5ad(run / "out_of_fold.h5ad") for run in (one, several))
    frozen = "baseline_frozen_encoder"
    np.testing.assert_allclose(second.obsm[frozen], first.obsm[frozen], atol=1e-3)
    np.testing.assert_allclose(second.X, first.X, atol=1e-3)
    assert not np.allclose(first.X, first.obsm[frozen], atol=1e-3)  # a fold kept its own encoder


def test_spot_networks_of_two_processes_are_those_of_one(folder: Path) -> None:
    one, several = folder / "spots-1", folder / "spots-2"
    assert files_of(several) == files_of(one)
    for path in one.rglob("history.csv"):
        curve = pd.read_csv(path)["loss"].to_numpy()
        shared = pd.read_csv(several / path.relative_to(one))["loss"].to_numpy()
        assert np.abs(curve - shared).max() < 1e-4


def test_every_process_returns_the_summary(folder: Path) -> None:
    told = [(folder / f"told-{rank}.json").read_text() for rank in (0, 1)]
    assert told[0] == told[1]
    summaries = json.loads(told[0])
    assert summaries["refused"] == [
        "the processes of torchrun have different settings: training.lr. Fix: give the same options"
        " and config to all machines",
        "the processes of torchrun read different inputs: cohort. Fix: give the same input files to"
        " all machines",
        "features: in process 1 of torchrun: is not there. Fix: mount it",
    ]
    assert summaries["again"]["predictable"] == summaries["slides"]["predictable"]


def test_an_error_of_the_first_process_ends_both_with_one_line(folder: Path) -> None:
    printed = (folder / "stderr").read_text()
    ours, torchruns = printed.split("ChildFailedError", 1)
    assert "exitcode  : 2" in torchruns
    assert ours.count("error: ") == ours.count("error: the disk is on holiday") == 1
    assert "Traceback" not in ours.partition("error: the disk")[0]
    assert (folder / "0.log").exists()
    assert not (folder / "1.log").exists()
    with (folder / "stopped" / "log.jsonl").open() as log:
        assert len({json.loads(line)["process"] for line in log}) == 1


def test_one_process_goes_on_where_two_stopped(folder: Path) -> None:
    assert not (folder / "stopped" / "summary.json").exists()
    with empty_pictures():
        finetuning.run(slide_config(folder), folder / "stopped")
    check_same_slide_run(folder / "slides-1", folder / "stopped")
