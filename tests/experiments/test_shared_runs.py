"""Two processes of torchrun do a whole run as one process does, and fail with one line."""

from __future__ import annotations

import json
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from shared_runs import (
    kernel_config,
    prepare,
    slide_config,
    spot_config,
    stopping_in,
    torchrun,
)

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.slide_level import run as finetuning
from tcgn_mil.experiments.spot_level import cross_validate

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Do the runs by one process, and by two."""
    folder = tmp_path_factory.mktemp("shared")
    prepare(folder)
    finetuning.run(slide_config(folder), folder / "slides-1")
    with stopping_in(fold=1, epoch=1), pytest.raises(InputError, match="on holiday"):
        finetuning.run(slide_config(folder), folder / "slides-1-then-2")
    finetuning.run(kernel_config(folder), folder / "kernel-1")
    cross_validate.run(spot_config(folder), folder / "spots-1")
    done = torchrun("both", folder)
    assert done.returncode == 0, done.stderr
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
    assert summaries["again"]["predictable"] == summaries["slides"]["predictable"]


def test_one_process_goes_on_where_two_stopped(folder: Path) -> None:
    stopped = torchrun("stopped", folder)
    assert stopped.returncode != 0
    ours = [line for line in stopped.stderr.splitlines() if "error: " in line]
    assert len(ours) == 1
    assert ours[0].startswith("error: the disk is on holiday")
    assert "Traceback" not in stopped.stderr.partition("ChildFailedError")[0].rpartition(ours[0])[0]
    assert (folder / "0.log").exists()
    assert not (folder / "1.log").exists()
    events = [json.loads(line) for line in (folder / "stopped" / "log.jsonl").open()]
    assert len({event["process"] for event in events}) == 1
    finetuning.run(slide_config(folder), folder / "stopped")
    check_same_slide_run(folder / "slides-1", folder / "stopped")


def test_settings_that_differ_are_refused_in_one_line(folder: Path) -> None:
    refused = torchrun("differing", folder)
    assert refused.returncode != 0
    ours = [line for line in refused.stderr.splitlines() if "error: " in line]
    assert len(ours) == 1
    assert "different settings: training.lr." in ours[0]
    assert not (folder / "differing").exists()
