"""Check the unit of times, the coding of events, and whether two clinical tables agree.

Bounds on times come from TCGA-CDR (Liu et al., Cell 2018). Over its 33 cancer types and four
endpoints, the median time is between 186 days (glioblastoma, PFI) and 1,472 days (kidney
chromophobe, OS), and the longest time is 11,252 days.

There is no such bound for the coding of events. Between 1 and 86 % of the patients of a cancer type
have an event, so an inverted share is plausible as well. Patients with an event have shorter times
in most types, but longer ones in breast, ovary and glioma. One check is valid: a patient who died
of the disease has died. It compares OS with DSS if a table has both. Otherwise the numbers are
shown to the user.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.clinical.layouts import (
    PORPOISE_MONTH,
    SURVPATH_MONTH,
    UNIT_DAYS,
    ClinicalLayout,
)
from tcgn_mil.preprocessing.clinical.outcomes import SAME_TIME_DAYS
from tcgn_mil.preprocessing.clinical.reader import ClinicalTable
from tcgn_mil.preprocessing.clinical.time_columns import time_column_alarms
from tcgn_mil.types.outcomes import DAYS_PER_YEAR

MIN_MEDIAN_DAYS, MAX_MEDIAN_DAYS, MAX_DAYS = 90.0, 15 * DAYS_PER_YEAR, 60 * DAYS_PER_YEAR
MIN_PATIENTS_TO_CHECK = 10  # below this the median is too uncertain to judge the unit
MAX_EVENT_SHARE = 0.9
_MIN_CONTRADICTIONS = 3
# The length of a month fits if at least this share of the times are whole days with it.
_MONTHS_ARE_WHOLE_DAYS = 0.95
# Published tables give months with at least two decimals.
_DECIMALS = 2
# If more than this share of months have at most one decimal, the check tells nothing. Of months
# that are days / 30, a third have at most one decimal.
_ONE_DECIMAL = 0.9


def alarms(table: ClinicalTable) -> list[InputError]:
    """Return contradictions to the declared unit or coding of a table, the worst first."""
    errors = []
    for endpoint, rows in table.outcomes.groupby("endpoint", sort=False):
        times = rows["time_days"].to_numpy(dtype=np.float64)
        for reason_and_fix in (unit_alarm(times, table.layout), month_alarm(times, table.layout)):
            if reason_and_fix is not None:
                reason, fix = reason_and_fix
                errors.append(InputError(f"{endpoint}: {reason}", path=table.path, fix=fix))
    errors += time_column_alarms(table)
    if inverted := contradictions(table.outcomes):
        errors.append(
            InputError(
                f"{inverted} patients died of the disease (DSS) but did not die (OS), so events and"
                " censoring are swapped",
                path=table.path,
                fix="check --event-coding, or --format",
            )
        )
    return errors


def unit_alarm(time_days: NDArray[np.float64], layout: ClinicalLayout) -> tuple[str, str] | None:
    """Check whether times can be in the declared unit.

    Returns
    -------
    (str, str) or None
        Reason and fix if the times are implausible. None if they are plausible, or if there are too
        few to judge.

    Examples
    --------
    >>> years_taken_for_days = np.linspace(0.5, 6, 20)
    >>> reason, fix = unit_alarm(years_taken_for_days, ClinicalLayout("columns", "id"))
    >>> fix.split(":")[0]
    'the times are likely in months or years'
    """
    if len(time_days) < MIN_PATIENTS_TO_CHECK or _plausible(time_days):
        return None
    median, longest = float(np.median(time_days)), float(time_days.max())
    # Try the other units, so that the message can name a likely one.
    raw = time_days / layout.unit_days
    likely = [
        unit for unit, days in UNIT_DAYS.items() if unit != layout.unit and _plausible(raw * days)
    ]
    reason = (
        f"declared in {layout.unit}, the {len(time_days)} times have a median of {median:.0f} days"
        f" ({median / DAYS_PER_YEAR:.2g} years), the longest {longest:.0f}"
        f" ({longest / DAYS_PER_YEAR:.2g} years); the median of a cohort is between"
        f" {MIN_MEDIAN_DAYS:.0f} days and {MAX_MEDIAN_DAYS / DAYS_PER_YEAR:.0f} years, the longest"
        f" time below {MAX_DAYS / DAYS_PER_YEAR:.0f} years"
    )
    reason += "".join(
        f". As {unit} the median would be {float(np.median(raw)) * UNIT_DAYS[unit]:.0f} days"
        for unit in likely
    )
    units = " or ".join(likely)
    declare = (
        f"the times are likely in {units}: declare that (--time-unit, or --format)"
        if likely
        else "check the unit"
    )
    return reason, f"{declare}; if they are right, add --allow-unusual"


def _plausible(time_days: NDArray[np.float64]) -> bool:
    return bool(
        MIN_MEDIAN_DAYS <= np.median(time_days) <= MAX_MEDIAN_DAYS and time_days.max() <= MAX_DAYS
    )


def month_alarm(time_days: NDArray[np.float64], layout: ClinicalLayout) -> tuple[str, str] | None:
    """Check whether months of 30.44 days were declared as months of 30 days, or the reverse.

    Months were computed from whole days. Multiplied by the right length of a month they are whole
    days again, up to the rounding of the table. Months with fewer than two decimals are too coarse
    for this check.

    Returns
    -------
    (str, str) or None
        Reason and fix if the other length fits and the declared one does not.
    """
    lengths = (PORPOISE_MONTH, SURVPATH_MONTH)
    if layout.unit_days not in lengths or len(time_days) < MIN_PATIENTS_TO_CHECK:
        return None
    months = time_days / layout.unit_days
    # Months that were rounded to one decimal are 3 days apart: they fit any length of a month.
    if np.mean(_near_whole(months * 10, 1e-6)) > _ONE_DECIMAL:
        return None
    other = next(length for length in lengths if length != layout.unit_days)
    # A month rounded to two decimals is off by at most half a unit of the last one.
    declared_share, other_share = (
        float(np.mean(_near_whole(months * length, 0.5 * 10**-_DECIMALS * length + 1e-6)))
        for length in (layout.unit_days, other)
    )
    if declared_share >= _MONTHS_ARE_WHOLE_DAYS or other_share < _MONTHS_ARE_WHOLE_DAYS:
        return None
    reason = (
        f"with months of {layout.unit_days:g} days {declared_share:.0%} of times are whole days,"
        f" with months of {other:g} days {other_share:.0%}"
    )
    name = "porpoise" if other == PORPOISE_MONTH else "survpath"
    return (
        reason,
        f"declare --months {other:g} (or --format {name}); if they are right, add --allow-unusual",
    )


def _near_whole(values: NDArray[np.float64], tolerance: float) -> NDArray[np.bool_]:
    return np.abs(values - np.round(values)) <= tolerance


def contradictions(outcomes: pd.DataFrame) -> int:
    """Count patients who died of the disease (DSS) and yet did not die (OS).

    A few such patients are errors of single rows. If events and censoring are swapped, every
    patient who died of another cause becomes such a patient, and no patient is left who died of
    another cause. The count is therefore returned only if it is at least 3 and at least the number
    of deaths of other causes; otherwise 0 is returned.

    Parameters
    ----------
    outcomes
        Columns patient_id, endpoint and event.
    """
    wide = outcomes.pivot(index="patient_id", columns="endpoint", values="event")
    if not {"OS", "DSS"} <= set(wide.columns):
        return 0
    both = wide[["OS", "DSS"]].dropna().astype(bool)
    # DSS counts deaths of the disease, OS counts all deaths.
    impossible, other_cause = (
        int((both["DSS"] & ~both["OS"]).sum()),
        int((both["OS"] & ~both["DSS"]).sum()),
    )
    return impossible if impossible >= max(_MIN_CONTRADICTIONS, other_cause) else 0


def describe(table: ClinicalTable) -> list[str]:
    """Return a line for each endpoint: patients, events, median times, and unusual values."""
    lines = []
    for endpoint, rows in table.outcomes.groupby("endpoint", sort=False):
        event, times = rows["event"].to_numpy(dtype=bool), rows["time_days"]
        medians = ", ".join(
            f"{what} {times[part].median():.0f}"
            for what, part in (("events", event), ("censored", ~event))
            if part.any()
        )
        share = float(event.mean())
        line = (
            f"{table.path.name}: {endpoint}: {len(rows)} patients, {int(event.sum())} events"
            f" ({share:.0%}); median days {times.median():.0f} ({medians})"
        )
        if share in (0.0, 1.0):
            same = "has an event" if share else "is censored"
            line += f"; every patient {same}: check the event coding"
        elif share > MAX_EVENT_SHARE:
            line += (
                "; more events than in any TCGA cancer type (at most 86 %): check the event coding"
            )
        if len(rows) < MIN_PATIENTS_TO_CHECK:
            line += "; too few patients to check the unit"
        lines.append(line)
    return lines


def compare(first: ClinicalTable, second: ClinicalTable) -> pd.DataFrame:
    """Compare the outcomes of patients and endpoints that two tables share.

    Times agree if they differ by at most a day, or by at most half a unit if a table has whole
    months or years.

    Returns
    -------
    pandas.DataFrame
        A row for each patient and endpoint in both tables: both times in days, their difference,
        both events, and whether times and events agree.
    """
    left, right = first.outcomes, second.outcomes
    both = left.merge(right, on=["patient_id", "endpoint"], suffixes=("_a", "_b"))
    tolerance = max(_rounding(table) for table in (first, second))
    frame = both[["patient_id", "endpoint", "time_days_a", "time_days_b"]].copy()
    frame["difference_days"] = (
        (frame["time_days_a"] - frame["time_days_b"]).astype("float64").round(2)
    )
    frame["time_agrees"] = frame["difference_days"].abs() <= tolerance
    frame["event_a"], frame["event_b"] = (both[name].astype(int) for name in ("event_a", "event_b"))
    frame["event_agrees"] = frame["event_a"] == frame["event_b"]
    frame.insert(2, "source_a", first.path.name)
    frame.insert(3, "source_b", second.path.name)
    return frame


def _rounding(table: ClinicalTable) -> float:
    """Return the days by which two copies of one time may differ because of rounding."""
    times = table.outcomes["time_days"].to_numpy(dtype=np.float64) / table.layout.unit_days
    # A table of whole months or years is rounded by up to half a unit.
    whole = len(times) > 0 and bool(_near_whole(times, 1e-6).all())
    return max(SAME_TIME_DAYS, table.layout.unit_days / 2 if whole else 0.0)


def agreement_summary(agreement: pd.DataFrame) -> list[dict[str, object]]:
    """Summarise the agreement of each pair of tables for each endpoint.

    Parameters
    ----------
    agreement
        Rows of :func:`compare`.

    Returns
    -------
    list of dict
        Patients in both tables, share of times that agree, and number of events that differ.
    """
    return [
        {
            "source_a": a,
            "source_b": b,
            "endpoint": endpoint,
            "patients_in_both": len(rows),
            "time_agrees": round(float(rows["time_agrees"].mean()), 4),
            "events_differ": int((~rows["event_agrees"]).sum()),
            "largest_difference_days": float(rows["difference_days"].abs().max()),
        }
        for (a, b, endpoint), rows in agreement.groupby(
            ["source_a", "source_b", "endpoint"], sort=False
        )
    ]


def disagreements(summary: Sequence[dict[str, object]]) -> list[InputError]:
    """Return an error for each pair of tables whose events mostly differ.

    The coding of one of the two is then swapped.
    """
    errors = []
    for row in summary:
        differ, patients = int(str(row["events_differ"])), int(str(row["patients_in_both"]))
        if patients >= MIN_PATIENTS_TO_CHECK and differ > patients / 2:
            errors.append(
                InputError(
                    f"{row['endpoint']}: events differ in {differ} of {patients} patients that"
                    f" {row['source_a']} and {row['source_b']} share, so one of them has events and"
                    " censoring swapped",
                    fix="check --event-coding, or --format",
                )
            )
    return errors
