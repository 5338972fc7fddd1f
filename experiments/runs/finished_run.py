"""Read what a finished run wrote, for the report: its summary, its tables and its figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from tcgn_mil.experiments.runs.glossary import MEANINGS, PREDICTORS, with_plain_names
from tcgn_mil.experiments.runs.page import Picture, Table, as_picture, as_table
from tcgn_mil.file_formats.csv_table import read_own_csv

# Rows that the page shows of a table of genes, other than the one that readers search.
OTHER_ROWS = 3000
# Runs and tables are looked for at most this many folders below those that the user gave.
DEEPEST = 3


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes
    ----------
    folder
        Folder of the run.
    made
        Content of ``run.json``: kind, config and versions.
    summary
        Content of ``summary.json``.
    name
        Words that tell this run from others of its kind on the same page. Empty if it is alone.
    """

    folder: Path
    made: Mapping[str, Any]
    summary: Mapping[str, Any]
    name: str = ""

    @property
    def kind(self) -> str:
        """Kind of the run, usually the verb that made it."""
        return str(self.made.get("kind"))

    def title(self, words: str) -> str:
        """Return the title of a section, with the name of the run if it has one."""
        return f"{words} ({self.name})" if self.name else words

    def frame(self, file: str, *, sort: str | None = None, down: bool = True) -> pd.DataFrame:
        """Read a CSV file of the run; the table is empty if the run did not write it.

        Parameters
        ----------
        file
            Name of the file in the run folder.
        sort
            Column to sort by, if the table has it.
        down
            Whether large values come first.
        """
        path = self.folder / file
        if not path.is_file():
            return pd.DataFrame()
        frame = read_result_table(path, empty=[""])
        if sort is None or sort not in frame:
            return frame
        return frame.sort_values(sort, ascending=not down, kind="stable")


def table_of(
    run: Run,
    file: str,
    caption: str,
    columns: Mapping[str, str | tuple[str, str, str]],
    *,
    sort: str | None = None,
    down: bool = True,
    max_rows: int = 500,
) -> list[Table]:
    """Return a table of the run under plain column names, in a list that is empty without rows.

    Parameters
    ----------
    run, file
        The run, and the name of a CSV file in its folder.
    caption
        Words above the table.
    columns
        Plain name of each shown column, and the column of the file. Three columns stand for a
        value and its interval.
    sort, down
        Column to sort by, and whether large values come first.
    max_rows
        Number of rows that are shown.
    """
    frame = run.frame(file, sort=sort, down=down)
    if not len(frame):
        return []
    if "predictor" in frame:
        plain = frame["predictor"].map(lambda name: PREDICTORS.get(name, name))
        frame = frame.assign(predictor=plain)
    shown = with_plain_names(frame, columns)
    where = f"The whole table is in {run.folder.name}/{file}."
    return [as_table(shown, caption, max_rows=max_rows, meanings=MEANINGS, note=where)]


def pictures_of(run: Run, captions: Mapping[str, str]) -> list[Picture]:
    """Return the figures that the run drew, among those that `captions` names by file."""
    return [
        as_picture(run.folder / name, text)
        for name, text in captions.items()
        if (run.folder / name).is_file()
    ]


def warnings_of(labels: Iterable[str] | None) -> list[str]:
    """Return the labels of a run as sentences."""
    return [f"{str(label).rstrip('.')}." for label in labels or ()]


def where_figures_are(run: Run) -> str:
    """Return the sentence that tells where the figures of a run are as files."""
    if any(run.folder.glob("*_figure.csv")):
        return (
            f"Each figure is also in {run.folder.name}/ as PNG and PDF, and the values it shows are"
            " beside it as CSV (<name>_figure.csv)."
        )
    return f"Each figure is also in {run.folder.name}/ as PNG."


def files_below(folders: Iterable[Path], name: str) -> list[Path]:
    """Return the files of a name at most `DEEPEST` folders below those given, each once."""
    paths = [
        path
        for folder in folders
        for depth in range(DEEPEST + 1)
        for path in sorted(folder.glob("/".join(["*"] * depth + [name])))
    ]
    return list({path.resolve(): path for path in paths}.values())


def read_result_table(path: Path, *, empty: Sequence[str] = ()) -> pd.DataFrame:
    """Read a CSV file that a stage wrote.

    Parameters
    ----------
    path
        The file.
    empty
        Cells that mean a missing value. No name does by itself, since a gene may be called NA.

    Raises
    ------
    InputError
        If the file is damaged.
    """
    return read_own_csv(
        path,
        what="a table",
        fix="run the command that wrote it again",
        keep_default_na=False,
        na_values=list(empty),
    )
