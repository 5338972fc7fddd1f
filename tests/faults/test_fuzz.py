"""Damaged files of every kind are read, or refused in one line that names them.

``python tests/helpers/fuzzing.py --seconds 60`` tries far more than the twenty seeds here. What it
found is kept in ``test_found.py``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from fuzz_targets import TARGETS, Target
from fuzzing import fuzz

pytestmark = pytest.mark.slow


@pytest.mark.skipif(sys.platform == "win32", reason="the seeds are tried in a forked process")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_no_seed_is_a_finding(target: Target, tmp_path: Path) -> None:
    assert not [str(finding) for finding in fuzz(target, tmp_path, seconds=0) if finding]
