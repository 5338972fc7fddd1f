"""The tables of a run of ``tcgn-mil spots``: its sections, the spots left out, and its sections as slides with bulk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tcgn_mil.artefacts import atomic_path

PSEUDOBULK_BY = ("section", "patient")


@dataclass(frozen=True)
class SectionReport:
    """One row of sections.csv."""

    section: str
    patient: str
    spots: int
    genes: int
    mpp: float
    median_umi: float
    width_px: int
    height_px: int


@dataclass(frozen=True)
class FinishedSection:
    """What the tables of a run need of a section, stored in its file so that it is read but once.

    Attributes
    ----------
    report
        Its row of sections.csv.
    dropped
        Spots left out: spot, reason.
    profile
        Counts summed over all its spots that have a position, by gene.
    """

    report: SectionReport
    dropped: list[tuple[str, str]]
    profile: pd.Series


def write_section_tables(folder: Path, finished: Sequence[FinishedSection]) -> None:
    """Write sections.csv and dropped_spots.csv."""
    dropped = [(section.report.section, spot, reason) for section in finished for spot, reason in section.dropped]
    _write_csv(folder / "sections.csv", pd.DataFrame([asdict(section.report) for section in finished]))
    _write_csv(folder / "dropped_spots.csv", pd.DataFrame(dropped, columns=["section", "spot", "reason"]))


def write_slide_tables(folder: Path, finished: Sequence[FinishedSection], *, by: str) -> None:
    """Write slides.csv and pseudobulk.csv; `by`, one of `PSEUDOBULK_BY`, says what stands for a patient."""
    reports = [section.report for section in finished]
    patients = [report.section if by == "section" else report.patient for report in reports]
    slides = pd.DataFrame(
        [
            (report.section, patient, f"{report.section}.tiff", report.mpp, report.patient)
            for report, patient in zip(reports, patients, strict=True)
        ],
        columns=["slide_id", "patient_id", "path", "mpp", "donor"],
    )
    _write_csv(folder / "slides.csv", slides)
    profiles = pd.DataFrame({section.report.section: section.profile for section in finished})
    profiles = profiles.sort_index().T.fillna(0).groupby(np.array(patients)).sum().astype(np.int64)
    profiles.index.name = "patient_id"
    _write_csv(folder / "pseudobulk.csv", profiles.reset_index())


def _write_csv(path: Path, table: pd.DataFrame) -> None:
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False)
