"""Reader of 10x Visium sections: the output folder of Space Ranger, old and new, and the user's own image.

The matrix comes as .h5 or as a folder, positions with a header or (before Space Ranger 2) without, where the order of
the pixel columns differs, so that they are read by name. The full-resolution image is not in the folder: without it the
high- or low-resolution picture stands in, which shows tissue but no nuclei.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tcgn_mil.errors import InputError
from tcgn_mil.io.tables.delimited import read_cells
from tcgn_mil.preprocessing.sections.genes import name_counts
from tcgn_mil.preprocessing.sections.lattice import fit_lattice, resolution
from tcgn_mil.preprocessing.sections.raw_section import (
    MAX_DISAGREEMENT,
    RawSection,
    ReadSettings,
    SectionImage,
)
from tcgn_mil.preprocessing.sections.tenx_matrix import matrix_files, read_matrix
from tcgn_mil.text import duplicates, preview

MATRIX_NAME = "filtered_feature_bc_matrix"
POSITION_FILES = ("tissue_positions.csv", "tissue_positions_list.csv")
POSITION_COLUMNS = (  # their order without a header
    "barcode",
    "in_tissue",
    "array_row",
    "array_col",
    "pxl_row_in_fullres",
    "pxl_col_in_fullres",
)
SCALEFACTORS = "scalefactors_json.json"
PICTURES = ("hires", "lowres")
MIRRORED = "its spots are mirrored against the array: x and y swapped, or the image flipped? look at the alignment figure"
NOT_IN_TISSUE = "not under tissue (in_tissue 0)"


def outputs_of(folder: Path) -> Path | None:
    """The folder that holds Space Ranger's outputs: `folder` itself or its ``outs``; None if neither does."""
    for found in (folder, folder / "outs"):
        if (found / "spatial").is_dir() or any(found.glob(f"*{MATRIX_NAME}*")):
            return found
    return None


def section_name(folder: Path) -> str:
    """The sample's folder, not its ``outs``."""
    folder = folder.resolve()
    return folder.parent.name if folder.name == "outs" else folder.name


def section_files(folder: Path, image: Path | None = None) -> tuple[Path, ...]:
    """Every file a section is read from.

    Raises
    ------
    InputError
        Naming what is missing, or a layout that is not read.
    """
    refuse_other_layouts(folder)
    return (
        *matrix_files(_find_matrix(folder)),
        _find_positions(folder),
        *(() if image is not None else (folder / "spatial" / SCALEFACTORS,)),
        _find_image(folder, image).path,
    )


def read_section(
    folder: Path, settings: ReadSettings, *, section: str, patient: str, image: Path | None = None
) -> RawSection:
    """Read counts, positions and where the pixels are.

    Parameters
    ----------
    image
        The full-resolution image; without it the largest picture in ``spatial``.

    Raises
    ------
    InputError
        For missing or damaged files, barcodes that do not meet, positions on no lattice, or a stated resolution more
        than 5 % off the measured one.
    """
    refuse_other_layouts(folder)
    matrix_path, positions_path = _find_matrix(folder), _find_positions(folder)
    placed = read_positions(positions_path)
    lattice = fit_lattice(
        placed[["x", "y"]].to_numpy(),
        placed[["pixel_x", "pixel_y"]].to_numpy(),
        path=positions_path,
    )
    mpp = resolution(
        lattice,
        spot_pitch_um=settings.spot_pitch_um,
        mpp=settings.mpp,
        tolerance=MAX_DISAGREEMENT,
        path=positions_path,
    )
    pixels = _find_image(folder, image)
    matrix = read_matrix(matrix_path)
    counted = pd.Index(matrix.barcodes)
    under = placed.index[placed["in_tissue"]]
    shared = counted[counted.isin(under)]
    if shared.empty:
        raise InputError(
            f"none of its {len(under)} spots under tissue has counts: it names {preview(list(under), most=2)},"
            f" {matrix_path.name} names {preview(matrix.barcodes, most=2)}",
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
    """Positions of all spots of the array, indexed by barcode: in_tissue, x, y (column, row), pixel_x, pixel_y."""
    cells = read_cells(path)
    has_header = "barcode" in {str(cell).lower() for cell in cells.iloc[0]}
    names = [str(cell) for cell in cells.iloc[0]] if has_header else list(POSITION_COLUMNS)
    absent = [name for name in POSITION_COLUMNS if name not in names]
    if absent or (not has_header and cells.shape[1] != len(POSITION_COLUMNS)):
        raise InputError(
            f"has no column {', '.join(absent)}"
            if absent
            else f"has {cells.shape[1]} columns and no header",
            path=path,
            fix=f"columns are {', '.join(POSITION_COLUMNS)}",
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
            f"line {row + 1 + has_header} is no position: {shown}",
            path=path,
            fix="correct or remove the line",
        )
    repeated = duplicates(table["barcode"])
    if repeated:
        raise InputError(
            f"places spot {preview(repeated)} more than once", path=path, fix="keep one row a spot"
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


def scale_of(scalefactors: Any, picture: str, *, path: object) -> float:
    """Pixels of a picture per full-resolution pixel, by ``tissue_{picture}_scalef``.

    Raises
    ------
    InputError
        If the field is missing or no scale.
    """
    field = f"tissue_{picture}_scalef"
    value = scalefactors.get(field) if isinstance(scalefactors, dict) else None
    try:
        scale = float(np.asarray(value, dtype=np.float64))
    except (TypeError, ValueError):
        scale = float("nan")
    if not 0 < scale <= 1:
        shown = "no" if value is None else f"{value!r} as"
        raise InputError(
            f"has {shown} {field}",
            path=str(path),
            fix="copy the file again, or give the full-resolution image",
        )
    return scale


def refuse_other_layouts(folder: Path) -> None:
    """Raise InputError for outputs of 10x's other platforms, which have no such spots."""
    bins = (folder / "binned_outputs").is_dir() or any(folder.glob("square_0*"))
    if bins or (folder / "spatial" / "tissue_positions.parquet").is_file():
        raise InputError(
            "is Visium HD, whose bins are no spots",
            path=folder,
            fix="give a standard Visium section, or an .h5ad of it",
        )
    if (folder / "experiment.xenium").is_file():
        raise InputError(
            "is a Xenium run, not Visium",
            path=folder,
            fix="give it as HEST has it: spots in an .h5ad",
        )


def _find_matrix(folder: Path) -> Path:
    found = sorted(folder.glob(f"*{MATRIX_NAME}.h5")) or [
        path for path in sorted(folder.glob(f"*{MATRIX_NAME}")) if path.is_dir()
    ]
    if len(found) != 1:
        raise InputError(
            f"needs one {MATRIX_NAME} (.h5, or a folder), found {len(found)}",
            path=folder,
            fix="give the folder that Space Ranger wrote for one section, usually named outs",
        )
    return found[0]


def _find_positions(folder: Path) -> Path:
    for name in POSITION_FILES:
        if (folder / "spatial" / name).is_file():
            return folder / "spatial" / name
    raise InputError(
        f"has no {' or '.join(POSITION_FILES)}",
        path=folder / "spatial",
        fix="copy it from the same run",
    )


def _find_image(folder: Path, image: Path | None) -> SectionImage:
    if image is not None:
        if not image.is_file():
            raise InputError("no such image", path=image, fix="check --image")
        return SectionImage(image, "full-resolution image")
    for picture in PICTURES:
        for suffix in (".png", ".jpg", ".jpeg", ".tiff", ".tif"):
            path = folder / "spatial" / f"tissue_{picture}_image{suffix}"
            if path.is_file():
                return SectionImage(path, f"{picture} image", _read_scale(folder, picture))
    raise InputError(
        "has no tissue_hires_image.png and no tissue_lowres_image.png",
        path=folder / "spatial",
        fix="give the full-resolution image with --image",
    )


def _read_scale(folder: Path, picture: str) -> float:
    path = folder / "spatial" / SCALEFACTORS
    if not path.is_file():
        raise InputError(
            "no such file", path=path, fix="copy it from the same run, or give --image"
        )
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"is no JSON ({str(error)[:100]})", path=path, fix="copy it again, or give --image"
        ) from error
    return scale_of(fields, picture, path=path)
