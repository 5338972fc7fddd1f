"""Read RSEM tables of Firehose and of the old TCGA portal, which have two header rows.

The first header row (``Hybridization REF``) names the samples, the second one what each column
holds. Files of normalised values have one column for each sample. Other files have three:
``raw_count``, ``scaled_estimate`` (a share of one, that is TPM divided by a million) and
``transcript_id``.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.bulk.expression_table import ExpressionRequest, ExpressionTable
from tcgn_mil.preprocessing.bulk.readers.base import ExpressionReader, as_float32
from tcgn_mil.preprocessing.bulk.readers.text_matrix import leading_lines, read_text_matrix
from tcgn_mil.text import preview

FIREHOSE = "firehose"
_FIRST = "Hybridization REF"
_TEXT = "transcript_id"
# Unit to the column that holds it, and the factor that brings the column to the unit.
_COLUMN_OF = {"counts": ("raw_count", 1.0), "tpm": ("scaled_estimate", 1e6)}


def is_firehose(path: Path) -> bool:
    """Return whether a file is Firehose's, judged by the first cell of both header rows."""
    lines = leading_lines(path, 2)
    return len(lines) == 2 and lines[0].strip('"').startswith(_FIRST) and "\t" in lines[1]


def read_firehose(path: Path, request: ExpressionRequest) -> ExpressionTable:
    """Read one kind of values of a table with two header rows.

    Raises
    ------
    InputError
        If the two header rows do not fit, or the table holds several kinds of values and none of
        the declared unit.
    """
    samples = [name.strip().strip('"') for name in leading_lines(path, 1)[0].split("\t")]
    matrix = read_text_matrix(path, skip=1, text_columns=(_TEXT,))
    if len(samples) != len(matrix.columns):
        raise InputError(
            f"names {len(samples)} columns in row 1 and {len(matrix.columns)} in row 2",
            path=path,
            fix="download the file again",
        )
    kinds = matrix.columns[1:]
    wanted, factor = _COLUMN_OF.get(str(request.unit), ("", 1.0))
    stated = [kind for kind in dict.fromkeys(kinds) if kind != _TEXT]
    if wanted not in stated:
        wanted, factor = stated[0] if len(stated) == 1 else "", 1.0
    if not wanted:
        raise InputError(
            f"holds {preview(stated)}, and none of them is {request.unit}",
            path=path,
            fix="declare --unit counts for raw_count, or --unit tpm for scaled_estimate",
        )
    chosen = [at for at, kind in enumerate(kinds, start=1) if kind == wanted]
    values = matrix.cells[chosen]
    values.columns = pd.Index([samples[at] for at in chosen])
    values.index = pd.Index(matrix.ids)
    note = f"{path.name}: values are the columns {wanted}" + " times 1e6" * (factor != 1)
    return ExpressionTable(as_float32(values, path).T * factor, FIREHOSE, notes=(note,))


READER = ExpressionReader((FIREHOSE,), is_firehose, read_firehose)
