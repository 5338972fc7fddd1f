"""Join small tables of expression with slides, and read what was written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from tcgn_mil.io.cohort_file import read_cohort
from tcgn_mil.preprocessing.bulk.config import BulkConfig
from tcgn_mil.preprocessing.bulk.reports import JoinSummary
from tcgn_mil.preprocessing.bulk.run import write_cohort
from tcgn_mil.preprocessing.slides.table import SlideEntry

A, B = "TCGA-AA-0001", "TCGA-BB-0002"
SLIDE_A, SLIDE_B = f"{A}-01Z-00-DX1", f"{B}-01A-01-TS1"


def entry(slide_id: str, patient: str | None = None) -> SlideEntry:
    return SlideEntry(slide_id, patient or slide_id[:12], Path(f"{slide_id}.svs"))


def table(
    tmp_path: Path,
    rows: Sequence[tuple[str, Sequence[float]]],
    name: str = "bulk.csv",
    genes: str = "ABC",
) -> Path:
    path = tmp_path / name
    pd.DataFrame(
        [values for _, values in rows], index=[name for name, _ in rows], columns=list(genes)
    ).to_csv(path)
    return path


def join(
    tmp_path: Path, rows: Sequence[tuple[str, Sequence[float]]], slides: Sequence[SlideEntry]
) -> JoinSummary:
    return write_cohort(
        [table(tmp_path, rows)], slides, tmp_path / "cohort.h5ad", BulkConfig(unit="fpkm")
    )


def report(tmp_path: Path) -> dict[str, Mapping[str, object]]:
    rows = pd.read_csv(tmp_path / "join_report.csv", keep_default_na=False).to_dict("records")
    return {f"{row['kind']} {row['id']}": row for row in rows}


def profiles(tmp_path: Path) -> dict[str, list[float]]:
    cohort = read_cohort(tmp_path / "cohort.h5ad")
    return dict(zip(cohort.obs_names, np.asarray(cohort.X).tolist(), strict=True))
