"""Import a table with one vector of features for each slide.

The command is ``tcgn-mil import-features table.csv``. It is for slide encoders and for hand-made
descriptors such as nuclear morphology. Each slide becomes a bag of one tile. The tile has no
position and no size, so no map can be drawn of it. Its size is stored as 8 px of 1 µm, the smallest
that a feature file allows.

Columns are sorted by name, and the identity of the features is ``table:<name>@<digits>``, where the
digits are a hash of the sorted names. A model reads features by their position. Two tables under
one name could have other columns, or the same number of columns in another order, and a model of
one would then read the other without any error. With the hash in the identity, tables meet in one
model only if their columns have the same names. Constant columns and duplicates are kept, because
the table of the next cohort may vary where this one does not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.io.atomic import safe_file_name
from tcgn_mil.io.failures import Failure
from tcgn_mil.io.feature_files import write_feature_blocks
from tcgn_mil.io.tables.formats import table_module
from tcgn_mil.preprocessing.features.placement import WITHOUT_TILES
from tcgn_mil.preprocessing.features.readers.table import read_feature_table, read_names
from tcgn_mil.preprocessing.features.settings import TableSettings
from tcgn_mil.preprocessing.features.table_columns import TableColumns, assign_columns
from tcgn_mil.preprocessing.features.table_folder import TableFolder
from tcgn_mil.preprocessing.features.table_report import column_report, describe_columns
from tcgn_mil.preprocessing.slides.names import SlideFacts
from tcgn_mil.preprocessing.slides.readers import without_slide_suffix
from tcgn_mil.progress import Progress
from tcgn_mil.resume.cohort_list import plan_cohort
from tcgn_mil.tcga_barcodes import patient_of
from tcgn_mil.text import counted, preview
from tcgn_mil.types.features import TABLE, UNKNOWN, FeatureInfo


class ImportedTable(NamedTuple):
    """Result of an import.

    Attributes
    ----------
    done
        Descriptions of the files that were written.
    failures
        Rows that could not be used.
    notes
        One sentence for each decision about the table.
    """

    done: list[FeatureInfo]
    failures: list[Failure]
    notes: list[str]


class _Rows(NamedTuple):
    """Rows of a table: N different slides, the patients that it names, and (N, D) float32."""

    slides: list[str]
    patients: list[str] | None
    values: NDArray[np.float32]


def import_table(
    path: str | Path,
    encoder: str | None,
    out_dir: str | Path,
    *,
    settings: TableSettings | None = None,
    facts_of: Callable[[str], SlideFacts] | None = None,
) -> ImportedTable:
    """Write one feature file for each slide of a table.

    A missing value stays missing (NaN). A row without any value or with an infinite one is listed
    in ``failures.csv``. ``columns.csv`` gets the role of each column, and ``slides.csv`` the
    columns slide_id and patient_id of all slides in the folder, for ``tcgn-mil bulk --slides``.
    Tables of several cohorts can be imported into one folder.

    Parameters
    ----------
    path
        CSV or TSV (also .gz or .zip), or Parquet, with a slide in each row. The columns of slides
        and patients are found as :mod:`~tcgn_mil.preprocessing.features.table_columns` describes.
    encoder
        Name of the program or model that made the features.
    out_dir
        Folder for the files.
    settings
        Roles of columns that the table does not make clear.
    facts_of
        Function from a slide's name to its patient, which may raise InputError. By default the
        patients are those of the table or of TCGA names, else each slide is a patient of its own.

    Raises
    ------
    InputError
        If `encoder` is missing; the table cannot be read; the columns are not clear; a slide, or a
        patient who is its slide, has rows with different values; or the folder holds other features
        or another patient under the name of a slide.

    Examples
    --------
    >>> table = pd.DataFrame({"slide": ["S1", "S2"], "area": [4.2, 3.9], "axis": [1.5, None]})
    >>> table.to_csv("nuclei.csv", index=False)
    >>> result = import_table("nuclei.csv", "nuclei", "features")
    >>> [(info.slide_id, info.width, info.encoder) for info in result.done]
    [('S1', 2, 'table:nuclei@ad49433a'), ('S2', 2, 'table:nuclei@ad49433a')]
    """
    path, settings = Path(path), settings or TableSettings()
    if not (encoder or "").strip():
        raise InputError(
            "does not name what made its features", path=path, fix="give it with --encoder"
        )
    table = read_feature_table(path)
    columns = assign_columns(table, settings, path=path, patients_given=facts_of is not None)
    rows, repeated = _distinct_rows(_read_rows(table, columns, path), columns, path)
    identity = table_identity(str(encoder).strip(), columns.features)
    infos, failures = _describe(rows, identity, facts_of or _own_facts(rows))
    listed = plan_cohort(out_dir, path, [info.slide_id for info in infos.values()])
    folder = TableFolder(Path(out_dir), path.name, listed.left)
    values = {info.slide_id: rows.values[row] for row, info in infos.items()}
    folder.check(list(infos.values()), values, columns.features, failures)
    for row, info in Progress(infos.items(), desc="import-features", unit="slide"):
        write_feature_blocks(
            folder.path / f"{info.slide_id}.h5",
            iter([rows.values[[row]]]),
            np.full((1, 2), -1, dtype=np.int64),
            info,
            dtype=np.dtype(np.float32),
            names=columns.features,
            imported_from=path.name,
        )
    report = column_report(table, columns, rows.values)
    done = list(infos.values())
    folder.finish(done, failures, report)
    listed.apply(lambda name: [folder.path / f"{name}.h5"])
    notes = describe_columns(report, columns, patients_given=facts_of is not None)
    # Tables of several cohorts share a folder by design, so slides of the others are no news.
    gone = listed.sentences()[: len(listed.left) and 1]
    return ImportedTable(done, failures, [*notes, *repeated, *gone])


def import_tables(
    paths: Sequence[str | Path],
    encoder: str | None,
    out_dir: str | Path,
    *,
    settings: TableSettings | None = None,
    facts_of: Callable[[str], SlideFacts] | None = None,
) -> Iterator[ImportedTable]:
    """Import the tables of several cohorts into one folder, one after another.

    The parameters are those of :func:`import_table`. A column that is to be left out has to be in
    one of the tables, and need not be in all. The result of a table is yielded before the next
    table is read.
    """
    settings = settings or TableSettings()
    names = [set(table_module(path).column_names(path)) for path in paths]
    nowhere = set(settings.leave_out).difference(*names)
    for path, own in zip(paths, names, strict=True):
        # A name that no table has stays, so that the first table reports it.
        leave_out = tuple(name for name in settings.leave_out if name in own | nowhere)
        own_settings = replace(settings, leave_out=leave_out)
        yield import_table(path, encoder, out_dir, settings=own_settings, facts_of=facts_of)


def table_identity(encoder: str, features: Sequence[str]) -> str:
    """Return the identity of features of a table; the module says why it depends on their names.

    Examples
    --------
    >>> table_identity("nuclei", ["axis", "area"]) == table_identity("nuclei", ["area", "axis"])
    True
    """
    names = "\n".join(sorted(features))
    return f"{TABLE}{encoder}@{hashlib.sha256(names.encode()).hexdigest()[:8]}"


def _read_rows(table: pd.DataFrame, columns: TableColumns, path: Path) -> _Rows:
    """Return the names and the features of all rows."""
    patients = None
    if columns.patient is not None:
        patients = [patient_of(name) for name in read_names(path, columns.patient)]
    if columns.slide is not None:
        slides = [without_slide_suffix(name) for name in read_names(path, columns.slide)]
    else:
        assert patients is not None
        slides = patients
    with np.errstate(over="ignore"):  # a value beyond float32 becomes infinite, and is refused
        values = table[list(columns.features)].to_numpy(np.float64).astype(np.float32)
    return _Rows(slides, patients, values)


def _distinct_rows(rows: _Rows, columns: TableColumns, path: Path) -> tuple[_Rows, list[str]]:
    """Return one row for each slide, and a sentence about equal rows that were left out."""
    first: dict[str, int] = {}
    repeated: list[str] = []
    conflicting: dict[str, None] = {}
    for row, slide in enumerate(rows.slides):
        earlier = first.setdefault(slide, row)
        if earlier == row:
            continue
        same_patient = rows.patients is None or rows.patients[earlier] == rows.patients[row]
        if same_patient and _equal(rows.values[earlier], rows.values[row]):
            repeated.append(slide)
        else:
            conflicting[slide] = None
    if conflicting:
        patient_is_slide = columns.slide is None
        raise InputError(
            f"{'patient' if patient_is_slide else 'slide'} {preview(list(conflicting))} has several"
            " rows with different values",
            path=path,
            fix="give --slide-column with the column that tells the slides of a patient apart"
            if patient_is_slide
            else "keep one row for each slide",
        )
    kept = list(first.values())
    patients = None if rows.patients is None else [rows.patients[row] for row in kept]
    notes = []
    if repeated:
        notes = [f"{counted(len(repeated), 'row')} left out as repeated: {preview(repeated)}"]
    return _Rows(list(first), patients, rows.values[kept]), notes


def _equal(first: NDArray[np.float32], second: NDArray[np.float32]) -> bool:
    return bool(np.array_equal(first, second, equal_nan=True))


def _own_facts(rows: _Rows) -> Callable[[str], SlideFacts]:
    """Return the function that looks a slide's patient up in the table, or in its TCGA name."""
    if rows.patients is None:
        return lambda slide: SlideFacts(patient_of(slide))
    patients = dict(zip(rows.slides, rows.patients, strict=True))
    return lambda slide: SlideFacts(patients[slide])


def _describe(
    rows: _Rows, identity: str, facts_of: Callable[[str], SlideFacts]
) -> tuple[dict[int, FeatureInfo], list[Failure]]:
    """Return the description of each usable row by its number, and the other rows."""
    infos: dict[int, FeatureInfo] = {}
    failures: list[Failure] = []
    for row, (slide, values) in enumerate(zip(rows.slides, rows.values, strict=True)):
        try:
            if np.isinf(values).any():
                raise InputError(
                    f"has {counted(int(np.isinf(values).sum()), 'value')} that are infinite or too"
                    " large for float32",
                    fix="correct the cells, or empty them if the values are not known",
                )
            if np.isnan(values).all():
                raise InputError("has no value", fix="fill the row, or remove it")
            infos[row] = FeatureInfo(
                safe_file_name(slide, what="slide id"),
                facts_of(slide).patient_id,
                1,
                len(values),
                identity,
                WITHOUT_TILES,
                positions=UNKNOWN,
            )
        except InputError as error:
            failures.append(Failure(slide, "import-features", error.reason, error.fix or ""))
    return infos, failures
