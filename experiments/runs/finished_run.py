"""A finished run as the report sees it: its summary, its tables under plain names, its figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.runs.glossary import MEANINGS, PREDICTORS, with_plain_names
from tcgn_mil.experiments.runs.page import Picture, Table, as_picture, as_table

OTHER_ROWS = 3000  # of a table of genes that is not the one to search


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, what made it, its summary; `name` tells it from others of its kind, or is empty."""

    folder: Path
    made: Mapping[str, Any]
    summary: Mapping[str, Any]
    name: str = ""

    @property
    def kind(self) -> str:
        """Verb that made it."""
        return str(self.made.get("kind"))

    def title(self, words: str) -> str:
        """A section's title, with the run's folder where the page has several such runs."""
        return f"{words} ({self.name})" if self.name else words

    def frame(self, file: str, *, sort: str | None = None, down: bool = True) -> pd.DataFrame:
        """A table of the run, empty if it wrote none."""
        path = self.folder / file
        if not path.is_file():
            return pd.DataFrame()
        frame = read_cells(path, empty=[""])
        return (
            frame.sort_values(sort, ascending=not down, kind="stable") if sort in frame else frame
        )


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
    """Columns of a table of the run under plain names, if it wrote one that has rows; where all of it is."""
    frame = run.frame(file, sort=sort, down=down)
    if not len(frame):
        return []
    if "predictor" in frame:
        frame = frame.assign(
            predictor=frame["predictor"].map(lambda name: PREDICTORS.get(name, name))
        )
    where = f"all of it: {run.folder.name}/{file}"
    return [
        as_table(
            with_plain_names(frame, columns),
            caption,
            max_rows=max_rows,
            meanings=MEANINGS,
            note=where,
        )
    ]


def pictures_of(run: Run, captions: Mapping[str, str]) -> list[Picture]:
    """Those figures that the run drew."""
    return [
        as_picture(run.folder / name, text)
        for name, text in captions.items()
        if (run.folder / name).is_file()
    ]


def warnings_of(labels: Iterable[str] | None) -> list[str]:
    """Labels of a run as sentences."""
    return [f"{str(label).rstrip('.')}." for label in labels or ()]


def where_figures_are(run: Run) -> str:
    """Where the figures are as files."""
    return (
        f"Each figure is also in {run.folder.name}/ as PNG and PDF, with what it draws as CSV (<name>_figure.csv)."
        if any(run.folder.glob("*_figure.csv"))
        else f"Each figure is also in {run.folder.name}/ as PNG."
    )


DEEPEST = 3


def files_below(folders: Iterable[Path], name: str) -> list[Path]:
    """Files of a name at most `DEEPEST` folders below those given, each once."""
    found = [
        path
        for folder in folders
        for depth in range(DEEPEST + 1)
        for path in sorted(folder.glob("/".join(["*"] * depth + [name])))
    ]
    return list({path.resolve(): path for path in found}.values())


def read_cells(path: Path, *, empty: Sequence[str] = ()) -> pd.DataFrame:
    """A CSV that a step wrote; cells in `empty` are missing, and no name is: a gene may be called NA.

    Raises
    ------
    InputError
        If it is damaged.
    """
    try:
        return pd.read_csv(path, keep_default_na=False, na_values=list(empty))
    except (
        ValueError,
        UnicodeDecodeError,
    ) as error:  # pandas' own errors of tables are ValueErrors
        raise InputError(
            f"cannot be read as a table ({error})", path=path, fix="run its command again"
        ) from error
