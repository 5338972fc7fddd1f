"""Tests of the report: the page about finished runs, as text."""

from __future__ import annotations

import base64
import json
import re
import shlex
import shutil
import time
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote

import anndata
import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from report_runs import ATTACK, GENES, made_run
from typer.testing import CliRunner

from tcgn_mil.errors import InputError
from tcgn_mil.experiments import main as cli
from tcgn_mil.experiments.report import losses
from tcgn_mil.experiments.report.run import find_runs, write_run_report
from tcgn_mil.experiments.runs.glossary import with_plain_names
from tcgn_mil.experiments.slide_level import figures as slide_figures
from tcgn_mil.experiments.slide_level.report_scatter import read_scatter
from tcgn_mil.io.atomic import write_csv, write_json
from tcgn_mil.io.failures import LeftOut, write_left_out


@pytest.fixture(scope="module")
def page(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run_report(
        [demo], tmp_path_factory.mktemp("page") / "report.html", title="A <b>cohort</b>"
    )


def test_the_page_holds_what_the_runs_wrote(demo: Path, page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "A &lt;b&gt;cohort&lt;/b&gt;" in text
    assert not re.findall(r"""src=["'](?!data:)""", text)  # nothing from elsewhere
    headings = re.findall(r"<h2>(.*?)</h2>", text)
    assert headings[:3] == [
        "What each stage did",
        "The cohort, and what was lost on the way",
        "The planted truth, by what each gene follows",
    ]
    assert headings[-4:] == [
        "Methods",
        "Commands, versions and configs",
        "How to read this page",
        "What made this report",
    ]
    genes = pd.read_csv(demo / "slide-model" / "genes.csv")["gene"]
    assert all(f"<td>{gene}</td>" in text for gene in genes)
    config = json.loads((demo / "slide-model" / "run.json").read_text(encoding="utf-8"))["config"]
    assert f"at a peak learning rate of {config['training']['lr']:g}" in text
    assert f"  lr: {config['training']['lr']}" in text  # the whole config
    assert text.count(";base64,") >= 6
    assert page.stat().st_size < 15 * 2**20


def test_what_was_lost_is_told_step_by_step(tmp_path: Path) -> None:
    made_run(tmp_path / "run")
    write_json(
        tmp_path / "join_summary.json",
        {
            "join": {
                "slides": 9,
                "slides_kept": 7,
                "samples": 8,
                "samples_kept": 8,
                "patients": 6,
                "genes": 5,
                "unit": "tpm",
                "key": "patient id",
                "outcomes": {"OS": {"patients": 6, "events": 2}},
                "sample_types": {"metastasis": 4, "primary tumour": 2},
                "preservation": {"not stated": 5, "FFPE": 1},
            },
            "sources": ["a.csv"],
            "dropped": {"slide: no expression of this patient": 2},
            "genes_left_out": {"without a value": 3},
        },
    )
    (tmp_path / "tiles").mkdir()
    write_csv(
        tmp_path / "tiles" / "tile_summary.csv",
        pd.DataFrame(
            {
                "slide": ["s1", "s2"],
                "kept": [5, 10],
                "pen": [4, 0],
                "out_of_focus": [0, 0],
                "fold": [1, 0],
                "flags": ["", "odd"],
            }
        ),
    )
    write_csv(
        tmp_path / "tiles" / "failures.csv",
        pd.DataFrame(
            {"slide": ["s3"], "stage": ["tile"], "reason": ["no <tissue>"], "likely_fix": ["look"]}
        ),
    )
    (tmp_path / "spots").mkdir()
    write_csv(
        tmp_path / "spots" / "sections.csv", pd.DataFrame({"spots": [20, 17], "dropped": [2, 1]})
    )
    write_csv(
        tmp_path / "spots" / "dropped_spots.csv",
        pd.DataFrame(
            [("A1", "a", "no counts"), ("A1", "b", "its patch is off"), ("A2", "a", "no counts")],
            columns=["section", "spot", "reason"],
        ),
    )
    text = write_run_report([tmp_path], tmp_path / "r.html", title="x").read_text(encoding="utf-8")
    table = text.split("What was lost at each step, and why")[1].split("</table>")[0]
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in table.split("<tr>")[2:]]
    assert [
        "join of slides and expression",
        "2 slides",
        "9",
        "no expression of this patient",
    ] in rows
    assert ["join of slides and expression", "3 genes", "", "without a value"] in rows
    assert ["spots", "2 spots", "40", "no counts"] in rows
    assert ["spots", "1 spot", "40", "its patch is off"] in rows
    assert ["tiling", "4 tiles", "20", "quality: pen marks"] in rows
    assert ["tiling", "1 tiles", "20", "quality: folded tissue"] in rows
    assert ["tiling", "none", "", "slide s2 was kept but is unusual: odd"] in rows
    assert any(row[:2] == ["slide model", "1 slide"] for row in rows)
    assert any(row[:2] == ["tile", "1 that failed"] for row in rows)
    assert "no &lt;tissue&gt;" in text
    assert "6 patients have both, with 7 of 9 slides" in text
    assert "OS: 6 of them, 2 events" in text
    assert "Sample types: metastasis 4, primary tumour 2. The cohort mixes them" in text
    assert "Preservation of the expression samples: FFPE 1 patients" in text


def test_a_clinical_table_of_many_cohorts_speaks_of_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_run(tmp_path / "run")
    dropped = pd.DataFrame({"patient_id": ["P1", "P2", "Z1", "Z2"], "reason": "time is missing"})
    write_csv(tmp_path / "dropped_patients.csv", dropped)
    cohort = SimpleNamespace(obs_names=["P1", "P2", "P3"])
    monkeypatch.setattr(losses, "read_cohort", lambda path: cohort)
    section = losses.cohort_section([tmp_path], [tmp_path / "cohort.h5ad"])
    assert section is not None
    assert ["clinical table", "2 patients", "", "time is missing"] in section.tables[0].rows


def test_the_headline_says_whether_the_model_beats_the_best_baseline(tmp_path: Path) -> None:
    text = write_run_report([made_run(tmp_path / "run")], tmp_path / "r.html", title="x").read_text(
        encoding="utf-8"
    )
    assert "the model is better (difference 0.200 (95 % interval 0.100 to 0.300))" in text
    summary = json.loads((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))
    summary["headline"][1]["model_above_low"] = -0.1
    write_json(tmp_path / "run" / "summary.json", summary)
    text = write_run_report([tmp_path / "run"], tmp_path / "r.html", title="x").read_text(
        encoding="utf-8"
    )
    assert "does not differ from it beyond chance" in text


def test_a_page_opens_with_plain_sentences_and_the_best_figure(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run")
    for name in ("scatter.png", "headline.png"):
        Image.new("RGB", (40, 30)).save(run / name)
    page = write_run_report([run], tmp_path / "pages" / "r.html", title="x")
    opening = page.read_text(encoding="utf-8").split('<section class="opening">')[1]
    opening = opening.split("</section>")[0]
    sentences = re.findall(r"<p>(.*?)</p>", opening)
    assert len(sentences) == 3
    assert "expression of 5 genes was predicted for 12 patients" in sentences[0]
    assert "is 0.40 for the gene in the middle" in sentences[1]
    assert "ridge on colour, has 0.20" in sentences[2]
    assert "Measured and predicted expression of the genes" in opening  # scatter, not headline


def test_stages_are_told_in_order_with_links_that_work(tmp_path: Path) -> None:
    made_run(tmp_path / "runs & more" / "run")
    tiles = tmp_path / "runs & more" / "tiles"
    tiles.mkdir()
    summary = {"slide": ["s1", "s2"], "kept": [5, 10], "notes": ["", "its pixels are grey"]}
    write_csv(tiles / "tile_summary.csv", pd.DataFrame(summary))
    write_left_out(tiles, [LeftOut("a.vsi", "is of another kind")])
    (tiles / "contact_sheet.html").write_text("x", encoding="utf-8")
    page = write_run_report([tmp_path / "runs & more"], tmp_path / "pages" / "r.html", title="x")
    text = page.read_text(encoding="utf-8").split('<section id="stages">')[1].split("</section>")[0]
    rows = re.findall(r"<tr><td><code>(.*?)</code></td><td>(.*?)</td><td>(.*?)</td></tr>", text)
    assert [row[0] for row in rows] == ["tile", "slide-cv"]
    assert rows[0][1] == (
        "Found the tissue of 2 slides and laid 15 tiles on it. 1 left out: a.vsi (is of another"
        " kind). s2: its pixels are grey."
    )
    links = re.findall(r'href="(.*?)"', text)
    assert "../runs%20%26%20more/tiles/contact_sheet.html" in links
    assert all((page.parent / unquote(link)).exists() for link in links)


def test_nothing_of_the_data_can_become_markup_or_script(tmp_path: Path) -> None:
    text = write_run_report(
        [made_run(tmp_path / "run")], tmp_path / "r.html", title=ATTACK
    ).read_text(encoding="utf-8")
    assert "<script>document.title" not in text
    assert text.count("</script>") == 2  # of the scatter's data and of the page's own script
    inside = text.split('<script type="application/json" class="scatter">')[1].split("</script>")[0]
    assert json.loads(inside)["patients"][0] == ATTACK


def test_the_scatter_holds_the_values_of_each_gene(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run")
    found = read_scatter(run, unit="u", stated_coverage=0.9)
    assert found is not None
    data = found.data
    stored = anndata.read_h5ad(run / "out_of_fold.h5ad")
    assert data["first"] == GENES[-1]
    for gene in data["genes"]:
        for axis, values in (
            ("x", stored[:, gene["gene"]].layers["truth"]),
            ("y", stored[:, gene["gene"]].X),
        ):
            low, high, packed = gene[axis]
            steps = np.frombuffer(base64.b64decode(packed), dtype="<u2").astype(float)
            steps[steps == 65535] = np.nan
            np.testing.assert_allclose(
                low + (high - low) * steps / 65534, values.ravel(), atol=(high - low) * 1e-4
            )
    assert data["genes"][0]["gene"] == sorted(GENES)[0]


def test_a_scatter_keeps_to_its_budget_and_immune_genes_first(tmp_path: Path) -> None:
    genes = ("CD8A", *(f"G{index:03d}" for index in range(200)))  # CD8A has the least r
    run = made_run(tmp_path / "run", genes, patients=50)
    found = read_scatter(run, unit="u", stated_coverage=0.9, budget=20_000)
    assert found is not None
    kept = [gene["gene"] for gene in found.data["genes"]]
    assert len(json.dumps(found.data, separators=(",", ":"))) < 20_000
    assert found.genes == len(kept) < found.of == len(genes)
    assert "CD8A" in kept
    assert "G199" in kept
    assert "G001" not in kept


def test_a_large_cohort_is_a_page_of_less_than_15_mb_within_half_a_minute(tmp_path: Path) -> None:
    run = made_run(
        tmp_path / "run", tuple(f"G{index:05d}" for index in range(18_000)), patients=400
    )
    start = time.perf_counter()
    page = write_run_report([run], tmp_path / "report.html", title="x")
    assert time.perf_counter() - start < 30
    assert page.stat().st_size < 15e6


def test_intervals_are_told_in_one_cell_and_empty_columns_left_out() -> None:
    frame = pd.DataFrame(
        {"r": [0.1234, np.nan], "l": [0.1, np.nan], "h": [0.2, np.nan], "none": [np.nan, np.nan]}
    )
    table = with_plain_names(frame, {"r": ("r", "l", "h"), "none": "none", "gone": "gone"})
    assert table.to_dict("list") == {"r": ["0.123 (0.100 to 0.200)", "NA"]}


def test_runs_of_one_kind_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    for name in ("a/run", "b/run"):
        made_run(tmp_path / name)
    text = write_run_report([tmp_path], tmp_path / "r.html", title="x").read_text(encoding="utf-8")
    assert "Each gene, and its patients (a/run)" in text
    assert "Each gene, and its patients (b/run)" in text


def test_the_commands_told_are_those_of_the_runs(demo: Path, page: Path) -> None:
    commands = re.findall(
        r"tcgn-mil [a-z-]+ --config .*? --out NEW", page.read_text(encoding="utf-8")
    )
    assert commands
    for command in commands:
        words = shlex.split(command)
        options = [*words[1:4], "--show-config"]
        shown = CliRunner().invoke(cli.make_app(), options, catch_exceptions=False)
        assert yaml.safe_load(shown.stdout) == yaml.safe_load(
            Path(words[3]).read_text(encoding="utf-8")
        )


def test_unfinished_runs_and_other_folders_are_left_out(demo: Path, tmp_path: Path) -> None:
    assert {run.kind for run in find_runs(demo)} >= {"finetune", "predict", "pretrain"}
    shutil.copytree(demo / "slide-model", tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    assert find_runs(tmp_path) == []
    with pytest.raises(InputError, match="the finetune run in it has not finished") as told:
        write_run_report([tmp_path], tmp_path / "report.html", title="x")
    assert told.value.fix
    (tmp_path / "run" / "run.json").unlink()
    with pytest.raises(InputError, match="holds no finished run of demo, finetune"):
        write_run_report([tmp_path], tmp_path / "report.html", title="x")
    with pytest.raises(InputError, match="no such folder"):
        write_run_report([tmp_path / "gone"], tmp_path / "report.html", title="x")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("summary.json", "cannot be read as the summary of a run"),
        ("genes.csv", "cannot be read as a table"),
        ("out_of_fold.h5ad", "cannot be read"),
        ("dropped.csv", "cannot be read as a table"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, name: str, told: str) -> None:
    run = made_run(tmp_path / "run")
    (run / name).write_text('"a,b\n1', encoding="utf-8")
    with pytest.raises(InputError, match=told) as error:
        write_run_report([run], tmp_path / "report.html", title="x")
    assert "run" in str(error.value.path)
    assert error.value.fix


def test_coverage_of_the_intervals_is_drawn_with_its_source(tmp_path: Path) -> None:
    slide_figures.draw_coverage(
        np.array([0.85, 0.9, np.nan, 0.95]), tmp_path / "coverage.png", stated_coverage=0.9
    )
    assert pd.read_csv(tmp_path / "coverage_figure.csv")["genes"].sum() == 3
    assert (tmp_path / "coverage.pdf").is_file()
