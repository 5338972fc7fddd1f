"""Finished runs that the tests of this folder publish, and the command line in this process."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from small_runs import make_small_cohort, run_encoder, run_slide_model

from tcgn_mil.experiments import main as cli
from tcgn_mil.experiments.slide_level.config import FinetuneConfig


class Answer(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(scope="package")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> FinetuneConfig:
    return make_small_cohort(tmp_path_factory.mktemp("cohort"))


@pytest.fixture(scope="package")
def slide_run(cohort: FinetuneConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_slide_model(cohort, tmp_path_factory.mktemp("slide") / "slide-model")


@pytest.fixture(scope="package")
def kernel_run(cohort: FinetuneConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Sites are known of this cohort: folds by site, with those by patient beside them.
    config = dataclasses.replace(cohort, group_by="both")
    return run_slide_model(config, tmp_path_factory.mktemp("kernel") / "kernel", kind="kernel")


@pytest.fixture(scope="package")
def encoder_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture
def call(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Answer]:
    """Run a verb of ``tcgn-mil`` in this process."""

    def run_verb(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["tcgn-mil", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return Answer(int(ended.value.code or 0), captured.out, captured.err)

    return run_verb
