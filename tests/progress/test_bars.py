"""Progress: a bar on a terminal, few lines in a log, and nothing nested."""

from __future__ import annotations

import io
import logging
import time

import pytest

from tcgn_mil.progress import LOGGER, Progress, progress_line, without_progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_gets_whole_lines_with_failures_and_the_time_to_go() -> None:
    log = io.StringIO()
    bar = Progress(range(4), desc="encode", unit="slide", mininterval=0, delay=0, file=log)
    for number in bar:
        bar.failed += number == 1
    assert "\r" not in log.getvalue()
    last = log.getvalue().splitlines()[-1]
    assert last.startswith("encode: 4 of 4 slides, 1 failed, ")
    assert "to go" in log.getvalue()


def test_a_notebook_gets_one_bar_that_is_redrawn() -> None:
    Output = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})
    screen = Output()
    for _ in Progress(range(3), desc="encode", unit="slide", delay=0, file=screen, ncols=60):
        pass
    assert "encode: 100%" in screen.getvalue()
    assert screen.getvalue().count("\n") == 1
    assert "to go" not in screen.getvalue()


def test_work_inside_other_work_has_no_bar_of_its_own() -> None:
    screen = Terminal()
    for _ in Progress(range(2), desc="folds", mininterval=0, delay=0, file=screen, ncols=60):
        for _ in Progress(range(2), desc="epochs", mininterval=0, delay=0, file=screen, ncols=60):
            pass
    assert "folds" in screen.getvalue()
    assert "epochs" not in screen.getvalue()


def test_the_work_on_a_single_item_is_shown_instead_of_the_item() -> None:
    screen = Terminal()
    for _ in Progress(range(1), desc="slides", mininterval=0, delay=0, file=screen, ncols=60):
        for _ in Progress(range(2), desc="batches", mininterval=0, delay=0, file=screen, ncols=60):
            pass
    assert "batches: 100%" in screen.getvalue()
    assert "slides: 100%" not in screen.getvalue()


def test_without_progress_nothing_is_shown_but_the_log_of_the_run_has_the_numbers(
    caplog: pytest.LogCaptureFixture,
) -> None:
    screen = Terminal()
    with without_progress(), caplog.at_level(logging.INFO, logger=LOGGER.name):
        for _ in Progress(range(3), desc="tile", unit="slide", mininterval=0, delay=0, file=screen):
            pass
    assert screen.getvalue() == ""
    assert caplog.records[-1].facts == {"work": "tile", "done": 3, "total": 3, "failed": 0}


def test_a_loop_that_failed_leaves_the_next_bar_alone() -> None:
    log = io.StringIO()

    def fail() -> None:
        for _ in Progress(range(2), desc="first", mininterval=0, delay=0, file=log):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    for _ in Progress(range(2), desc="second", mininterval=0, delay=0, file=log):
        pass
    assert "second: 2 of 2" in log.getvalue()


def test_a_line_without_a_total_or_a_rate() -> None:
    assert progress_line("x", done=0, total=None, unit="file", elapsed_s=0) == "x: 0 files"


def test_a_log_gets_a_line_now_and_then_and_short_work_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tcgn_mil.progress.bars._BETWEEN_LINES_S", 0.2)
    log = io.StringIO()
    for _ in Progress(range(40), desc="slides", file=log):
        time.sleep(0.015)
    for _ in Progress(range(2), desc="short", file=log):
        pass
    assert 1 <= log.getvalue().count("slides: ") <= 5, log.getvalue()
    assert "short" not in log.getvalue()
