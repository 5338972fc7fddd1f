"""Settings of ``tcgn-mil clinical``: what the user declares about the tables."""

from __future__ import annotations

from pydantic import Field

from tcgn_mil.config import config_class

CDR_SHEET = "TCGA-CDR"


@config_class
class ClinicalOptions:
    """Facts about clinical tables that the tables themselves do not state."""

    patient: str | None = Field(None, description="Column of the patients or samples.")
    times: tuple[str, ...] = Field(
        (), description="Column of the times; give it once for each --endpoint."
    )
    censored_times: tuple[str, ...] = Field(
        (),
        description="Column of the last follow-up, if the time column holds the times of events"
        " alone, as in GDC's days_to_death and days_to_last_follow_up; give it once for each"
        " --endpoint.",
    )
    events: tuple[str, ...] = Field(
        (), description="Column of the events; give it once for each --endpoint."
    )
    entry: str | None = Field(
        None, description="Column of the time at which observation began (left truncation)."
    )
    time_unit: str | None = Field(None, description="Unit of the times: days, months or years.")
    event_coding: str | None = Field(
        None, description="Meaning of a 1 in the column of events: event or censored."
    )
    event_values: tuple[str, ...] = Field(
        (),
        description="Cells that mean an event, separated by commas, for example dead,deceased. All"
        " other cells mean that there was none.",
    )
    month_days: float | None = Field(
        None, description="Length of a month in days: 30.44 (PORPOISE) or 30 (SurvPath)."
    )
    endpoints: tuple[str, ...] = Field(
        (),
        description="Endpoint to read (OS, DSS, DFI, PFI), or the name of the one in --time-column."
        " By default all that the table has.",
    )
    covariates: tuple[str, ...] = Field(
        (), description="Clinical variable to copy to the output as it is."
    )
    sheet: str = Field(CDR_SHEET, description="Sheet to read from a workbook.")
