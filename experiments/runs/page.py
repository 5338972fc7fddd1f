"""Write an HTML page of results as one file: figures inline, tables to sort and to search.

Every value is escaped by Jinja2, so that no name in the data can become markup or script.
"""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import jinja2
import numpy as np
import pandas as pd

from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.image_file import open_picture
from tcgn_mil.io.atomic import write_text
from tcgn_mil.provenance import provenance

MAX_ROWS = 500
_LARGE_BYTES, _JPEG_QUALITY = 300_000, 88
# An inch of a figure in print has so many pixels on a screen, where 8 points look like other text.
_PX_PER_INCH = 125
_WIDE_INCHES = 4.8  # a wider figure has a row of the page to itself; half a row would be too small
SEARCHABLE_ROWS = 15


class Table(NamedTuple):
    """A table as text.

    Attributes
    ----------
    caption
        Words above the table.
    columns, rows
        Column names, and the cells of each row.
    text
        Whether each column holds text, which is aligned left.
    meanings
        Names of columns and what they mean.
    note
        Sentence that names the file with all of the data.
    """

    caption: str
    columns: list[str]
    rows: list[list[str]]
    text: list[bool]
    meanings: list[tuple[str, str]]
    note: str


class Picture(NamedTuple):
    """A picture as base64 text.

    Attributes
    ----------
    caption
        Words below the picture.
    data, media_type
        Content as base64 text, and its media type.
    width, height, inches
        Size on the screen in pixels of a web page, and width in print.
    """

    caption: str
    data: str
    media_type: str
    width: int
    height: int
    inches: float

    @property
    def is_wide(self) -> bool:
        """Return whether the picture is too wide to have another one beside it."""
        return self.inches > _WIDE_INCHES


class Link(NamedTuple):
    """A link to a file of a run.

    Attributes
    ----------
    text
        Name that is shown.
    path
        The file. The page links to it relative to its own folder.
    """

    text: str
    path: Path


class Stage(NamedTuple):
    """One step of the work that the page is about.

    Attributes
    ----------
    name
        Name of the verb, and of its run if there are several.
    sentence
        Sentences on what it did.
    links
        Its most important files.
    """

    name: str
    sentence: str
    links: list[Link]


class Opening(NamedTuple):
    """Sentences that anybody understands, and the figure that shows most."""

    sentences: list[str]
    figure: Picture | None


class Detail(NamedTuple):
    """A long text that stays folded on the screen until the reader opens it."""

    title: str
    text: str


class Scatter(NamedTuple):
    """Data of an interactive scatter plot of measured against predicted expression.

    Attributes
    ----------
    genes, of
        Number of genes that can be drawn, and of all genes of the run.
    data
        Values that the script of the page draws, of types that JSON knows.
    """

    genes: int
    of: int
    data: dict[str, Any]


@dataclass
class Section:
    """A section of the page, with its parts in the order in which they are shown.

    Attributes
    ----------
    title, paragraphs
        Heading and text.
    warnings
        Sentences that a reader must know before using the results.
    figures, scatter, tables, details
        Pictures, an interactive scatter plot, tables, and folded texts.
    """

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
    """Turn a data frame into a table of text, with three decimals and NA for missing numbers.

    Parameters
    ----------
    frame
        The data.
    caption
        Words above the table; the number of rows is added where rows are cut.
    max_rows
        Number of rows that are shown.
    meanings
        Meanings of columns, by name; those of other columns are ignored.
    note
        Sentence that names the file with all of the data.
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
    """Read a PNG or JPEG file for the page.

    A large PNG becomes a JPEG where that is smaller, as it is for photographs.

    Raises
    ------
    InputError
        If there is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError("no such figure", path=path, fix="run the command that draws it again")
    content, media_type = (
        path.read_bytes(),
        "image/jpeg" if path.suffix.lower() in (".jpg", ".jpeg") else "image/png",
    )
    with open_picture(path, what="a figure") as picture:
        width, height = picture.size
        if media_type == "image/png" and len(content) > _LARGE_BYTES:
            packed = io.BytesIO()
            picture.convert("RGB").save(packed, "JPEG", quality=_JPEG_QUALITY)
            if packed.tell() < len(content):
                content, media_type = packed.getvalue(), "image/jpeg"
        dpi = float(picture.info.get("dpi", (_PX_PER_INCH,))[0]) or _PX_PER_INCH
    inches = round(width / dpi, 2)
    shown = round(inches * _PX_PER_INCH)
    data = base64.b64encode(content).decode("ascii")
    return Picture(caption, data, media_type, shown, round(shown * height / width), inches)


def write_report(
    path: str | Path,
    *,
    title: str,
    sections: Sequence[Section],
    banner: str | None = None,
    opening: Opening | None = None,
    stages: Sequence[Stage] = (),
    words: Mapping[str, str] | None = None,
    **made_by: Any,
) -> Path:
    """Write the page, atomically.

    Parameters
    ----------
    path
        File to write.
    title
        Title of the page.
    sections
        Its sections, in order.
    banner
        A sentence above everything else, for example that the data are synthetic.
    opening
        Sentences and the figure at the top of the page.
    stages
        What each step did, with links to its files. All else of the page is inside it, so that it
        can be sent to others; only these links need the folders of the runs.
    words
        Terms and their meanings.
    made_by
        Configs and commands, which are shown at the end with the versions of the software.

    Returns
    -------
    The path of the page.
    """
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.FunctionLoader(_template),
    )
    # Jinja2's tojson escapes what could end the script element that holds the data.
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    text = environment.get_template("report.html").render(
        title=title,
        banner=banner,
        opening=opening,
        stages=_with_relative_links(stages, Path(path)),
        words=dict(words or {}),
        sections=sections,
        searchable_rows=SEARCHABLE_ROWS,
        made_by=json.dumps(provenance(**made_by), indent=2, default=str),
    )
    write_text(path, text)
    return Path(path)


def _with_relative_links(stages: Sequence[Stage], page: Path) -> list[dict[str, Any]]:
    """Return the stages with links that a browser can follow from the page."""
    folder = page.absolute().parent
    return [
        {
            "name": stage.name,
            "sentence": stage.sentence,
            "links": [
                {
                    "text": link.text,
                    "href": quote(Path(os.path.relpath(link.path, folder)).as_posix()),
                }
                for link in stage.links
            ],
        }
        for stage in stages
    ]


def _template(name: str) -> str:
    folder = files("tcgn_mil.experiments.runs") / "templates"
    return (folder / name).read_text(encoding="utf-8")


def _column(values: pd.Series) -> list[str]:
    """Return the cells of a column as text.

    pandas turns a column of counts into floats where one count is missing. Such numbers are shown
    as counts.
    """
    if pd.api.types.is_float_dtype(values.dtype):
        finite = values[np.isfinite(values)]
        if len(finite) and (finite == finite.round()).all() and (finite.abs() > 1).any():
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
        # A small p-value must not read as 0.
        return f"{value:.3f}" if value == 0 or abs(value) >= 1e-3 else f"{value:.2g}"
    return str(value)
