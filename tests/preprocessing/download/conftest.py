"""A server on loopback, and settings of the transport that do not wait."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from download_server import Store, serve

from tcgn_mil.preprocessing.download.config import TransferConfig


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serve() as store:
        yield store


@pytest.fixture
def quick() -> TransferConfig:
    return TransferConfig(workers=2, attempts=3, backoff_s=0.0, timeout_s=5.0)
