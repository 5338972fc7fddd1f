"""Two processes of torchrun train as one does, resume its run, and refuse settings that differ."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shared_training
import torch
from shared_training import train, train_images, train_line, train_slide_model

from tcgn_mil.types.processes import Processes

ROOT = Path(__file__).parents[2]


def curve(history: Any) -> np.ndarray:
    """Loss and score of each epoch (epochs, 2)."""
    return np.array([[epoch["loss"], epoch["score"]] for epoch in history])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Let two processes train, and go on with a run that one process began."""
    folder = tmp_path_factory.mktemp("torchrun")
    train(folder / "one.safetensors", epochs=3)
    shutil.copy(folder / "one.safetensors", folder / "unseen.safetensors")
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    subprocess.run(
        [sys.executable, *command, shared_training.__file__, str(folder)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        check=True,
        timeout=300,
    )
    return folder


@pytest.fixture(scope="module")
def told(folder: Path) -> list[dict[str, Any]]:
    return [json.loads((folder / f"told-{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.slow
def test_the_curve_is_that_of_one_process(told: list[dict[str, Any]], tmp_path: Path) -> None:
    assert [each["count"] for each in told] == [2, 2]
    alone = train(tmp_path / "alone.safetensors")
    for each in told:
        assert np.abs(curve(each["history"]["epochs"]) - curve(alone.epochs)).max() < 1e-4
        assert each["history"]["best_epoch"] == alone.best_epoch


@pytest.mark.slow
def test_a_batch_may_be_smaller_than_the_number_of_processes(told: list[dict[str, Any]]) -> None:
    torch.manual_seed(3)
    losses = [epoch["loss"] for epoch in train_line().epochs]
    for each in told:
        assert np.allclose([epoch["loss"] for epoch in each["line"]], losses, atol=1e-6)


@pytest.mark.slow
def test_a_process_without_rows_adds_nothing_to_batch_statistics(
    told: list[dict[str, Any]],
) -> None:
    alone = curve(train_images().epochs)  # the score reads the running statistics
    for each in told:
        assert np.abs(curve(each["images"]) - alone).max() < 1e-5


@pytest.mark.slow
def test_slide_models_train_alike(told: list[dict[str, Any]]) -> None:
    losses = [epoch["loss"] for epoch in train_slide_model().epochs]
    for each in told:
        assert np.allclose([epoch["loss"] for epoch in each["bags"]], losses, atol=1e-4)


@pytest.mark.slow
def test_a_run_is_resumed_by_another_number_of_processes(
    told: list[dict[str, Any]], folder: Path, tmp_path: Path
) -> None:
    alone = curve(train(tmp_path / "alone.safetensors").epochs)
    assert np.abs(curve(told[0]["resumed"]["epochs"]) - alone).max() < 1e-4
    # And back: the run of two processes is finished, so one process has no epoch left to train.
    again = train(folder / "several.safetensors")
    assert curve(again.epochs).tolist() == curve(told[0]["history"]["epochs"]).tolist()


@pytest.mark.slow
def test_the_first_process_sends_its_state_to_those_that_do_not_see_it(
    told: list[dict[str, Any]],
) -> None:
    for each in told:
        assert each["unseen"] == told[0]["resumed"]


@pytest.mark.slow
def test_the_first_process_alone_writes(told: list[dict[str, Any]]) -> None:
    assert [each["wrote"] for each in told] == [True, False]


@pytest.mark.slow
def test_settings_that_differ_are_refused_by_all(told: list[dict[str, Any]]) -> None:
    for each in told:
        assert "different settings: lr, seed" in each["refused"]


@pytest.mark.parametrize(("size", "count"), [(9, 2), (1, 2), (3, 8), (64, 3)])
def test_every_row_belongs_to_one_process(size: int, count: int) -> None:
    rows = Processes(0, count).rows(size)
    assert len(rows) == count
    assert [row for part in rows for row in range(size)[part]] == list(range(size))
