"""Whether times are in the unit they were declared in, whether events mean events, and whether two sources agree.

Bounds come from TCGA-CDR (Liu et al., Cell 2018): over its 33 cancer types and four endpoints the median time lies
between 186 days (glioblastoma, PFI) and 1,472 (kidney chromophobe, OS), the longest is 11,252. No such rule is sound
for the coding of events: 1 to 86 % of a type have one, so that the inverted share is ordinary too, and those with an
event have the shorter times in most types, but the longer in breast, ovary and glioma. What is sound: who died of the
disease has died. That compares OS with DSS, where a table has both; otherwise the numbers are shown.
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
from tcgn_mil.preprocessing.clinical.reader import SAME_TIME_DAYS, ClinicalTable
from tcgn_mil.types.outcomes import DAYS_A_YEAR

LEAST_MEDIAN_DAYS, MOST_MEDIAN_DAYS, MOST_DAYS = 90.0, 15 * DAYS_A_YEAR, 60 * DAYS_A_YEAR
MIN_PATIENTS = 10  # for a median that means something
MOST_EVENTS = 0.9
_MIN_CONTRADICTIONS = 3
_MONTHS_ARE_WHOLE_DAYS = 0.95
_DECIMALS = 2  # of months in published tables, at least
_ONE_DECIMAL = 0.9  # share of months that have no more; a third of days / 30 have


def alarms(table: ClinicalTable) -> list[InputError]:
    """What speaks against the declared unit or coding of a table, worst first."""
    found = []
    for endpoint, rows in table.outcomes.groupby("endpoint", sort=False):
        times = rows["time_days"].to_numpy(dtype=np.float64)
        for reason_and_fix in (unit_alarm(times, table.layout), month_alarm(times, table.layout)):
            if reason_and_fix is not None:
                reason, fix = reason_and_fix
                found.append(InputError(f"{endpoint}: {reason}", path=table.path, fix=fix))
    if inverted := contradictions(table.outcomes):
        found.append(
            InputError(
                f"{inverted} patients died of the disease (DSS) but did not die (OS), so events are taken for their"
                " opposite",
                path=table.path,
                fix="check --event-coding, or --format",
            )
        )
    return found


def unit_alarm(time_days: NDArray[np.float64], layout: ClinicalLayout) -> tuple[str, str] | None:
    """(reason, fix) where the times cannot well be in the declared unit; None if they can, or are too few to say."""
    if len(time_days) < MIN_PATIENTS or _plausible(time_days):
        return None
    median, longest = float(np.median(time_days)), float(time_days.max())
    raw = time_days / layout.unit_days
    likely = [
        unit for unit, days in UNIT_DAYS.items() if unit != layout.unit and _plausible(raw * days)
    ]
    reason = (
        f"declared in {layout.unit}, the {len(time_days)} times have a median of {median:.0f} days"
        f" ({median / DAYS_A_YEAR:.2g} years), the longest {longest:.0f} ({longest / DAYS_A_YEAR:.2g} years);"
        f" a cohort's median lies between {LEAST_MEDIAN_DAYS:.0f} days and {MOST_MEDIAN_DAYS / DAYS_A_YEAR:.0f} years,"
        f" its longest below {MOST_DAYS / DAYS_A_YEAR:.0f} years"
    )
    reason += "".join(
        f". As {unit} the median would be {float(np.median(raw)) * UNIT_DAYS[unit]:.0f} days"
        for unit in likely
    )
    said = " or ".join(likely)
    declare = (
        f"the times are likely in {said}: declare that (--time-unit, or --format)"
        if likely
        else "check the unit"
    )
    return reason, f"{declare}; if they are right, add --allow-unusual"


def _plausible(time_days: NDArray[np.float64]) -> bool:
    return bool(
        LEAST_MEDIAN_DAYS <= np.median(time_days) <= MOST_MEDIAN_DAYS
        and time_days.max() <= MOST_DAYS
    )


def month_alarm(time_days: NDArray[np.float64], layout: ClinicalLayout) -> tuple[str, str] | None:
    """(reason, fix) where months of 30.44 days were declared as months of 30, or the other way round.

    Months were made from whole days: multiplied by the right length they are whole days again. Months of fewer than
    two decimals do not tell.
    """
    lengths = (PORPOISE_MONTH, SURVPATH_MONTH)
    if layout.unit_days not in lengths or len(time_days) < MIN_PATIENTS:
        return None
    months = time_days / layout.unit_days
    if np.mean(_near_whole(months * 10, 1e-6)) > _ONE_DECIMAL:
        return None
    other = next(length for length in lengths if length != layout.unit_days)
    declared_share, other_share = (
        float(np.mean(_near_whole(months * length, 0.5 * 10**-_DECIMALS * length + 1e-6)))
        for length in (layout.unit_days, other)
    )
    if declared_share >= _MONTHS_ARE_WHOLE_DAYS or other_share < _MONTHS_ARE_WHOLE_DAYS:
        return None
    reason = (
        f"months of {layout.unit_days:g} days make whole days of {declared_share:.0%} of the times, months of {other:g}"
        f" of {other_share:.0%}"
    )
    name = "porpoise" if other == PORPOISE_MONTH else "survpath"
    return (
        reason,
        f"declare --months {other:g} (or --format {name}); if they are right, add --allow-unusual",
    )


def _near_whole(values: NDArray[np.float64], tolerance: float) -> NDArray[np.bool_]:
    return np.abs(values - np.round(values)) <= tolerance


def contradictions(outcomes: pd.DataFrame) -> int:
    """Patients with a disease-specific death who did not die, if that is the rule and not an exception; else 0.

    With events taken for their opposite, each patient who died of something else becomes one, and nobody the reverse.
    """
    wide = outcomes.pivot(index="patient_id", columns="endpoint", values="event")
    if not {"OS", "DSS"} <= set(wide.columns):
        return 0
    both = wide[["OS", "DSS"]].dropna().astype(bool)
    impossible, other_cause = (
        int((both["DSS"] & ~both["OS"]).sum()),
        int((both["OS"] & ~both["DSS"]).sum()),
    )
    return impossible if impossible >= max(_MIN_CONTRADICTIONS, other_cause) else 0


def describe(table: ClinicalTable) -> list[str]:
    """One line for each endpoint: patients, events, median times; and what looks odd but may be right."""
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
            f"{table.path.name}: {endpoint}: {len(rows)} patients, {int(event.sum())} events ({share:.0%}); median days"
            f" {times.median():.0f} ({medians})"
        )
        if share in (0.0, 1.0):
            line += f"; every patient {'has an event' if share else 'is censored'}: check the event coding"
        elif share > MOST_EVENTS:
            line += "; more events than in any TCGA cancer type (2 to 86 %): check the event coding"
        if len(rows) < MIN_PATIENTS:
            line += "; too few to check the unit"
        lines.append(line)
    return lines


def compare(first: ClinicalTable, second: ClinicalTable) -> pd.DataFrame:
    """Outcomes of patients and endpoints in both: times, difference, whether time and event agree.

    Times agree within a day, or within the rounding of a table of whole months or years.
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
    """Days by which two honest copies of a time may differ."""
    times = table.outcomes["time_days"].to_numpy(dtype=np.float64) / table.layout.unit_days
    whole = len(times) > 0 and bool(_near_whole(times, 1e-6).all())
    return max(SAME_TIME_DAYS, table.layout.unit_days / 2 if whole else 0.0)


def summarise(agreement: pd.DataFrame) -> list[dict[str, object]]:
    """For each pair of sources and endpoint: patients in both, share whose time agrees, events that differ."""
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
    """Alarms where most events of two sources differ: the coding of one of them is inverted."""
    found = []
    for row in summary:
        differ, patients = int(str(row["events_differ"])), int(str(row["patients_in_both"]))
        if patients >= MIN_PATIENTS and differ > patients / 2:
            found.append(
                InputError(
                    f"{row['endpoint']}: events differ in {differ} of {patients} patients that {row['source_a']} and"
                    f" {row['source_b']} share, so one of them takes events for their opposite",
                    fix="check --event-coding, or --format",
                )
            )
    return found
