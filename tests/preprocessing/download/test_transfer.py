"""Transfers: cut, continued, wrong, busy, refused, redirected, and killed."""

from __future__ import annotations

import hashlib
import os
import random
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from download_server import Store

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.download import fetch_all as fetch_all_module
from tcgn_mil.preprocessing.download.config import TransferConfig
from tcgn_mil.preprocessing.download.fetch_all import check_space, fetch_all
from tcgn_mil.preprocessing.download.remote_file import Checksum, RemoteFile
from tcgn_mil.preprocessing.download.session import _BoundedRetry, open_session
from tcgn_mil.preprocessing.download.transfer import (
    CHUNK_BYTES,
    UnreachableError,
    fetch_file,
    part_of,
)

CONTENT = random.Random(0).randbytes(4_000_001)
# The bytes that are kept of the first half; the last chunk of a cut transfer is incomplete.
KEPT = len(CONTENT) // 2 // CHUNK_BYTES * CHUNK_BYTES
PATH = "/data/one"


@pytest.fixture
def remote(server: Store) -> RemoteFile:
    server.contents[PATH] = CONTENT
    return remote_of(server, PATH)


def remote_of(server: Store, path: str, name: str = "slides/one.svs") -> RemoteFile:
    content = server.contents[path]
    checksum = Checksum("md5", hashlib.md5(content).hexdigest())
    return RemoteFile(name, server.address + path, checksum, len(content))


def fetch(remote: RemoteFile, folder: Path, config: TransferConfig) -> tuple[bool, int]:
    """Whether the file was fetched, and the sum of the progress."""
    counts: list[int] = []
    with open_session(config) as session:
        fetched = fetch_file(session, remote, folder, config, counts.append)
    return fetched, sum(counts)


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_file_arrives_under_its_name_alone(
    server: Store, remote: RemoteFile, quick: TransferConfig, tmp_path: Path
) -> None:
    assert fetch(remote, tmp_path, quick) == (True, len(CONTENT))
    assert (tmp_path / "slides" / "one.svs").read_bytes() == CONTENT
    assert left_in(tmp_path) == ["one.svs"]
    assert server.fetched(PATH) == [""]


def test_a_file_that_is_there_and_right_is_not_fetched(
    server: Store, remote: RemoteFile, quick: TransferConfig, tmp_path: Path
) -> None:
    fetch(remote, tmp_path, quick)
    assert fetch(remote, tmp_path, quick) == (False, len(CONTENT))
    assert len(server.fetched(PATH)) == 1


@pytest.mark.parametrize("damaged", [CONTENT[:-1], CONTENT[:-1] + b"?"], ids=["short", "other"])
def test_a_file_that_is_there_and_wrong_is_replaced(
    remote: RemoteFile, quick: TransferConfig, tmp_path: Path, damaged: bytes
) -> None:
    path = tmp_path / "slides" / "one.svs"
    path.parent.mkdir()
    path.write_bytes(damaged)
    assert fetch(remote, tmp_path, quick)[0]
    assert path.read_bytes() == CONTENT


def test_a_cut_transfer_is_continued(
    server: Store, remote: RemoteFile, quick: TransferConfig, tmp_path: Path
) -> None:
    # More cuts than attempts: each of them brings new bytes, which renews the attempts.
    server.faults[PATH] = ["cut"] * 5
    assert fetch(remote, tmp_path, quick) == (True, len(CONTENT))
    assert (tmp_path / "slides" / "one.svs").read_bytes() == CONTENT
    asked = server.fetched(PATH)
    assert asked[:2] == ["", f"bytes={KEPT}-"]
    assert len(asked) == 6
    starts = [int(header.removeprefix("bytes=").rstrip("-") or 0) for header in asked]
    assert starts == sorted(set(starts))


def test_a_server_without_ranges_sends_the_whole_file_again(
    server: Store, remote: RemoteFile, quick: TransferConfig, tmp_path: Path
) -> None:
    server.faults[PATH] = ["cut", "no-range"]
    assert fetch(remote, tmp_path, quick) == (True, len(CONTENT))
    assert (tmp_path / "slides" / "one.svs").read_bytes() == CONTENT


@pytest.mark.parametrize("fault", ["other-range", "other-total"])
def test_a_range_of_something_else_is_not_appended(
    server: Store, remote: RemoteFile, quick: TransferConfig, tmp_path: Path, fault: str
) -> None:
    server.faults[PATH] = ["cut", fault]
    assert fetch(remote, tmp_path, quick) == (True, len(CONTENT))
    assert server.fetched(PATH) == ["", f"bytes={KEPT}-", ""]
    assert (tmp_path / "slides" / "one.svs").read_bytes() == CONTENT


def test_a_transfer_that_stops_without_new_bytes_ends(
    server: Store, quick: TransferConfig, tmp_path: Path
) -> None:
    server.contents[PATH] = b"x"  # half of it is nothing
    server.faults[PATH] = ["cut"] * 9
    with pytest.raises(InputError, match="stopped 3 times in a row at byte 0"):
        fetch(remote_of(server, PATH), tmp_path, quick)
    assert len(server.fetched(PATH)) == 3


def test_a_part_of_another_version_is_not_continued(
    server: Store, remote: RemoteFile, quick: TransferConfig, tmp_path: Path
) -> None:
    path = tmp_path / "slides" / "one.svs"
    path.parent.mkdir()
    other = RemoteFile(remote.name, remote.url, Checksum("md5", "0" * 32), remote.size)
    part_of(path, other).write_bytes(b"of another release")
    fetch(remote, tmp_path, quick)
    assert server.fetched(PATH) == [""]
    assert path.read_bytes() == CONTENT


def test_a_damaged_part_costs_one_more_transfer(
    server: Store, remote: RemoteFile, quick: TransferConfig, tmp_path: Path
) -> None:
    path = tmp_path / "slides" / "one.svs"
    path.parent.mkdir()
    part_of(path, remote).write_bytes(b"?" * 1000)
    assert fetch(remote, tmp_path, quick) == (True, len(CONTENT))
    assert server.fetched(PATH) == ["bytes=1000-", ""]
    assert path.read_bytes() == CONTENT


def test_a_wrong_checksum_is_fetched_once_again(
    server: Store, remote: RemoteFile, quick: TransferConfig, tmp_path: Path
) -> None:
    server.faults[PATH] = ["wrong"]
    assert fetch(remote, tmp_path, quick) == (True, len(CONTENT))
    assert len(server.fetched(PATH)) == 2
    assert (tmp_path / "slides" / "one.svs").read_bytes() == CONTENT


def test_a_wrong_checksum_twice_is_an_error_and_leaves_nothing(
    server: Store, remote: RemoteFile, quick: TransferConfig, tmp_path: Path
) -> None:
    server.faults[PATH] = ["wrong"] * 2
    with pytest.raises(InputError, match="arrived twice with another md5 checksum"):
        fetch(remote, tmp_path, quick)
    assert left_in(tmp_path) == []


def test_a_busy_server_is_asked_again(
    server: Store, remote: RemoteFile, quick: TransferConfig, tmp_path: Path
) -> None:
    server.faults[PATH] = ["busy", "busy"]
    assert fetch(remote, tmp_path, quick)[0]
    assert len(server.fetched(PATH)) == 3


def test_a_server_that_stays_busy_is_named_so(
    server: Store, remote: RemoteFile, quick: TransferConfig, tmp_path: Path
) -> None:
    server.faults[PATH] = ["busy"] * 9
    with pytest.raises(InputError, match="says that it is busy") as caught:
        fetch(remote, tmp_path, quick)
    assert not isinstance(caught.value, UnreachableError)
    assert len(server.fetched(PATH)) == quick.attempts


def test_the_wait_that_a_server_asks_for_is_kept_and_bounded() -> None:
    class Answer:
        def __init__(self, wait: str) -> None:
            self.headers = {"Retry-After": wait}

    retries = _BoundedRetry()
    assert retries.get_retry_after(Answer("7")) == 7
    assert retries.get_retry_after(Answer("86400")) == 120


@pytest.mark.parametrize(
    ("fault", "message"),
    [("gone", r"does not have the file \(HTTP 404\)"), ("forbidden", r"refuses .* \(HTTP 403\)")],
)
def test_an_expired_link_is_an_error_at_once(
    server: Store,
    remote: RemoteFile,
    quick: TransferConfig,
    tmp_path: Path,
    fault: str,
    message: str,
) -> None:
    server.faults[PATH] = [fault]
    with pytest.raises(InputError, match=message) as caught:
        fetch(remote, tmp_path, quick)
    assert "expired" in str(caught.value.fix)
    assert len(server.fetched(PATH)) == 1


def test_a_redirect_is_followed_with_the_range(
    server: Store, remote: RemoteFile, quick: TransferConfig, tmp_path: Path
) -> None:
    server.faults[PATH] = ["cut", "redirect"]
    assert fetch(remote, tmp_path, quick)[0]
    assert server.fetched(f"/stored{PATH}") == [f"bytes={KEPT}-"]
    assert (tmp_path / "slides" / "one.svs").read_bytes() == CONTENT


def test_a_body_that_is_too_long_is_refused(
    server: Store, remote: RemoteFile, quick: TransferConfig, tmp_path: Path
) -> None:
    server.faults[PATH] = ["longer"]
    with pytest.raises(InputError, match=f"more than the {len(CONTENT)} bytes"):
        fetch(remote, tmp_path, quick)
    assert left_in(tmp_path) == []


def test_an_empty_file_arrives(server: Store, quick: TransferConfig, tmp_path: Path) -> None:
    server.contents[PATH] = b""
    assert fetch(remote_of(server, PATH), tmp_path, quick) == (True, 0)
    assert (tmp_path / "slides" / "one.svs").read_bytes() == b""


def test_many_files_arrive_and_a_broken_one_is_a_row(
    server: Store, quick: TransferConfig, tmp_path: Path
) -> None:
    remotes = []
    for number in range(9):
        path = f"/data/{number}"
        server.contents[path] = str(number).encode() * 1000
        remotes.append(remote_of(server, path, f"slides/{number}.svs"))
    server.faults["/data/4"] = ["wrong", "wrong"]
    server.faults["/data/7"] = ["cut"]
    done = fetch_all(remotes, tmp_path, quick)
    assert done.fetched == [f"slides/{number}.svs" for number in range(9) if number != 4]
    assert [(row.slide, row.stage) for row in done.failures] == [("slides/4.svs", "download")]
    for number in set(range(9)) - {4}:
        assert (tmp_path / f"slides/{number}.svs").read_bytes() == str(number).encode() * 1000
    again = fetch_all(remotes, tmp_path, quick)
    assert (again.fetched, len(again.kept), again.failures) == (["slides/4.svs"], 8, [])


@pytest.mark.parametrize("workers", [1, 3])
def test_no_more_files_are_on_their_way_than_there_are_workers(
    server: Store, tmp_path: Path, workers: int
) -> None:
    server.pause_s = 0.05
    remotes = []
    for number in range(9):
        path = f"/data/{number}"
        server.contents[path] = bytes(10)
        remotes.append(remote_of(server, path, str(number)))
    config = TransferConfig(workers=workers, attempts=1, backoff_s=0.0)
    assert len(fetch_all(remotes, tmp_path, config).fetched) == 9
    assert server.peak == workers


def test_files_are_not_tried_any_more_when_the_server_is_gone(
    quick: TransferConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setattr(fetch_all_module, "MAX_UNREACHABLE", 3)
    remotes = [
        RemoteFile(f"{number}", f"{address}/{number}", Checksum("md5", "0" * 32), 1)
        for number in range(8)
    ]
    done = fetch_all(remotes, tmp_path, quick)
    tried = [row for row in done.failures if "no connection" in row.reason]
    assert 3 <= len(tried) <= 4
    assert len(done.failures) == 8
    assert sum("was not tried" in row.reason for row in done.failures) == 8 - len(tried)


def test_a_full_disk_is_said_before_the_start(tmp_path: Path) -> None:
    large = RemoteFile("a", "http://x/a", Checksum("md5", "0" * 32), 2**60)
    with pytest.raises(InputError, match=r"need 1152921\.50 TB, and the disk has"):
        check_space([large], tmp_path / "new")


def test_a_killed_download_continues(
    server: Store, remote: RemoteFile, quick: TransferConfig, tmp_path: Path
) -> None:
    """The process dies at the first chunk, as a run does that is killed."""
    server.faults[PATH] = ["cut"]
    script = f"""
import os
from pathlib import Path
from tcgn_mil.preprocessing.download.config import TransferConfig
from tcgn_mil.preprocessing.download.remote_file import Checksum, RemoteFile
from tcgn_mil.preprocessing.download.session import open_session
from tcgn_mil.preprocessing.download.transfer import fetch_file
remote = RemoteFile({remote.name!r}, {remote.url!r}, {remote.checksum!r}, {remote.size})
config = TransferConfig(backoff_s=60.0)
with open_session(config) as session:
    fetch_file(session, remote, Path({str(tmp_path)!r}), config)
"""
    child = subprocess.Popen([sys.executable, "-c", script], env={**os.environ})
    part = part_of(tmp_path / remote.name, remote)
    deadline = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size == KEPT):
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    child.kill()  # while it waits to ask again
    child.wait()
    assert left_in(tmp_path) == [part.name]
    assert fetch(remote, tmp_path, quick) == (True, len(CONTENT))
    assert server.fetched(PATH) == ["", f"bytes={KEPT}-"]
    assert (tmp_path / remote.name).read_bytes() == CONTENT
