"""Fetch one file over HTTP, continue it where it was cut, check it, and give it its name.

pooch fetches a file whose checksum is known, but from its first byte each time; a slide of 2 GB
over a poor line may never arrive so. These functions therefore stand on requests. The bytes go into
``.<name>.<checksum>.part``, which stays when the transfer is cut or the process killed; the next
attempt asks for the rest (``Range``). The name of the part has the beginning of the checksum, so
that a part of another version of the file is never continued. The finished file is compared with
its size and checksum before it is renamed; a file under its final name is therefore whole.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import requests

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.download.config import TransferConfig
from tcgn_mil.preprocessing.download.remote_file import RemoteFile
from tcgn_mil.preprocessing.download.session import MAX_WAIT_S, describe

CHUNK_BYTES = 2**16  # what a cut transfer loses at most
MAX_BYTES = 2**37  # of a file whose size is not stated; the largest slides have a few GB
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_AGAIN = "run the command again; it fetches only what is missing"
_REFUSED = {
    401: "asks for a login",
    403: "refuses the file",
    404: "does not have the file",
    410: "no longer has the file",
}
Advance = Callable[[int], object]


class UnreachableError(InputError):
    """The server did not answer, so that other files of it will hardly arrive either."""


def part_of(path: Path, remote: RemoteFile) -> Path:
    """Return the path of the unfinished file."""
    return path.with_name(f".{path.name}.{remote.checksum.value[:8]}.part")


def fetch_file(
    session: requests.Session,
    remote: RemoteFile,
    folder: Path,
    config: TransferConfig,
    advance: Advance = lambda count: None,
) -> bool:
    """Fetch a file unless it is there and right.

    Parameters
    ----------
    session
        From :func:`~tcgn_mil.preprocessing.download.session.open_session`.
    remote
        The file.
    folder
        Output folder.
    config
        Number of attempts, and waits.
    advance
        Called with the number of bytes that have arrived, or were there already. It may be
        negative, if bytes turn out to be useless.

    Returns
    -------
    bool
        True if the file was fetched, False if it was there already.

    Raises
    ------
    InputError
        If the server refuses the file, the transfer stops too often, or the file has a wrong
        checksum twice.
    UnreachableError
        If the server does not answer.
    """
    path = folder / remote.name
    if remote.is_at(path):
        advance(path.stat().st_size)
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    part = part_of(path, remote)
    for _ in range(2):
        _complete(session, remote, part, config, advance)
        if remote.is_at(part):
            # Without fsync, a crash of the machine soon after can leave an empty file.
            with part.open("rb") as written:
                os.fsync(written.fileno())
            part.replace(path)
            return True
        advance(-part.stat().st_size)
        part.unlink()
    raise InputError(
        f"arrived twice with another {remote.checksum.kind} checksum than"
        f" {remote.checksum.value}, which its source states",
        path=remote.url,
        fix="run the command again later; if it stays so, report the file to its source",
    )


def _complete(
    session: requests.Session,
    remote: RemoteFile,
    part: Path,
    config: TransferConfig,
    advance: Advance,
) -> None:
    """Ask for the rest of a file until it is whole; each new byte renews the attempts."""
    if part.exists():
        advance(part.stat().st_size)
    idle = 0
    while True:
        before = _size(part)
        if _is_whole(remote, before):
            return
        cut = _append(session, remote, part, config, advance)
        if cut is None:
            return
        idle = 0 if _size(part) > before else idle + 1
        if idle >= config.attempts:
            raise InputError(
                f"the transfer stopped {idle} times in a row at byte {_size(part)} ({cut})",
                path=remote.url,
                fix=_AGAIN,
            )
        time.sleep(min(config.backoff_s * 2**idle, MAX_WAIT_S))


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _is_whole(remote: RemoteFile, size: int) -> bool:
    return remote.size is not None and size >= remote.size and size > 0


def _append(
    session: requests.Session,
    remote: RemoteFile,
    part: Path,
    config: TransferConfig,
    advance: Advance,
) -> str | None:
    """Append what the server sends to the part.

    Returns
    -------
    str or None
        The reason if the transfer was cut; None if the server sent all that it announced.
    """
    have = _size(part)
    headers = {"Range": f"bytes={have}-"} if have else {}
    try:
        answer = session.get(remote.url, headers=headers, stream=True, timeout=config.timeout_s)
    except requests.RequestException as error:
        kind = InputError if isinstance(error, requests.exceptions.RetryError) else UnreachableError
        raise kind(describe(error), path=remote.url, fix=_AGAIN) from error
    with answer:
        if answer.status_code == requests.codes.requested_range_not_satisfiable:
            _restart(part, advance)
            return "the server refuses to continue the file"
        if answer.status_code not in (requests.codes.ok, requests.codes.partial_content):
            raise _refusal(answer, remote)
        if have and not _continues(answer, have, remote):
            # The server sends the whole file, or the rest of another one.
            _restart(part, advance)
            if answer.status_code == requests.codes.partial_content:
                return "the server continues another file"
        return _write(answer, remote, part, advance)


def _restart(part: Path, advance: Advance) -> None:
    advance(-_size(part))
    part.unlink(missing_ok=True)


def _continues(answer: requests.Response, have: int, remote: RemoteFile) -> bool:
    if answer.status_code != requests.codes.partial_content:
        return False
    stated = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    if stated is None or int(stated[1]) != have:
        return False
    return remote.size is None or stated[2] in ("*", str(remote.size))


def _write(
    answer: requests.Response, remote: RemoteFile, part: Path, advance: Advance
) -> str | None:
    """Write the body; a body that is longer than the file is refused before it fills the disk."""
    announced = answer.headers.get("Content-Length", "")
    due = int(announced) if announced.isdecimal() else None
    most = MAX_BYTES if remote.size is None else remote.size
    size, arrived = _size(part), 0
    try:
        with part.open("ab") as file:
            for chunk in answer.iter_content(CHUNK_BYTES):
                arrived += len(chunk)
                if size + arrived > most:
                    file.close()
                    _restart(part, advance)
                    raise InputError(
                        f"the server sends more than the {most} bytes of the file",
                        path=remote.url,
                        fix=_AGAIN,
                    )
                file.write(chunk)
                advance(len(chunk))
    except requests.RequestException as error:
        return describe(error)
    if due is not None and arrived < due:
        return "the connection was cut"
    if remote.size is not None and size + arrived < remote.size:
        return "the server sent less than the file has"
    return None


def _refusal(answer: requests.Response, remote: RemoteFile) -> InputError:
    status = answer.status_code
    what = _REFUSED.get(status, "answers with an error")
    return InputError(
        f"the server {what} (HTTP {status})",
        path=remote.url,
        fix="run the command again, which asks for the list of files anew; the file may have been"
        " replaced, or its link has expired",
    )
