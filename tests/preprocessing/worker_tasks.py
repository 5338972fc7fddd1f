"""Tasks for the tests of parallel work, in a module of their own that spawned processes import."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import cv2
from threadpoolctl import threadpool_info

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.slides.readers.base import Slide
from tcgn_mil.preprocessing.slides.table import SlideEntry


class DeadlyEntry(SlideEntry):
    """A slide that kills the process that opens it, as the out-of-memory killer does."""

    def open(self) -> Slide:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def square(number: int) -> int:
    if number < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def die_once(marker: Path) -> str:
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGSEGV)
    return marker.name


def refuse(number: int) -> int:
    raise InputError(f"no {number}", fix="give another")


def threads(_: int) -> tuple[int, list[int]]:
    return cv2.getNumThreads(), [library["num_threads"] for library in threadpool_info()]


def sleep(marker: Path) -> None:
    marker.touch()
    time.sleep(60)
