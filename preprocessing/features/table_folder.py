"""Keep the folder into which tables of features are imported, one table after another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.csv_table import read_own_csv
from tcgn_mil.io.atomic import write_csv
from tcgn_mil.io.failures import Failure, read_failures, write_failures
from tcgn_mil.io.feature_files import read_feature_info, read_feature_names, read_features
from tcgn_mil.io.hdf5 import json_attr, open_hdf5
from tcgn_mil.resume.set_aside import set_aside
from tcgn_mil.text import preview
from tcgn_mil.types.features import FeatureInfo

COLUMNS, SLIDES = "columns.csv", "slides.csv"


class TableFolder:
    """Feature files of tables, with the lists that describe them.

    A cohort of several cancers is several tables. They share the folder, the identity of their
    features and the lists, so that ``slides.csv`` names all slides.

    Parameters
    ----------
    path
        The folder; it need not exist.
    source
        Name of the table that is imported.
    left
        Slides that the table had at an earlier import and has no longer.
    """

    def __init__(self, path: Path, source: str, left: Sequence[str] = ()) -> None:
        self.path, self.source, self.left = path, source, frozenset(left)
        self._others: list[FeatureInfo] = []
        self._stale: list[Path] = []

    def check(
        self,
        infos: Sequence[FeatureInfo],
        values: Mapping[str, NDArray[np.float32]],
        names: Sequence[str],
        failures: Sequence[Failure],
    ) -> None:
        """Compare the slides of a table with those in the folder, before anything is written.

        Parameters
        ----------
        infos
            Slides of the table.
        values
            (D,) features of each slide.
        names
            Names of the D features.
        failures
            Rows of the table that cannot be used.

        Raises
        ------
        InputError
            If a slide of the folder has other features than this table, or a slide of both has
            another patient, or other values from another table.
        """
        new = {info.slide_id: info for info in infos}
        failed = {failure.slide for failure in failures}
        for file in sorted(self.path.glob("[!.]*.h5")):
            if file.stem in new:
                self._check_same_slide(file, new[file.stem], values[file.stem])
                continue
            if file.stem in failed or file.stem in self.left:
                self._stale.append(file)
                continue
            other = read_feature_info(file)
            first = next(iter(new.values()), None)
            if first is not None and other.encoder != first.encoder:
                raise self._other_features(file, other.encoder, first.encoder, names)
            self._others.append(other)

    def _check_same_slide(self, file: Path, info: FeatureInfo, values: NDArray[np.float32]) -> None:
        """Accept a slide of the folder that is imported again, with its present values."""
        try:
            before, source = read_features(file), _source_of(file)
        except InputError:
            return  # a damaged file is written again
        if before.info.patient_id != info.patient_id:
            raise InputError(
                f"slide {info.slide_id} is of patient {before.info.patient_id} in this folder, but"
                f" of {info.patient_id} in {self.source}",
                path=self.path,
                fix="correct the name of the slide, or choose another folder for --out",
            )
        if source != self.source and not np.array_equal(
            before.features, values[None], equal_nan=True
        ):
            raise InputError(
                f"slide {info.slide_id} has other features in this folder, from"
                f" {source or 'an encoder'}, than in {self.source}",
                path=self.path,
                fix="rename one of the two slides, or choose another folder for --out",
            )

    def _other_features(
        self, file: Path, before: str, now: str, names: Sequence[str]
    ) -> InputError:
        """Describe the difference between features of the folder and those of the table."""
        known = read_feature_names(file)
        only = [name for name in names if name not in known]
        lacking = [name for name in known if name not in names]
        difference = ""
        if known and only:
            difference += f"; only this table has {preview(only)}"
        if known and lacking:
            difference += f"; it lacks {preview(lacking)}"
        return InputError(
            f"holds features of {before} ({file.name}), but {self.source} gives {now}{difference}",
            path=self.path,
            fix=f"give --leave-out {only[0]!r}"
            if known and len(only) == 1 and not lacking
            else "choose another folder for --out",
        )

    def finish(
        self, done: Sequence[FeatureInfo], failures: Sequence[Failure], report: pd.DataFrame
    ) -> None:
        """Write ``slides.csv``, ``columns.csv`` and ``failures.csv`` for all tables of the folder.

        A file of an earlier attempt whose slide failed now, or left the table, is set aside.
        """
        set_aside(self.path, self._stale)
        slides = [(info.slide_id, info.patient_id) for info in (*self._others, *done)]
        write_csv(self.path / SLIDES, pd.DataFrame(slides, columns=["slide_id", "patient_id"]))
        write_csv(self.path / COLUMNS, self._with_earlier_reports(report))
        handled = {failure.slide for failure in failures} | {info.slide_id for info in done}
        earlier = [row for row in read_failures(self.path) if row.slide not in handled]
        write_failures(self.path, [*earlier, *failures])

    def _with_earlier_reports(self, report: pd.DataFrame) -> pd.DataFrame:
        """Return the reports of all tables of the folder, each with the name of its table."""
        report = report.assign(table=self.source)
        path = self.path / COLUMNS
        if not path.is_file():
            return report
        earlier = read_own_csv(
            path,
            what="a report on the columns of a table",
            fix="remove the file",
            keep_default_na=False,
        )
        if list(earlier) != list(report):
            return report
        return pd.concat([earlier[earlier["table"] != self.source], report])


def _source_of(file: Path) -> str:
    """Return the name of the file that features were imported from; empty if they were encoded."""
    with open_hdf5(file, kind="feature") as opened:
        return str(json_attr(opened, "provenance", kind="feature").get("imported_from", ""))
