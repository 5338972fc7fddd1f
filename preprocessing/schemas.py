"""Tables that users give, each declared once: its columns, what a cell may be, the fix.

Declared with pandera, which is imported when a table is checked. Tables are of text, one row a line of the file, the
index being that line's number. Those of clinical data, whose columns users name, are declared in
:mod:`~tcgn_mil.preprocessing.clinical.layouts`.
"""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from tcgn_mil.io.tables.schema import CellRule, TableSchema
from tcgn_mil.types.tile_geometry import MPP_RANGE


def _is_filled(cells: pd.Series) -> pd.Series:
    return cells != ""


def _is_plain_name(cells: pd.Series) -> pd.Series:
    return ~cells.str.contains(r"[/\\\x00]|^\.+$", regex=True)


def _stays_inside(cells: pd.Series) -> pd.Series:
    return cells.map(
        lambda cell: Path(cell).is_absolute() or Path(os.path.normpath(cell)).parts[:1] != ("..",)
    )


def _is_resolution(cells: pd.Series) -> pd.Series:
    return (cells == "") | pd.to_numeric(cells, errors="coerce").between(*MPP_RANGE)


FILLED = CellRule(_is_filled, "is blank")
PLAIN_NAME = CellRule(_is_plain_name, "is no plain file name")

INSIDE = CellRule(
    _stays_inside,
    "leaves the table's folder",
    "give an absolute path, or put the table beside what it names",
)
RESOLUTION = CellRule(
    _is_resolution,
    f"is no resolution in µm per pixel, {MPP_RANGE[0]:g} to {MPP_RANGE[1]:g}",
    "give the scanner's micrometres per pixel, for example 0.25 (40x) or 0.5 (20x), or leave the cell empty",
)

GENE_MAP = TableSchema(
    "gene map",
    {"id": (FILLED,), "gene": ()},
    fix="give columns id and gene, as a Xena probe map has them",
)
SAMPLE_SHEET = TableSchema(
    "GDC sample sheet",
    {
        "File ID": (FILLED, PLAIN_NAME),
        "File Name": (FILLED, PLAIN_NAME),
        "Case ID": (FILLED,),
        "Sample ID": (FILLED,),
    },
    unique=("File ID", "File Name"),
    optional={"Sample Type": (), "Tissue Type": (), "Tumor Descriptor": (), "Specimen Type": ()},
    fix="download the sample sheet of this cart from the GDC again, and leave it as it is",
)
SLIDES_TABLE = TableSchema(
    "slides table",
    {"path": (FILLED, INSIDE)},
    optional={"slide_id": (), "patient_id": (), "mpp": (RESOLUTION,), "site": (), "donor": ()},
    fix="give one row a slide, with columns path and, as known, slide_id, patient_id, mpp, site, donor",
)
SECTIONS_TABLE = TableSchema(
    "table of sections",
    {"path": (FILLED, INSIDE)},
    optional={
        "section": (),
        "patient_id": (),
        "image": (INSIDE,),
        "format": (),
        "mpp": (RESOLUTION,),
    },
    fix="give one row a section, with columns path and, as known, section, patient_id, image, format, mpp",
)
SLIDES_MANIFEST = TableSchema(
    "slides manifest",
    {"slide_id": (FILLED, PLAIN_NAME), "patient_id": (FILLED,)},
    unique=("slide_id",),
    fix="give one row a slide, with its slide_id and patient_id",
)
