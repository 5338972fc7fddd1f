"""Reduce the rows of a clinical table to one outcome and one set of covariates for each patient.

The rules are:

1. A row without a usable time and event is listed with the reason.
2. Equal rows of a patient, for several slides or samples, count as one.
3. If the rows of a patient differ by at most a day and agree on the event, the first is kept.
4. If they differ more, nothing tells which row is right. The patient loses this endpoint.
5. A covariate that differs between rows keeps its first value.
6. If censored patients have their times in a column of their own, the latest follow-up counts. GDC
   has one for each diagnosis, and a patient who was alive on a later day was alive before.

Everything that was changed or dropped is listed in dropped_patients.csv.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from tcgn_mil.preprocessing.clinical.layouts import ClinicalLayout, EndpointColumns, is_missing

SAME_TIME_DAYS = 1.0


class Dropped(NamedTuple):
    """A row of dropped_patients.csv: an outcome or a covariate that was not used as it is.

    Attributes
    ----------
    patient_id
        The patient.
    endpoint
        The endpoint; empty for a covariate.
    source
        Name of the table.
    rows
        Row numbers in the table, at most four, separated by spaces.
    reason
        Why it was not used, with the values.
    kept
        Row or value that was used instead; empty if none was.
    """

    patient_id: str
    endpoint: str
    source: str
    rows: str
    reason: str
    kept: str = ""


def usable_outcomes(
    table: pd.DataFrame,
    patients: pd.Series,
    layout: ClinicalLayout,
    endpoint: EndpointColumns,
    source: str,
) -> tuple[pd.DataFrame, list[Dropped]]:
    """Return the usable outcomes of one endpoint.

    Parameters
    ----------
    table
        Text cells, indexed by row of the file.
    patients
        Patient of each row.
    layout, endpoint
        Columns, unit and coding.
    source
        Name of the table.

    Returns
    -------
    outcomes : pandas.DataFrame
        Columns patient_id, endpoint, time_days, event (bool) and entry_days, one row for each
        patient.
    dropped : list of Dropped
        Rows that were not used, and conflicts between rows.
    """
    # Without an entry time, patients are observed from time 0 on.
    entry = 0.0 if layout.entry is None else layout.days(table[layout.entry])
    event = layout.events(table[endpoint.event])
    rows = pd.DataFrame(
        {
            "patient_id": patients,
            "endpoint": endpoint.name,
            "time_days": _times(table, patients, layout, endpoint, event),
            "event": event,
            "entry_days": entry,
            "row": table.index.astype(str),
        }
    )
    reason = _unusable(rows, table, layout, endpoint)
    usable, lost = rows[reason == ""], rows[reason != ""].assign(reason=reason[reason != ""])
    kept, conflicts = _one_row_per_patient(usable, endpoint.name, source)
    # An unusable row is listed also if another row of the patient was used instead.
    first_row = kept.set_index("patient_id")["row"]
    dropped = [
        Dropped(
            row.patient_id,
            endpoint.name,
            source,
            row.row,
            row.reason,
            f"row {first_row[row.patient_id]}" if row.patient_id in first_row.index else "",
        )
        for row in lost.drop_duplicates(["patient_id", "reason"]).itertuples()
    ]
    conflicts += _several_follow_ups(table, patients, layout, endpoint, source, event)
    return kept.drop(columns="row").astype({"event": bool}), dropped + conflicts


def _times(
    table: pd.DataFrame,
    patients: pd.Series,
    layout: ClinicalLayout,
    endpoint: EndpointColumns,
    event: pd.Series,
) -> pd.Series:
    """Return the time of each row in days, from the column that holds it."""
    time = layout.days(table[endpoint.time])
    if not endpoint.censored_time:
        return time
    follow_up = layout.days(table[endpoint.censored_time])
    latest = follow_up.where(~event.fillna(True)).groupby(patients).transform("max")
    # A row without an event status has no time either: nothing tells which column holds it.
    return time.where(event.fillna(False), latest).mask(event.isna())


def _several_follow_ups(
    table: pd.DataFrame,
    patients: pd.Series,
    layout: ClinicalLayout,
    endpoint: EndpointColumns,
    source: str,
    event: pd.Series,
) -> list[Dropped]:
    """List the censored patients whose rows have different days of the last follow-up."""
    if not endpoint.censored_time:
        return []
    days = layout.days(table[endpoint.censored_time])
    given = pd.DataFrame({"patient": patients, "days": days, "row": table.index.astype(str)})
    given = given[~event.fillna(True) & days.notna()].drop_duplicates(["patient", "days"])
    several = given[given.duplicated("patient", keep=False)]
    return [
        Dropped(
            str(patient),
            endpoint.name,
            source,
            " ".join(rows["row"].head(4)),
            f"{endpoint.censored_time} differs: {', '.join(f'{day:g} d' for day in rows['days'])}",
            f"{rows['days'].max():g} d, the latest",
        )
        for patient, rows in several.groupby("patient", sort=False)
    ]


class LostTimes(NamedTuple):
    """Patients with and without an event who have no time.

    Attributes
    ----------
    endpoint
        The endpoint.
    event_lost, event_all
        Patients with an event, without a time and in all.
    censored_lost, censored_all
        The same for patients without an event.
    """

    endpoint: EndpointColumns
    event_lost: int
    event_all: int
    censored_lost: int
    censored_all: int

    @property
    def shares(self) -> tuple[float, float]:
        """Shares of the patients with and without an event who have no time."""
        return (
            self.event_lost / max(self.event_all, 1),
            self.censored_lost / max(self.censored_all, 1),
        )


def lost_times(
    table: pd.DataFrame, patients: pd.Series, layout: ClinicalLayout, endpoint: EndpointColumns
) -> LostTimes:
    """Count the patients with and without an event who have no time.

    Parameters
    ----------
    table, patients, layout, endpoint
        As in :func:`usable_outcomes`.
    """
    event = layout.events(table[endpoint.event])
    timed = _times(table, patients, layout, endpoint, event).notna()
    rows = pd.DataFrame({"event": event, "timed": timed, "patient": patients}).dropna()
    each = rows.groupby("patient")[["event", "timed"]].max().astype(bool)
    counts = [
        int(part.sum())
        for seen in (each["event"], ~each["event"])
        for part in (seen & ~each["timed"], seen)
    ]
    return LostTimes(endpoint, *counts)


def _unusable(
    rows: pd.DataFrame, table: pd.DataFrame, layout: ClinicalLayout, endpoint: EndpointColumns
) -> pd.Series:
    """Return the reason why each row has no outcome; empty if it has one.

    A time of zero is refused: such a patient is at risk for no time at all. So is an entry after
    the end of follow-up, with which a patient is never at risk.
    """
    time, entry = rows["time_days"], rows["entry_days"]
    event_missing = rows["event"].isna()
    event_cell = _in_brackets(table[endpoint.event])
    time_cell = _in_brackets(table[endpoint.time])
    if endpoint.censored_time:
        of_censored = _in_brackets(table[endpoint.censored_time])
        time_cell = time_cell.where(rows["event"].fillna(False), of_censored)
    entry_cell = _in_brackets(table[layout.entry]) if layout.entry is not None else ""
    reasons = [
        (time.isna() & event_missing, "time and event status are missing"),
        (time.isna(), "time is missing" + time_cell),
        (event_missing, "event status is missing" + event_cell),
        (~np.isfinite(time), "infinite time"),
        (time < 0, "negative time" + time_cell),
        (time == 0, "time of zero"),
        (~np.isfinite(entry), "entry time is missing" + entry_cell),
        (
            (entry < 0) | (entry >= time),
            "entry" + entry_cell + " not between 0 and the end of follow-up",
        ),
    ]
    reason = pd.Series("", index=rows.index, dtype=object)
    for wrong, why in reversed(reasons):  # reversed, so that the first reason wins
        reason = reason.mask(wrong.astype(bool), why)
    return reason


def _in_brackets(cells: pd.Series) -> pd.Series:
    """Return `` (cell)`` for each cell; empty for an empty one."""
    return (" (" + cells + ")").where(cells != "", "")


def _one_row_per_patient(
    usable: pd.DataFrame, endpoint: str, source: str
) -> tuple[pd.DataFrame, list[Dropped]]:
    """Apply rules 2 to 4 to the usable rows of an endpoint."""
    # Several slides or samples of a patient repeat its outcome; equal rows carry no conflict.
    distinct = usable.drop_duplicates(["patient_id", "time_days", "event", "entry_days"])
    several = distinct[distinct.duplicated("patient_id", keep=False)]
    conflicts, refused = [], []
    for patient, rows in several.groupby("patient_id", sort=False):
        spread = max(np.ptp(rows["time_days"]), np.ptp(rows["entry_days"]))
        # Tables that were converted from months differ by rounding, by up to a day.
        close = spread <= SAME_TIME_DAYS and rows["event"].nunique() == 1
        values = ", ".join(
            f"{row.time_days:g} d {'event' if row.event else 'censored'}"
            for row in rows.head(4).itertuples()
        )
        why = f"{len(rows)} rows differ{' by at most a day' if close else ''}: {values}"
        kept = f"row {rows['row'].iloc[0]}, the first" if close else ""
        conflicts.append(
            Dropped(str(patient), endpoint, source, " ".join(rows["row"].head(4)), why, kept)
        )
        refused += [] if close else [patient]
    # If rows differ only a little, the first one is used (rule 3). A patient whose rows contradict
    # each other has no outcome (rule 4).
    first = distinct.drop_duplicates("patient_id")
    return first[~first["patient_id"].isin(refused)], conflicts


def first_covariates(
    table: pd.DataFrame, patients: pd.Series, layout: ClinicalLayout, source: str
) -> tuple[pd.DataFrame, list[Dropped]]:
    """Return the first value of each covariate that is not missing, for each patient.

    Returns
    -------
    covariates : pandas.DataFrame
        Text, patients x covariates; missing values are empty.
    differing : list of Dropped
        Covariates that differ between rows of a patient.
    """
    kept, differing = {}, []
    for name in layout.covariates:
        cells = table[name]
        given = pd.DataFrame({"patient": patients, "value": cells, "row": table.index.astype(str)})
        # Rows that miss the value do not count as differing.
        given = given[~is_missing(cells)].drop_duplicates(["patient", "value"])
        kept[name] = given.drop_duplicates("patient").set_index("patient")["value"]
        several = given[given.duplicated("patient", keep=False)]
        for patient, rows in several.groupby("patient", sort=False):
            values = list(rows["value"])
            differing.append(
                Dropped(
                    str(patient),
                    "",
                    source,
                    " ".join(rows["row"].head(4)),
                    f"{name} differs: {', '.join(values[:4])}",
                    f"{values[0]}, the first",
                )
            )
    index = pd.Index(patients.drop_duplicates(), name="patient_id")
    frame = pd.DataFrame(
        {name: values.reindex(index) for name, values in kept.items()}, index=index
    )
    return frame.fillna(""), differing
