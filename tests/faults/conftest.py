"""Fixtures of the tests of faults: a small cohort that is tiled and encoded, and a slide model."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from changing_slides import Cohort, paint, write_encoder, write_slide_model


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a small encoder, as a value of ``--encoder``."""
    return write_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="session")
def made(encoder: str, tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Make three slides, a table of them, their tiles and their features."""
    cohort = Cohort(tmp_path_factory.mktemp("made"), encoder)
    for seed, name in enumerate(("S1", "S2", "S3")):
        paint(cohort.slide(name), seed)
    cohort.list_slides("S1", "S2", "S3")
    assert cohort.tile().code == 0
    assert cohort.encode().code == 0
    return cohort


@pytest.fixture
def cohort(made: Cohort, tmp_path: Path) -> Cohort:
    """Return a copy of the cohort that a test may change."""
    shutil.copytree(made.folder, tmp_path / "cohort")
    return Cohort(tmp_path / "cohort", made.encoder)


@pytest.fixture(scope="session")
def slide_model(encoder: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a slide model that reads features of the encoder."""
    return write_slide_model(tmp_path_factory.mktemp("model"), encoder)
