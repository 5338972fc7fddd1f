"""Read sections in the layout of her2st (Andersson et al., Nature Communications 2021).

A folder holds ``ST-cnts/{section}.tsv.gz`` with counts (spots x genes),
``ST-spotfiles/{section}_selection.tsv`` with positions, and one image in
``ST-imgs/{patient}/{section}/``. The first letter of a section's name is the patient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.sections.genes import name_counts
from tcgn_mil.preprocessing.sections.lattice import Lattice
from tcgn_mil.preprocessing.sections.raw_section import (
    RawSection,
    ReadSettings,
    SectionImage,
    SectionSource,
)
from tcgn_mil.preprocessing.sections.readers.base import (
    SectionReader,
    SectionRequest,
    choose_sections,
)
from tcgn_mil.preprocessing.sections.readers.her2st_tables import (
    measure_mpp,
    read_counts,
    read_positions,
)
from tcgn_mil.preprocessing.sections.readers.scale import choose_scale
from tcgn_mil.text import duplicates, preview
from tcgn_mil.types.tile_geometry import PatchSize

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff")
SPOT_PITCH_UM = 200.0


@dataclass(frozen=True)
class SectionFiles:
    """Files of a section.

    Attributes
    ----------
    section, patient
        Names of the section and of its patient.
    counts, positions, image
        The three files.
    """

    section: str
    patient: str
    counts: Path
    positions: Path
    image: Path


def is_her2st(source: Path) -> bool:
    """Return whether a folder is in the layout of her2st, judged by its folder ``ST-cnts``."""
    return (source / "ST-cnts").is_dir()


def list_sources(source: Path, request: SectionRequest) -> list[SectionSource]:
    """List the sections of a her2st folder; only the requested one, if there is a request."""
    if request.image is not None:
        raise InputError(
            "her2st sections have their own images",
            path=request.image,
            fix="remove the option --image",
        )
    wanted = None if request.section is None else [request.section]
    sources = []
    for name, counts in count_files(source, wanted).items():
        locate = partial(files_of, source, name, counts)
        sources.append(SectionSource(name, partial(_paths, locate), partial(_read, locate)))
    return sources


def _paths(locate: Callable[[], SectionFiles]) -> tuple[Path, ...]:
    files = locate()
    return files.counts, files.positions, files.image


def _read(locate: Callable[[], SectionFiles], settings: ReadSettings) -> RawSection:
    return read_section(
        locate(),
        spot_pitch_um=settings.spot_pitch_um,
        mpp=settings.mpp,
        gene_ids=settings.gene_ids,
        override_mpp=settings.override_mpp,
    )


def find_section_files(
    source: str | Path, wanted: Sequence[str] | None = None
) -> list[SectionFiles]:
    """Find the files of the sections of a her2st folder.

    Parameters
    ----------
    source
        Folder with ``ST-cnts``, ``ST-imgs`` and ``ST-spotfiles``.
    wanted
        Names of sections, in this order. None for all, in order of their names.

    Raises
    ------
    InputError
        If there is no count file, a wanted section is missing, or a section lacks its positions or
        its image.
    """
    return [
        files_of(Path(source), name, path) for name, path in count_files(source, wanted).items()
    ]


def count_files(source: str | Path, wanted: Sequence[str] | None = None) -> dict[str, Path]:
    """Return the count file of each section; see :func:`find_section_files` for the arguments."""
    source = Path(source)
    counts = sorted(
        path for path in (source / "ST-cnts").glob("*.tsv*") if not path.name.startswith(".")
    )
    if not counts:
        raise InputError(
            "has no ST-cnts/*.tsv.gz",
            path=source,
            fix="give the folder that holds ST-cnts, ST-imgs and ST-spotfiles",
        )
    names = [path.name.split(".")[0] for path in counts]
    if repeated := duplicates(names):
        raise InputError(
            f"section {preview(repeated)} has two count files",
            path=counts[0].parent,
            fix="remove one of them",
        )
    by_name = dict(zip(names, counts, strict=True))
    return choose_sections(by_name, wanted, source)


def files_of(source: Path, section: str, counts: Path) -> SectionFiles:
    """Return the files of one section.

    Raises
    ------
    InputError
        If the section has no positions, or not exactly one image.
    """
    positions = source / "ST-spotfiles" / f"{section}_selection.tsv"
    if not positions.is_file():
        raise InputError(
            f"section {section} has no spot file",
            path=positions,
            fix="add the spot file, or remove the counts of the section",
        )
    folder = source / "ST-imgs" / section[0] / section
    images = sorted(
        image
        for image in folder.glob("*")
        if image.suffix.lower() in IMAGE_SUFFIXES and not image.name.startswith(".")
    )
    if len(images) != 1:
        raise InputError(
            f"section {section} needs one image, found {len(images)}",
            path=folder,
            fix="put the full-resolution H&E image of the section there, and no other",
        )
    return SectionFiles(section, section[0], counts, positions, images[0])


def read_section(
    files: SectionFiles,
    *,
    spot_pitch_um: float | None = None,
    mpp: float | None = None,
    gene_ids: str = "symbol",
    override_mpp: bool = False,
) -> RawSection:
    """Read the counts and the positions of a section, and join them on ``{x}x{y}``.

    Parameters
    ----------
    files
        Files of the section.
    spot_pitch_um
        Distance between neighbouring spots in µm, from which the resolution of the image is
        measured; 200 if None.
    mpp
        µm per pixel of the image, instead of measuring it.
    gene_ids
        Name genes by ``symbol`` or by ``ensembl`` id.
    override_mpp
        Use `mpp` also if the spots contradict it.

    Returns
    -------
    RawSection
        The section. Spots without counts, without a position, or not selected as tissue are left
        out and listed.

    Raises
    ------
    InputError
        If a table cannot be read, a value is not a count, spots repeat, no spot has both counts and
        a position, or `mpp` is more than 5 % off the measured value.
    """
    values, genes, counted = read_counts(files.counts)
    positions, unselected = read_positions(files.positions)
    shared = counted[counted.isin(positions.index)]
    if shared.empty:
        raise InputError(
            f"none of its {len(positions)} spots has counts: it names"
            f" {preview(list(positions.index), most=2)}, {files.counts.name} names"
            f" {preview(list(counted), most=2)}",
            path=files.positions,
            fix="check that both files are of one section and that spots are named {x}x{y}",
        )
    unplaced = counted[~counted.isin(positions.index)]
    # A spot needs counts and a position. Each one that lacks one of them is listed with the reason.
    dropped = [
        (name, "not selected" if name in unselected else "no position in the spot file")
        for name in unplaced
    ]
    dropped += [(name, "no counts") for name in positions.index[~positions.index.isin(counted)]]
    positions = positions.loc[shared]
    pitch = SPOT_PITCH_UM if spot_pitch_um is None else spot_pitch_um
    lattice = Lattice(None, None)
    # A section of one row or column of spots spans no grid that could be measured.
    if mpp is None or (positions["x"].nunique() > 1 and positions["y"].nunique() > 1):
        lattice = Lattice(pitch / measure_mpp(positions, pitch, path=files.positions), pitch)
    settings = ReadSettings(PatchSize(), mpp=mpp, override_mpp=override_mpp)
    scale = choose_scale(lattice, settings, (), None, path=files.positions)
    rows = counted.get_indexer(shared)
    counts, named = name_counts(values[rows], genes, by=gene_ids, path=files.counts)
    return RawSection(
        files.section,
        files.patient,
        counts,
        named,
        positions,
        scale.mpp,
        SectionImage(files.image),
        dropped,
        scale.warnings,
    )


READER = SectionReader("her2st", "her2st (ST-cnts, ST-imgs, ST-spotfiles)", is_her2st, list_sources)
