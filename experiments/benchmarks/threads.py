"""Measure with the threads of the console command.

A benchmark imports torch when it starts, and how torch's threads wait cannot be changed after that.
"""

from __future__ import annotations

import os
import sys

from tcgn_mil.experiments.command_line.process import prepare_threads

_WAITING = "OMP_WAIT_POLICY"


def use_threads_of_command() -> None:
    """Start this program again, unless its threads wait as those of the command or as asked for."""
    if _WAITING not in os.environ:
        prepare_threads()
        os.execv(sys.executable, sys.orig_argv)
