"""One self-contained HTML file: figures inline, tables sortable, every value escaped."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import pandas as pd

from tcgn_mil.artefacts import provenance, write_text
from tcgn_mil.errors import InputError

MAX_ROWS = 500


class Table(NamedTuple):
    """A table as text: column names and rows of cells."""

    caption: str
    columns: list[str]
    rows: list[list[str]]


class Picture(NamedTuple):
    """A picture as base64 text, with its caption and media type."""

    caption: str
    data: str
    media_type: str


@dataclass
class Section:
    """A part of the report: its title, then paragraphs, tables and figures."""

    title: str
    paragraphs: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    figures: list[Picture] = field(default_factory=list)


def as_table(frame: pd.DataFrame, caption: str, *, max_rows: int = MAX_ROWS) -> Table:
    """A data frame as text, numbers with 3 significant digits, NA where there is no answer, at most `max_rows`."""
    shown = frame.head(max_rows)
    note = f" (first {max_rows} of {len(frame)} rows)" if len(frame) > max_rows else ""
    rows = [[_cell(value) for value in row] for row in shown.itertuples(index=False)]
    return Table(caption + note, [str(column) for column in frame.columns], rows)


def as_picture(path: str | Path, caption: str) -> Picture:
    """A PNG or JPEG file, inlined."""
    path = Path(path)
    if not path.is_file():
        raise InputError("no such figure", path=path, fix="run the step that draws it again")
    media_type = "image/jpeg" if path.suffix.lower() in (".jpg", ".jpeg") else "image/png"
    return Picture(caption, base64.b64encode(path.read_bytes()).decode("ascii"), media_type)


def write_report(
    path: str | Path, *, title: str, sections: Sequence[Section], banner: str | None = None, **made_by: Any
) -> Path:
    """Render the report atomically; `made_by` (configs, commands) is shown at its end with the provenance."""
    template = files("tcgn_mil.experiments").joinpath("templates", "report.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    text = environment.from_string(template).render(
        title=title,
        banner=banner,
        sections=sections,
        made_by=json.dumps(provenance(**made_by), indent=2, default=str),
    )
    write_text(path, text)
    return Path(path)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        if pd.isna(value):
            return "NA"
        return f"{value:.3f}" if value == 0 or abs(value) >= 1e-3 else f"{value:.2g}"  # small p are not 0
    return str(value)
