"""Read 10x Visium and Visium HD sections from the output folder of Space Ranger.

The count matrix is a file .h5 or a folder. The positions have a header since Space Ranger 2. Older
files have none, and the order of their pixel columns is row, then column, as in
:data:`POSITION_COLUMNS`. Visium HD has a folder for each size of bins, with positions in Parquet;
its bins are summed over blocks.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.sections.genes import name_counts
from tcgn_mil.preprocessing.sections.lattice import MIRRORED, fit_lattice
from tcgn_mil.preprocessing.sections.pooling import Pooling
from tcgn_mil.preprocessing.sections.raw_section import (
    RawSection,
    ReadSettings,
    SectionSource,
    broken_source,
)
from tcgn_mil.preprocessing.sections.readers.base import SectionReader, SectionRequest
from tcgn_mil.preprocessing.sections.readers.bins import choose_pooling
from tcgn_mil.preprocessing.sections.readers.scale import bin_size, choose_scale, statements_of
from tcgn_mil.preprocessing.sections.readers.spot_positions import read_positions
from tcgn_mil.preprocessing.sections.readers.tenx.space_ranger import (
    find_image,
    find_matrix,
    find_positions,
    outputs_of,
    read_scalefactors,
    refuse_flat_folder,
    scalefactors_file,
    section_name,
)
from tcgn_mil.preprocessing.sections.readers.tenx.tenx_matrix import (
    FeatureMatrix,
    matrix_files,
    read_barcodes,
    read_matrix,
    read_summed,
)
from tcgn_mil.text import preview


def is_visium(source: Path) -> bool:
    """Return whether a folder, or folders in it, are outputs of Space Ranger.

    A folder of .h5ad files is not taken for Visium, even if outputs of Space Ranger lie below it.

    Raises
    ------
    InputError
        If the folder has the files of Space Ranger side by side.
    """
    if not source.is_dir():
        return False
    if outputs_of(source) is not None:
        return True
    if any(source.glob("*.h5ad")):
        return False
    refuse_flat_folder(source)
    return bool(_output_folders(source))


def _folders(source: Path) -> list[Path]:
    """Return the folders of a folder, without hidden ones."""
    return [
        folder
        for folder in sorted(source.iterdir())
        if folder.is_dir() and not folder.name.startswith(".")
    ]


def _output_folders(source: Path) -> list[Path]:
    return [outputs for folder in _folders(source) if (outputs := outputs_of(folder)) is not None]


def _flat_folders(source: Path) -> list[SectionSource]:
    """Return a broken section for each folder that has the files of Space Ranger side by side."""
    broken = []
    for folder in _folders(source):
        try:
            if outputs_of(folder) is None:
                refuse_flat_folder(folder)
        except InputError as error:
            broken.append(broken_source(folder.name, error))
    return broken


def passed_over(source: Path) -> list[str]:
    """Return the folders of a folder of sections that hold no section."""
    if not source.is_dir() or outputs_of(source) is not None:
        return []
    broken = {section.section for section in _flat_folders(source)}
    return [
        folder.name
        for folder in _folders(source)
        if outputs_of(folder) is None and folder.name not in broken
    ]


def list_sources(source: Path, request: SectionRequest) -> list[SectionSource]:
    """List the section of an output folder, or the sections of a folder of such folders."""
    own = outputs_of(source)
    folders = [own] if own is not None else _output_folders(source)
    if not folders:
        refuse_flat_folder(source)
        raise InputError(
            "holds neither spatial nor a filtered_feature_bc_matrix",
            path=source,
            fix="give the folder outs of Space Ranger",
        )
    sources = []
    for folder in folders:
        one_named = request.section is not None and len(folders) == 1
        name = request.section if one_named and request.section else section_name(folder)
        read = partial(
            read_section,
            folder,
            section=name,
            patient=request.patient or name,
            image=request.image,
        )
        files = partial(section_files, folder, request.image)
        sources.append(SectionSource(name, files, read, (request.patient,)))
    return sources if own is not None else [*sources, *_flat_folders(source)]


def section_files(folder: Path, image: Path | None = None) -> tuple[Path, ...]:
    """Return all files that a section is read from; raise InputError if one is missing."""
    fields = scalefactors_file(folder)
    return (
        *matrix_files(find_matrix(folder)),
        find_positions(folder),
        *(() if fields is None else (fields,)),
        find_image(folder, image).path,
    )


def read_section(
    folder: Path, settings: ReadSettings, *, section: str, patient: str, image: Path | None = None
) -> RawSection:
    """Read the counts and the positions of a section.

    Parameters
    ----------
    folder
        Output folder of Space Ranger; for Visium HD the folder of one size of bins.
    settings
        Settings for reading.
    section, patient
        Names of the section and of its patient.
    image
        Full-resolution image. If None, the largest picture in ``spatial`` is used.

    Returns
    -------
    RawSection
        The spots under tissue that have counts. Other spots are listed with the reason.

    Raises
    ------
    InputError
        If a file is missing or damaged, no spot under tissue has counts, the positions lie on no
        lattice, or the resolution is unknown or contradictory.
    """
    matrix_path, positions_path = find_matrix(folder), find_positions(folder)
    placed = read_positions(positions_path)
    lattice = fit_lattice(
        placed[["x", "y"]].to_numpy(),
        placed[["pixel_x", "pixel_y"]].to_numpy(),
        path=positions_path,
    )
    pixels = find_image(folder, image)
    fields, fields_path = read_scalefactors(folder), scalefactors_file(folder) or positions_path
    bin_um = bin_size(fields, list(placed.index), path=fields_path)
    statements = statements_of(fields, lattice, bin_um, path=fields_path)
    scale = choose_scale(lattice, settings, statements, pixels, path=positions_path)
    counted = pd.Index(read_barcodes(matrix_path), dtype=object)
    under = placed.index[placed["in_tissue"]]
    shared = counted[counted.isin(under)]
    if shared.empty:
        raise InputError(
            f"none of its {len(under)} spots under tissue has counts: it names"
            f" {preview(list(under), most=2)}, {matrix_path.name} names"
            f" {preview(list(counted), most=2)}",
            path=positions_path,
            fix="check that positions and matrix are of one section",
        )
    positions = placed.loc[shared, ["x", "y", "pixel_x", "pixel_y"]]
    pooling = choose_pooling(positions, lattice, bin_um, scale.mpp, settings, path=positions_path)
    if pooling is None:
        matrix = read_matrix(matrix_path)
        matrix_counts = matrix.counts[counted.get_indexer(shared)]
        dropped = _without_counts(placed, counted)
    else:
        matrix = _summed(matrix_path, counted, shared, pooling)
        matrix_counts, positions, dropped = matrix.counts, pooling.positions, pooling.dropped
    counts, genes = name_counts(
        matrix_counts,
        matrix.ids,
        matrix.symbols,
        types=matrix.types,
        by=settings.gene_ids,
        path=matrix_path,
    )
    notes = () if pooling is None else (pooling.note,)
    return RawSection(
        section,
        patient,
        counts,
        genes,
        positions,
        scale.mpp,
        pixels,
        dropped,
        (*scale.warnings, *((MIRRORED,) if lattice.mirrored else ()), *notes),
    )


def _without_counts(placed: pd.DataFrame, counted: pd.Index) -> list[tuple[str, str]]:
    """Return the spots that lack a place under tissue or counts, with the reason."""
    off = placed[~placed["in_tissue"]]
    under = placed.index[placed["in_tissue"]]
    return [
        *zip(off.index, off["reason"], strict=True),
        *((name, "no position in the spot file") for name in counted[~counted.isin(placed.index)]),
        *((name, "no counts") for name in under[~under.isin(counted)]),
    ]


def _summed(path: Path, counted: pd.Index, shared: pd.Index, pooling: Pooling) -> FeatureMatrix:
    """Read the matrix of bins, summed over blocks. `pooling` is of the bins `shared`."""
    groups = np.full(len(counted), -1, dtype=np.int64)
    groups[counted.get_indexer(shared)] = pooling.groups
    return read_summed(path, groups, len(pooling.positions))


READER = SectionReader(
    "visium",
    "a Space Ranger output folder (Visium, Visium HD)",
    is_visium,
    list_sources,
    passed_over,
)
