"""Read 10x Visium sections from the output folder of Space Ranger.

The count matrix is a file .h5 or a folder. The positions have a header since Space Ranger 2. Older
files have none, and the order of their pixel columns is row, then column, as in
:data:`POSITION_COLUMNS`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from tcgn_mil.errors import InputError
from tcgn_mil.io.tables.delimited import read_cells
from tcgn_mil.preprocessing.sections.genes import name_counts
from tcgn_mil.preprocessing.sections.lattice import MIRRORED, fit_lattice, resolution
from tcgn_mil.preprocessing.sections.raw_section import (
    NOT_IN_TISSUE,
    RawSection,
    ReadSettings,
    SectionSource,
)
from tcgn_mil.preprocessing.sections.readers.base import SectionReader, SectionRequest
from tcgn_mil.preprocessing.sections.readers.space_ranger import (
    SCALEFACTORS,
    find_image,
    find_matrix,
    find_positions,
    outputs_of,
    refuse_other_layouts,
    section_name,
)
from tcgn_mil.preprocessing.sections.readers.tenx_matrix import matrix_files, read_matrix
from tcgn_mil.text import duplicates, preview

POSITION_COLUMNS = (  # in the order of files without a header
    "barcode",
    "in_tissue",
    "array_row",
    "array_col",
    "pxl_row_in_fullres",
    "pxl_col_in_fullres",
)


def is_visium(source: Path) -> bool:
    """Return whether a folder, or folders in it, are outputs of Space Ranger.

    A folder of .h5ad files is not taken for Visium, even if outputs of Space Ranger lie below it.

    Raises
    ------
    InputError
        If the folder is of another platform of 10x (Visium HD, Xenium).
    """
    if not source.is_dir():
        return False
    refuse_other_layouts(source)
    if outputs_of(source) is not None:
        return True
    return not any(source.glob("*.h5ad")) and bool(_output_folders(source))


def _output_folders(source: Path) -> list[Path]:
    return [
        outputs
        for folder in sorted(source.iterdir())
        if folder.is_dir() and (outputs := outputs_of(folder)) is not None
    ]


def list_sources(source: Path, request: SectionRequest) -> list[SectionSource]:
    """List the section of an output folder, or the sections of a folder of such folders."""
    own = outputs_of(source)
    folders = [own] if own is not None else _output_folders(source)
    if not folders:
        refuse_other_layouts(source)
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
    return sources


def section_files(folder: Path, image: Path | None = None) -> tuple[Path, ...]:
    """Return all files that a section is read from.

    Raises
    ------
    InputError
        If a file is missing, or the folder is of another platform of 10x.
    """
    refuse_other_layouts(folder)
    return (
        *matrix_files(find_matrix(folder)),
        find_positions(folder),
        *(() if image is not None else (folder / "spatial" / SCALEFACTORS,)),
        find_image(folder, image).path,
    )


def read_section(
    folder: Path, settings: ReadSettings, *, section: str, patient: str, image: Path | None = None
) -> RawSection:
    """Read the counts and the positions of a section.

    Parameters
    ----------
    folder
        Output folder of Space Ranger.
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
        lattice, or the stated resolution is more than 5 % off the measured one.
    """
    refuse_other_layouts(folder)
    matrix_path, positions_path = find_matrix(folder), find_positions(folder)
    placed = read_positions(positions_path)
    lattice = fit_lattice(
        placed[["x", "y"]].to_numpy(),
        placed[["pixel_x", "pixel_y"]].to_numpy(),
        path=positions_path,
    )
    mpp = resolution(lattice, settings, path=positions_path)
    pixels = find_image(folder, image)
    matrix = read_matrix(matrix_path)
    counted = pd.Index(matrix.barcodes)
    under = placed.index[placed["in_tissue"]]
    shared = counted[counted.isin(under)]
    if shared.empty:
        raise InputError(
            f"none of its {len(under)} spots under tissue has counts: it names"
            f" {preview(list(under), most=2)}, {matrix_path.name} names"
            f" {preview(matrix.barcodes, most=2)}",
            path=positions_path,
            fix="check that positions and matrix are of one section",
        )
    dropped = [(name, NOT_IN_TISSUE) for name in placed.index[~placed["in_tissue"]]]
    dropped += [
        (name, "no position in the spot file") for name in counted[~counted.isin(placed.index)]
    ]
    dropped += [(name, "no counts") for name in under[~under.isin(counted)]]
    counts, genes = name_counts(
        matrix.counts[counted.get_indexer(shared)],
        matrix.ids,
        matrix.symbols,
        types=matrix.types,
        by=settings.gene_ids,
        path=matrix_path,
    )
    return RawSection(
        section,
        patient,
        counts,
        genes,
        placed.loc[shared, ["x", "y", "pixel_x", "pixel_y"]],
        mpp,
        pixels,
        dropped,
        warnings=(MIRRORED,) if lattice.mirrored else (),
    )


def read_positions(path: Path) -> pd.DataFrame:
    """Read the positions of all spots of the array.

    Returns
    -------
    pandas.DataFrame
        Indexed by barcode: in_tissue (bool), array position x (column), y (row), and centre pixel_x
        (column), pixel_y (row) in pixels of the full-resolution image.
    """
    cells = read_cells(path)
    # Space Ranger 1 wrote no header. The first cell then is a barcode, never the word.
    has_header = "barcode" in {str(cell).lower() for cell in cells.iloc[0]}
    names = [str(cell) for cell in cells.iloc[0]] if has_header else list(POSITION_COLUMNS)
    absent = [name for name in POSITION_COLUMNS if name not in names]
    if absent or (not has_header and cells.shape[1] != len(POSITION_COLUMNS)):
        raise InputError(
            f"has no column {', '.join(absent)}"
            if absent
            else f"has {cells.shape[1]} columns and no header",
            path=path,
            fix=f"give a file with the columns {', '.join(POSITION_COLUMNS)}",
        )
    table = cells.iloc[int(has_header) :].set_axis(names, axis=1)
    numbers = (
        table[list(POSITION_COLUMNS[1:])].apply(pd.to_numeric, errors="coerce").astype(np.float64)
    )
    fine = (
        np.isfinite(numbers.to_numpy()).all(axis=1) & numbers["in_tissue"].isin([0, 1]).to_numpy()
    )
    if not fine.all():
        row = int(np.argmin(fine))
        shown = preview(list(table.iloc[row][list(POSITION_COLUMNS)]), most=6)
        raise InputError(
            f"line {row + 1 + has_header} is not a position: {shown}",
            path=path,
            fix="correct or remove the line",
        )
    repeated = duplicates(table["barcode"])
    if repeated:
        raise InputError(
            f"places spot {preview(repeated)} more than once",
            path=path,
            fix="keep one row for each spot",
        )
    return pd.DataFrame(
        {
            "in_tissue": numbers["in_tissue"].to_numpy() == 1,
            "x": numbers["array_col"].to_numpy(dtype=np.int64),
            "y": numbers["array_row"].to_numpy(dtype=np.int64),
            "pixel_x": numbers["pxl_col_in_fullres"].to_numpy(),
            "pixel_y": numbers["pxl_row_in_fullres"].to_numpy(),
        },
        index=pd.Index(table["barcode"].to_numpy(dtype=str), dtype=object),
    )


READER = SectionReader("visium", "a Space Ranger output folder", is_visium, list_sources)
