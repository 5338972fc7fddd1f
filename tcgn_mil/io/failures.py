"""failures.csv: one row for each slide that could not be used."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING

from tcgn_mil.io.atomic import write_text

if TYPE_CHECKING:
    pass


FILE_NAME = "failures.csv"


def write_failures(folder: str | Path, failures: Sequence[Failure]) -> None:
    """Write ``failures.csv`` (slide, stage, reason, likely_fix) atomically; without failures, remove an older one."""
    path = Path(folder) / FILE_NAME
    if not failures:
        path.unlink(missing_ok=True)
        return
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in fields(Failure))
    writer.writerows(astuple(failure) for failure in failures)
    write_text(path, text.getvalue())


@dataclass(frozen=True)
class Failure:
    """One row of failures.csv: what was lost, where, why, and what to do."""

    slide: str
    stage: str
    reason: str
    likely_fix: str = field(default="")
