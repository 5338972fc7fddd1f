"""Registry of the verbs of ``tcgn-mil``, over which the command line and the report loop.

A verb has a folder in ``experiments`` with ``command.py`` (its options and what it prints) and,
where its runs appear in the report, ``report.py`` with an object ``REPORT``. Verbs that do similar
work share a folder: ``spot_level`` has pretrain and spot-cv, ``slide_level`` has finetune and
slide-cv, and ``prepare`` has those whose work is done by ``preprocessing``. Only ``demo`` and
``report`` are not here, because they work on what the other verbs wrote (``experiments/main.py``);
the part of the report that is about the demo's planted truth is.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tcgn_mil.experiments.assist.command import config, doctor, status
from tcgn_mil.experiments.associate.command import associate
from tcgn_mil.experiments.encode.command import encode
from tcgn_mil.experiments.explain.command import explain
from tcgn_mil.experiments.predict.command import predict
from tcgn_mil.experiments.prepare.download import download
from tcgn_mil.experiments.prepare.encoders import encoders
from tcgn_mil.experiments.prepare.features import import_features
from tcgn_mil.experiments.prepare.slides import export_tiles, tile
from tcgn_mil.experiments.prepare.spatialdata import export_spatialdata
from tcgn_mil.experiments.prepare.spots import spots
from tcgn_mil.experiments.prepare.tables import bulk, clinical
from tcgn_mil.experiments.publish.command import export_predictions, publish
from tcgn_mil.experiments.slide_level.command import finetune, slide_cross_validation
from tcgn_mil.experiments.spot_level.command import pretrain, spot_cross_validation
from tcgn_mil.experiments.survive.command import survive
from tcgn_mil.registry import add_entry

if TYPE_CHECKING:
    from tcgn_mil.experiments.runs.report_part import ReportPart

_PACKAGE = "tcgn_mil.experiments"


@dataclass(frozen=True)
class Verb:
    """A verb of the command line.

    Attributes
    ----------
    name
        The verb as it is typed.
    command
        Function with typer's annotations; its docstring is the help text. Its module imports
        nothing heavy.
    report
        Module with an object ``REPORT`` (:class:`ReportPart`), imported when a report is written;
        None if the verb's output has no part in the report.
    shares_folder
        Whether two runs of the verb may write to one folder at a time. If not, and `command` has a
        parameter `out`, the second run is refused.
    example
        A command line that is shown under the help text.
    """

    name: str
    command: Callable[..., Any]
    report: str | None = None
    shares_folder: bool = False
    example: str = ""

    def load_report(self) -> ReportPart | None:
        """Import the verb's part of the report, or return None if it has none."""
        return None if self.report is None else _load_part(self.report)


_SHIPPED = (
    Verb("download", download),
    Verb("spots", spots),
    Verb("pretrain", pretrain, f"{_PACKAGE}.spot_level.pretrain_report"),
    Verb("spot-cv", spot_cross_validation, f"{_PACKAGE}.spot_level.report"),
    Verb("encoders", encoders),
    Verb("tile", tile),
    Verb("encode", encode),
    Verb("export-tiles", export_tiles),
    Verb("import-features", import_features),
    Verb("bulk", bulk),
    Verb("clinical", clinical),
    # slide-cv writes runs of the same kind as finetune, so one part serves both.
    Verb("finetune", finetune, f"{_PACKAGE}.slide_level.report"),
    Verb("slide-cv", slide_cross_validation),
    Verb("predict", predict, f"{_PACKAGE}.predict.report"),
    Verb("explain", explain, f"{_PACKAGE}.explain.report"),
    Verb("associate", associate, f"{_PACKAGE}.associate.report"),
    Verb("survive", survive, f"{_PACKAGE}.survive.report"),
    # These write under a temporary name, which takes the place of the folder at the end.
    Verb("publish", publish, shares_folder=True),
    Verb("export-predictions", export_predictions, shares_folder=True),
    Verb("export-spatialdata", export_spatialdata),
    Verb("status", status),
    Verb("doctor", doctor),
    Verb("config", config),
)
# The demo is no verb of this list; it compares what the others made with the planted truth.
_DEMO_REPORT = f"{_PACKAGE}.demo.report"
_VERBS: dict[str, Verb] = {}
for _verb in _SHIPPED:
    add_entry(_VERBS, _verb.name, _verb, what="verb")


def verbs() -> tuple[Verb, ...]:
    """Return all verbs, those of other packages last."""
    return tuple(_VERBS.values())


def report_parts() -> list[ReportPart]:
    """Import and return all parts of the report: those of the verbs, and the demo's."""
    parts = [part for verb in verbs() if (part := verb.load_report()) is not None]
    return [*parts, _load_part(_DEMO_REPORT)]


def _load_part(module: str) -> ReportPart:
    part: ReportPart = importlib.import_module(module).REPORT
    return part


def register_verb(verb: Verb) -> None:
    """Add a verb to the command line and, if it has a part there, to the report.

    Raises
    ------
    InputError
        If there is a verb of that name.
    """
    add_entry(_VERBS, verb.name, verb, what="verb")
