"""Names of slides, patients and genes: too long, with formulas, or that lead to other folders."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import fuzz_targets as files
import h5py
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.runs.page import Section, as_table, write_report
from tcgn_mil.io.atomic import as_file_name, safe_file_name, write_text
from tcgn_mil.io.feature_files import read_features
from tcgn_mil.io.tile_files import read_tiles
from tcgn_mil.plotting import figure_label, plain_text, save, save_figure

LONG = "ä" * 130  # 260 bytes
ATTACKS = ("../../x", "a/b", "..", ".hidden", "a\x00b", "a\\b", LONG, "x" * 250, "")


class TestFileNames:
    @pytest.mark.parametrize("name", [*ATTACKS, "a\udcffb", "a\nb"])
    def test_what_cannot_be_a_name_is_refused_in_one_line(self, name: str) -> None:
        with pytest.raises(InputError) as caught:
            safe_file_name(name, what="slide id")
        assert len(str(caught.value).splitlines()) == 1
        assert len(str(caught.value)) < 700

    @pytest.mark.parametrize("name", [*ATTACKS, "HLA-A/B", "$x_$", "a\udcffb", "a\nb"])
    def test_any_gene_gets_a_safe_name_of_its_own(self, tmp_path: Path, name: str) -> None:
        given = as_file_name(name)
        write_text(tmp_path / f"{given}.txt", "x")
        assert [path.parent for path in tmp_path.rglob("*.txt")] == [tmp_path]
        assert as_file_name(f"{name}1") != given

    @pytest.mark.parametrize("name", ["S1_GZMA", "Fall Müller 3", "$x_$", "ä" * 100])
    def test_plain_names_stay(self, name: str) -> None:
        assert safe_file_name(name, what="slide id") == name == as_file_name(name)

    @pytest.mark.parametrize("name", [name for name in ATTACKS if "\x00" not in name])
    def test_names_inside_files_lead_nowhere(self, tmp_path: Path, name: str) -> None:
        for make, read in ((files._tiles, read_tiles), (files._features, read_features)):
            path = make(tmp_path)
            with h5py.File(path, "r+") as file:
                file.attrs["slide_id"] = name
            with pytest.raises(InputError, match=r"S1\.h5: its slide id"):
                read(path)  # type: ignore[operator]


class TestPaths:
    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tcgn_mil.experiments.main", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    @pytest.mark.skipif(os.name == "nt", reason="links need rights there")
    def test_a_link_that_leads_back_to_itself_and_a_long_path(self, tmp_path: Path) -> None:
        (tmp_path / "loop").symlink_to(tmp_path / "loop")
        (tmp_path / "slide.png").write_bytes(b"x")
        for source, out in (
            (tmp_path / "loop", tmp_path / "out"),
            (tmp_path / "slide.png", tmp_path / "loop"),
            (tmp_path / LONG, tmp_path / "out"),
            (tmp_path / "slide.png", tmp_path / LONG),
        ):
            done = self.run("tile", "--slides", source, "--out", out, "--mpp", "0.5")
            assert done.returncode in (1, 2), done.stderr
            assert "Traceback" not in done.stderr

    @pytest.mark.skipif(os.name == "nt", reason="links need rights there")
    def test_nothing_is_written_through_a_link(self, tmp_path: Path) -> None:
        other = tmp_path / "other.txt"
        other.write_text("of somebody else")
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "summary.json").symlink_to(other)
        write_text(tmp_path / "out" / "summary.json", "{}")
        assert other.read_text() == "of somebody else"
        assert not (tmp_path / "out" / "summary.json").is_symlink()


FORMULAS = ("$x_$", r"$\frac{$", "$", "a$b$c_{", r"\$x_$", "{", "<b>", "ä" * 300)


def test_no_name_is_drawn_as_a_formula(tmp_path: Path) -> None:
    shown = [plain_text(name) for name in FORMULAS]
    figure, axes = plt.subplots(layout="constrained")
    axes.plot([0, 1], [1, 100], label=shown[1])
    axes.set_xticks(np.arange(len(shown)), [figure_label(name, 20) for name in FORMULAS])
    axes.set(title=shown[0], xlabel=shown[2], ylabel=shown[3])
    axes.legend(title=shown[4])
    axes.text(0, 0, shown[1])
    save_figure(figure, tmp_path / "a.png", pd.DataFrame({"gene": FORMULAS}))
    figure, axes = plt.subplots()
    axes.set_title(shown[0])
    save(figure, tmp_path / "b.png")
    assert {path.suffix for path in tmp_path.iterdir()} == {".png", ".pdf", ".csv"}


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>'])
def test_no_name_becomes_markup_of_a_report(tmp_path: Path, name: str) -> None:
    section = Section(name)
    section.paragraphs.append(name)
    section.tables.append(as_table(pd.DataFrame({name: [name]}), name))
    page = write_report(tmp_path / "r.html", title=name, banner=name, sections=[section], seed=name)
    text = page.read_text(encoding="utf-8")
    assert name not in text
    assert "<img src=x" not in text
    assert "&lt;script&gt;" in text or "&lt;img" in text


def test_messages_cannot_command_a_terminal() -> None:
    text = str(InputError("column \x1b[31m\x07x\r is wrong", path="a\nb.csv", fix="do\x00it"))
    assert text.isprintable()
    assert json.dumps(text)
