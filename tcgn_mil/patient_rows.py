"""Bring the rows of a table to one row for each patient, whatever the samples are called.

Tables of expression and of covariates name patients, samples, aliquots or slides, with hyphens or
dots, in upper or lower case. :func:`one_row_per_patient` reads all of them by
:mod:`~tcgn_mil.tcga_barcodes`. Rows of normal tissue and of controls are left out, because they say
nothing about the tumour. Equal rows of one patient are one row. Rows that differ are refused: which
of two samples stands for the patient is a choice that only the user can make.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tcgn_mil.errors import InputError
from tcgn_mil.tcga_barcodes import parse_barcode, patient_of
from tcgn_mil.text import counted, preview

if TYPE_CHECKING:
    import pandas as pd


def is_normal(name: str) -> bool:
    """Return whether a name states that the sample is normal tissue or a control.

    Examples
    --------
    >>> is_normal("TCGA-A7-A13E-11A"), is_normal("TCGA-A7-A13E-06A"), is_normal("patient 7")
    (True, False, False)
    """
    barcode = parse_barcode(name)
    return barcode is not None and not barcode.is_tumour


def listed_patients(
    names: Iterable[str], available: Collection[str]
) -> tuple[list[str], list[str]]:
    """Read the names of a list of patients, samples or slides.

    Parameters
    ----------
    names
        Names in the list.
    available
        Names that have data. A name that is one of them is taken as it is.

    Returns
    -------
    patients : list of str
        Each patient once, whether or not it has data.
    normal : list of str
        Names that state normal tissue or a control, which stand for no patient.

    Examples
    --------
    >>> listed_patients(["tcga.a7.a13e.01a", "TCGA-A7-A13E", "TCGA-A7-A13F-11A"], ["TCGA-A7-A13E"])
    (['TCGA-A7-A13E'], ['TCGA-A7-A13F-11A'])
    """
    patients: dict[str, None] = {}
    normal = []
    for name in names:
        if name in available:
            patients[name] = None
        elif is_normal(name):
            normal.append(name)
        else:
            patients[patient_of(name)] = None
    return list(patients), normal


class PatientRows(NamedTuple):
    """Rows of a table, one for each patient.

    Attributes
    ----------
    rows
        Positions of the rows that stand for patients.
    patients
        Their patients, all different.
    notes
        One sentence for each reason for which rows were left out.
    """

    rows: list[int]
    patients: list[str]
    notes: tuple[str, ...]


def choose_rows(
    names: Sequence[str], are_equal: Callable[[int, int], bool], path: str | Path
) -> PatientRows:
    """Choose one row for each patient.

    Parameters
    ----------
    names
        Name of the patient, sample or slide of each row.
    are_equal
        Whether two rows, given by position, hold the same values.
    path
        File of the table, for messages.

    Raises
    ------
    InputError
        If two rows of one patient differ, or no row is of a tumour.
    """
    path = Path(path)
    normal = [name for name in names if is_normal(name)]
    if normal and len(normal) == len(names):
        raise InputError(
            f"holds only normal tissue and controls, for example {normal[0]}",
            path=path,
            fix="give rows of tumours: in TCGA their sample type is 01 to 09",
        )
    rows: dict[str, int] = {}
    copies: list[str] = []
    differing: dict[str, list[str]] = {}
    for row, name in enumerate(names):
        if is_normal(name):
            continue
        patient = patient_of(name)
        first = rows.setdefault(patient, row)
        if first != row and are_equal(first, row):
            copies.append(name)
        elif first != row:
            differing.setdefault(patient, [names[first]]).append(name)
    if differing:
        patient, own = next(iter(differing.items()))
        more = f", and so have {len(differing) - 1} other patients" * (len(differing) > 1)
        raise InputError(
            f"patient {patient} has several rows with different values ({preview(own)}){more}",
            path=path,
            fix="keep one row for each patient; of several samples of expression, tcgn-mil bulk"
            " makes one profile for each patient",
        )
    notes = []
    if normal:
        notes.append(
            f"{path.name}: {counted(len(normal), 'row')} of normal tissue or controls left out, for"
            f" example {normal[0]}"
        )
    if copies:
        notes.append(
            f"{path.name}: {counted(len(copies), 'row')} left out, equal to an earlier row of the"
            f" same patient, for example {copies[0]}"
        )
    return PatientRows(list(rows.values()), list(rows), tuple(notes))


def one_row_per_patient(
    table: pd.DataFrame, path: str | Path
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return one row of a table for each patient, and notes about the rows that were left out.

    Parameters
    ----------
    table
        The index names patients, samples or slides.
    path
        File of the table, for messages.

    Returns
    -------
    rows : DataFrame
        The index holds patients, each once, in the order of the table.
    notes : tuple of str
        One sentence for each reason for which rows were left out.

    Raises
    ------
    InputError
        As :func:`choose_rows`.

    Examples
    --------
    >>> import pandas as pd
    >>> ages = {"TCGA.A7.A13E.01A": 61, "TCGA.A7.A13E.11A": 61, "patient 7": 40}
    >>> rows, notes = one_row_per_patient(pd.DataFrame({"age": ages}), "ages.csv")
    >>> rows["age"].to_dict()
    {'TCGA-A7-A13E': 61, 'patient 7': 40}
    >>> print(*notes)
    ages.csv: 1 row of normal tissue or controls left out, for example TCGA.A7.A13E.11A
    """
    chosen = choose_rows(
        [str(name) for name in table.index],
        lambda first, second: table.iloc[first].equals(table.iloc[second]),
        path,
    )
    rows = table.iloc[chosen.rows].set_axis(chosen.patients, axis=0)
    rows.index.name = table.index.name
    return rows, chosen.notes
