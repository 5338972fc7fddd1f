"""Errors are one line, and can be passed between processes."""

from __future__ import annotations

import pickle

from tcgn_mil.errors import InputError


def test_errors_read_as_one_line_and_cross_processes() -> None:
    error = InputError("no mpp\n in it.", path="a.svs", fix="give --mpp")
    assert str(error) == "a.svs: no mpp in it. Fix: give --mpp"
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - what multiprocessing does with a worker's error
    assert (str(again), again.fix) == (str(error), "give --mpp")
