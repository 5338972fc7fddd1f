"""The HTML report: one self-contained file, figures inline, tables to sort and search, every value escaped."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np
import pandas as pd
from PIL import Image

from tcgn_mil.errors import InputError
from tcgn_mil.io.atomic import write_text
from tcgn_mil.provenance import provenance

MAX_ROWS = 500
_LARGE_BYTES, _JPEG_QUALITY = 300_000, 88
SEARCHABLE_ROWS = 15


class Table(NamedTuple):
    """A table as text: column names, rows of cells, which columns hold text, what columns mean, where it is from."""

    caption: str
    columns: list[str]
    rows: list[list[str]]
    text: list[bool]
    meanings: list[tuple[str, str]]
    note: str


class Picture(NamedTuple):
    """A picture as base64 text, with its caption and media type."""

    caption: str
    data: str
    media_type: str


class Detail(NamedTuple):
    """A long text that stays folded on the screen."""

    title: str
    text: str


@dataclass
class Section:
    """A part of the report: its title, then paragraphs, what to mind, figures, a scatter, tables, folded texts."""

    title: str
    paragraphs: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    figures: list[Picture] = field(default_factory=list)
    scatter: Scatter | None = None
    warnings: list[str] = field(default_factory=list)
    details: list[Detail] = field(default_factory=list)


def as_table(
    frame: pd.DataFrame,
    caption: str,
    *,
    max_rows: int = MAX_ROWS,
    meanings: Mapping[str, str] | None = None,
    note: str = "",
) -> Table:
    """A data frame as text: 3 decimals, NA where a number is missing, at most `max_rows`.

    `meanings` explains columns in words, those that the frame has.
    """
    shown = frame.head(max_rows)
    cut = f" (first {max_rows} of {len(frame)} rows)" if len(frame) > max_rows else ""
    columns = [_column(shown.iloc[:, index]) for index in range(shown.shape[1])]
    names = [str(column) for column in frame.columns]
    text = [
        not pd.api.types.is_numeric_dtype(kind) or pd.api.types.is_bool_dtype(kind)
        for kind in frame.dtypes
    ]
    told = [(name, words) for name, words in (meanings or {}).items() if name in names]
    return Table(
        caption + cut, names, [list(row) for row in zip(*columns, strict=True)], text, told, note
    )


def as_picture(path: str | Path, caption: str) -> Picture:
    """A PNG or JPEG file, inlined; a large PNG as JPEG where that is smaller, as of one that holds a photo."""
    path = Path(path)
    if not path.is_file():
        raise InputError("no such figure", path=path, fix="run the step that draws it again")
    content, media_type = (
        path.read_bytes(),
        "image/jpeg" if path.suffix.lower() in (".jpg", ".jpeg") else "image/png",
    )
    if media_type == "image/png" and len(content) > _LARGE_BYTES:
        with Image.open(path) as picture:
            packed = io.BytesIO()
            picture.convert("RGB").save(packed, "JPEG", quality=_JPEG_QUALITY)
        if packed.tell() < len(content):
            content, media_type = packed.getvalue(), "image/jpeg"
    return Picture(caption, base64.b64encode(content).decode("ascii"), media_type)


def write_report(
    path: str | Path,
    *,
    title: str,
    sections: Sequence[Section],
    banner: str | None = None,
    points: Sequence[str] = (),
    words: Mapping[str, str] | None = None,
    **made_by: Any,
) -> Path:
    """Render the report atomically.

    Parameters
    ----------
    points
        What is found, in a sentence each, for the box at the top.
    words
        Terms and what they mean in plain words.
    made_by
        Configs, commands: shown at the end with the provenance.
    """
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.FunctionLoader(_template),
    )
    text = environment.get_template("report.html").render(
        title=title,
        banner=banner,
        points=list(points),
        words=dict(words or {}),
        sections=sections,
        searchable_rows=SEARCHABLE_ROWS,
        made_by=json.dumps(provenance(**made_by), indent=2, default=str),
    )
    write_text(path, text)
    return Path(path)


def _template(name: str) -> str:
    return (
        files("tcgn_mil.experiments.runs").joinpath("templates", name).read_text(encoding="utf-8")
    )


def _column(values: pd.Series) -> list[str]:
    """Cells of a column; counts that became floats, since one is missing, stay counts."""
    if pd.api.types.is_float_dtype(values.dtype):
        known = values[np.isfinite(values)]
        if len(known) and (known == known.round()).all() and (known.abs() > 1).any():
            return ["NA" if pd.isna(value) else f"{value:.0f}" for value in values]
    if values.dtype == object:
        return ["" if pd.isna(value) else _cell(value) for value in values]
    return [_cell(value) for value in values.tolist()]


def _cell(value: Any) -> str:
    if isinstance(value, float) and pd.isna(value):
        return "NA"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return (
            f"{value:.3f}" if value == 0 or abs(value) >= 1e-3 else f"{value:.2g}"
        )  # small p are not 0
    return str(value)


class Scatter(NamedTuple):
    """What the page draws: the number of genes, of all genes there are, and the data as JSON safe inside HTML."""

    genes: int
    of: int
    json: str
