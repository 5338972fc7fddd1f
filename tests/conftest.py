"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of public data sets (her2st, slides, TCGA tables), or a skip that says how to get it."""
    folder = Path(os.environ.get("TCGN_MIL_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (folder / "her2st").is_dir():
        pytest.skip(f"no real data at {folder}; set TCGN_MIL_DATA to a folder that holds her2st/ and slides/")
    return folder


@pytest.fixture(scope="session")
def chromium() -> str:
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("no chromium; install Debian's package to test pages in a browser")
    return found
