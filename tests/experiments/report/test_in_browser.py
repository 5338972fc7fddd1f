"""Tests of the report in a browser: search, sorting, the scatter plot, keys, and print."""

from __future__ import annotations

import html
import json
import subprocess
from pathlib import Path

import pytest
from report_runs import ATTACK, GENES, made_run

from tcgn_mil.experiments.report.run import write_run_report


def browse(chromium: str, page: Path, script: str, folder: Path) -> str:
    """Return the page's DOM after a script; fail on any error in the page's console."""
    watch = (
        "<script>window.onerror = message =>"
        " document.documentElement.setAttribute('data-error', message)</script>"
    )
    text = page.read_text(encoding="utf-8").replace("<head>", f"<head>{watch}")
    copy = folder / "page.html"
    copy.write_text(text.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    command = [
        chromium,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={folder / 'user'}",
        "--enable-logging=stderr",
        "--dump-dom",
        copy.as_uri(),
    ]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "data-error=" not in found.stdout
    assert "Uncaught" not in found.stderr
    assert "CONSOLE" not in found.stderr
    return found.stdout


@pytest.mark.browser
def test_a_search_filters_and_the_page_has_no_errors(chromium: str, tmp_path: Path) -> None:
    genes, gene = (*GENES, *(f"G{number}" for number in range(20))), "G19"
    run = made_run(tmp_path / "run", genes)
    page = write_run_report([run], tmp_path / "report.html", title="x")
    script = (
        "const boxes = [...document.querySelectorAll('input[type=search]')];"
        "const box = boxes.find(one => one.ariaLabel.includes('Every gene'));"
        f"box.value = '{gene.lower()}'; box.dispatchEvent(new Event('input'));"
        "const table = box.closest('label').nextElementSibling.querySelector('table');"
        "table.querySelectorAll('th')[1].click();"
        "document.title = 'shown: ' + [...table.tBodies[0].rows].filter(row => !row.hidden)"
        ".map(row => row.cells[0].textContent).join(',') + '; '"
        " + box.closest('section').querySelector('.chooser svg text').textContent;"
    )
    assert f"<title>shown: {gene}; {gene}</title>" in browse(chromium, page, script, tmp_path)


@pytest.mark.browser
def test_choosing_a_gene_redraws_the_scatter(chromium: str, tmp_path: Path) -> None:
    page = write_run_report([made_run(tmp_path / "run")], tmp_path / "report.html", title="x")
    script = (
        "const chooser = document.querySelector('.chooser'), svg = chooser.querySelector('svg');"
        "const state = () => [svg.querySelector('text').textContent,"
        " svg.querySelectorAll('circle').length,"
        " [...svg.querySelectorAll('circle')].map(dot => dot.getAttribute('cx')).join(' '),"
        " chooser.querySelector('.facts').textContent];"
        "const seen = [state()], box = chooser.querySelector('input');"
        "box.value = 'good'; box.dispatchEvent(new Event('input')); seen.push(state());"
        "[...document.querySelectorAll('.picks .pick')]"
        ".find(button => button.textContent === 'CD8A').click();"
        "seen.push(state());"
        "box.value = 'none'; box.dispatchEvent(new Event('change'));"
        "seen.push([chooser.querySelector('.warn').textContent]);"
        "document.body.append(Object.assign(document.createElement('output'),"
        " {textContent: JSON.stringify(seen)}));"
    )
    shown = browse(chromium, page, script, tmp_path)
    assert "<title>x</title>" in shown  # the gene and patient named like a script did nothing
    text = shown.split("<output>")[1].split("</output>")[0]
    first, typed, clicked, warned = json.loads(
        text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    )
    assert first[:2] == [ATTACK, 12]
    assert typed[:2] == ["GOOD", 12]
    assert clicked[:2] == ["CD8A", 11]  # one patient has no measured value
    assert len({first[2], typed[2], clicked[2]}) == 3
    assert "0.10 (0.05 to 0.70)" in clicked[3]
    assert "0.35 (0.05 to 0.70)" in typed[3]
    assert warned == ["none: no such gene on this page"]


@pytest.mark.browser
def test_tables_work_by_keyboard_and_say_what_they_do(chromium: str, tmp_path: Path) -> None:
    page = write_run_report([made_run(tmp_path / "run")], tmp_path / "report.html", title="x")
    script = (
        "const table = document.querySelector('.picks'), names = () =>"
        " [...table.querySelectorAll('tbody tr')].map(row => row.cells[0].textContent);"
        "const seen = {}, focused = () => document.activeElement;"
        "const press = key => focused().dispatchEvent("
        "new KeyboardEvent('keydown', {key, bubbles: true, cancelable: true}));"
        "const sort = table.querySelectorAll('.sort')[0];"
        "sort.focus(); seen.outline = getComputedStyle(focused()).outlineWidth;"
        "focused().click(); seen.up = [sort.closest('th').ariaSort, ...names()];"
        "focused().click(); seen.down = [sort.closest('th').ariaSort, ...names()];"
        "seen.sorted = table.querySelectorAll('[aria-sort]').length;"
        "const stops = () => [...table.querySelectorAll('tbody button')]"
        ".filter(button => button.tabIndex === 0).map(button => button.textContent);"
        "seen.stops = stops(); table.querySelector('.pick[tabindex=\"0\"]').focus();"
        "press('Home'); seen.home = focused().textContent;"
        "press('ArrowDown'); seen.next = focused().textContent; seen.moved = stops();"
        "focused().click(); seen.drawn = document.querySelector('.chooser svg text').textContent;"
        "seen.pressed = [...table.querySelectorAll('[aria-pressed=true]')]"
        ".map(button => button.textContent);"
        "document.body.append(Object.assign(document.createElement('output'),"
        " {textContent: JSON.stringify(seen)}));"
    )
    shown = browse(chromium, page, script, tmp_path)
    seen = json.loads(html.unescape(shown.split("<output>")[1].split("</output>")[0]))
    assert seen["outline"] == "3px"
    order = seen["up"][1:]
    assert (seen["up"][0], seen["down"][0], seen["sorted"]) == ("ascending", "descending", 1)
    assert len(order) > 2
    assert seen["down"][1:] == order[::-1]
    assert seen["stops"] == [ATTACK]  # the gene that is drawn first
    assert [seen["home"], seen["next"]] == order[::-1][:2]
    assert seen["moved"] == [seen["next"]]
    assert (seen["drawn"], seen["pressed"]) == (seen["next"], [seen["next"]])


@pytest.mark.browser
def test_print_has_the_default_gene_and_no_search_boxes(chromium: str, tmp_path: Path) -> None:
    page = write_run_report([made_run(tmp_path / "run")], tmp_path / "report.html", title="x")
    command = [
        chromium,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'user'}",
        f"--print-to-pdf={tmp_path / 'page.pdf'}",
        page.as_uri(),
    ]
    subprocess.run(command, capture_output=True, timeout=120, check=True)
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
