"""Fixtures shared by all tests, and how two processes share the tests."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

IN_PARALLEL = "PYTEST_XDIST_WORKER" in os.environ
if (
    IN_PARALLEL
):  # torch is not imported yet; with more threads than cores they would wait for one another
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of public data sets (her2st, slides, TCGA tables), or a skip that says how to get it."""
    folder = Path(os.environ.get("TCGN_MIL_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (folder / "her2st").is_dir():
        pytest.skip(
            f"no real data at {folder}; set TCGN_MIL_DATA to a folder that holds her2st/ and slides/"
        )
    return folder


@pytest.fixture(scope="session")
def chromium() -> str:
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("no chromium; install Debian's package to test pages in a browser")
    return found


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Among processes, a file's tests stay together, and those of the demo's folder; what has slow tests goes first."""
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
    """One thread, whatever an earlier test left: two teams on the same cores mostly wait for each other."""
    if IN_PARALLEL and "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


if not IN_PARALLEL:

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(report: pytest.TestReport) -> None:
        """Names of tests without the group that xdist appends, so that they can be given to pytest again."""
        report.nodeid = report.nodeid.partition("@")[0]
