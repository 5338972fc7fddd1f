"""Tests of the tuple of verbs: every verb is complete, and one can be added from outside."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import typer
from pydantic import Field
from typer.testing import CliRunner

from tcgn_mil.config import config_class
from tcgn_mil.errors import InputError
from tcgn_mil.experiments import verbs
from tcgn_mil.experiments.main import make_app
from tcgn_mil.experiments.report.run import write_run_report
from tcgn_mil.experiments.runs.glossary import TERMS
from tcgn_mil.experiments.runs.page import Section
from tcgn_mil.experiments.runs.report_part import ReportPart
from tcgn_mil.experiments.runs.run_folder import begin_run, finish_run
from tcgn_mil.experiments.verbs import Verb, register_verb


@config_class
class CountConfig:
    """What is counted."""

    unit: str = Field("patients", description="What is counted.")


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restore the verbs after the test."""
    monkeypatch.setattr(verbs, "_VERBS", dict(verbs._VERBS))


def test_a_verb_can_be_added_from_outside_door(
    registry: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def count(out: Path) -> None:
        """Count the patients."""
        folder = begin_run(out, "count", CountConfig())
        finish_run(folder, {"patients": 3, "sentence": "Three patients."})
        typer.echo("3 patients")

    report = ModuleType("count_report")
    report.REPORT = ReportPart(
        kind="count",
        position=9,
        sections=lambda run, share: [Section("Counted", [f"{run.summary['patients']} patients"])],
        methods=lambda config, summary: "Patients were counted.",
    )
    monkeypatch.setitem(sys.modules, "count_report", report)
    register_verb(Verb("count", count, report="count_report"))

    done = CliRunner().invoke(make_app(), ["count", str(tmp_path / "run")])
    assert done.output == "3 patients\n"
    page = write_run_report([tmp_path / "run"], tmp_path / "page.html", title="t")
    text = page.read_text(encoding="utf-8")
    assert all(words in text for words in ("<h2>Counted</h2>", "Three patients.", "were counted"))


def test_a_name_is_registered_once(registry: None) -> None:
    with pytest.raises(InputError, match="verb 'encode' is registered already"):
        register_verb(Verb("encode", print))


def test_parts_of_the_report_use_terms_that_are_explained() -> None:
    parts = verbs.report_parts()
    assert len({part.kind for part in parts}) == len(parts) >= 8
    assert len({part.position for part in parts}) == len(parts)
    for part in parts:
        assert part.terms <= set(TERMS), part.kind


def test_every_verb_has_help_in_whole_sentences() -> None:
    for verb in verbs.verbs():
        first = (verb.command.__doc__ or "").strip()
        assert first.endswith("."), verb.name
        shown = CliRunner().invoke(make_app(), [verb.name, "--help"])
        assert shown.exit_code == 0, verb.name


def test_no_help_text_loses_words_in_brackets() -> None:
    """The terminal takes ``[ray]`` for a style, and prints nothing in its place."""
    lost = [
        f"{name} {getattr(parameter, 'name', '')}: {word}"
        for name, command in typer.main.get_command(make_app()).commands.items()  # type: ignore[attr-defined]
        for parameter in (command, *command.params)
        for word in re.findall(r"(?<!\\)\[[a-z/#@][^\[\]]*\]", getattr(parameter, "help", "") or "")
    ]
    assert lost == []
