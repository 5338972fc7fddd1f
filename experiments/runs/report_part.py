"""The part of the report that belongs to one kind of run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tcgn_mil.experiments.runs.finished_run import Run
from tcgn_mil.experiments.runs.page import Section


def summary_sentence(run: Run) -> str | None:
    """Return the sentence that a run wrote into its summary, or None."""
    sentence = run.summary.get("sentence")
    return str(sentence) if sentence else None


def kind_of(run: Run) -> str:
    """Return the kind of a run, which is usually the verb that made it."""
    return run.kind


def no_opening(run: Run) -> list[str]:
    """Return no sentence for the top of the page."""
    return []


def command_with_config(run: Run) -> str:
    """Return the command that repeats a run of a verb that takes ``--config``."""
    return f"tcgn-mil {run.kind} --config {run.folder / 'config.yaml'} --out NEW"


@dataclass(frozen=True)
class ReportPart:
    """Part of the report about the finished runs of one kind.

    Attributes
    ----------
    kind
        Kind of run, as ``run.json`` names it.
    position
        Place of the part on the page; lower numbers come first.
    sections
        Makes the sections of a run. The second argument is the share, 0 to 1, of the page's room
        for interactive data that this run may use.
    methods
        Makes the methods paragraph from the config and the summary of a run. It states what was
        done, not what was found.
    terms
        Terms of :mod:`tcgn_mil.experiments.runs.glossary` that the sections use.
    sentence
        Makes the sentences that say what the run did and found, or None.
    command
        Makes the command that repeats the run.
    opening
        Makes the three sentences at the top of the page, for readers who know neither statistics
        nor software. The first run that has them gives them.
    verb
        Returns the verb that made the run.
    files
        The files of a run that a reader may want to open, relative to its folder. Those that the
        run did not write are left out.
    """

    kind: str
    position: int
    sections: Callable[[Run, float], list[Section]]
    methods: Callable[[Mapping[str, Any], Mapping[str, Any]], str]
    terms: frozenset[str] = frozenset()
    sentence: Callable[[Run], str | None] = summary_sentence
    command: Callable[[Run], str] = command_with_config
    opening: Callable[[Run], list[str]] = no_opening
    verb: Callable[[Run], str] = kind_of
    files: tuple[str, ...] = ()
