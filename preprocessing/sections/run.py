"""Write sections of spatial transcriptomics as spot sets with patches (``tcgn-mil spots``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
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
    """Result of :func:`write_spots`.

    Attributes
    ----------
    done
        Names of the sections that were written, or kept from an earlier call.
    failures
        Sections that could not be used.
    notes
        Lines for the user, each with the name of its section.
    """

    done: list[str]
    failures: list[Failure]
    notes: list[str]


@dataclass(frozen=True)
class SpotsConfig:
    """Settings of :func:`write_spots`.

    Attributes
    ----------
    format
        A key of :data:`~tcgn_mil.preprocessing.sections.readers.READERS`, or ``auto`` to tell the
        layout by the contents of the source.
    sections
        Names of the sections to write; None for all.
    image
        Full-resolution image, for a source with one section. Layouts that hold their own images
        need none.
    patch
        Physical size of the patches; 112 px at 0.69 µm/px by default.
    spot_pitch_um
        Distance between neighbouring spots in µm, from which the resolution of the image is
        measured. By default 100 for the hexagonal array of Visium and 200 for the older square
        arrays.
    mpp
        µm per pixel of the full-resolution images, instead of measuring it. It is refused if it is
        more than 5 % off the measured value.
    gene_ids
        Name genes by ``symbol`` or by ``ensembl`` id, if the source has both.
    allow_coarse
        Write patches also if the image is so coarse that they have to be enlarged beyond the limit.
        Such patches show less than other patches and slide tiles, and a model cannot tell.
    slides_out
        If given, each section's image is also written there as a slide (pyramidal TIFF), with
        slides.csv (slide_id, patient_id, path, mpp, donor) and pseudobulk.csv. The latter holds raw
        counts summed over each section (unit ``counts``). A gene that a section does not name
        counts as 0.
    pseudobulk_by
        ``section``: each section counts as a patient with its own profile. There are then as many
        observations as sections, but sections of one donor are not independent; the column donor
        allows to group them in folds. ``patient``: the sections of a donor are slides of one
        patient, and their counts are summed.
    """

    format: str = "auto"
    sections: Sequence[str] | None = None
    image: str | Path | None = None
    patch: PatchSize = field(default_factory=PatchSize)
    spot_pitch_um: float | None = None
    mpp: float | None = None
    gene_ids: str = "symbol"
    allow_coarse: bool = False
    slides_out: str | Path | None = None
    pseudobulk_by: str = "section"

    def __post_init__(self) -> None:
        if self.pseudobulk_by not in PSEUDOBULK_BY:
            raise InputError(
                f"unknown pseudobulk {self.pseudobulk_by!r}",
                fix=f"choose {' or '.join(PSEUDOBULK_BY)} for --pseudobulk-by",
            )
        if self.gene_ids not in BY:
            raise InputError(
                f"genes cannot be named by {self.gene_ids!r}",
                fix=f"choose {' or '.join(BY)} for --gene-ids",
            )
        pitch = self.spot_pitch_um
        if pitch is not None and not (np.isfinite(pitch) and pitch > 0):
            raise InputError(
                f"spot distance of {pitch} µm",
                fix="give --spot-pitch-um micrometres above 0; her2st has 200",
            )

    def read_settings(self) -> ReadSettings:
        """Return the settings for reading one section."""
        return ReadSettings(self.patch, self.spot_pitch_um, self.mpp, self.gene_ids)


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

    A section that was written before from the same inputs with the same settings is kept and not
    read again. A section that cannot be used is listed in failures.csv, and the others are written.

    Parameters
    ----------
    source
        Folder, file or table; see :func:`~tcgn_mil.preprocessing.sections.sources.find_sources`.
    out_dir
        Folder for the files.
    config
        Settings; the defaults if None.

    Returns
    -------
    CohortSpots
        Sections that were written, failures, and lines for the user.

    Raises
    ------
    InputError
        If the source holds no section, or not all sections that are asked for.
    """
    config = config or SpotsConfig()
    image = None if config.image is None else Path(config.image)
    slides_out = None if config.slides_out is None else Path(config.slides_out)
    sources = find_sources(source, format=config.format, sections=config.sections, image=image)
    writer = SectionWriter(Path(out_dir), config.read_settings(), config.allow_coarse)
    finished: list[FinishedSection] = []
    failures: list[Failure] = []
    for section_source in tqdm(sources, desc="spots", unit="section"):
        try:
            finished.append(writer.finish(section_source, slides_out))
        except InputError as error:
            reason = error.reason if error.path is None else f"{error.path}: {error.reason}"
            failures.append(Failure(section_source.section, STAGE, reason, error.fix or ""))
    write_failures(out_dir, failures)
    if finished:
        write_section_tables(Path(out_dir), finished)
        if slides_out is not None:
            write_slide_tables(slides_out, finished, by=config.pseudobulk_by)
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
            f"{len(alone)} sections have no patient and count as one patient each"
            f" ({preview(alone)}): if some are of one person, name that person in the column"
            " patient_id of a table, or the same person will be trained on and tested on"
        )
    return notes
