"""``tcgn-mil spots``: spatial transcriptomics into one SpotSet a section, with a picture to look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from tcgn_mil.errors import InputError
from tcgn_mil.io.failures import Failure, write_failures
from tcgn_mil.preprocessing.gene_names import BY
from tcgn_mil.preprocessing.sections.raw_section import ReadSettings
from tcgn_mil.preprocessing.sections.sources import find_sources
from tcgn_mil.preprocessing.sections.tables import (
    PSEUDOBULK_BY,
    FinishedSection,
    write_section_tables,
    write_slide_tables,
)
from tcgn_mil.preprocessing.sections.writer import SectionWriter
from tcgn_mil.text import preview
from tcgn_mil.types.tile_geometry import PatchSize

STAGE = "spots"


class CohortSpots(NamedTuple):
    """Sections written or kept, those that failed, and what to tell the user: a line each, the section first."""

    done: list[str]
    failures: list[Failure]
    notes: list[str]


def write_spots(
    source: str | Path,
    out_dir: str | Path,
    *,
    format: str = "auto",
    sections: Sequence[str] | None = None,
    image: str | Path | None = None,
    patch: PatchSize | None = None,
    spot_pitch_um: float | None = None,
    mpp: float | None = None,
    gene_ids: str = "symbol",
    allow_coarse: bool = False,
    slides_out: str | Path | None = None,
    pseudobulk_by: str = "section",
) -> CohortSpots:
    """Read sections and write ``<section>.h5ad``, ``<section>_patches.h5``, ``<section>_spots.png`` each.

    Beside them, over the sections of this call: ``sections.csv`` (what was read), ``alignment.csv`` (how dark the image
    is under the spots, in each of eight orientations), ``gene_report.csv`` (what became of gene ids),
    ``dropped_spots.csv`` (spots left out, and why) and ``flagged_spots.csv`` (spots kept that show little tissue). A
    section whose files were made from the same inputs and settings is kept, and not read again; one that cannot be used
    costs a row in ``failures.csv``, and the rest go on.

    Parameters
    ----------
    source
        Folder or file in the layout `format`, or a table of such with columns path, section, patient_id, image, format,
        mpp (all but path may be left out).
    format
        One of `section_sources.FORMATS`; ``auto`` tells it by what `source` holds.
    sections
        Only these; all if None.
    image
        Full-resolution image of the one section there is; layouts that hold their own need none.
    patch
        Physical size of the patches, 112 px at 0.69 µm/px by default.
    spot_pitch_um
        Distance of neighbouring spots in µm, from which the image's resolution is measured; by default 100 for Visium's
        hexagonal array and 200 for the square ones before it.
    mpp
        µm per pixel of the full-resolution images, instead of measuring it; refused if 5 % off what the spots say.
    gene_ids
        Name genes by ``symbol`` or ``ensembl`` id, where the source has both.
    allow_coarse
        Write patches also where the image has to be enlarged past the bound: they show less than patches and slide
        tiles elsewhere do, and a model cannot tell them apart.
    slides_out
        If given, each section's image also becomes a pyramidal TIFF slide there, with ``slides.csv`` (slide_id,
        patient_id, path, mpp, donor) and ``pseudobulk.csv`` (raw counts summed, unit ``counts``; a gene that a section
        does not name counts 0), both over the sections of this call.
    pseudobulk_by
        ``section``: a section stands for a patient with its own profile, as many observations as sections, of which
        those of one donor are no independent patients: ``donor`` names the person, for grouping and for the label
        `patient leakage`. ``patient``: the sections of a donor are slides of one patient, their counts summed.

    Raises
    ------
    InputError
        For options that cannot be, a source in which nothing is found, or sections that it does not have.
    """
    if pseudobulk_by not in PSEUDOBULK_BY:
        raise InputError(
            f"unknown pseudobulk {pseudobulk_by!r}", fix=f"choose {' or '.join(PSEUDOBULK_BY)}"
        )
    if gene_ids not in BY:
        raise InputError(f"genes cannot be named by {gene_ids!r}", fix=f"choose {' or '.join(BY)}")
    if spot_pitch_um is not None and not (np.isfinite(spot_pitch_um) and spot_pitch_um > 0):
        raise InputError(
            f"spot distance of {spot_pitch_um} µm", fix="give micrometres above 0; her2st has 200"
        )
    settings = ReadSettings(patch or PatchSize(), spot_pitch_um, mpp, gene_ids)
    sources = find_sources(
        source, format=format, sections=sections, image=None if image is None else Path(image)
    )
    writer = SectionWriter(Path(out_dir), settings, allow_coarse)
    finished: list[FinishedSection] = []
    failures: list[Failure] = []
    for one in tqdm(sources, desc="spots", unit="section"):
        try:
            finished.append(writer.finish(one, None if slides_out is None else Path(slides_out)))
        except InputError as error:
            reason = error.reason if error.path is None else f"{error.path}: {error.reason}"
            failures.append(Failure(one.section, STAGE, reason, error.fix or ""))
    write_failures(out_dir, failures)
    if finished:
        write_section_tables(Path(out_dir), finished)
        if slides_out is not None:
            write_slide_tables(Path(slides_out), finished, by=pseudobulk_by)
    return CohortSpots([section.report.section for section in finished], failures, _notes(finished))


def _notes(finished: Sequence[FinishedSection]) -> list[str]:
    notes = [f"{section.report.section}: {note}" for section in finished for note in section.notes]
    alone = [
        section.report.section
        for section in finished
        if section.report.patient == section.report.section
    ]
    if len(alone) > 1:
        notes.append(
            f"{len(alone)} sections have no patient and stand for one each ({preview(alone)}): where some are of one"
            " person, say so in a table (patient_id), or that person is trained and tested on"
        )
    return notes
