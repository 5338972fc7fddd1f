"""Runs that one process and several processes of torchrun do alike.

As a script it is what torchrun starts, with the name of a case and a folder that :func:`prepare`
has filled. The cases ``stopped`` and ``differing`` run the command line, with a fault.
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

from slide_cohorts import make_cohort
from spot_runs import PATIENTS as SECTIONS
from spot_runs import config_of
from spot_sections import write_sections

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.main import main as command_line
from tcgn_mil.experiments.slide_level import run as finetuning
from tcgn_mil.experiments.slide_level.config import FinetuneConfig
from tcgn_mil.experiments.slide_level.training import network_fold
from tcgn_mil.experiments.spot_level import cross_validate
from tcgn_mil.experiments.spot_level.config import SpotConfig
from tcgn_mil.settings.slide_model import MilConfig
from tcgn_mil.types.processes import Processes

ROOT = Path(__file__).parents[2]
RANK = Processes.launched().rank


def prepare(folder: Path) -> None:
    """Write a cohort of 24 patients and five sections."""
    make_cohort(folder / "cohort", patients=24)
    write_sections(folder / "spots", SECTIONS)


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


def spot_config(folder: Path) -> SpotConfig:
    return config_of(folder / "spots")


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


def command_of(config: FinetuneConfig, out: Path) -> list[str]:
    """Return the command line of a run that :func:`slide_config` describes."""
    settings = {
        "n_folds": config.n_folds,
        "refits": config.refits,
        "replicates": config.replicates,
        "model.embedding": config.model.embedding,
        "model.attention_hidden": config.model.attention_hidden,
        "model.dropout": config.model.dropout,
        "training.epochs": config.training.epochs,
        "training.accelerator": config.training.accelerator,
    }
    pairs = [text for key, value in settings.items() for text in ("--set", f"{key}={value}")]
    paths = ["--cohort", config.cohort, "--features", config.features, "--out", str(out)]
    return ["tcgn-mil", "finetune", *paths, *pairs]


def torchrun(case: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Start this script in two processes."""
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return subprocess.run(
        [sys.executable, *command, __file__, case, str(folder)],
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
    told["spots"] = cross_validate.run(spot_config(folder), folder / "spots-2")
    (folder / f"told-{RANK}.json").write_text(json.dumps(told, default=str))


def main(case: str, folder: Path) -> None:
    if case == "both":
        train_both(folder)
        return
    out = folder / case
    sys.argv = [*command_of(slide_config(folder), out), "--log-file", str(folder / f"{RANK}.log")]
    if case == "differing":
        sys.argv += ["--set", f"training.lr={0.001 * (1 + RANK)}"]
        command_line()
    with stopping_in(fold=1, epoch=1):
        command_line()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
