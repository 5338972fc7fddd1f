"""Choice of the workers of a cohort: this process, one process a device, or a cluster of Ray."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.command_line.process import usable_cores
from tcgn_mil.experiments.engines.crew import Opener, share_out
from tcgn_mil.experiments.engines.processes import ProcessCrew
from tcgn_mil.io.failures import Failure
from tcgn_mil.preprocessing.parallel import Outcome
from tcgn_mil.preprocessing.slides.table import SlideEntry
from tcgn_mil.preprocessing.tiles.cohort import TileWork
from tcgn_mil.text import counted, duplicates, preview

LOCAL, RAY = "local", "ray"


@dataclass(frozen=True)
class TileOpener:
    """Prepares a worker that tiles slides, for which there is nothing to open."""

    work: TileWork

    def input_of(self, entry: SlideEntry) -> Path:
        """Return the file of a slide."""
        return self.work.input_of(entry)

    def __call__(self, device: str) -> TileWork:
        """Return the function that tiles a slide."""
        return self.work


@dataclass(frozen=True)
class Engine:
    """Workers to use.

    Attributes
    ----------
    name
        ``local`` or ``ray``.
    devices
        Names of the devices, one a worker. If there is none, this process works itself, or, with
        Ray, every GPU of the cluster, or every core if it has no GPU.
    address
        Address of the Ray cluster, or ``auto``.
    """

    name: str = LOCAL
    devices: tuple[str, ...] = ()
    address: str = "auto"

    @property
    def is_this_process(self) -> bool:
        """Whether the work is done in this process, without workers."""
        return self.name == LOCAL and not self.devices

    def run_tiling(
        self, work: TileWork, entries: Sequence[SlideEntry]
    ) -> Iterator[Outcome[Failure | None]]:
        """Tile slides by workers that need no GPU."""
        return self.run(TileOpener(work), entries, out_dir=work.out_dir, uses_gpu=False)

    def run(
        self, opener: Opener, items: Sequence[Any], *, out_dir: Path, uses_gpu: bool
    ) -> Iterator[Outcome[Any]]:
        """Work on items by workers.

        Parameters
        ----------
        opener
            Prepares a worker for its device.
        items
            One argument a call.
        out_dir
            Folder that the workers write to.
        uses_gpu
            Whether a worker needs a GPU where there is one.

        Yields
        ------
        Outcome
            One for each item, in any order.
        """
        if not items:
            return
        if self.name == RAY:
            from tcgn_mil.experiments.engines.ray_cluster import RayCrew

            with RayCrew(
                opener, self.address, out_dir, most=len(items), asked=self.devices, gpu=uses_gpu
            ) as actors:
                yield from share_out(items, actors)
            return
        with ProcessCrew(opener, self.devices[: len(items)]) as processes:
            yield from share_out(items, processes)


def choose_engine(
    name: str = LOCAL, address: str | None = None, devices: str | None = None
) -> Engine:
    """Make an engine from options of the command line.

    Parameters
    ----------
    name
        ``local`` or ``ray``.
    address
        Address of the Ray cluster; None for ``auto``.
    devices
        Devices separated by commas, for example ``0,1``, ``cuda:0,cuda:1`` or ``cpu:2``.

    Raises
    ------
    InputError
        If there is no such engine, an option has no effect, or there are fewer devices.
    """
    if name not in (LOCAL, RAY):
        raise InputError(f"--engine {name} is unknown", fix="choose local or ray")
    if name == LOCAL and address is not None:
        raise InputError(
            "--address without --engine ray would have no effect",
            fix="give --engine ray too, or remove --address",
        )
    return Engine(name, () if devices is None else parse_devices(devices, name), address or "auto")


def parse_devices(text: str, engine: str = LOCAL) -> tuple[str, ...]:
    """Read the names of devices, and check that this machine has them.

    Returns
    -------
    One name of a device for each worker, such as ``("cuda:0", "cuda:1")`` or ``("cpu", "cpu")``.

    Raises
    ------
    InputError
        If the text names no device, a device twice, or one that is not there.

    Examples
    --------
    >>> parse_devices("cpu:1")
    ('cpu',)
    """
    kind, _, count = text.strip().partition(":")
    if kind == "cpu" and (count.isdecimal() or not count):
        processes = int(count or 1)
        if not processes:
            raise InputError("--devices cpu:0 is no device", fix="give cpu:1 or more")
        if engine == LOCAL and processes > usable_cores():
            raise InputError(
                f"--devices {text}: this process may use {counted(usable_cores(), 'core')}",
                fix=f"give --devices cpu:{usable_cores()} or fewer",
            )
        return ("cpu",) * processes
    if engine == RAY:
        raise InputError(
            f"--devices {text} with --engine ray: Ray itself chooses the GPUs",
            fix="remove --devices to use all GPUs of the cluster, or give cpu:N for N cores",
        )
    names = [name.strip() for name in text.split(",")]
    names = [f"cuda:{name}" if name.isdecimal() else name for name in names]
    if repeated := duplicates(names):
        raise InputError(f"--devices names {preview(repeated)} twice", fix="name each device once")
    from tcgn_mil.devices import resolve_device  # loads torch

    for name in names:
        if not name.startswith("cuda:"):
            raise InputError(
                f"--devices {text}: {name!r} is not the number of a GPU",
                fix="give numbers such as 0,1, or cpu:2 for two processes on the CPU",
            )
        resolve_device(name)
    return tuple(names)
