"""Run ``tcgn-mil explain`` in the process of the tests."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tcgn_mil.experiments import main as cli


class Answer(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Run ``tcgn-mil explain`` in this process."""

    def explain_with(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["tcgn-mil", "explain", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return Answer(ended.value.code or 0, captured.out, captured.err)

    return explain_with


@pytest.fixture(scope="module")
def slide_arguments(demo: Path) -> list[object]:
    return [
        "--encoder",
        demo / "encoder" / "encoder.safetensors",
        "--model",
        demo / "slide-model",
        "--features",
        demo / "features",
        "--tiles",
        demo / "tiles",
        "--slides",
        demo / "cohort" / "slides.csv",
        "--steps",
        2,
        "--top",
        2,
    ]
