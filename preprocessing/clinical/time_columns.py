"""Check that times come from the right column, where the dead and the living have one each.

GDC and the older files of TCGA have the day of death in one column and the day of the last
follow-up in another. A table that is read with one of the two alone gives a cohort in which
everybody died or nobody did, or in which the dead leave on the day they were last seen alive.
"""

from __future__ import annotations

from collections.abc import Sequence

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.clinical.outcomes import LostTimes
from tcgn_mil.preprocessing.clinical.reader import ClinicalTable

# Times are missing here and there in every table. A larger difference than this between the shares
# of patients with and without an event who lack one means that a column of times was left out.
MAX_LOST_DIFFERENCE = 0.5
_MIN_LOST = 3
_OF_FOLLOW_UP, _OF_DEATH = ("last", "follow", "contact"), ("death",)
_PLACEHOLDER = "NAME"
_UNITS = ("day", "month", "time")


def time_column_alarms(table: ClinicalTable) -> list[InputError]:
    """Return an error for each endpoint whose times come from the wrong column."""
    errors = [alarm for lost in table.lost_times if (alarm := _lost_alarm(lost, table))]
    return errors or _unused_death(table)


def _unused_death(table: ClinicalTable) -> list[InputError]:
    """Return an error if all times are of the last follow-up, beside an unused day of death."""
    errors = []
    for name, time, _, censored_time in table.layout.endpoints:
        death = _column_like(table.columns, _OF_DEATH, time)
        of_follow_up = any(word in time.lower() for word in _OF_FOLLOW_UP)
        if name == "OS" and of_follow_up and not censored_time and death != _PLACEHOLDER:
            errors.append(
                InputError(
                    f"{name}: times come from {time} for the dead as well, but the table has a"
                    f" column {death}; the dead would leave when they were last seen alive",
                    path=table.path,
                    fix=f"give the two columns: --time-column {death} --censored-time-column"
                    f" {time}; if {time} holds the day of death too, add --allow-unusual",
                )
            )
    return errors


def _lost_alarm(lost: LostTimes, table: ClinicalTable) -> InputError | None:
    """Return an error if patients of one outcome lose their times and those of the other do not.

    Such a table has two columns of times. From one of them alone comes a cohort of deaths, or one
    in which nobody died.
    """
    of_events, of_censored = lost.shares
    if abs(of_events - of_censored) <= MAX_LOST_DIFFERENCE or (
        max(lost.event_lost, lost.censored_lost) < _MIN_LOST
    ):
        return None
    name, time, _, censored_time = lost.endpoint
    censored = of_censored > of_events
    kind = "without an event" if censored else "with an event"
    count, total = (
        (lost.censored_lost, lost.censored_all) if censored else (lost.event_lost, lost.event_all)
    )
    column = (censored_time or time) if censored else time
    if censored_time:
        fix = f"check that {column} is their column of times"
    elif censored:
        other = _column_like(table.columns, _OF_FOLLOW_UP, time)
        fix = f"give the column of their last follow-up: --censored-time-column {other}"
    else:
        other = _column_like(table.columns, _OF_DEATH, time)
        fix = f"give the two columns: --time-column {other} --censored-time-column {time}"
    return InputError(
        f"{name}: {count} of {total} patients {kind} have no time in column {column}, but the"
        " others have one; without them the result would be wrong",
        path=table.path,
        fix=f"{fix}; if these times are truly missing, add --allow-unusual",
    )


def _column_like(columns: Sequence[str], words: Sequence[str], other: str) -> str:
    """Return a column of days or months whose name has one of the words, or a placeholder."""
    likely = [
        name
        for name in columns
        if name != other
        and any(word in name.lower() for word in words)
        and any(unit in name.lower() for unit in _UNITS)
    ]
    return likely[0] if likely else _PLACEHOLDER
