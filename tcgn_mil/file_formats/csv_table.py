"""Read CSV tables that this package writes.

Tables of users are read by :mod:`tcgn_mil.io.tables`, which also accepts other forms.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.reading import describe_damage
from tcgn_mil.file_formats.spreadsheet_cells import restore_cell, restore_table
from tcgn_mil.text import duplicates, preview

if TYPE_CHECKING:
    import pandas as pd

MAX_CSV_BYTES = 2**31


def read_own_csv(
    path: str | Path, *, what: str, fix: str, needs: Sequence[str] = (), **options: Any
) -> pd.DataFrame:
    """Read a CSV table that this package wrote.

    Parameters
    ----------
    path
        UTF-8 text with commas. Files under other names than .csv are not unpacked.
    what
        Kind of table in the message, for example ``the table of a model's slides``.
    fix
        Advice for the user.
    needs
        Columns that the table must have.
    **options
        Arguments of :func:`pandas.read_csv`.

    Returns
    -------
    DataFrame

    Raises
    ------
    InputError
        If the file is missing, is larger than 2 GiB or is not such a table, or if a column is
        missing or repeated.
    """
    import pandas as pd

    path = Path(path)
    with describe_damage(path, what=what, fix=fix):
        if not path.is_file():
            raise InputError(f"there is no such file ({what})", path=path, fix=fix)
        if path.stat().st_size > MAX_CSV_BYTES:
            raise InputError(f"is too large for {what}", path=path, fix=fix)
        header = pd.read_csv(path, header=None, nrows=1, dtype=str, keep_default_na=False)
        names = [str(restore_cell(name)) for name in header.iloc[0] if name]
        if repeated := duplicates(names):
            raise InputError(f"has column {preview(repeated)} more than once", path=path, fix=fix)
        if absent := [name for name in needs if name not in names]:
            raise InputError(f"has no column {preview(absent)}", path=path, fix=fix)
        return restore_table(pd.read_csv(path, **{"compression": None, **options}))
