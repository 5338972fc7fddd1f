"""Decide the role of each column of a table of features: slide, patient, feature, or left out.

Tables of published features name their slides and patients in many ways. The rules here are few,
and each decision is reported with its reason. Where two columns could have the same role, nothing
is guessed: the error names them and the option that decides.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.features.settings import TableSettings
from tcgn_mil.preprocessing.slides.names import PATIENT_COLUMNS
from tcgn_mil.tcga_barcodes import parse_barcode, patient_of
from tcgn_mil.text import preview

SLIDE, PATIENT, FEATURE, LEFT_OUT = "slide", "patient", "feature", "left out"
_PATIENT_WORDS = frozenset({"patient", "patients", "case", "donor", "subject", "participant"})
# "slide_id", "H & E_ID" and "slideID", but not "GRID".
_ID_NAME = re.compile(r"(?:(?:^|[\W_])[Ii][Dd]|[a-z]I[Dd])$")


class TableColumns(NamedTuple):
    """Roles of the columns of a table.

    Attributes
    ----------
    slide
        Column that names the slides. None if each patient has one slide, which bears its name.
    patient
        Column that names the patients. None if the name of the slide leads to the patient.
    features
        Columns of features, sorted by name.
    roles
        Role and reason of every column, in the order of the table.
    """

    slide: str | None
    patient: str | None
    features: tuple[str, ...]
    roles: dict[str, tuple[str, str]]


def assign_columns(
    table: pd.DataFrame, settings: TableSettings, *, path: Path, patients_given: bool = False
) -> TableColumns:
    """Decide the role of each column.

    Parameters
    ----------
    table
        The table, as :func:`~tcgn_mil.preprocessing.features.readers.table.read_feature_table`
        gives it.
    settings
        Decisions of the user.
    path
        File of the table, for error messages.
    patients_given
        Whether the patients come from elsewhere, so that the table need not name them.

    Raises
    ------
    InputError
        If a column of `settings` does not exist, the slides or the patients are not clear, or no
        column is a feature.

    Examples
    --------
    >>> table = pd.DataFrame({
    ...     "cohort": ["LUAD", "LUAD"],
    ...     "bcr_patient_barcode": ["TCGA-49-AARO", "TCGA-49-AARO"],
    ...     "pathai_slide_id": [75661, 75662],
    ...     "area": [52.8, 31.1],
    ... })
    >>> columns = assign_columns(table, TableSettings(), path=Path("luad.csv"))
    >>> columns.slide, columns.patient, columns.features
    ('pathai_slide_id', 'bcr_patient_barcode', ('area',))
    """
    _check_settings(table, settings, path)
    usable = table.drop(columns=list(settings.leave_out))
    barcodes = [
        name
        for name in _names(usable)
        if not _numeric(usable[name]) and _are_barcodes(usable[name])
    ]
    roles = dict.fromkeys(settings.leave_out, (LEFT_OUT, "by --leave-out"))
    patient, why = _patient_column(usable, barcodes, settings, path, patients_given)
    slide, why_slide = _slide_column(usable, barcodes, patient, settings, path)
    if slide == patient:
        patient = None
    if patients_given and patient is not None:
        # The patients are looked up by the names of the slides.
        if slide is None:
            slide, why_slide = patient, "no column names slides, so the patient is the slide"
        else:
            roles[patient] = (LEFT_OUT, "the patients come from --patients")
        patient = None
    if slide is not None:
        roles[slide] = (SLIDE, why_slide)
    if patient is not None:
        roles[patient] = (PATIENT, why)
    if patient is not None and slide is None:
        roles[patient] = (PATIENT, f"{why}; no column names slides, so the patient is the slide")
    for name in _names(usable):
        if name not in roles:
            roles[name] = _role(usable[name], name, barcodes, patient or slide)
    if patient is None and not patients_given and slide not in barcodes:
        _check_patients_known(
            usable, [name for name in _names(usable) if roles[name][0] == LEFT_OUT], path
        )
    features = tuple(sorted(name for name in _names(usable) if roles[name][0] == FEATURE))
    if not features:
        raise InputError(
            "has no column of features", path=path, fix="give numbers beside the names of slides"
        )
    return TableColumns(slide, patient, features, {name: roles[name] for name in _names(table)})


def _check_settings(table: pd.DataFrame, settings: TableSettings, path: Path) -> None:
    names = _names(table)
    chosen = [name for name in (settings.slide_column, settings.patient_column) if name is not None]
    for name in (*chosen, *settings.leave_out):
        if name not in names:
            close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
            close = close or [other for other in names if name.lower() in other.lower()]
            fix = f"did you mean {preview(close)}?" if close else ""
            raise InputError(
                f"has no column {name!r}",
                path=path,
                fix=fix or f"choose from its columns: {preview(names)}",
            )
    if both := [name for name in chosen if name in settings.leave_out]:
        raise InputError(
            f"column {both[0]!r} is to name slides or patients, and also to be left out",
            path=path,
            fix=f"remove --leave-out {both[0]}",
        )


def _patient_column(
    usable: pd.DataFrame,
    barcodes: Sequence[str],
    settings: TableSettings,
    path: Path,
    patients_given: bool,
) -> tuple[str | None, str]:
    """Return the column of patients and the reason; None if the slides lead to the patients."""
    if settings.patient_column is not None:
        return settings.patient_column, "--patient-column"
    _check_agreement(usable, barcodes, path)
    # A barcode that goes on to a portion and a kind names a slide, and not only a patient.
    persons = [
        name for name in barcodes if name != settings.slide_column and not _are_slides(usable[name])
    ]
    if persons:
        return persons[0], "every value is a TCGA barcode"
    if barcodes:
        return None, ""
    others = [name for name in _names(usable) if name != settings.slide_column]
    for known in PATIENT_COLUMNS:
        for name in others:
            if name.lower() == known and _may_be_names(usable[name]):
                return name, "a usual name for a column of patients"
    suspects = [
        name
        for name in others
        if _PATIENT_WORDS & {*re.split(r"[^a-z]+", name.lower())} and _may_be_names(usable[name])
    ]
    if suspects and not patients_given:
        raise InputError(
            f"does not say clearly whose slides these are: {preview(suspects)} may name the"
            " patients",
            path=path,
            fix=f"give --patient-column, for example --patient-column {suspects[0]!r}",
        )
    return None, ""


def _check_agreement(usable: pd.DataFrame, barcodes: Sequence[str], path: Path) -> None:
    patients = [[patient_of(value) for value in usable[name]] for name in barcodes]
    differing = [name for name, own in zip(barcodes, patients, strict=True) if own != patients[0]]
    if differing:
        raise InputError(
            f"columns {preview([barcodes[0], *differing])} hold TCGA barcodes of different"
            " patients",
            path=path,
            fix=f"give --patient-column, for example --patient-column {barcodes[0]!r}",
        )


def _slide_column(
    usable: pd.DataFrame,
    barcodes: Sequence[str],
    patient: str | None,
    settings: TableSettings,
    path: Path,
) -> tuple[str | None, str]:
    """Return the column of slides and the reason; None if each patient is its slide."""
    if settings.slide_column is not None:
        return settings.slide_column, "--slide-column"
    # Two equal rows are one, so that they do not make the name of a slide occur twice.
    rows = usable.drop_duplicates()
    names = [name for name in _names(usable) if name != patient and _may_be_names(usable[name])]
    unique = [name for name in names if rows[name].is_unique]
    first = _names(usable)[0]
    may_be_first = first in names and not _counts_rows(usable[first], first)
    reasons: dict[str, str] = {}
    # Whole numbers in the first column may be a feature, unless their name is that of an id.
    if may_be_first and first in unique and (not _numeric(usable[first]) or _ID_NAME.search(first)):
        reasons[first] = "the first column, whose values are all different"
    for name in unique:
        if "slide" in name.lower():
            reasons.setdefault(name, "'slide' in its name, and its values are all different")
    for name in barcodes:
        if name != patient and _are_slides(usable[name]):
            reasons.setdefault(name, "every value is the TCGA barcode of a slide")
    candidates = _without_equal(usable, list(reasons))
    if len(candidates) > 1:
        raise InputError(
            f"does not say clearly which column names the slides: {preview(candidates)}",
            path=path,
            fix=f"give --slide-column, for example --slide-column {candidates[0]!r}",
        )
    if candidates:
        return candidates[0], reasons[candidates[0]]
    if patient is None:
        # The first column names the rows if nothing else does. A name that it repeats with other
        # values and a row without a name are refused later.
        if may_be_first or not _numeric(usable[first]):
            return first, "the first column, and no other column names slides or patients"
        raise InputError(
            "has no column that names the slides or the patients",
            path=path,
            fix="give --slide-column, or put the names of the slides into the first column",
        )
    if may_be_first and first in unique:
        raise InputError(
            f"column {first!r} holds whole numbers that never repeat, which may be names of slides"
            " or a feature",
            path=path,
            fix=f"give --slide-column {first!r}; if it is a feature, --slide-column {patient!r}",
        )
    return None, ""


def _without_equal(usable: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """Return the columns without those that repeat the values of an earlier one."""
    kept: list[str] = []
    for name in names:
        if not any(usable[name].equals(usable[other]) for other in kept):
            kept.append(name)
    return kept


def _role(
    column: pd.Series, name: str, barcodes: Sequence[str], names_patients: str | None
) -> tuple[str, str]:
    """Return role and reason of a column that names neither the slides nor the patients."""
    if name in barcodes:
        return LEFT_OUT, f"names the same patients as {names_patients}"
    if not _numeric(column):
        numbers = pd.to_numeric(column, errors="coerce")
        text = column[numbers.isna() & column.notna()]
        if text.empty:
            return (
                LEFT_OUT,
                f"numbers that are stored as text, for example {column.dropna().iloc[0]!r}",
            )
        share = f" in {len(text)} of {column.notna().sum()} cells" if numbers.notna().any() else ""
        return LEFT_OUT, f"text{share}, for example {str(text.iloc[0])[:40]!r}"
    if _counts_rows(column, name):
        return LEFT_OUT, "numbers of the rows"
    if _ID_NAME.search(name) and _whole_numbers(column):
        return LEFT_OUT, "whole numbers under the name of an id"
    if name.lower() == "mpp":
        return LEFT_OUT, "resolution of the slide, which depends on the scanner"
    return FEATURE, ""


def _check_patients_known(usable: pd.DataFrame, left_out: Sequence[str], path: Path) -> None:
    """Refuse a table in which some but not all cells of a column are TCGA barcodes."""
    for name in left_out:
        if _numeric(usable[name]):
            continue
        known = [isinstance(value, str) and _is_barcode(value) for value in usable[name]]
        if any(known) and not all(known):
            row = known.index(False)
            raise InputError(
                f"column {name!r}, row {row + 2}: {usable[name].iloc[row]!r} is not a TCGA barcode,"
                " but other cells are, so that it is not clear whose slides these are",
                path=path,
                fix=f"correct the cell, or give --patient-column {name!r}",
            )


def _names(table: pd.DataFrame) -> list[str]:
    return [str(name) for name in table.columns]


def _numeric(column: pd.Series) -> bool:
    return bool(pd.api.types.is_numeric_dtype(column))


def _whole_numbers(column: pd.Series) -> bool:
    return bool(pd.api.types.is_integer_dtype(column))


def _may_be_names(column: pd.Series) -> bool:
    """Return whether a column is complete and holds text or whole numbers."""
    return bool(column.notna().all()) and (not _numeric(column) or _whole_numbers(column))


def _counts_rows(column: pd.Series, name: str) -> bool:
    """Return whether a column without a name counts the rows, as pandas and R write it."""
    if name not in ("", "Unnamed: 0") or not _whole_numbers(column):
        return False
    return bool((column.to_numpy() - column.iloc[0] == range(len(column))).all())


def _is_barcode(value: str) -> bool:
    return parse_barcode(value) is not None


def _are_barcodes(column: pd.Series) -> bool:
    return all(isinstance(value, str) and _is_barcode(value) for value in column)


def _are_slides(column: pd.Series) -> bool:
    barcodes = map(parse_barcode, column)
    return all(barcode is not None and barcode.preparation for barcode in barcodes)
