"""Fixtures that all tests share, and the division of the tests between two processes."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

IN_PARALLEL = "PYTEST_XDIST_WORKER" in os.environ
# torch is not imported yet. With more threads than cores, the threads would wait for one another.
if IN_PARALLEL:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of public data sets, or skip the test and say how to get them."""
    folder = Path(os.environ.get("TCGN_MIL_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (folder / "her2st").is_dir():
        pytest.skip(f"no real data at {folder}; set TCGN_MIL_DATA to a folder that holds her2st/")
    return folder


@pytest.fixture(scope="session")
def chromium() -> str:
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("no chromium; install Debian's package to test pages in a browser")
    return found


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of a file in one process, and all that use the demo; start with slow files.

    A fixture of a file, and the demo, are then built once and not once in each process.
    """
    if not IN_PARALLEL:
        return
    group = {
        item: "demo" if "demo" in item.fixturenames else item.nodeid.split("::")[0]
        for item in items
    }
    first = {"demo"} | {group[item] for item in items if item.get_closest_marker("slow")}
    for item in items:
        item.add_marker(pytest.mark.xdist_group(group[item]))
    items.sort(key=lambda item: group[item] not in first)


def pytest_runtest_setup() -> None:
    """Use one thread, since two teams of threads on the same cores mostly wait for each other."""
    if IN_PARALLEL and "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


if not IN_PARALLEL:

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(report: pytest.TestReport) -> None:
        """Drop the group that xdist appends to a test's name, which pytest does not know."""
        report.nodeid = report.nodeid.partition("@")[0]
