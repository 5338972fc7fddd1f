"""Write failures.csv, which lists the slides that could not be processed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from tcgn_mil.io.atomic import write_csv

if TYPE_CHECKING:
    import pandas as pd

FILE_NAME = "failures.csv"


@dataclass(frozen=True)
class Failure:
    """One row of failures.csv.

    Attributes
    ----------
    slide
        Name of the slide.
    stage
        Step that failed, for example ``tile`` or ``encode``.
    reason
        Description of the problem.
    likely_fix
        Suggestion for the user; may be empty.
    """

    slide: str
    stage: str
    reason: str
    likely_fix: str = ""


def read_failures(folder: str | Path) -> list[Failure]:
    """Read the rows of failures.csv; there are none if the folder has no such file."""
    import pandas as pd

    path = Path(folder) / FILE_NAME
    if not path.is_file():
        return []
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    columns = [column.name for column in fields(Failure)]
    return [Failure(*row) for row in table[columns].itertuples(index=False)]


def write_failures(folder: str | Path, failures: Sequence[Failure]) -> None:
    """Write failures.csv, or remove an older one if nothing failed.

    Parameters
    ----------
    folder
        Output folder of the run.
    failures
        The rows.
    """
    path = Path(folder) / FILE_NAME
    if not failures:
        path.unlink(missing_ok=True)
        return
    write_csv(path, failure_table(failures))


def failure_table(failures: Sequence[Failure]) -> pd.DataFrame:
    """Return failures as a table with the columns of failures.csv."""
    import pandas as pd

    columns = [column.name for column in fields(Failure)]
    return pd.DataFrame([astuple(failure) for failure in failures], columns=columns)
