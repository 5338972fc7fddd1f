"""Reader of the public her2st layout of spatial transcriptomics (Andersson et al., Nat Commun 2021).

``ST-cnts/{section}.tsv.gz`` spots x genes, ``ST-spotfiles/{section}_selection.tsv`` positions, and
``ST-imgs/{patient}/{section}/`` one image; the section's first letter is the patient.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, UnidentifiedImageError

from tcgn_mil.contracts import check_mpp, duplicates, preview
from tcgn_mil.errors import InputError

_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff")
_POSITION_COLUMNS = ("x", "y", "pixel_x", "pixel_y")
_MAX_IMAGE_PX = 600_000_000
SPOT_PITCH_UM = 200.0


@dataclass(frozen=True)
class SectionFiles:
    """The three files of a section."""

    section: str
    patient: str
    counts: Path
    positions: Path
    image: Path


@dataclass(frozen=True)
class RawSection:
    """One section as read.

    Attributes
    ----------
    files
        Where it came from.
    counts
        Data frame, spots (``{x}x{y}``) x genes, whole numbers; spots that have a position.
    positions
        Same index: array x, y and level-0 pixel_x (column), pixel_y (row) of the spot centre.
    mpp
        µm per pixel, measured from the distance of the spots.
    dropped
        Spots that have counts or a position but not both: spot, reason.
    """

    files: SectionFiles
    counts: pd.DataFrame
    positions: pd.DataFrame
    mpp: float
    dropped: list[tuple[str, str]]


def find_sections(source: str | Path) -> Iterator[SectionFiles]:
    """The sections of a her2st folder, in order of their names.

    Raises
    ------
    InputError
        If there is no count file, or a section lacks its positions or its image.
    """
    source = Path(source)
    counts = sorted((source / "ST-cnts").glob("*.tsv*"))
    if not counts:
        raise InputError(
            "has no ST-cnts/*.tsv.gz", path=source, fix="give the folder that holds ST-cnts, ST-imgs and ST-spotfiles"
        )
    for path in counts:
        section = path.name.split(".")[0]
        patient = section[0]
        positions = source / "ST-spotfiles" / f"{section}_selection.tsv"
        if not positions.is_file():
            raise InputError(f"section {section} has no spot file", path=positions, fix="add it, or remove its counts")
        folder = source / "ST-imgs" / patient / section
        images = sorted(image for image in folder.glob("*") if image.suffix.lower() in _IMAGE_SUFFIXES)
        if len(images) != 1:
            raise InputError(
                f"section {section} needs one image, found {len(images)}",
                path=folder,
                fix="put the full-resolution H&E image of the section there, and no other",
            )
        yield SectionFiles(section, patient, path, positions, images[0])


def read_section(files: SectionFiles, *, spot_pitch_um: float = SPOT_PITCH_UM) -> RawSection:
    """Read counts and positions, join them on ``{x}x{y}`` and measure the resolution.

    Raises
    ------
    InputError
        For unreadable tables, counts that are no counts, repeated genes or spots, or ids that do not meet.
    """
    counts = _read_counts(files.counts)
    positions = _read_positions(files.positions)
    shared = [name for name in counts.index if name in positions.index]
    if not shared:
        raise InputError(
            f"none of its {len(positions)} spots has counts: it names {preview(list(positions.index), most=2)},"
            f" {files.counts.name} names {preview(list(counts.index), most=2)}",
            path=files.positions,
            fix="check that both files are of one section and that spots are named {x}x{y}",
        )
    known = set(shared)
    dropped = [(name, "no position in the spot file") for name in counts.index if name not in known]
    dropped += [(name, "no counts") for name in positions.index if name not in known]
    positions = positions.loc[shared]
    mpp = measure_mpp(positions, spot_pitch_um, path=files.positions)
    return RawSection(files, counts.loc[shared], positions, mpp, dropped)


def measure_mpp(positions: pd.DataFrame, spot_pitch_um: float, *, path: Path) -> float:
    """µm per pixel: the pitch over the pixels per array step, fitted over all spots on both axes.

    Raises
    ------
    InputError
        If the spots span no grid, or the axes disagree by more than 2 %.
    """
    steps = []
    for array, pixel in (("x", "pixel_x"), ("y", "pixel_y")):
        if positions[array].nunique() < 2:
            raise InputError(f"all spots share one {array}: no distance to measure", path=path, fix="add more spots")
        steps.append(abs(np.polyfit(positions[array], positions[pixel], 1)[0]))
    if not 0.98 < steps[0] / steps[1] < 1.02:
        raise InputError(
            f"spots are {steps[0]:.1f} px apart along x and {steps[1]:.1f} px along y",
            path=path,
            fix="check that pixel_x is the column and pixel_y the row of the image",
        )
    return check_mpp(spot_pitch_um / float(np.mean(steps)), what="measured resolution", path=path)


def read_image(path: Path) -> np.ndarray:
    """The whole image, (H, W, 3) uint8, its size checked before it is decoded.

    Raises
    ------
    InputError
        If it is missing, too large, cut off or no image.
    """
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # our own bound, below, says what to do
    try:
        with Image.open(path) as image:
            if image.width * image.height > _MAX_IMAGE_PX:
                raise InputError(
                    f"has {image.width} x {image.height} px, above the bound of {_MAX_IMAGE_PX:,} px",
                    path=path,
                    fix="scale the image and the spot positions down",
                )
            return np.asarray(image.convert("RGB"))
    except FileNotFoundError as error:
        raise InputError("no such image", path=path, fix="check the path") from error
    except UnidentifiedImageError as error:
        raise InputError("is no image that can be read", path=path, fix="give a JPEG, PNG or TIFF") from error
    except (OSError, SyntaxError) as error:
        raise InputError(f"is cut off or damaged ({error})", path=path, fix="copy the image again") from error
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _read_counts(path: Path) -> pd.DataFrame:
    """Spots x genes, int32."""
    header = _read_table(path, nrows=0)
    repeated = duplicates(_header_of(path))
    if repeated:
        raise InputError(
            f"names {len(repeated)} genes more than once: {preview(repeated)}",
            path=path,
            fix="sum or rename the repeated columns",
        )
    if not len(header.columns):
        raise InputError("has no gene column", path=path, fix="the first row names the genes, tab-separated")
    table = _read_table(path)
    text = [column for column in table.columns if not pd.api.types.is_numeric_dtype(table[column])]
    if text:
        bad = pd.to_numeric(table[text[0]], errors="coerce").isna()
        raise InputError(
            f"column {text[0]}, spot {bad.idxmax()}: {table[text[0]][bad.idxmax()]!r} is no count",
            path=path,
            fix="counts are whole numbers; remove text columns",
        )
    values = table.to_numpy()
    if not np.isfinite(values).all() or (values < 0).any() or (values != np.floor(values)).any():
        raise InputError(
            "holds values that are no counts (negative, fractional or missing)",
            path=path,
            fix="give raw UMI counts, not normalised values",
        )
    repeated = duplicates(table.index)
    if repeated:
        raise InputError(f"names spot {preview(repeated)} more than once", path=path, fix="keep one row a spot")
    return table.astype(np.int32)


def _header_of(path: Path) -> list[str]:
    """Column names as written (pandas would rename repeated ones)."""
    first = pd.read_csv(path, sep="\t", header=None, nrows=1, dtype=str)
    return [str(name) for name in first.iloc[0, 1:]]


def _read_positions(path: Path) -> pd.DataFrame:
    """Index ``{x}x{y}``, columns x, y, pixel_x, pixel_y; array positions are rounded, as some are fractional."""
    table = _read_table(path, index_col=None)
    absent = [column for column in _POSITION_COLUMNS if column not in table]
    if absent:
        raise InputError(
            f"has no column {', '.join(absent)}", path=path, fix="columns are x, y, new_x, new_y, pixel_x, pixel_y"
        )
    table = table[list(_POSITION_COLUMNS)].apply(pd.to_numeric, errors="coerce")
    if table.isna().any(axis=None):
        row = int(table.isna().any(axis=1).idxmax()) + 2
        raise InputError(f"line {row} has no number for a position", path=path, fix="correct or remove the line")
    table[["x", "y"]] = table[["x", "y"]].round().astype(int)
    table.index = [f"{x}x{y}" for x, y in zip(table["x"], table["y"], strict=True)]
    repeated = duplicates(table.index)
    if repeated:
        raise InputError(f"places spot {preview(repeated)} more than once", path=path, fix="keep one row a spot")
    return table


def _read_table(path: Path, **options: object) -> pd.DataFrame:
    """A tab-separated table, plain or gzipped."""
    settings: dict[str, object] = {"sep": "\t", "index_col": 0, **options}
    try:
        return pd.read_csv(path, **settings)
    except (OSError, EOFError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise InputError(f"cannot be read as a tab-separated table ({error})", path=path, fix="copy it again") from error
