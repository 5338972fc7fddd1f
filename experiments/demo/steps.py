"""Run the steps of the demo, and record the command and the time of each."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import yaml

from tcgn_mil.config import as_plain, differing_keys
from tcgn_mil.errors import InputError
from tcgn_mil.io.atomic import write_csv

Result = TypeVar("Result")


def set_options(config: Any, default: Any) -> str:
    """Return the options ``--set`` that make a config from the defaults of its class."""
    values, defaults = as_plain(config), as_plain(default)
    options = []
    for key in differing_keys(defaults, values):
        value: Any = values
        for part in key.split("."):
            value = value[part]
        quoted = json.dumps(value, separators=(",", ":"))
        plain = quoted.replace('"', "")
        # Quotes are left out where YAML reads the same value without them.
        text = plain if yaml.safe_load(plain) == value else quoted
        options.append(f"--set {shlex.quote(f'{key}={text}')}")
    return " ".join(options)


class Steps:
    """Runs steps, and keeps their commands and times in a CSV file.

    Parameters
    ----------
    path
        The file. A demo that is run again skips what is finished, so that a step keeps the longest
        time that it took in any of the runs.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seconds: dict[str, float] = {}
        self.refused: dict[str, str] = {}
        self._before: dict[str, float] = {}
        if path.is_file():
            table = pd.read_csv(path)
            self._before = dict(zip(table["command"], table["seconds"], strict=True))

    def do(self, command: str, action: Callable[[], Result]) -> Result:
        """Run one step, after printing the command that does the same."""
        print(f"\n$ {command}", flush=True)
        start = time.perf_counter()
        result = action()
        self._record(command, time.perf_counter() - start)
        return result

    def do_or_refuse(self, command: str, action: Callable[[], Any]) -> None:
        """Run one step, and go on without it if it refuses the cohort.

        Survival analysis refuses that of the preset ``test``, which has too few patients. The table
        of the steps then gives the reason.
        """
        try:
            self.do(command, action)
        except InputError as error:
            print(f"refused: {error}", flush=True)
            self.refused[command] = str(error)
            self._record(command, 0.0)

    def _record(self, command: str, seconds: float) -> None:
        self.seconds[command] = max(round(seconds, 1), self._before.get(command, 0.0))
        write_csv(self.path, self.table())

    def table(self) -> pd.DataFrame:
        """Return the steps so far: command, seconds, and the reason of a refusal, if any."""
        table = pd.DataFrame(self.seconds.items(), columns=["command", "seconds"])
        return table.assign(refused=[self.refused.get(name, "") for name in table["command"]])
