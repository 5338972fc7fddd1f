"""Check that a clinical table has the columns that the user names."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.clinical.options import ClinicalOptions
from tcgn_mil.text import preview


def check_named_columns(path: Path, columns: Sequence[str], options: ClinicalOptions) -> None:
    """Refuse a column that is named and that the table does not have.

    Raises
    ------
    InputError
        If a column is missing. The message names the option, and the column that is most alike.

    Examples
    --------
    >>> check_named_columns(Path("t.csv"), ["id", "days"], ClinicalOptions(times=("dais",)))
    Traceback (most recent call last):
    ...
    tcgn_mil.errors.InputError: t.csv: has no column 'dais' (--time-column). Fix: did you mean \
'days'?
    """
    named = (
        ("--patient-column", (options.patient,)),
        ("--time-column", options.times),
        ("--censored-time-column", options.censored_times),
        ("--event-column", options.events),
        ("--entry-column", (options.entry,)),
    )
    for option, names in named:
        for name in names:
            if not name or name in columns:
                continue
            close = difflib.get_close_matches(name, columns, n=1)
            raise InputError(
                f"has no column {name!r} ({option})",
                path=path,
                fix=f"did you mean {close[0]!r}?"
                if close
                else f"choose one of {preview(list(columns), most=12)}",
            )
