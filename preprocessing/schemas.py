"""Schemas of the tables that users give: their columns, the rules for cells, and the advice.

Cells are text, and a table's index holds the line numbers of the file, so that a message can name
the line. Clinical tables are declared in :mod:`~tcgn_mil.preprocessing.clinical.layouts`, because
their columns are named by the user. pandera, on which the schemas rest, is imported only when a
table is checked.
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


def _is_pitch(cells: pd.Series) -> pd.Series:
    return (cells == "") | pd.to_numeric(cells, errors="coerce").between(1e-3, 1000)


def _is_yes_or_no(cells: pd.Series) -> pd.Series:
    return cells.str.strip().str.lower().isin(["", *YES, *NO])


YES, NO = ("yes", "true", "1"), ("no", "false", "0")
YES_OR_NO = CellRule(_is_yes_or_no, "is neither yes nor no", "write yes or no, or empty the cell")
FILLED = CellRule(_is_filled, "is blank")
# Names become names of files, so they must not lead to another folder.
PLAIN_NAME = CellRule(_is_plain_name, "is not a plain file name")
# A relative path that climbs out of the table's folder usually means that the table was moved.
INSIDE = CellRule(
    _stays_inside,
    "leads out of the table's folder",
    "give an absolute path, or put the table beside the files that it names",
)
RESOLUTION = CellRule(
    _is_resolution,
    f"is not a resolution in µm per pixel, {MPP_RANGE[0]:g} to {MPP_RANGE[1]:g}",
    "give the scanner's micrometres per pixel, for example 0.25 (40x) or 0.5 (20x), or empty the"
    " cell",
)
PITCH = CellRule(
    _is_pitch,
    "is no distance of spots in µm, above 0 and at most 1000",
    "give the distance between the centres of neighbouring spots, or empty the cell",
)

GENE_MAP = TableSchema(
    "gene map",
    {"id": (FILLED,), "gene": ()},
    fix="give the columns id and gene, as in a probe map of UCSC Xena",
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
    optional={
        "Sample Type": (),
        "Tissue Type": (),
        "Tumor Descriptor": (),
        "Specimen Type": (),
        "Preservation Method": (),
    },
    fix="download the sample sheet of this cart from the GDC again, and do not edit it",
)
SLIDES_TABLE = TableSchema(
    "slides table",
    {"path": (FILLED, INSIDE)},
    optional={
        "slide_id": (),
        "patient_id": (),
        "mpp": (RESOLUTION,),
        "override_mpp": (YES_OR_NO,),
        "site": (),
        "donor": (),
    },
    fix="give one row per slide, with the column path and, where known, slide_id, patient_id, mpp,"
    " override_mpp, site and donor",
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
        "override_mpp": (YES_OR_NO,),
        "spot_pitch_um": (PITCH,),
    },
    fix="give one row per section, with the column path and, where known, section, patient_id,"
    " image, format, mpp, override_mpp and spot_pitch_um",
)
SLIDES_MANIFEST = TableSchema(
    "slides manifest",
    {"slide_id": (FILLED, PLAIN_NAME), "patient_id": (FILLED,)},
    unique=("slide_id",),
    fix="give one row per slide, with its slide_id and patient_id",
)
