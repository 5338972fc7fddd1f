"""Runs that one process and several processes of torchrun do alike.

As a script it is what torchrun starts, with a folder that :func:`prepare` has filled.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from slide_cohorts import make_cohort
from slides_in_memory import GENES, PATCH, PX, TUNING, run_in_memory, write_cohort_of_encoder
from spot_runs import config_of
from spot_sections import write_sections

from tcgn_mil.checkpoints import EncoderInfo, save_encoder
from tcgn_mil.config import resolve_config, write_config
from tcgn_mil.errors import InputError
from tcgn_mil.experiments.encode.config import EncodeSettings
from tcgn_mil.experiments.main import main as command_line
from tcgn_mil.experiments.slide_level import run as finetuning
from tcgn_mil.experiments.slide_level.config import FinetuneConfig
from tcgn_mil.experiments.slide_level.inputs.cohort import CohortData
from tcgn_mil.experiments.slide_level.training import network_fold
from tcgn_mil.experiments.spot_level import cross_validate
from tcgn_mil.experiments.spot_level.config import SpotConfig
from tcgn_mil.models.encoders import create_encoder
from tcgn_mil.models.network_input import EncoderInput
from tcgn_mil.settings.slide_model import MilConfig
from tcgn_mil.settings.training import TrainingConfig
from tcgn_mil.types.genes import GenePanel, TargetScaler
from tcgn_mil.types.processes import Processes

ROOT = Path(__file__).parents[2]
RANK = Processes.launched().rank


def prepare(folder: Path) -> None:
    """Write a cohort of 24 patients, three small sections, and a cohort of slides in memory."""
    make_cohort(folder / "cohort", patients=24)
    write_sections(folder / "spots", {"A1": "A", "B1": "B", "C1": "C"}, side=7)
    torch.manual_seed(0)
    save_encoder(
        folder / "encoder.safetensors",
        create_encoder("resnet10t", num_classes=len(GENES), input_px=PX),
        EncoderInfo(
            "resnet10t",
            GenePanel(tuple(GENES)),
            TargetScaler("log1p", np.zeros(len(GENES), "f4"), np.ones(len(GENES), "f4")),
            PATCH,
            "library",
            input_spec=EncoderInput(PX, (0.5,) * 3, (0.25,) * 3),
        ),
    )
    tuned = write_cohort_of_encoder(
        folder, EncodeSettings(str(folder / "encoder.safetensors")), encoder_train="last"
    )
    write_config(folder / "tuned.yaml", tuned)
    write_config(folder / "slides.yaml", slide_config(folder))


def slide_config(folder: Path) -> FinetuneConfig:
    """Return a run without dropout, whose masks would differ between the processes."""
    return FinetuneConfig(
        cohort=str(folder / "cohort" / "cohort.h5ad"),
        features=str(folder / "cohort" / "features"),
        n_folds=3,
        refits=2,
        replicates=20,
        model=MilConfig(embedding=16, attention_hidden=8, dropout=0.0),
        training=dataclasses.replace(FinetuneConfig().training, epochs=4, accelerator="cpu"),
    )


def kernel_config(folder: Path) -> FinetuneConfig:
    return dataclasses.replace(slide_config(folder), model=MilConfig(kind="kernel"), refits=3)


def tuned_config(folder: Path) -> FinetuneConfig:
    """Return a run that also tunes its encoder."""
    training = dataclasses.replace(TUNING.training, lr=1e-3)
    config = resolve_config(FinetuneConfig, yaml_path=folder / "tuned.yaml")
    return dataclasses.replace(config, tuning=dataclasses.replace(TUNING, training=training))


def spot_config(folder: Path) -> SpotConfig:
    """Return a run with a low learning rate.

    A high one makes rounding errors grow: at 3e-3, batch normalisation in float64 changes the loss
    of one process by 3e-4 in the second epoch, as much as a second process does.
    """
    training = TrainingConfig(epochs=2, batch_size=32, lr=2e-4, average=0.9, accelerator="cpu")
    return config_of(folder / "spots", training=training)


@contextmanager
def stopping_in(fold: int, epoch: int) -> Iterator[None]:
    """Let the first process fail after an epoch of a fold, with the state of it on the disk."""
    real = network_fold.TensorBoardLog

    class Stopping(real):
        def __call__(self, number: int, history: Any) -> None:
            super().__call__(number, history)
            if self.folder.name == f"fold{fold}" and number == epoch:
                raise InputError("the disk is on holiday", fix="wait")

    network_fold.TensorBoardLog = Stopping
    try:
        yield
    finally:
        network_fold.TensorBoardLog = real


@contextmanager
def empty_pictures() -> Iterator[None]:
    """Write figures as empty files, since drawing takes longer than all the rest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", lambda self, path, **_: Path(path).touch())
        yield


def torchrun(folder: Path) -> subprocess.CompletedProcess[str]:
    """Start this script in two processes."""
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return subprocess.run(
        [sys.executable, *command, __file__, str(folder)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def train_both(folder: Path) -> None:
    """Train slide models of both kinds and spot networks, and go on with a run of one process."""
    told: dict[str, Any] = {}
    told["slides"] = finetuning.run(slide_config(folder), folder / "slides-2")
    told["resumed"] = finetuning.run(slide_config(folder), folder / "slides-1-then-2")
    told["again"] = finetuning.run(slide_config(folder), folder / "slides-2")
    told["kernel"] = finetuning.run(kernel_config(folder), folder / "kernel-2")
    told["tuned"] = run_in_memory(tuned_config(folder), folder / "tuned-2")
    told["spots"] = cross_validate.run(spot_config(folder), folder / "spots-2")
    told["refused"] = refusals(folder)
    (folder / f"told-{RANK}.json").write_text(json.dumps(told, default=str))


def refusals(folder: Path) -> list[str]:
    """Return the messages where the second process has other settings or data, or none."""

    def of_others(cohort: CohortData) -> CohortData:
        return dataclasses.replace(cohort, values=cohort.values + RANK)

    def not_there(cohort: CohortData) -> CohortData:
        if RANK:
            raise InputError("is not there", path="features", fix="mount it")
        return cohort

    config, real = slide_config(folder), finetuning.load_cohort
    training = dataclasses.replace(config.training, lr=1e-3 * (1 + RANK))
    messages = [refusal(dataclasses.replace(config, training=training), folder / "other-lr")]
    with pytest.MonkeyPatch.context() as patch:
        for change in (of_others, not_there):
            patch.setattr(
                finetuning, "load_cohort", lambda *paths, change=change, **_: change(real(*paths))
            )
            messages.append(refusal(config, folder / "refused"))
    return messages


def refusal(config: FinetuneConfig, out: Path) -> str:
    with pytest.raises(InputError) as refused:
        finetuning.run(config, out)
    return str(refused.value)


def stop_in_the_second_fold(folder: Path) -> None:
    """Begin a run by the command line, which fails in the first process."""
    paths = {"--config": "slides.yaml", "--out": "stopped", "--log-file": f"{RANK}.log"}
    options = [text for key, name in paths.items() for text in (key, str(folder / name))]
    sys.argv = ["tcgn-mil", "finetune", *options]
    with stopping_in(fold=1, epoch=1):
        command_line()


if __name__ == "__main__":
    with empty_pictures():
        train_both(Path(sys.argv[1]))
        stop_in_the_second_fold(Path(sys.argv[1]))
