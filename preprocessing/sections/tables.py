"""Write the tables of ``tcgn-mil spots``: sections, dropped spots, slides and pseudobulk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tcgn_mil.io.atomic import write_csv

PSEUDOBULK_BY = ("section", "patient")


@dataclass(frozen=True)
class SectionReport:
    """Row of sections.csv.

    Attributes
    ----------
    section, patient
        Names of the section and of its patient.
    spots, dropped, flagged
        Numbers of spots that were written, left out, and written although their patch shows little
        tissue.
    genes
        Number of genes.
    mpp
        µm per pixel of the full-resolution image, to which positions refer.
    median_umi
        Median of the counts of a spot.
    width_px, height_px, image, image_mpp
        Size, kind and µm per pixel of the image that the patches were cut from.
    alignment, better_orientation, darkness_margin
        Verdict on the alignment of spots and image, the orientation that fits better if there is
        one, and the darkness under the spots divided by that in the darkest other orientation.
    warnings
        Messages that are printed for the user, joined by ``;``.
    dropped_because
        Numbers of spots that were left out, by reason.
    fitting_scale
        Factor of all positions with which spots and tissue fit; 1 if they fit as they are, up to
        10 %.
    extent_scale
        Factor that brings the extent of the spots onto that of the tissue, without that tolerance;
        None if no factor does.
    stated_mpp
        µm per pixel that the file of the image states, to be compared with `image_mpp`; None if it
        states none.
    """

    section: str
    patient: str
    spots: int
    genes: int
    mpp: float
    median_umi: float
    width_px: int
    height_px: int
    image: str
    image_mpp: float
    dropped: int
    flagged: int
    alignment: str
    better_orientation: str
    darkness_margin: float
    warnings: str
    dropped_because: str
    fitting_scale: float
    extent_scale: float | None
    stated_mpp: float | None


@dataclass(frozen=True)
class FinishedSection:
    """Section as the tables need it.

    It is stored in the section's file, so that a section that is kept need not be read again.

    Attributes
    ----------
    report
        Row of sections.csv.
    dropped
        Spots that were left out, with the reason.
    flagged
        Spots that were written although their patch shows little tissue, with the share of tissue.
    orientations
        Rows of alignment.csv.
    genes
        Row of gene_report.csv.
    notes
        Messages that are printed for the user, warnings first.
    profile
        Counts summed over all spots that have a position, by gene.
    """

    report: SectionReport
    dropped: list[tuple[str, str]]
    flagged: list[tuple[str, float]]
    orientations: list[dict[str, Any]]
    genes: dict[str, int]
    notes: list[str]
    profile: pd.Series

    def as_json(self) -> dict[str, Any]:
        """Return all but the profile as plain values."""
        return {
            "report": asdict(self.report),
            "dropped": self.dropped,
            "flagged": self.flagged,
            "orientations": self.orientations,
            "genes": self.genes,
            "notes": self.notes,
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any], profile: pd.Series) -> FinishedSection:
        """Restore what :meth:`as_json` returned."""
        return cls(
            SectionReport(**stored["report"]),
            [(spot, reason) for spot, reason in stored["dropped"]],
            [(spot, share) for spot, share in stored["flagged"]],
            stored["orientations"],
            stored["genes"],
            stored["notes"],
            profile,
        )


def write_section_tables(folder: Path, finished: Sequence[FinishedSection]) -> None:
    """Write sections.csv, alignment.csv, gene_report.csv, dropped_spots.csv, flagged_spots.csv."""
    names = [section.report.section for section in finished]
    dropped = [
        (name, *row)
        for name, section in zip(names, finished, strict=True)
        for row in section.dropped
    ]
    flagged = [
        (name, *row)
        for name, section in zip(names, finished, strict=True)
        for row in section.flagged
    ]
    genes = [
        {"section": name, **section.genes} for name, section in zip(names, finished, strict=True)
    ]
    write_csv(
        folder / "sections.csv",
        pd.DataFrame([asdict(section.report) for section in finished]),
        digits=None,
    )
    write_csv(
        folder / "alignment.csv",
        pd.DataFrame([row for section in finished for row in section.orientations]),
        digits=None,
    )
    write_csv(folder / "gene_report.csv", pd.DataFrame(genes), digits=None)
    write_csv(
        folder / "dropped_spots.csv", pd.DataFrame(dropped, columns=["section", "spot", "reason"])
    )
    write_csv(
        folder / "flagged_spots.csv",
        pd.DataFrame(flagged, columns=["section", "spot", "tissue_fraction"]),
        digits=None,
    )


def write_slide_tables(folder: Path, finished: Sequence[FinishedSection], *, by: str) -> None:
    """Write slides.csv and pseudobulk.csv.

    Parameters
    ----------
    folder
        Folder of the slides.
    finished
        The sections.
    by
        Unit that counts as a patient: ``section`` or ``patient``.
    """
    reports = [section.report for section in finished]
    patients = [report.section if by == "section" else report.patient for report in reports]
    slides = pd.DataFrame(
        [
            (report.section, patient, f"{report.section}.tiff", report.mpp, report.patient)
            for report, patient in zip(reports, patients, strict=True)
        ],
        columns=["slide_id", "patient_id", "path", "mpp", "donor"],
    )
    write_csv(folder / "slides.csv", slides, digits=None)
    # A gene that a section does not name was not counted there, and counts as 0.
    profiles = pd.DataFrame({section.report.section: section.profile for section in finished})
    profiles = profiles.sort_index().T.fillna(0).groupby(np.array(patients)).sum().astype(np.int64)
    profiles.index.name = "patient_id"
    write_csv(folder / "pseudobulk.csv", profiles.reset_index())
