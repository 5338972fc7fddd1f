"""Fixtures that all tests share, and the division of the tests between two processes."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_hub import FakeHub, use_hub
from hypothesis import settings

IN_PARALLEL = "PYTEST_XDIST_WORKER" in os.environ
# torch is not imported yet. With more threads than cores, the threads would wait for one another.
if IN_PARALLEL:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# An example may take long on a busy machine; that says nothing about the code.
settings.register_profile("no_deadline", deadline=None)
settings.load_profile("no_deadline")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of public data sets, or skip the test and say how to get them."""
    folder = Path(os.environ.get("TCGN_MIL_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (folder / "her2st").is_dir():
        pytest.skip(f"no real data at {folder}; set TCGN_MIL_DATA to a folder that holds her2st/")
    return folder


@pytest.fixture
def fake_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """Start a model hub on loopback; ``tests/helpers/fake_hub.py`` says how it is used."""
    with FakeHub() as hub:
        use_hub(hub, monkeypatch, tmp_path / "hub-cache")
        yield hub


@pytest.fixture(scope="session")
def chromium() -> str:
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("no chromium; install Debian's package to test pages in a browser")
    return found


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the files that have slow tests, so that no process waits for another at the end.

    One process makes the demo, for which the others would wait if they began with it as well. The
    first file is therefore one that needs the demo, beside the one that takes longest of all, and
    slow files that do not need it come next.

    A file's tests stay together: ``--dist loadfile`` gives each file to one process, so that its
    fixtures are built once. (``loadgroup`` has no effect with pytest 9.2 and pytest-xdist 3.8.)
    """
    if not IN_PARALLEL:
        return
    longest = {item.path for item in items if item.path.name == "test_killed.py"}
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    with_demo = {item.path: None for item in items if "demo" in item.fixturenames}
    first = next(iter(with_demo), None)

    def turn(item: pytest.Item) -> int:
        if item.path == first or item.path in longest:
            return 0
        if item.path in with_demo:
            return 2
        return 1 if item.path in slow else 3

    items.sort(key=turn)


def pytest_runtest_setup() -> None:
    """Use one thread, since two teams of threads on the same cores mostly wait for each other."""
    if IN_PARALLEL and "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
