"""Layout of a clinical table: its columns, their units and their coding.

References: TCGA-CDR is Liu et al., Cell 2018 (days, 1 = event); the survival files of UCSC Xena
follow it. PORPOISE is Chen et al., Cancer Cell 2022 (months of 30.44 days, 1 = censored). SurvPath
is Jaume et al., CVPR 2024 (months of 30 days, 1 = censored).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from tcgn_mil.errors import InputError
from tcgn_mil.io.tables.schema import CellRule, TableSchema
from tcgn_mil.io.tables.text_numbers import MISSING
from tcgn_mil.types.outcomes import DAYS_PER_YEAR

UNIT_DAYS = {"days": 1.0, "months": DAYS_PER_YEAR / 12, "years": DAYS_PER_YEAR}
PORPOISE_MONTH, SURVPATH_MONTH = 30.44, 30.0
CODINGS = ("event", "censored")
_TRUTH = {"1": True, "0": False, "true": True, "false": False}
# Status of cBioPortal. Older studies have the words without the number.
_STATUS = {
    "1": True,
    "0": False,
    "deceased": True,
    "living": False,
    "dead": True,
    "alive": False,
    "recurred/progressed": True,
    "recurred": True,
    "progressed": True,
    "progression": True,
    "diseasefree": False,
    "censored": False,
    "dead with tumor": True,
    "alive or dead tumor free": False,
}


class EndpointColumns(NamedTuple):
    """Name of an endpoint, and its columns of times and of events.

    Some tables have two columns of times, of which one holds the time of the event and the other
    that of the last follow-up. `time` is then the former, and `censored_time` is the latter.
    """

    name: str
    time: str
    event: str
    censored_time: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of times and of events."""
        return tuple(filter(None, (self.time, self.censored_time, self.event)))


@dataclass(frozen=True)
class ClinicalLayout:
    """Layout of one table.

    Attributes
    ----------
    name
        Name of the layout, a key of
        :data:`~tcgn_mil.preprocessing.clinical.detect_layout.CLINICAL_LAYOUTS`.
    patient
        Column of the patient or of a sample. TCGA barcodes are cut to the patient.
    endpoints
        Endpoints to read; none for a table of covariates.
    unit_days
        Length of one unit of time in days.
    unit
        Unit as declared: ``days``, ``months`` or ``years``.
    coding
        Meaning of a 1: ``event`` or ``censored``. ``status`` if the cells are those of cBioPortal:
        ``1:DECEASED``, or the words alone.
    event_values
        Lower-case cells that mean an event, instead of 0 and 1. All other cells mean none.
    entry
        Column of the time at which observation began, in the same unit.
    covariates
        Columns to keep as they are.

    Examples
    --------
    >>> layout = ClinicalLayout("columns", "id", unit_days=365.25, coding="censored")
    >>> layout.days(pd.Series(["2", "NA"])).tolist()
    [730.5, nan]
    >>> layout.events(pd.Series(["0", "1", "NA"])).tolist()
    [True, False, <NA>]
    """

    name: str
    patient: str
    endpoints: tuple[EndpointColumns, ...] = ()
    unit_days: float = 1.0
    unit: str = "days"
    coding: str = "event"
    event_values: frozenset[str] = frozenset()
    entry: str | None = None
    covariates: tuple[str, ...] = ()

    @property
    def columns(self) -> list[str]:
        """Names of all columns that are read, each once."""
        outcome = [column for endpoint in self.endpoints for column in endpoint.columns]
        entry = [] if self.entry is None else [self.entry]
        return list(dict.fromkeys([self.patient, *outcome, *entry, *self.covariates]))

    def events(self, cells: pd.Series) -> pd.Series:
        """Recode text cells as True (event), False (censored) or NA (missing).

        A missing event stays missing. If it were taken for "censored", patients of unknown outcome
        would count as survivors.
        """
        lowered = plain(cells)
        if self.event_values:
            seen = means_event(cells, self.event_values).astype("boolean")
        elif self.coding == "status":
            return _coded(lowered).map(_STATUS).astype("boolean").mask(is_missing(cells))
        else:
            seen = _coded(lowered).map(_TRUTH).astype("boolean")
            # PORPOISE and SurvPath store "censorship": there a 1 means that no event was seen.
            seen = seen if self.coding == "event" else ~seen
        return seen.mask(is_missing(cells))

    def days(self, cells: pd.Series) -> pd.Series:
        """Convert text cells of a time to float64 days; NaN for missing ones."""
        return (
            pd.to_numeric(cells.mask(is_missing(cells)), errors="coerce").astype("float64")
            * self.unit_days
        )


def is_missing(cells: pd.Series) -> pd.Series:
    """Return for each text cell whether it is empty or means a missing value."""
    return cells.str.lower().isin(MISSING)


def plain(cells: pd.Series) -> pd.Series:
    """Convert text cells to lower case, and whole numbers to digits alone (``1.0`` to ``1``)."""
    return cells.str.lower().str.replace(r"^([+-]?\d+)\.0*$", r"\1", regex=True)


def means_event(cells: pd.Series, values: Collection[str]) -> pd.Series:
    """Return for each text cell whether it is one of `values`, which are in lower case.

    cBioPortal writes a number before the word. In ``1:DECEASED`` the word alone counts as well.
    """
    lowered = plain(cells)
    words = lowered.str.replace(r"^[01]:\s*", "", regex=True)
    return lowered.isin(values) | words.isin(values)


def _coded(lowered: pd.Series) -> pd.Series:
    """Return the number alone of cells such as ``1:deceased``, and other cells unchanged."""
    return lowered.str.replace(r"^([01]):.*", r"\1", regex=True)


_NUMBER_FIX = "give times as numbers with a decimal point, and write missing ones as NA"
_EVENT_FIX = (
    "0 and 1 are read under --event-coding event (1 = event) or censored (1 = censored); for text"
    " name what counts as an event, for example --event-values dead,deceased"
)


def _is_number(cells: pd.Series) -> pd.Series:
    return is_missing(cells) | pd.to_numeric(cells, errors="coerce").notna()


def _is_zero_or_one(cells: pd.Series) -> pd.Series:
    return is_missing(cells) | _coded(plain(cells)).isin(_TRUTH)


def _is_status(cells: pd.Series) -> pd.Series:
    return is_missing(cells) | _coded(plain(cells)).isin(_STATUS)


_NUMBER = CellRule(_is_number, "is not a number", _NUMBER_FIX)
_ZERO_OR_ONE = CellRule(_is_zero_or_one, "is neither 0 nor 1", _EVENT_FIX)
_KNOWN_STATUS = CellRule(
    _is_status,
    "is not a status that is known from cBioPortal",
    "name the columns and the cells that mean an event: --patient-column, --time-column,"
    " --event-column, --event-values, --time-unit and --endpoint",
)
_PATIENT = CellRule(
    lambda cells: ~is_missing(cells), "names no patient", "name the patient, or remove the row"
)


def schema_of(layout: ClinicalLayout) -> TableSchema:
    """Return the schema that the text cells of a table of this layout must fit."""
    columns: dict[str, tuple[CellRule, ...]] = dict.fromkeys(layout.covariates, ())
    for endpoint in layout.endpoints:
        columns[endpoint.time] = (_NUMBER,)
        if endpoint.censored_time:
            columns[endpoint.censored_time] = (_NUMBER,)
        one_of_two = _KNOWN_STATUS if layout.coding == "status" else _ZERO_OR_ONE
        columns[endpoint.event] = () if layout.event_values else (one_of_two,)
    if layout.entry is not None:
        columns[layout.entry] = (_NUMBER,)
    columns[layout.patient] = (_PATIENT,)
    return TableSchema("clinical table", columns, patient=layout.patient)


def need_columns(names: Sequence[str], wanted: Sequence[str], path: Path) -> None:
    """Raise InputError unless each wanted column is in the header exactly once."""
    absent = [name for name in wanted if name not in names]
    if absent:
        shown = ", ".join(list(names)[:12]) + (
            f" and {len(names) - 12} more" if len(names) > 12 else ""
        )
        raise InputError(
            f"has no column {', '.join(absent)}",
            path=path,
            fix=f"name one of its columns: {shown}",
        )
    repeated = [name for name in wanted if list(names).count(name) > 1]
    if repeated:
        raise InputError(
            f"has column {', '.join(repeated)} more than once",
            path=path,
            fix="rename or remove one of them",
        )
