"""One small synthetic cohort, taken through every stage once for all tests of this folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from filelock import FileLock


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished ``tcgn-mil demo --preset test``; tests do not change it.

    Where tests run in several processes, the first process that needs the demo makes it, and the
    others wait for it.
    """
    from tcgn_mil.experiments.demo.run import run_demo

    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent  # the folder of the whole test run
    out = shared / "demo"
    with FileLock(shared / "demo.lock"):
        if not (out / "report.html").is_file():
            run_demo(out, preset_name="test")
    return out
