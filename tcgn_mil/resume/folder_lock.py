"""Keep a second run out of an output folder while the first one writes to it.

The lock is a file in the folder that names the process and its machine. It is made complete under a
temporary name and then linked to its own name, which only one process can do, on network drives
too. A thread renews its time while the run lives. If a run is killed, its lock does not block:

- On the same machine a lock counts only as long as its process lives. A process number may be given
  to another process later, so the start of the process is compared as well.
- On another machine, or in another container, processes cannot be seen. There a lock counts until
  it was not renewed for five minutes. Times are compared with that of a file made in the same
  folder, because the clocks of two machines differ.

``filelock`` was considered and not used. Its lock of the operating system vanishes with the process
but is not reliable on every network drive, and its plain file stays after a crash. Neither tells
who holds the lock.

A run over a part of a cohort (a shard) has a lock under its own name. Shards share a folder with
one another, and not with a run over the whole cohort.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import threading
import uuid
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.json_file import read_json
from tcgn_mil.io.atomic import temporary_prefix

PREFIX = ".lock"
RENEWED_S = 20.0
STALE_S = 300.0
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_PROCESSES = Path("/proc/self/ns/pid")


@contextlib.contextmanager
def folder_lock(folder: str | Path, *, name: str = "", shard: bool = False) -> Iterator[None]:
    """Hold the lock of an output folder during a block.

    A folder that is missing is made, and removed at the end if nothing was written to it. Where no
    lock can be made, such as in a folder that may only be read, the block runs without one: it
    cannot write either.

    Parameters
    ----------
    folder
        Output folder.
    name
        Name of the lock. Runs with different names share the folder, as two output files in one
        folder may.
    shard
        Whether the run is one part of a cohort. It then also waits for nobody but a run of the same
        `name` and one over the whole cohort, whose name is empty.

    Raises
    ------
    InputError
        If another run holds the lock. The message names its process and machine.

    Examples
    --------
    >>> with folder_lock("out"):
    ...     sorted(path.name for path in Path("out").iterdir())
    ['.lock']
    """
    folder = Path(folder)
    path = folder / (f"{PREFIX}-{name}" if name else PREFIX)
    try:
        made = _make_folders(folder)
        own = _take(path)
    except OSError:
        yield
        return
    stop = threading.Event()
    try:
        _refuse_others(folder, path, shard=shard)
        threading.Thread(target=_renew, args=(path, stop), daemon=True).start()
        yield
    finally:
        stop.set()
        with contextlib.suppress(OSError):
            if _read(path).get("token") == own:
                path.unlink()
        for each in made:
            with contextlib.suppress(OSError):  # something was written to it
                each.rmdir()


def _make_folders(folder: Path) -> list[Path]:
    """Make a folder and those above it; return the new ones, the deepest first."""
    new = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return new


def _take(path: Path) -> str:
    """Make the lock, and return its token; take over the lock of a run that died."""
    token = uuid.uuid4().hex
    mine = {
        "process": os.getpid(),
        "started": _start_of(os.getpid()),
        "host": platform.node(),
        "machine": _machine(),
        "since": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "token": token,
    }
    temporary = path.with_name(f"{temporary_prefix(PREFIX[1:])}{token}.tmp")
    try:
        temporary.write_text(json.dumps(mine), encoding="utf-8")
        if _link(temporary, path):
            return token
        held = _read(path)
        if _is_alive(held, path, now=temporary.stat().st_mtime):
            raise _in_use(path.parent, held)
        # Of several processes that find a dead lock, one renames it. The others find it gone, or
        # find the new lock of that one, which they put back.
        dead = path.with_name(f"{temporary_prefix(PREFIX[1:])}{token}.dead.tmp")
        with contextlib.suppress(FileNotFoundError):
            path.rename(dead)
            renamed = _read(dead)
            if renamed.get("token") != held.get("token"):
                _link(dead, path)
            dead.unlink()
        if _link(temporary, path):
            return token
        raise _in_use(path.parent, _read(path))
    finally:
        temporary.unlink(missing_ok=True)


def _link(temporary: Path, path: Path) -> bool:
    """Give a complete file a second name, unless there is one; return whether it was done."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(temporary.read_text(encoding="utf-8"))
        except FileExistsError:
            return False
    return True


def _refuse_others(folder: Path, own: Path, *, shard: bool) -> None:
    """Raise InputError if a run over the whole cohort meets one over a part of it."""
    others: list[Path] = []
    if own.name == PREFIX:
        others = sorted(folder.glob(f"{PREFIX}-shard-*"))
    elif shard:
        others = [folder / PREFIX]
    now = own.stat().st_mtime
    for path in others:
        held = _read(path)
        if path != own and held and _is_alive(held, path, now=now):
            raise _in_use(folder, held)


def _in_use(folder: Path, held: dict[str, Any]) -> InputError:
    return InputError(
        f"is in use by process {held.get('process', 'unknown')} on {held.get('host', 'unknown')},"
        f" which began at {held.get('since', 'an unknown time')}",
        path=folder,
        fix="wait until it ends, or choose another --out",
    )


def _read(path: Path) -> dict[str, Any]:
    """Return the content of a lock; empty if it is gone or not readable."""
    try:
        return read_json(path, what="a lock", fix="remove the file")
    except (OSError, ValueError):  # InputError is a ValueError
        return {}


def _is_alive(held: dict[str, Any], path: Path, *, now: float) -> bool:
    """Return whether the run of a lock lives, as far as can be seen from here."""
    if held.get("machine") == _machine() and isinstance(held.get("process"), int):
        start = _start_of(held["process"])
        if start is not None:
            return start == held.get("started")
        if _PROCESSES.exists():
            return False
    try:
        return now - path.stat().st_mtime < STALE_S
    except OSError:
        return False


def _start_of(process: int) -> str | None:
    """Return the time at which a process began, in clock ticks since boot; None if unknown."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The name of the program is in brackets and may hold spaces; the start is the 20th value after.
    values = stat.rpartition(")")[2].split()
    return None if values[0] in ("Z", "X") else values[19]


def _machine() -> str:
    """Return what two processes share that can see each other: machine, boot and container."""
    parts = [platform.node()]
    with contextlib.suppress(OSError):
        parts += [_BOOT.read_text(encoding="ascii").strip(), str(_PROCESSES.readlink())]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]


def _renew(path: Path, stop: threading.Event) -> None:
    """Renew the time of a lock until the run ends."""
    while not stop.wait(RENEWED_S):
        with contextlib.suppress(OSError):
            os.utime(path)
