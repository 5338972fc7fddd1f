"""tcgn-mil report: the page over finished runs, in text and in a browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.run_report import find_runs, write_run_report


@pytest.fixture(scope="module")
def page(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run_report([demo], tmp_path_factory.mktemp("page") / "report.html", title="A <b>cohort</b>")


def test_the_page_holds_what_the_runs_wrote(demo: Path, page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "A &lt;b&gt;cohort&lt;/b&gt;" in text
    assert not re.findall(r"""(?:src|href)=["'](?!data:)""", text)  # nothing from elsewhere
    headings = re.findall(r"<h2>(.*?)</h2>", text)
    assert headings[:3] == ["The cohort", "Bulk expression from slides, out of fold", "Predictions and maps"]
    assert headings[-2:] == ["Methods", "What made this report"]
    genes = pd.read_csv(demo / "slide-model" / "genes.csv")["gene"]
    assert all(f"<td>{gene}</td>" in text for gene in genes)
    config = json.loads((demo / "slide-model" / "run.json").read_text(encoding="utf-8"))["config"]
    assert f"at a peak rate of {config['training']['lr']:g}" in text
    assert text.count(";base64,") >= 6
    assert page.stat().st_size < 15 * 2**20


def test_unfinished_runs_and_other_folders_are_left_out(demo: Path, tmp_path: Path) -> None:
    assert {run.kind for run in find_runs(demo)} >= {"finetune", "predict", "pretrain"}
    shutil.copytree(demo / "slide-model", tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    assert find_runs(tmp_path) == []
    with pytest.raises(InputError, match="holds no finished run of finetune") as told:
        write_run_report([tmp_path], tmp_path / "report.html", title="x")
    assert told.value.fix
    with pytest.raises(InputError, match="no such folder"):
        write_run_report([tmp_path / "gone"], tmp_path / "report.html", title="x")


@pytest.mark.browser
def test_a_search_filters_and_the_page_has_no_errors(chromium: str, demo: Path, page: Path, tmp_path: Path) -> None:
    gene = pd.read_csv(demo / "slide-model" / "genes.csv")["gene"][3]
    script = (
        "window.onerror = message => document.body.append('PAGE ' + 'ERROR ' + message);"
        "const boxes = [...document.querySelectorAll('input[type=search]')];"
        "const box = boxes.find(one => one.ariaLabel.includes('Per gene'));"
        f"box.value = '{gene.lower()}'; box.dispatchEvent(new Event('input'));"
        "document.querySelectorAll('th')[1].click();"
        "const table = box.closest('label').nextElementSibling.querySelector('table');"
        "document.title = 'shown: ' + [...table.tBodies[0].rows].filter(row => !row.hidden)"
        ".map(row => row.cells[0].textContent).join(',');"
    )
    copy = tmp_path / "page.html"
    copy.write_text(page.read_text(encoding="utf-8").replace("</body>", f"<script>{script}</script></body>"), "utf-8")
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'user'}",
               "--enable-logging=stderr", "--dump-dom", copy.as_uri()]  # fmt: skip
    found = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert f"<title>shown: {gene}</title>" in found.stdout
    assert "PAGE ERROR" not in found.stdout
    assert "Uncaught" not in found.stderr
