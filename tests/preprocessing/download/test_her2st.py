"""The her2st sections: the list of the commit, the layout, and who reads it afterwards."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from download_server import Store

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.download import her2st
from tcgn_mil.preprocessing.download.config import Her2stConfig, TransferConfig
from tcgn_mil.preprocessing.download.fetch_all import Fetched
from tcgn_mil.preprocessing.download.her2st import (
    COMMIT,
    download_her2st,
    her2st_files,
    list_her2st,
    plan_her2st,
)
from tcgn_mil.preprocessing.sections.readers.her2st import find_section_files, read_section


def offer(server: Store, root: Path, listed: Path, *, sized: bool) -> None:
    """Serve the files of a folder, and list them as the shipped list does."""
    rows = []
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        name, content = path.relative_to(root).as_posix(), path.read_bytes()
        blob = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
        rows.append([name, len(content) if sized else "", blob])
        server.contents[f"/{COMMIT}/data/{name}"] = content
    with listed.open("w", newline="") as file:
        csv.writer(file).writerows([["path", "bytes", "git_blob"], *rows])


@pytest.fixture
def offered(
    server: Store,
    make_her2st: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A folder with two sections, which the server has as well."""
    root = make_her2st("A1", "B2")
    offer(server, root, tmp_path / "list.csv", sized=False)
    monkeypatch.setattr(her2st, "LIST", str(tmp_path / "list.csv"))
    return root


def download(server: Store, out: Path, quick: TransferConfig) -> Fetched:
    plan = plan_her2st(Her2stConfig(address=server.address), out, quick)
    return download_her2st(plan, out, quick)


def test_the_list_names_three_files_of_each_section() -> None:
    files = her2st_files(Her2stConfig())
    sections: dict[str, set[str]] = {}
    for file in files:
        sections.setdefault(her2st._section(file.name), set()).add(file.name.split("/")[0])
        assert re.fullmatch(r"[0-9a-f]{40}", file.checksum.value)
    assert len(sections) == 36
    assert set(map(frozenset, sections.values())) == {
        frozenset({"ST-cnts", "ST-imgs", "ST-spotfiles"})
    }
    assert files[0].url == (
        "https://raw.githubusercontent.com/almaan/her2st/"
        "85df7411b987a7dec3feff9718b869a7a82091ec/data/ST-cnts/A1.tsv.gz"
    )


@pytest.mark.realdata
def test_the_list_fits_the_real_files(real_data: Path) -> None:
    listed = {file.name: file for file in her2st_files(Her2stConfig())}
    folder = real_data / "her2st"
    real = [
        path.relative_to(folder).as_posix()
        for part in ("ST-cnts", "ST-imgs", "ST-spotfiles")
        for path in sorted((folder / part).rglob("*.*"))
        if path.is_file()
    ]
    assert len(real) == 15
    assert all(listed[name].is_at(folder / name) for name in real)


def test_the_folder_is_read_by_spots(
    server: Store, offered: Path, quick: TransferConfig, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    counts = f"/{COMMIT}/data/ST-cnts/A1.tsv.gz"
    server.faults[counts] = ["busy"]
    done = download(server, out, quick)
    assert (len(done.fetched), done.failures) == (6, [])
    for path in offered.rglob("*.*"):
        if path.is_file():
            assert (out / path.relative_to(offered)).read_bytes() == path.read_bytes()
    sections = find_section_files(out)
    assert [(files.section, files.patient) for files in sections] == [("A1", "A"), ("B2", "B")]
    section = read_section(sections[0])
    assert section.counts.shape == (29, 8)
    assert section.mpp == pytest.approx(5.0, rel=1e-3)  # 40 px are 200 µm
    record = json.loads((out / "download.json").read_text())
    assert (record["name"], record["counts"]["sections"]) == (COMMIT, 2)
    assert record["counts"]["bytes"] == sum(
        path.stat().st_size for path in offered.rglob("*.*") if path.is_file()
    )


def test_the_second_run_fetches_nothing_and_needs_no_network(
    server: Store, offered: Path, quick: TransferConfig, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    download(server, out, quick)
    plan = plan_her2st(Her2stConfig(address="http://127.0.0.1:9"), out, quick)
    done = download_her2st(plan, out, quick)
    assert (len(done.fetched), len(done.kept)) == (0, 6)


def test_files_that_were_put_there_by_hand_are_checked(
    server: Store, offered: Path, quick: TransferConfig, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(offered, out)
    (out / "ST-spotfiles" / "A1_selection.tsv").write_text("edited")
    done = download(server, out, quick)
    assert done.fetched == ["ST-spotfiles/A1_selection.tsv"]
    original = offered / "ST-spotfiles" / "A1_selection.tsv"
    assert (out / done.fetched[0]).read_bytes() == original.read_bytes()


def test_no_network_says_what_to_fetch_and_where_to_put_it(
    offered: Path, quick: TransferConfig, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="cannot be reached") as caught:
        plan_her2st(Her2stConfig(address="http://127.0.0.1:9"), tmp_path / "out", quick)
    fix = str(caught.value.fix)
    assert "https://github.com/almaan/her2st" in fix
    assert str(tmp_path / "out") in fix


def test_a_dry_run_writes_the_record_alone(
    server: Store, offered: Path, quick: TransferConfig, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    plan = plan_her2st(Her2stConfig(address=server.address), out, quick)
    list_her2st(plan, out)
    assert [path.name for path in out.rglob("*")] == ["download.json"]
    assert all(file.size is not None for file in plan.files)
    assert {method for method, _, _ in server.requests} == {"HEAD"}
