"""One small synthetic cohort, taken through every stage once for all tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished ``tcgn-mil demo --preset test``."""
    from tcgn_mil.experiments.demo.run import run_demo

    out = tmp_path_factory.mktemp("demo")
    run_demo(out, preset_name="test")
    return out
