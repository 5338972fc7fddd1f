"""Workers that are actors on the machines of a Ray cluster, one a GPU or one a core.

An actor opens its encoder once and keeps it. The slides and the output folder must be on a disk
that all machines see under the same path. A machine that does not see them would otherwise write
files that nobody finds, so each actor looks for both before it works, and takes no more slides if
one is missing.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import socket
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.engines.crew import Ended, Opener
from tcgn_mil.extras import need_extra
from tcgn_mil.progress import tell
from tcgn_mil.text import counted

ANSWER_S = 5.0  # a head node that does not answer within this time is not there
PLACE_S = 120.0  # an actor that has no place within this time gets none
_POLL_S = 2.0


class Unfit(NamedTuple):
    """Answer of an actor on a machine that does not see the files.

    Attributes
    ----------
    reason
        What is missing, and on which machine.
    """

    reason: str


class Workshop:
    """The work of an actor: it opens its function with the first item, and keeps it.

    Parameters
    ----------
    opener
        Prepares a worker. It has a method `input_of` that gives the path of an item.
    device
        Name of the device.
    marker
        File in the output folder, which the machine must see.
    started_in
        Folder in which the command was started. Relative paths begin there, and not in the folder
        in which Ray was started, where nobody would find the files.
    """

    def __init__(self, opener: Opener, device: str, marker: Path, started_in: Path) -> None:
        os.environ["TQDM_DISABLE"] = "1"
        # A machine without this folder can work on absolute paths; others it does not see.
        with contextlib.suppress(OSError):
            os.chdir(started_in)
        self._opener, self._device, self._marker = opener, device, marker
        self._work: Callable[[Any], Any] | None = None

    def is_placed(self) -> bool:
        """Return True, as soon as the actor has a place on a machine."""
        return True

    def work(self, item: Any, *, expected: bool) -> Any:
        """Work on an item; `expected` says that the machine of the command sees its file."""
        if not self._marker.exists():
            return Unfit(f"the machine {platform.node()} does not see {self._marker.parent}")
        path = self._opener.input_of(item)  # type: ignore[attr-defined]
        if expected and not Path(path).exists():
            return Unfit(f"the machine {platform.node()} does not see {path}")
        if self._work is None:
            self._work = self._opener(self._device)
        return self._work(item)


class RayCrew:
    """Actors of a Ray cluster; see :class:`~.crew.Crew`.

    Parameters
    ----------
    opener
        Prepares a worker.
    address
        ``auto``, or the address of the head node as ``host:port``.
    out_dir
        Folder that the actors write to.
    most
        No more actors than this are of use.
    asked
        Names of the devices asked for, all ``cpu``; if there is none, all that is free is used.
    gpu
        Whether an actor takes a GPU, where the cluster has any.

    Raises
    ------
    InputError
        If Ray is not installed, the address does not answer, or too little of the cluster is free.
    """

    def __init__(
        self,
        opener: Opener,
        address: str,
        out_dir: Path,
        *,
        most: int,
        asked: Sequence[str] = (),
        gpu: bool = True,
    ) -> None:
        self._ray = connect(address)
        self._opener = opener
        out_dir = Path(out_dir).resolve()
        out_dir.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".ray-", dir=out_dir)
        os.close(handle)
        self._marker = Path(name)
        try:
            free = self._ray.available_resources()
            self._on_gpu = gpu and not asked and self._ray.cluster_resources().get("GPU", 0) >= 1
            kind = "GPU" if self._on_gpu else "CPU"
            count = int(free.get(kind, 0))
            if count < max(1, len(asked)):
                wanted = counted(max(1, len(asked)), f"free {kind}")
                raise InputError(
                    f"the Ray cluster has {count} free, and this run needs {wanted}",
                    fix="wait until other jobs have ended, or give a smaller --devices cpu:N",
                )
            self.size = min(most, len(asked) or count)
            self._actors = [self._actor() for _ in range(self.size)]
        except BaseException:
            self._close()
            raise
        self._running: dict[Any, int] = {}
        self._waiting_since: dict[int, float] = {}
        self._placed: dict[int, Any] = {}

    def _actor(self) -> Any:
        resources = {"num_gpus": 1} if self._on_gpu else {"num_cpus": 1}
        device = "cuda" if self._on_gpu else "cpu"
        return (
            self._ray.remote(Workshop)
            .options(**resources)
            .remote(self._opener, device, self._marker, Path.cwd())
        )

    def start(self, worker: int, item: Any) -> None:
        """Give an item to an actor."""
        actor = self._actors[worker]
        if worker not in self._placed:
            self._placed[worker] = actor.is_placed.remote()
            self._waiting_since[worker] = time.monotonic()
        path = self._opener.input_of(item)  # type: ignore[attr-defined]
        call = actor.work.remote(item, expected=Path(path).exists())
        self._running[call] = worker

    def wait(self) -> list[Ended]:
        """Wait until at least one actor has ended."""
        while True:
            done, _ = self._ray.wait(list(self._running), timeout=_POLL_S)
            if done:
                return [self._end(call) for call in done]
            if late := self._late():
                return late

    def _end(self, call: Any) -> Ended:
        worker = self._running.pop(call)
        self._waiting_since.pop(worker, None)
        try:
            result = self._ray.get(call)
        except self._ray.exceptions.RayActorError:
            return Ended(worker, died=True)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause if isinstance(error.cause, InputError) else error from None
        if isinstance(result, Unfit):
            tell(f"a worker gets no more slides: {result.reason}")
            return Ended(worker, unfit=result.reason)
        return Ended(worker, result)

    def _late(self) -> list[Ended]:
        """Give up actors that have waited too long for a place, as after the loss of a machine."""
        late = []
        for call, worker in list(self._running.items()):
            since = self._waiting_since.get(worker)
            if since is None or time.monotonic() - since < PLACE_S:
                continue
            if self._ray.wait([self._placed[worker]], timeout=0)[0]:
                del self._waiting_since[worker]
                continue
            del self._running[call]
            self._ray.kill(self._actors[worker])
            late.append(Ended(worker, unfit="the Ray cluster has no place for another actor"))
        return late

    def replace(self, worker: int) -> bool:
        """Start another actor in the place of one that died."""
        self._placed.pop(worker, None)
        self._actors[worker] = self._actor()
        return True

    def __enter__(self) -> RayCrew:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def _close(self) -> None:
        self._marker.unlink(missing_ok=True)
        with contextlib.suppress(Exception):  # the cluster may be gone, and takes its actors along
            for actor in getattr(self, "_actors", []):
                self._ray.kill(actor)
        self._ray.shutdown()


def connect(address: str) -> Any:
    """Connect to a Ray cluster, and return the module `ray`.

    Raises
    ------
    InputError
        If Ray is not installed, or there is no cluster at the address.
    """
    need_extra("ray", "--engine ray")
    import ray
    import ray.exceptions

    if address != "auto":
        _check_answers(address)
    try:
        ray.init(
            address=address, log_to_driver=False, logging_level=logging.ERROR, namespace="tcgn-mil"
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        said = " ".join(str(error).split())[:200]
        raise InputError(
            f"--address {address}: no Ray cluster answers ({said})",
            fix="start one by: ray start --head, or give the address of its head node",
        ) from error
    return ray


def _check_answers(address: str) -> None:
    """Refuse an address at once that Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise InputError(
            f"--address {address} is not host:port", fix="give for example --address head:6379"
        )
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER_S).close()
    except OSError as error:
        raise InputError(
            f"--address {address}: no Ray cluster answers ({error})",
            fix="start one by: ray start --head, or give the address of its head node",
        ) from error
