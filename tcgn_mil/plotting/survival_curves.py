"""Draw survival curves that end where few patients are left, with the numbers at risk.

Far right, a curve rests on a handful of patients, and its steps and plateaus say little, although
they catch the eye (Pocock et al., Lancet 2002). A curve therefore ends at the last time at which at
least `FEWEST_AT_RISK` patients, and at least `LEAST_SHARE_AT_RISK` of the patients of its group,
were under observation. A group that is smaller than `FEWEST_AT_RISK` is drawn whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from tcgn_mil.types.outcomes import DAYS_PER_YEAR, SurvivalTable

FEWEST_AT_RISK, LEAST_SHARE_AT_RISK = 5, 0.1
# Years are days divided by 365.25. Multiplied again, they may be rounded up past the day of an
# event, and the patient of that event would no longer count as at risk.
_JUST_BELOW = 1 - 1e-12
# Words for the endpoints of the TCGA clinical data resource (Liu et al., Cell 2018) and for others
# that many studies use. The curve of a DFI or PFI is the share without the event, too.
_ENDPOINTS = {
    "OS": "overall survival",
    "DSS": "disease-specific survival",
    "DFI": "disease-free interval",
    "PFI": "progression-free interval",
    "DFS": "disease-free survival",
    "PFS": "progression-free survival",
    "RFS": "relapse-free survival",
    "EFS": "event-free survival",
    "MFS": "metastasis-free survival",
}


class PatientGroup(NamedTuple):
    """Patients who share one survival curve.

    Attributes
    ----------
    table
        Their survival times.
    label
        Name in the legend.
    colour
        Colour of the curve.
    """

    table: SurvivalTable
    label: str
    colour: str


def endpoint_label(endpoint: str) -> str:
    """Return the label of the vertical axis for an endpoint.

    Examples
    --------
    >>> endpoint_label("OS"), endpoint_label("relapse")
    ('overall survival', 'share without relapse')
    """
    return _ENDPOINTS.get(endpoint.upper(), f"share without {endpoint}")


def year_ticks(last: float, locator: MaxNLocator) -> NDArray[np.float64]:
    """Choose years at which numbers at risk are shown.

    Parameters
    ----------
    last
        End of the longest follow-up in years.
    locator
        Rule for round numbers.

    Returns
    -------
    ndarray
        Round numbers from 0 to `last`.
    """
    ticks = np.asarray(locator.tick_values(0, last), dtype=np.float64)
    return ticks[(ticks >= 0) & (ticks <= last)]


def last_drawn_day(table: SurvivalTable) -> float:
    """Return the day on which the curve of a group ends: the last with enough patients at risk.

    Parameters
    ----------
    table
        Survival times of the group.

    Examples
    --------
    >>> import pandas as pd
    >>> names = tuple("ABCDEF")
    >>> table = SurvivalTable(
    ...     "OS", names, np.arange(1.0, 7) * 100, np.ones(6, bool), pd.DataFrame(index=list(names))
    ... )
    >>> last_drawn_day(table)  # on day 300 only four patients are left
    200.0
    """
    days = np.unique(table.time_days)
    enough = np.asarray(table.at_risk(days)) >= max(
        FEWEST_AT_RISK, LEAST_SHARE_AT_RISK * len(table)
    )
    return float(days[enough][-1] if enough.any() else days[-1])


def kaplan_meier(
    axis: Axes,
    groups: Sequence[PatientGroup],
    *,
    ticks: NDArray[np.float64],
    below: Axes | None = None,
) -> pd.DataFrame:
    """Draw survival curves with 95 % bands, ticks at censored patients, and numbers at risk.

    The curve is the Kaplan-Meier estimate (J. Am. Stat. Assoc. 1958). If patients enter late, it is
    Breslow's estimate of the same curve (Biometrics 1974): the first few patients under observation
    may all have an event, and the Kaplan-Meier curve would then fall to 0 and stay there.

    Each curve ends where few patients are left (see the top of this module).

    Parameters
    ----------
    axis
        Axes of the curves; the horizontal axis is in years.
    groups
        One curve for each group.
    ticks
        Years at which the numbers at risk are shown.
    below
        Axes under `axis` for the numbers at risk, one line for each group in its colour. None to
        write them into the tick labels of `axis`.

    Returns
    -------
    DataFrame
        One row for each step of each curve: group, years, without_event, low, high, at_risk,
        censored (number of patients whose follow-up ended there).
    """
    drawn, counts = [], []
    for group in groups:
        steps = _steps(group.table)
        years = steps["years"]
        axis.step(
            years, steps["without_event"], where="post", color=group.colour, label=group.label
        )
        axis.fill_between(
            years, steps["low"], steps["high"], step="post", color=group.colour, alpha=0.15, lw=0
        )
        censored = steps[steps["censored"] > 0]
        axis.plot(
            censored["years"],
            censored["without_event"],
            "|",
            color=group.colour,
            markersize=4,
            markeredgewidth=0.7,
        )
        drawn.append(steps.assign(group=group.label)[["group", *steps.columns]])
        counts.append(group.table.at_risk(ticks * DAYS_PER_YEAR))
    axis.set_ylim(0, 1.02)
    if below is None:
        lines = [f"{tick:g}" for tick in ticks]
        for row in counts:
            lines = [f"{text}\n{count:,}" for text, count in zip(lines, row, strict=True)]
        axis.set_xticks(ticks, lines)
    else:
        axis.set_xticks(ticks)
        _write_counts(below, ticks, counts, groups)
    return pd.concat(drawn)


def _steps(table: SurvivalTable) -> pd.DataFrame:
    """Return the steps of the curve of a group, up to where it ends."""
    # lifelines takes a second to import, and most figures do not need it.
    from lifelines import BreslowFlemingHarringtonFitter, KaplanMeierFitter

    years = table.time_days / DAYS_PER_YEAR
    if table.entry_days is None:
        fit = KaplanMeierFitter().fit(years, table.event)
    else:
        fit = BreslowFlemingHarringtonFitter().fit(
            years, table.event, entry=table.entry_days / DAYS_PER_YEAR
        )
    curve, band = fit.survival_function_.iloc[:, 0], fit.confidence_interval_
    at = curve.index.to_numpy(float)
    ended, counts = np.unique(years[~table.event], return_counts=True)
    censored = dict(zip(ended.tolist(), counts.tolist(), strict=True))
    steps = pd.DataFrame(
        {
            "years": at,
            "without_event": curve.to_numpy(),
            "low": band.iloc[:, 0].to_numpy(),
            "high": band.iloc[:, 1].to_numpy(),
            "at_risk": table.at_risk(at * DAYS_PER_YEAR * _JUST_BELOW),
            "censored": [censored.get(year, 0) for year in at.tolist()],
        }
    )
    return steps[at <= last_drawn_day(table) / DAYS_PER_YEAR]


def _write_counts(
    below: Axes,
    ticks: np.ndarray,
    counts: Sequence[Sequence[int]],
    groups: Sequence[PatientGroup],
) -> None:
    """Write the numbers at risk into their own axes, one line for each group after its name.

    The names in their colours are the legend, which would otherwise lie over the curves.
    """
    for line, (row, group) in enumerate(zip(counts, groups, strict=True)):
        for tick, count in zip(ticks, row, strict=True):
            below.text(
                tick, -line, f"{count:,}", ha="center", va="center", fontsize=7, color=group.colour
            )
    below.set(ylim=(0.4 - len(counts), 0.6), xticks=ticks)
    below.set_yticks([-line for line in range(len(groups))], [group.label for group in groups])
    for label, group in zip(below.get_yticklabels(), groups, strict=True):
        label.set_color(group.colour)
    below.spines[["top", "right", "left", "bottom"]].set_visible(False)
    below.tick_params(length=0)
