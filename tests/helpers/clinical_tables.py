"""Small clinical tables, as text and as workbooks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd

from tcgn_mil.preprocessing.clinical.options import ClinicalOptions
from tcgn_mil.preprocessing.clinical.reader import ClinicalTable

NAMED = ClinicalOptions(
    patient="id",
    times=("time",),
    events=("dead",),
    time_unit="days",
    event_coding="event",
    endpoints=("OS",),
)
CDR_HEADER = "bcr_patient_barcode,type,OS,OS.time,DSS,DSS.time"


def named(**changes: object) -> ClinicalOptions:
    return ClinicalOptions(**{**NAMED.__dict__, **changes})  # type: ignore[arg-type]


def text_file(folder: Path, text: str | bytes, name: str = "clinical.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def workbook(
    folder: Path, rows: list[list[object]], sheet: str = "TCGA-CDR", name: str = "cdr.xlsx"
) -> Path:
    book = openpyxl.Workbook()
    page = book.active
    page.title = sheet
    for row in rows:
        page.append(row)
    book.save(folder / name)
    return folder / name


def outcomes(table: ClinicalTable, endpoint: str = "OS") -> dict[str, tuple[float, bool]]:
    rows = table.outcomes[table.outcomes["endpoint"] == endpoint]
    return {row.patient_id: (row.time_days, row.event) for row in rows.itertuples()}


def follow_up(patients: int = 40, *, seed: int = 0) -> pd.DataFrame:
    """Whole days with a median of two years, a third of them with an event."""
    rng = np.random.default_rng(seed)
    days = np.round(rng.lognormal(np.log(730), 0.9, patients)).clip(5, 9000)
    return pd.DataFrame(
        {
            "id": [f"p{i}" for i in range(patients)],
            "time": days,
            "dead": rng.integers(0, 3, patients) // 2,
        }
    )
