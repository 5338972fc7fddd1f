"""Whose slides are known by name alone, and their resolution: from a table, or by TCGA names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tcgn_mil.errors import InputError
from tcgn_mil.io.tables.schema import RESOLUTION, SLIDES_MANIFEST, read_table
from tcgn_mil.preprocessing.features.foreign_features import SlideFacts
from tcgn_mil.preprocessing.slides.table import SLIDE_SUFFIXES
from tcgn_mil.tcga_barcodes import patient_of
from tcgn_mil.types.tiles import check_mpp

_TABLE = replace(SLIDES_MANIFEST, optional={"mpp": (RESOLUTION,)})


def slide_facts(
    table: str | Path | None, *, mpp: float | None = None
) -> Callable[[str], SlideFacts]:
    """A function that gives a slide's patient and µm per pixel.

    Parameters
    ----------
    table
        CSV or TSV with slide_id (also with a slide file's suffix), patient_id and optionally mpp; without it a TCGA
        name gives the patient, and any other slide is its own patient.
    mpp
        For slides of which the table says none.

    Raises
    ------
    InputError
        If the table is missing or faulty or the resolution implausible; and by the function, if the table lacks a
        slide.
    """
    if mpp is not None:
        check_mpp(mpp, what="--mpp")
    if table is None:
        return lambda slide: SlideFacts(patient_of(slide), mpp)
    known = {
        _without_suffix(row["slide_id"]): SlideFacts(
            patient_of(row["patient_id"]), float(row["mpp"]) if row["mpp"] else mpp
        )
        for row in read_table(table, _TABLE).to_dict("records")
    }

    def find(slide: str) -> SlideFacts:
        if slide not in known:
            raise InputError(
                f"slide {slide} is not in {Path(table).name}",
                path=table,
                fix="give it a row with its patient_id",
            )
        return known[slide]

    return find


def _without_suffix(slide: str) -> str:
    suffix = Path(slide).suffix.lower()
    return slide[: -len(suffix)].removesuffix(".ome") if suffix in SLIDE_SUFFIXES else slide
