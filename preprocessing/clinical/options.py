"""Settings for clinical tables, as the user declares them."""

from __future__ import annotations

from dataclasses import dataclass

CDR_SHEET = "TCGA-CDR"


@dataclass(frozen=True)
class ClinicalOptions:
    """Facts about clinical tables that the tables themselves do not state.

    Attributes
    ----------
    patient
        Column of the patients, for the layouts ``columns`` and ``covariates``.
    times, events
        Columns of times and of events, for the layout ``columns``; one of each for each endpoint.
    entry
        Column of the time at which observation began, for the layout ``columns``.
    time_unit
        Unit of the times: ``days``, ``months`` or ``years``.
    event_coding
        Meaning of a 1: ``event`` or ``censored``.
    event_values
        Cells that mean an event, for columns that hold text instead of 0 and 1. All other cells
        mean that there was none.
    month_days
        Length of a month in days: 30.44 (PORPOISE) or 30 (SurvPath).
    endpoints
        For the layout ``columns``, names of the endpoints. For other layouts, the endpoints to
        read; all of them if empty.
    covariates
        Columns to keep as they are.
    sheet
        Sheet to read from a workbook.
    """

    patient: str | None = None
    times: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    entry: str | None = None
    time_unit: str | None = None
    event_coding: str | None = None
    event_values: tuple[str, ...] = ()
    month_days: float | None = None
    endpoints: tuple[str, ...] = ()
    covariates: tuple[str, ...] = ()
    sheet: str = CDR_SHEET
