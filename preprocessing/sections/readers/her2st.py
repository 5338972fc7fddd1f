"""Reader of the public her2st layout of spatial transcriptomics (Andersson et al., Nat Commun 2021).

``ST-cnts/{section}.tsv.gz`` spots x genes, ``ST-spotfiles/{section}_selection.tsv`` positions, and
``ST-imgs/{patient}/{section}/`` one image; the section's first letter is the patient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from tcgn_mil.errors import InputError
from tcgn_mil.io.tables.delimited import column_names, read_columns
from tcgn_mil.preprocessing.sections.genes import check_counts, name_counts
from tcgn_mil.preprocessing.sections.raw_section import MAX_DISAGREEMENT, RawSection, SectionImage
from tcgn_mil.text import duplicates, preview
from tcgn_mil.types.tile_geometry import check_mpp

_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff")
_POSITION_COLUMNS = ("x", "y", "pixel_x", "pixel_y")
_MEASURED_COLUMNS = ("new_x", "new_y")
_MAX_SHIFT = 1.0  # array steps between where a spot is meant to be and where it was found
SPOT_PITCH_UM = 200.0


@dataclass(frozen=True)
class SectionFiles:
    """The three files of a section."""

    section: str
    patient: str
    counts: Path
    positions: Path
    image: Path


def find_sections(source: str | Path, wanted: Sequence[str] | None = None) -> list[SectionFiles]:
    """The sections of a her2st folder in order of their names, or those `wanted` in the order given.

    Raises
    ------
    InputError
        If there is no count file, a wanted section is not there, or a section lacks its positions or its image.
    """
    return [
        files_of(Path(source), name, path) for name, path in count_files(source, wanted).items()
    ]


def count_files(source: str | Path, wanted: Sequence[str] | None = None) -> dict[str, Path]:
    """Section -> its count file, in order of the names or as `wanted`; errors as :func:`find_sections`."""
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
    known = {path.name.split(".")[0]: path for path in counts}
    if len(known) != len(counts):
        twice = duplicates([path.name.split(".")[0] for path in counts])
        raise InputError(
            f"section {preview(twice)} has two count files",
            path=counts[0].parent,
            fix="keep one of them",
        )
    missing = [name for name in wanted or () if name not in known]
    if missing:
        raise InputError(
            f"has no section {preview(missing)}",
            path=source,
            fix=f"it has {preview(list(known), most=40)}",
        )
    return {name: known[name] for name in dict.fromkeys(wanted or known)}


def files_of(source: Path, section: str, counts: Path) -> SectionFiles:
    """The files of one section; InputError if it lacks its positions or its image."""
    positions = source / "ST-spotfiles" / f"{section}_selection.tsv"
    if not positions.is_file():
        raise InputError(
            f"section {section} has no spot file",
            path=positions,
            fix="add it, or remove its counts",
        )
    folder = source / "ST-imgs" / section[0] / section
    images = sorted(
        image
        for image in folder.glob("*")
        if image.suffix.lower() in _IMAGE_SUFFIXES and not image.name.startswith(".")
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
) -> RawSection:
    """Read counts and positions and join them on ``{x}x{y}``.

    Spots without counts, without a position, or not selected as tissue are left out and listed.

    Parameters
    ----------
    spot_pitch_um
        Distance of neighbouring spots in µm, from which the image's resolution is measured; 200 if None.
    mpp
        µm per pixel of the image, instead of measuring it.
    gene_ids
        What names genes: ``symbol`` or ``ensembl``.

    Raises
    ------
    InputError
        For unreadable tables, counts that are no counts, repeated spots, ids that do not meet, or a given resolution
        more than 5 % off the measured one.
    """
    values, genes, counted = _read_counts(files.counts)
    positions, unselected = _read_positions(files.positions)
    shared = counted[counted.isin(positions.index)]
    if shared.empty:
        raise InputError(
            f"none of its {len(positions)} spots has counts: it names {preview(list(positions.index), most=2)},"
            f" {files.counts.name} names {preview(list(counted), most=2)}",
            path=files.positions,
            fix="check that both files are of one section and that spots are named {x}x{y}",
        )
    unplaced = counted[~counted.isin(positions.index)]
    dropped = [
        (name, "not selected" if name in unselected else "no position in the spot file")
        for name in unplaced
    ]
    dropped += [(name, "no counts") for name in positions.index[~positions.index.isin(counted)]]
    positions = positions.loc[shared]
    pitch = SPOT_PITCH_UM if spot_pitch_um is None else spot_pitch_um
    resolution = _resolution(positions, pitch, mpp, path=files.positions)
    rows = counted.get_indexer(shared)
    counts, named = name_counts(values[rows], genes, by=gene_ids, path=files.counts)
    return RawSection(
        files.section,
        files.patient,
        counts,
        named,
        positions,
        resolution,
        SectionImage(files.image),
        dropped,
    )


def _resolution(
    positions: pd.DataFrame, spot_pitch_um: float, mpp: float | None, *, path: Path
) -> float:
    """µm per pixel as given, checked against the spots where they span a grid, or else measured from them."""
    if mpp is None:
        return measure_mpp(positions, spot_pitch_um, path=path)
    check_mpp(mpp, what="given resolution", path=path)
    if positions["x"].nunique() > 1 and positions["y"].nunique() > 1:
        measured = measure_mpp(positions, spot_pitch_um, path=path)
        if abs(measured / mpp - 1) > MAX_DISAGREEMENT:
            raise InputError(
                f"its spots, {spot_pitch_um:g} µm apart, give {measured:.4g} µm/px, but {mpp:.4g} is stated",
                path=path,
                fix="leave the resolution out, or state the spots' true distance in µm",
            )
    return mpp


def measure_mpp(positions: pd.DataFrame, spot_pitch_um: float, *, path: Path) -> float:
    """µm per pixel: the pitch over the pixels per array step, fitted over all spots on both axes.

    Fitted on measured array positions where there are any: spots lie off their nominal ones, so that a fit on those
    scatters by 0.5 % between sections of one scanner, and some sections' patches would be resampled by one pixel.

    Raises
    ------
    InputError
        If the spots span no grid, or the axes disagree by more than 2 %.
    """
    steps = []
    for axis in ("x", "y"):
        if positions[axis].nunique() < 2:
            raise InputError(
                f"all spots share one {axis}: no distance to measure",
                path=path,
                fix="state the image's µm per pixel",
            )
        steps.append(
            abs(float(np.polyfit(positions[f"array_{axis}"], positions[f"pixel_{axis}"], 1)[0]))
        )
    if min(steps) < 1 or not 0.98 < steps[0] / steps[1] < 1.02:
        raise InputError(
            f"spots are {steps[0]:.1f} px apart along x and {steps[1]:.1f} px along y",
            path=path,
            fix="check that pixel_x is the column and pixel_y the row of the image",
        )
    return check_mpp(spot_pitch_um / float(np.mean(steps)), what="measured resolution", path=path)


def _read_counts(path: Path) -> tuple[sparse.csr_matrix, list[str], pd.Index]:
    """(S, F) counts, the F columns' names, which may repeat, and the S spots."""
    genes = column_names(path)[1:]
    if not genes or not all(genes):
        raise InputError(
            "has no gene column, or one without a name",
            path=path,
            fix="the first row names the genes",
        )
    table = read_columns(path, range(1, len(genes) + 1), ids=0)
    _refuse_text(table, path)
    counts = check_counts(table.to_numpy(dtype=np.float64), list(table.index), genes, path=path)
    repeated = duplicates(table.index)
    if repeated:
        raise InputError(
            f"names spot {preview(repeated)} more than once", path=path, fix="keep one row a spot"
        )
    return counts, genes, table.index


def _refuse_text(table: pd.DataFrame, path: Path) -> None:
    for column in np.flatnonzero(
        [not pd.api.types.is_numeric_dtype(kind) for kind in table.dtypes]
    ).tolist():
        cells = table.iloc[:, column]
        row = int(np.argmax(pd.to_numeric(cells, errors="coerce").isna().to_numpy()))
        raise InputError(
            f"gene {table.columns[column]}, spot {table.index[row]}: {cells.iloc[row]!r} is no count",
            path=path,
            fix="counts are whole numbers; remove columns of text",
        )


def _read_positions(path: Path) -> tuple[pd.DataFrame, frozenset[str]]:
    """Spots placed, and the names of those not selected as tissue.

    Array x, y, rounded as some are fractional; array_x, array_y, the same as measured (``new_x``, ``new_y``) where the
    file says; level-0 pixel_x (column), pixel_y (row) of the centre.
    """
    names = column_names(path)
    absent = [column for column in _POSITION_COLUMNS if column not in names]
    if absent:
        raise InputError(
            f"has no column {', '.join(absent)}",
            path=path,
            fix="columns are x, y, new_x, new_y, pixel_x, pixel_y",
        )
    wanted = [
        *_POSITION_COLUMNS,
        *(name for name in (*_MEASURED_COLUMNS, "selected") if name in names),
    ]
    table = read_columns(path, [names.index(column) for column in wanted]).apply(
        pd.to_numeric, errors="coerce"
    )
    needed = table.drop(columns=list(_MEASURED_COLUMNS), errors="ignore")
    unusable = ~np.isfinite(needed.to_numpy(dtype=np.float64)).all(axis=1)
    if unusable.any():
        row = int(np.argmax(unusable)) + 2
        raise InputError(
            f"line {row} has no number for a position", path=path, fix="correct or remove the line"
        )
    table[["array_x", "array_y"]] = _measured_positions(table)
    table[["x", "y"]] = table[["x", "y"]].round().astype(int)
    table.index = pd.Index([f"{x}x{y}" for x, y in zip(table["x"], table["y"], strict=True)])
    repeated = duplicates(table.index)
    if repeated:
        raise InputError(
            f"places spot {preview(repeated)} more than once", path=path, fix="keep one row a spot"
        )
    selected = table["selected"] != 0 if "selected" in table else pd.Series(True, index=table.index)
    return table.loc[selected, [*_POSITION_COLUMNS, "array_x", "array_y"]], frozenset(
        table.index[~selected]
    )


def _measured_positions(table: pd.DataFrame) -> NDArray[np.float64]:
    """(S, 2) array positions where spots were found; nominal ones where the file has none, or implausible ones."""
    nominal = table[["x", "y"]].to_numpy(dtype=np.float64)
    if not set(_MEASURED_COLUMNS) <= set(table.columns):
        return nominal
    measured = table[list(_MEASURED_COLUMNS)].to_numpy(dtype=np.float64)
    near = np.abs(measured - nominal) < _MAX_SHIFT  # False for NaN
    return measured if near.all() else nominal
