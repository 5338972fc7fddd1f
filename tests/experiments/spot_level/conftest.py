"""Small sections for the tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from spot_runs import PATIENTS
from spot_sections import write_sections


@pytest.fixture(scope="module")
def spots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sections(tmp_path_factory.mktemp("spots"), PATIENTS)
