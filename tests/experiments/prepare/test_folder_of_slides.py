"""bulk and clinical tell which files of a folder of slides they leave out."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tcgn_mil.experiments.main import main
from tcgn_mil.experiments.report.losses import cohort_section

A, B = "TCGA-AA-0001", "TCGA-BB-0002"


@pytest.fixture
def slides(tmp_path: Path) -> Path:
    folder = tmp_path / "slides"
    (folder / "below").mkdir(parents=True)
    (folder / f"{A}-01Z-00-DX1.svs").touch()
    (folder / "notes.txt").touch()
    (folder / "below" / f"{B}-01Z-00-DX1.svs").touch()
    return folder


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["tcgn-mil", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_bulk_counts_and_names_them(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    slides: Path,
    tmp_path: Path,
) -> None:
    table, out = tmp_path / "bulk.csv", tmp_path / "out" / "cohort.h5ad"
    table.write_text(f"id,TP53,CD3D\n{A}-01A,1,2\n{B}-01A,3,4\n")
    given = ("bulk", table, "--unit", "tpm-subset", "--slides", slides, "--out", out)
    assert run(monkeypatch, *given) == 0
    printed = capsys.readouterr()
    assert "1 of 1 slides" in printed.out
    assert "1 left out: notes.txt (has the suffix of no slide format)" in printed.err
    assert f"below/{B}-01Z-00-DX1.svs (lies in a folder below" in printed.err
    made = json.loads(out.with_name("join_summary.json").read_text())
    assert list(made["files_left_out"].values()) == [1, 1]
    section = cohort_section([out.parent], [])
    assert section is not None
    assert "has the suffix of no slide format" in str(section.tables)
    assert run(monkeypatch, *given, "--recursive") == 0
    assert "2 of 2 slides" in capsys.readouterr().out


def test_clinical_counts_and_names_them(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    slides: Path,
    tmp_path: Path,
) -> None:
    table = tmp_path / "table.csv"
    table.write_text(f"case_id,survival_months,censorship\n{A},10,0\n{B},20,0\n")
    given = ("clinical", table, "--months", 30, "--slides", slides, "--out", tmp_path / "c.csv")
    assert run(monkeypatch, *given, "--allow-unusual") == 0
    printed = capsys.readouterr()
    assert "1 patients" in printed.out
    assert "notes.txt (has the suffix of no slide format)" in printed.err
