"""tcgn-mil download: what it asks, prints and writes, and its one-line errors."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from download_server import RELEASE, Store, fill_cohort, serve

from tcgn_mil.experiments import main as cli
from tcgn_mil.preprocessing.download.fetch_all import in_bytes

Run = Callable[..., tuple[int, str, str]]
A = "TCGA-AA-0001"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serve() as store:
        yield store


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, server: Store) -> Run:
    """Run a command on the server; gives exit code, standard output and standard error."""

    def call(*arguments: object, terminal: str | None = None) -> tuple[int, str, str]:
        stdin = io.StringIO(terminal or "")
        monkeypatch.setattr(stdin, "isatty", lambda: terminal is not None)
        monkeypatch.setattr(sys, "stdin", stdin)
        quick = ("--backoff", 0, "--attempts", 2, "--api", server.address)
        monkeypatch.setattr(sys, "argv", ["tcgn-mil", *map(str, (*arguments, *quick))])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return call


def error_of(err: str) -> str:
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, err
    assert "Traceback" not in err
    return lines[0]


def test_the_size_is_shown_and_the_files_arrive(run: Run, server: Store, tmp_path: Path) -> None:
    paths = fill_cohort(server)
    slides = len(server.contents[paths["dx1"]]) + len(server.contents[paths["dx2"]])
    counts = sum(len(server.contents[paths[name]]) for name in ("star1", "star2", "normal"))
    out = tmp_path / "coad"
    code, printed, _ = run("download", "gdc", "--project", "TCGA-COAD", "--out", out, "--yes")
    assert code == 0
    first, second, last = printed.splitlines()
    assert first == (
        f"TCGA-COAD ({RELEASE}): 2 slides ({in_bytes(slides)}), 3 expression files"
        f" ({in_bytes(counts)}), clinical data of 3 patients"
    )
    total = in_bytes(slides + counts)
    assert second == f"Together {total}; to fetch: {total}, into {out}"
    assert last == f"5 files there: {out}"
    assert json.loads((out / "download.json").read_text())["counts"]["arrived"] == 5


def test_the_second_run_keeps_what_is_there(run: Run, server: Store, tmp_path: Path) -> None:
    fill_cohort(server)
    arguments = ("download", "gdc", "--project", "TCGA-COAD", "--out", tmp_path, "--yes")
    run(*arguments)
    code, printed, _ = run(*arguments)
    assert code == 0
    assert "to fetch: 0 B" in printed
    assert "5 files kept, which were there and right" in printed


@pytest.mark.parametrize(("answer", "code", "files"), [("y\n", 0, 2), ("n\n", 1, 0)])
def test_a_terminal_is_asked(
    run: Run, server: Store, tmp_path: Path, answer: str, code: int, files: int
) -> None:
    fill_cohort(server)
    given = ("--expression", "none", "--no-clinical", "--out", tmp_path)
    ended, _, _ = run("download", "gdc", "--project", "TCGA-COAD", *given, terminal=answer)
    assert ended == code
    assert len(list(tmp_path.glob("slides/*.svs"))) == files


def test_without_a_terminal_nothing_is_fetched_unasked(
    run: Run, server: Store, tmp_path: Path
) -> None:
    fill_cohort(server)
    code, printed, err = run("download", "gdc", "--project", "TCGA-COAD", "--out", tmp_path / "o")
    assert code == 2
    assert "2 slides" in printed
    assert "--yes" in error_of(err)
    assert not (tmp_path / "o").exists()


def test_a_dry_run_needs_no_answer(run: Run, server: Store, tmp_path: Path) -> None:
    fill_cohort(server)
    given = ("--slides", "all", "--dry-run", "--out", tmp_path)
    code, printed, _ = run("download", "gdc", "--project", "TCGA-COAD", *given)
    assert code == 0
    assert "Nothing was fetched" in printed
    assert len(pd.read_csv(tmp_path / "gdc_manifest.txt", sep="\t")) == 6
    assert not list(tmp_path.rglob("*.svs"))


def test_a_file_that_cannot_be_had_ends_with_code_1(
    run: Run, server: Store, tmp_path: Path
) -> None:
    paths = fill_cohort(server)
    server.faults[paths["dx1"]] = ["forbidden"]
    code, _, err = run("download", "gdc", "--project", "TCGA-COAD", "--out", tmp_path, "--yes")
    assert code == 1
    assert f"1 file failed, listed in {tmp_path / 'failures.csv'}" in err
    rows = pd.read_csv(tmp_path / "failures.csv")
    assert rows["slide"].str.startswith(f"slides/{A}").tolist() == [True]
    assert rows["reason"].str.contains("HTTP 403").tolist() == [True]


def test_clinical_data_alone_are_no_files(run: Run, server: Store, tmp_path: Path) -> None:
    fill_cohort(server)
    given = ("--slides", "none", "--expression", "none", "--out", tmp_path)
    code, printed, _ = run("download", "gdc", "--project", "TCGA-COAD", *given)
    assert code == 0
    assert "clinical data of 3 patients" in printed
    assert (tmp_path / "clinical" / "gdc_clinical.csv").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("geo",), "unknown source 'geo'. Fix: choose one of her2st, gdc"),
        (("gdc",), "the project is not given"),
        (("gdc", "--project", "TCGA-COAT"), "the GDC has no project TCGA-COAT"),
        (("gdc", "--project", "TCGA-COAD", "--slides", "dx"), "slides"),
        (("gdc", "--project", "TCGA-COAD", "--expression", "htseq"), "expression"),
        (("gdc", "--project", "TCGA-COAD", "--cases", "absent.txt"), "no such file of patients"),
        (("gdc", "--project", "TCGA-COAD", "--workers", "0"), "workers"),
        (("gdc", "--project", "TCGA-COAD", "--timeout", "-1"), "timeout_s"),
        (("her2st", "--project", "TCGA-COAD"), "--project: has no effect on her2st"),
        (("her2st", "--no-clinical"), "--clinical: has no effect on her2st"),
    ],
)
def test_wrong_input_is_one_line(
    run: Run, server: Store, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    fill_cohort(server)
    code, _, err = run("download", *arguments, "--out", tmp_path / "out", "--yes")
    assert code == 2
    assert message in error_of(err)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", ["--backoff", "--attempts"])
def test_wrong_waits_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["tcgn-mil", "download", "her2st", option, "-1"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert option.strip("-") in error_of(capsys.readouterr().err)


@pytest.mark.parametrize("address", ["ftp://x", "api.gdc.cancer.gov"])
def test_an_address_is_one_of_http(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], address: str
) -> None:
    given = ["download", "gdc", "--project", "TCGA-COAD", "--api", address]
    monkeypatch.setattr(sys, "argv", ["tcgn-mil", *given])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert "api" in error_of(capsys.readouterr().err)


def test_no_network_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    closed = ["--api", "http://127.0.0.1:9", "--attempts", "1", "--out", str(tmp_path)]
    for source, place in ((["gdc", "--project", "TCGA-COAD"], "slides"), (["her2st"], "ST-cnts")):
        monkeypatch.setattr(sys, "argv", ["tcgn-mil", "download", *source, *closed])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 2
        message = error_of(capsys.readouterr().err)
        assert "cannot be reached (no connection)" in message
        assert "https://" in message
        assert place in message
