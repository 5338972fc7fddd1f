"""Blocks of the documentation that are marked ``run`` do run, on a finished demo.

The blocks of a page are run in their order in one folder. Pages that name ``demo`` find there the
folder that ``tcgn-mil demo --preset test`` writes. Pages with a block of Python make their data
themselves. Other pages find slides, and the tables of :mod:`stand_ins`. A block that is marked
``run fails`` has one command, which has to print the error that the next block shows.

    pytest -n0 docs/checks

``TCGN_MIL_DEMO`` names a finished demo; without it, the demo is made first. This takes minutes, so
that it is a step of ``.ci/run`` and no part of the tests.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import stand_ins
from documented_commands import Block, blocks_of, commands_of, documentation_pages

from tcgn_mil.experiments import main as command_line
from tcgn_mil.experiments.demo.run import run_demo


def pages() -> list[Path]:
    """Return the pages that have a block to run."""
    return [
        page
        for page in documentation_pages()
        if any("run" in block.words for block in blocks_of(page))
    ]


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if "TCGN_MIL_DEMO" in os.environ:
        return Path(os.environ["TCGN_MIL_DEMO"]).resolve()
    out = tmp_path_factory.mktemp("made") / "demo"
    run_demo(out, preset_name="test")
    return out


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        stand_ins.make_study(folder)
    return folder


@pytest.fixture
def folder(
    page: Path,
    demo: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Path:
    """Make the folder in which a page is read."""
    if "demo/" in page.read_text(encoding="utf-8"):
        (tmp_path / "demo").symlink_to(demo)
    elif not any({block.language, *block.words} >= {"python", "run"} for block in blocks_of(page)):
        shutil.copytree(request.getfixturevalue("study"), tmp_path, dirs_exist_ok=True)
        (tmp_path / "slides").symlink_to(demo / "cohort" / "slides")
    (tmp_path / "photos").mkdir()
    cv2.imwrite(str(tmp_path / "photos" / "photo.png"), np.full((600, 600, 3), 200, np.uint8))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


def run(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """Run a command in this process, and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["tcgn-mil", *arguments])
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    return int(ended.value.code or 0)


def one_line(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.stem)
def test_blocks_run_in_their_order(
    page: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    blocks: list[Block] = blocks_of(page)
    for block, following in zip(blocks, [*blocks[1:], None], strict=True):
        if "run" not in block.words:
            continue
        if block.language == "python":
            exec(compile(block.text, block.name, "exec"), {"__name__": "__main__"})
            continue
        commands = list(commands_of(block.text))
        assert len(commands) == block.text.count("tcgn-mil "), f"{block.name}: not all are found"
        for arguments in commands:
            capsys.readouterr()
            code = run(arguments, monkeypatch)
            printed = one_line(capsys.readouterr().err)
            if "fails" in block.words:
                assert code == 2, f"{block.name} does not fail"
                assert following is not None
                assert one_line(following.text) in printed, f"{block.name} prints {printed}"
            else:
                assert code == 0, f"{block.name} tcgn-mil {' '.join(arguments)}: {printed[-2000:]}"
