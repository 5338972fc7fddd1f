"""The files of a made cohort with survival."""

from __future__ import annotations

from pathlib import Path

import pytest
from survival_cohorts import cohort_files


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return cohort_files(tmp_path_factory.mktemp("survival"))
