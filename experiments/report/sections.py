"""Which sections the report has for a run of each kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tcgn_mil.experiments.associate.report import associate_point, associate_sections
from tcgn_mil.experiments.predict.report import predict_sections
from tcgn_mil.experiments.runs.finished_run import Run
from tcgn_mil.experiments.runs.page import Section
from tcgn_mil.experiments.slide_level.report import slide_point, slide_sections
from tcgn_mil.experiments.spot_level.report import spot_sections
from tcgn_mil.experiments.survive.report import survive_sections

SECTIONS: Mapping[str, Callable[[Run, float], list[Section]]] = {
    "finetune": slide_sections,
    "predict": predict_sections,
    "associate": associate_sections,
    "survive": survive_sections,
    "spot-cv": spot_sections,
}


def points(runs: Sequence[Run]) -> list[str]:
    """What the runs found, a sentence each."""
    said = []
    for run in runs:
        point = {"finetune": slide_point, "associate": associate_point}.get(run.kind)
        sentence = point(run) if point else run.summary.get("sentence")
        if sentence:
            said.append(f"{run.name}: {sentence}" if run.name else str(sentence))
    return said
