"""Let one run at a time write to an output folder."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tcgn_mil.resume.folder_lock import folder_lock
from tcgn_mil.types.processes import Processes
from tcgn_mil.types.shards import Shard


def one_at_a_time(command: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap the function of a verb so that it holds the lock of its ``--out`` while it runs.

    ``--out`` may also be a file; the lock is then one of that file in its folder. Runs with
    different values of ``--shard`` share a folder.

    Parameters
    ----------
    command
        Function with a parameter `out`, and perhaps `shard` (text such as ``1/4``).

    Raises
    ------
    InputError
        When the verb is called, if another run holds the lock or `shard` is no share.

    Examples
    --------
    >>> @one_at_a_time
    ... def count(out: Path) -> int:
    ...     return len(list(out.iterdir()))
    >>> count(out=Path("counted"))  # the lock
    1
    """

    @functools.wraps(command)
    def locked(**options: Any) -> Any:
        # Such a call writes nothing, also where another run is at work. Of the processes of
        # torchrun the first one writes, and holds the lock.
        writes_nothing = options.get("show_config") or options.get("dry_run")
        if writes_nothing or not Processes.launched().is_first:
            return command(**options)
        out, shard = Path(options["out"]), options.get("shard")
        if out.suffix in _FILES and not out.is_dir():
            with folder_lock(out.parent, name=f"file-{out.name}"):
                return command(**options)
        # 01/30 is the share 1/30, and has its lock.
        share = None if shard is None else Shard.parse(str(shard))
        name = "" if share is None else f"shard-{share.number}-of-{share.count}"
        with folder_lock(out, name=name, shard=share is not None):
            return command(**options)

    return locked


_FILES = frozenset({".csv", ".h5ad", ".html"})
