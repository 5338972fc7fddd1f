"""Read a table with one vector of features for each slide."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.slides.readers import without_slide_suffix
from tcgn_mil.text import duplicates, preview

SUFFIXES = (".csv", ".tsv")


def is_feature_table(path: Path) -> bool:
    """Return whether a file is a table, judged by its suffix."""
    return path.suffix in SUFFIXES


def read_feature_table(path: Path) -> pd.DataFrame:
    """Read a table of slide features.

    Parameters
    ----------
    path
        CSV or TSV. The first column names the slides, the others hold numbers.

    Returns
    -------
    pandas.DataFrame
        Slides x features. Slide names have lost the suffix of a slide file (``.svs``).

    Raises
    ------
    InputError
        If the table cannot be read, a slide occurs twice, or a column has text.
    """
    if not path.is_file():
        raise InputError("no such table of features", path=path, fix="check the path")
    try:
        table = pd.read_csv(path, sep="\t" if path.suffix == ".tsv" else ",", converters={0: str})
        table = table.set_index(table.columns[0])
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(
            f"cannot be read as a table ({error})", path=path, fix="save it as CSV again"
        ) from error
    text = [
        str(name) for name, kind in table.dtypes.items() if not pd.api.types.is_numeric_dtype(kind)
    ]
    if text or not table.shape[1]:
        what = f"columns {preview(text)} are not numbers" if text else "has no column of features"
        raise InputError(
            what, path=path, fix="put the slides in the first column and numbers in the others"
        )
    table.index = pd.Index([without_slide_suffix(str(name)) for name in table.index])
    if repeated := duplicates(list(table.index)):
        raise InputError(
            f"names slide {preview(repeated)} more than once",
            path=path,
            fix="keep one row for each slide",
        )
    return table
