"""clinical.csv: times to death or progression, one row a patient, several endpoints side by side.

A wide CSV that lifelines takes as it is: ``patient_id``; for each endpoint ``<name>_time_days`` and ``<name>_event``
(1 = event, 0 = censored), both empty for a patient without it; ``entry_days`` where patients came under observation
late (left truncation); then covariates as given. What made it stands beside it in ``clinical.json``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.io.atomic import atomic_path, write_json
from tcgn_mil.provenance import provenance
from tcgn_mil.text import duplicates, preview
from tcgn_mil.types.outcomes import SurvivalTable

if TYPE_CHECKING:
    import pandas as pd


KIND = "clinical"
PATIENT, ENTRY = "patient_id", "entry_days"
TIME_SUFFIX, EVENT_SUFFIX = "_time_days", "_event"
_AGAIN = "make the file again with tcgn-mil clinical"


def write_survival(
    path: str | Path, tables: Sequence[SurvivalTable], *, meta: Mapping[str, Any]
) -> None:
    """Write endpoints side by side, patients sorted, and ``<stem>.json`` with `meta` and what made the file.

    Raises
    ------
    InputError
        If there is no endpoint, two share a name, a covariate's name is taken by another column, or the tables give a
        patient two entries or two values of a covariate.
    """
    import pandas as pd

    path = Path(path)
    if path.suffix.lower() != ".csv":
        raise InputError("is not named .csv", path=path, fix="end the name in .csv")
    if not tables or duplicates([table.endpoint for table in tables]):
        raise InputError(
            f"endpoints {[table.endpoint for table in tables]} cannot be written", path=path
        )
    entry = [
        None if table.entry_days is None else _column(ENTRY, table, table.entry_days)
        for table in tables
    ]
    if any(column is None for column in entry) != all(column is None for column in entry):
        raise InputError(
            "some endpoints have entry times and some have none", path=path, fix="give entry to all"
        )
    parts: list[pd.DataFrame | None] = [_outcome(table) for table in tables]
    parts += [_one_a_patient([column for column in entry if column is not None], path)]
    covariates = list(
        dict.fromkeys(column for table in tables for column in table.covariates.columns)
    )
    for name in covariates:
        parts.append(
            _one_a_patient(
                [table.covariates[[name]] for table in tables if name in table.covariates.columns],
                path,
            )
        )
    wide = (
        pd.concat([part for part in parts if part is not None], axis=1)
        .sort_index()
        .rename_axis(PATIENT)
    )
    if repeated := duplicates([PATIENT, *wide.columns]):
        raise InputError(
            f"a covariate is named {preview(repeated)}, as another column",
            path=path,
            fix="rename it",
        )
    with atomic_path(path) as temporary:
        wide.to_csv(temporary, float_format="%.10g", lineterminator="\n")
    counts = {
        table.endpoint: {"patients": len(table), "events": int(table.event.sum())}
        for table in tables
    }
    write_json(
        path.with_suffix(".json"),
        provenance(kind=KIND, endpoints=counts, covariates=covariates, **meta),
    )


def _outcome(table: SurvivalTable) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(
        {
            table.endpoint + TIME_SUFFIX: table.time_days,
            table.endpoint + EVENT_SUFFIX: pd.array(table.event.astype(int), dtype="Int64"),
        },
        index=pd.Index(table.patient_id),
    )


def _column(name: str, table: SurvivalTable, values: NDArray[np.float64]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame({name: values}, index=pd.Index(table.patient_id))


def _one_a_patient(columns: Sequence[pd.DataFrame], path: Path) -> pd.DataFrame | None:
    """One value a patient from the endpoints' copies of a column, which must be equal."""
    import pandas as pd

    if not columns:
        return None
    stacked = pd.concat(columns)
    stacked = stacked[~(stacked.reset_index().duplicated().to_numpy())]
    if repeated := duplicates(stacked.index):
        raise InputError(
            f"{stacked.columns[0]} of {preview(repeated)} differs between endpoints", path=path
        )
    return stacked


def endpoints_of(path: str | Path) -> list[str]:
    """Endpoints that a clinical.csv holds, in its order."""
    return _endpoints(list(_read_wide(Path(path)).columns))


def read_survival(path: str | Path, *, endpoint: str = "OS") -> SurvivalTable:
    """Read and check one endpoint of a clinical.csv; patients without it are left out.

    Raises
    ------
    InputError
        If the file is missing or no table, lacks the endpoint, repeats a patient, or holds an event other than 0 and
        1, half an outcome, or a time that is not finite and above 0.
    """
    path = Path(path)
    wide = _read_wide(path)
    known = _endpoints(list(wide.columns))
    if endpoint not in known:
        raise InputError(
            f"has no endpoint {endpoint!r}", path=path, fix=f"it has {preview(known) or 'none'}"
        )
    time, event = (
        _numbers(wide, endpoint + suffix, path) for suffix in (TIME_SUFFIX, EVENT_SUFFIX)
    )
    half = np.isnan(time) != np.isnan(event)
    unknown = ~(np.isnan(event) | np.isin(event, (0, 1)))
    for wrong, what in (
        (half, "has a time or an event, not both"),
        (unknown, "has an event other than 0 and 1"),
    ):
        if wrong.any():
            row = int(np.argmax(wrong))
            raise InputError(
                f"row {row + 2}: {endpoint} of {wide[PATIENT].iloc[row]} {what}",
                path=path,
                fix=_AGAIN,
            )
    seen = ~np.isnan(time)
    entry = _numbers(wide, ENTRY, path)[seen] if ENTRY in wide.columns else None
    taken = {
        PATIENT,
        ENTRY,
        *(name + suffix for name in known for suffix in (TIME_SUFFIX, EVENT_SUFFIX)),
    }
    covariates = wide[seen].set_index(PATIENT)[
        [column for column in wide.columns if column not in taken]
    ]
    try:
        return SurvivalTable(
            endpoint,
            tuple(covariates.index),
            time[seen],
            event[seen].astype(bool),
            covariates,
            entry,
        )
    except InputError as error:
        raise InputError(error.reason, path=path, fix=error.fix) from error


def _read_wide(path: Path) -> pd.DataFrame:
    import pandas as pd

    if not path.is_file():
        raise InputError("no such clinical table", path=path, fix="make it with tcgn-mil clinical")
    try:
        wide = pd.read_csv(
            path, dtype={PATIENT: str}, encoding="utf-8-sig", keep_default_na=False, na_values=[""]
        )
    except (OSError, ValueError) as error:
        raise InputError(
            f"cannot be read as a table ({error})", path=path, fix="make it again"
        ) from error
    if PATIENT not in wide.columns:
        raise InputError(
            f"has no column {PATIENT}", path=path, fix="make it with tcgn-mil clinical"
        )
    wide[PATIENT] = wide[PATIENT].fillna("")
    return wide


def _endpoints(columns: Sequence[str]) -> list[str]:
    names = [column.removesuffix(TIME_SUFFIX) for column in columns if column.endswith(TIME_SUFFIX)]
    return [name for name in names if name + EVENT_SUFFIX in columns]


def _numbers(wide: pd.DataFrame, column: str, path: Path) -> NDArray[np.float64]:
    import pandas as pd

    numbers = pd.to_numeric(wide[column], errors="coerce")
    text = (numbers.isna() & wide[column].notna()).to_numpy()
    if text.any():
        row = int(np.argmax(text))
        cell = str(wide[column].iloc[row])[:60]
        raise InputError(
            f"column {column}, row {row + 2}: {cell!r} is no number", path=path, fix=_AGAIN
        )
    return numbers.to_numpy(dtype=np.float64, na_value=np.nan)
