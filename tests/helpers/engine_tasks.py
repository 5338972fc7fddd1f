"""Tasks for the tests of engines, in a module of their own that fresh processes import."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tcgn_mil.errors import InputError


@dataclass(frozen=True)
class Doubler:
    """Doubles numbers, and writes the name of its process into a folder when it is opened.

    A negative number kills the process; zero kills it once; more than 99 is refused.
    """

    folder: Path

    def input_of(self, number: int) -> Path:
        """Return a path that machines with this variable do not see."""
        return Path("/nowhere") if "WITHOUT_SLIDES" in os.environ else self.folder

    def __call__(self, device: str) -> Callable[[int], tuple[str, int]]:
        if device == "broken":
            raise InputError("the encoder does not open", fix="give another")
        (self.folder / f"opened-{os.getpid()}").touch()
        return lambda number: (device, self.double(number))

    def double(self, number: int) -> int:
        if number == 0 and not (self.folder / "died").exists():
            (self.folder / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if number < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        if number > 99:
            raise InputError("too large", fix="give less")
        return 2 * number
