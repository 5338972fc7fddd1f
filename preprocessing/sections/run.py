"""Write sections of spatial transcriptomics as spot sets with patches (``tcgn-mil spots``)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from tcgn_mil.errors import InputError
from tcgn_mil.io.failures import Failure, unexpected, write_failures
from tcgn_mil.preprocessing.sections.config import SpotsConfig
from tcgn_mil.preprocessing.sections.raw_section import ReadSettings
from tcgn_mil.preprocessing.sections.sources import find_section_sources, passed_over
from tcgn_mil.preprocessing.sections.tables import (
    FinishedSection,
    write_section_tables,
    write_slide_tables,
)
from tcgn_mil.preprocessing.sections.writer import SectionWriter
from tcgn_mil.progress import Progress
from tcgn_mil.resume.cohort_list import plan_cohort
from tcgn_mil.resume.set_aside import set_aside
from tcgn_mil.text import preview

STAGE = "spots"


class CohortSpots(NamedTuple):
    """Result of :func:`write_spots`.

    Attributes
    ----------
    done
        Names of the sections that were written, or kept from an earlier call.
    failures
        Sections that could not be used.
    notes
        Messages that are printed for the user, each with the name of its section.
    """

    done: list[str]
    failures: list[Failure]
    notes: list[str]


def write_spots(
    source: str | Path, out_dir: str | Path, config: SpotsConfig | None = None
) -> CohortSpots:
    """Read sections and write a spot set, patches and a picture for each.

    The files of a section are ``<section>.h5ad``, ``<section>_patches.h5`` and
    ``<section>_spots.png``. The tables over all sections of the call are:

    - sections.csv: size, resolution and alignment of each section,
    - alignment.csv: darkness of the image under the spots, in each of eight orientations,
    - gene_report.csv: changes of gene names,
    - dropped_spots.csv: spots that were left out, with the reason,
    - flagged_spots.csv: spots that were kept although their patch shows little tissue.

    A section that was written before from the same inputs, by their content, with the same settings
    is kept and not read again. A section that cannot be used is listed in failures.csv, and the
    others are written. The files of a section that cannot be used any more, or that the source no
    longer holds, are moved to the folder set-aside.

    Parameters
    ----------
    source
        Folder, file or table; see
        :func:`~tcgn_mil.preprocessing.sections.sources.find_section_sources`.
    out_dir
        Folder for the files.
    config
        Settings; the defaults if None.

    Returns
    -------
    CohortSpots
        Sections that were written, failures, and messages for the user.

    Raises
    ------
    InputError
        If the source holds no section, or not all sections that are asked for.
    """
    config = config or SpotsConfig()
    image = None if config.image is None else Path(config.image)
    slides_out = None if config.slides_out is None else Path(config.slides_out)
    sources = find_section_sources(
        source, format=config.format, sections=config.sections, image=image
    )
    writer = SectionWriter(
        Path(out_dir),
        ReadSettings(
            config.patch,
            config.spot_pitch_um,
            config.mpp,
            config.gene_ids,
            config.override_mpp,
            config.pool_um,
            config.pool_from,
        ),
        config.allow_coarse,
    )
    listed = plan_cohort(
        out_dir,
        source,
        [each.section for each in sources],
        ending=".h5ad",
        choice=json.dumps([config.format, config.sections]),
    )
    listed.apply(writer.files_of)
    finished: list[FinishedSection] = []
    failures: list[Failure] = []
    for section_source in Progress(sources, desc="spots", unit="section"):
        try:
            finished.append(writer.finish(section_source, slides_out))
        except Exception as error:  # whatever one section raises costs its row, and no other
            failures.append(_failure(section_source.section, error))
            # Files of an earlier call are not those of the present section.
            set_aside(out_dir, reversed(writer.files_of(section_source.section)))
    write_failures(out_dir, failures)
    if finished:
        write_section_tables(Path(out_dir), finished)
        if slides_out is not None:
            write_slide_tables(slides_out, finished, by=config.pseudobulk_by)
    notes = [*listed.sentences("section"), *_notes(finished)]
    if others := passed_over(source, config.format):
        notes.append(
            f"{len(others)} folders of {Path(source).name} left out: {preview(others)} (hold no"
            " section of Space Ranger)"
        )
    return CohortSpots([section.report.section for section in finished], failures, notes)


def _failure(section: str, error: Exception) -> Failure:
    """Return the row of a section that could not be used; it names the file, if one is at fault."""
    row = unexpected(error, section, STAGE)
    if isinstance(error, InputError) and error.path is not None:
        return replace(row, reason=f"{error.path}: {row.reason}")
    return row


def _notes(finished: Sequence[FinishedSection]) -> list[str]:
    notes = [f"{section.report.section}: {note}" for section in finished for note in section.notes]
    alone = [
        section.report.section
        for section in finished
        if section.report.patient == section.report.section
    ]
    if len(alone) > 1:
        notes.append(
            f"{len(alone)} sections have no patient and count as one patient each"
            f" ({preview(alone)}): if some are of one person, name that person in the column"
            " patient_id of a table, or the same person will be trained on and tested on"
        )
    return notes
