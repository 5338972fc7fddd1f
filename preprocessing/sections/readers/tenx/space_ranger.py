"""Find the matrix, the positions and the pictures in an output folder of Space Ranger."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.json_file import read_json
from tcgn_mil.preprocessing.sections.raw_section import SectionImage

MATRIX_NAME = "filtered_feature_bc_matrix"
# The first name is that of Space Ranger 2 and later, with a header. Visium HD has Parquet.
POSITION_FILES = (
    "tissue_positions.csv",
    "tissue_positions_list.csv",
    "tissue_positions.csv.gz",
    "tissue_positions_list.csv.gz",
    "tissue_positions.parquet",
)
SCALEFACTORS = "scalefactors_json.json"
PICTURES = ("hires", "lowres")
BINNED, SEGMENTED = "binned_outputs", "segmented_outputs"
CELL_MATRIX = "filtered_feature_cell_matrix.h5"
_BINS = re.compile(r"square_\d{3}um")
# Bins of 8 µm are Space Ranger's own choice for analyses; those of 2 µm are many and nearly empty.
_PREFERRED_BINS = ("square_008um", "square_016um", "square_002um")
_WHOLE_OUTPUT = "give the folder that Space Ranger wrote for one section, usually named outs"
# Names of matrices that are something else, with the reason not to take them as they are.
_OTHER_MATRICES = (
    ("raw_feature_bc_matrix", "counts all spots, also those beside the tissue"),
    ("filtered_gene_bc_matrices", "has the name that Cell Ranger 2 gave"),
)


def outputs_of(folder: Path) -> Path | None:
    """Return the folder with the outputs, `folder` itself or its ``outs``; None if neither is.

    Of the bins of Visium HD those of 8 µm are taken, unless `folder` is that of other bins.
    """
    for outputs in (folder, folder / "outs"):
        bins = _bins_of(outputs / BINNED) or _bins_of(outputs)
        if bins is not None:
            return bins
        if (outputs / "spatial").is_dir() or any(outputs.glob(f"*{MATRIX_NAME}*")):
            return outputs
    return None


def _bins_of(folder: Path) -> Path | None:
    sizes = [path for path in sorted(folder.glob("square_*um")) if _BINS.fullmatch(path.name)]
    preferred = [folder / name for name in _PREFERRED_BINS if folder / name in sizes]
    return next(iter([*preferred, *sizes]), None)


def section_name(folder: Path) -> str:
    """Return the name of the sample's folder, above its ``outs`` and the folders of its bins."""
    folder = folder.resolve()
    while folder.name in ("outs", BINNED) or (
        _BINS.fullmatch(folder.name) and folder.parent.name == BINNED
    ):
        folder = folder.parent
    return folder.name


def refuse_flat_folder(folder: Path) -> None:
    """Raise InputError for a folder with the files of Space Ranger side by side, as GEO has them.

    GEO puts the number of the sample before each name, and knows no folders.
    """
    if (folder / "spatial").is_dir():
        return
    positions = sorted(folder.glob("*tissue_positions*"))
    if not positions:
        return
    prefix = positions[0].name.partition("tissue_positions")[0]
    moves = []
    for path in sorted(folder.glob(f"{prefix}*")):
        name = path.name.removeprefix(prefix)
        if name.startswith(("matrix.mtx", "features.tsv", "genes.tsv", "barcodes.tsv")):
            moves.append(f"{path.name} to {MATRIX_NAME}/{name}")
        elif name.startswith(MATRIX_NAME):
            moves.append(f"{path.name} to {name}")
        elif path.is_file():
            moves.append(f"{path.name} to spatial/{name}")
    raise InputError(
        "holds the files of Space Ranger side by side, not in its folders",
        path=folder,
        fix="make a folder for each sample and, in it, rename " + ", ".join(moves),
    )


def find_matrix(folder: Path) -> Path:
    """Return the count matrix, a file .h5 or a folder; raise InputError unless there is one."""
    _refuse_segmented(folder)
    matrices = sorted(folder.glob(f"*{MATRIX_NAME}.h5")) or [
        path for path in sorted(folder.glob(f"*{MATRIX_NAME}")) if path.is_dir()
    ]
    if len(matrices) == 1:
        return matrices[0]
    for name, reason in () if matrices else _OTHER_MATRICES:
        for path in sorted(folder.glob(f"*{name}*")):
            raise InputError(
                f"has no {MATRIX_NAME}, only {path.name}, which {reason}",
                path=folder,
                fix=f"copy {MATRIX_NAME} from the same run; if there is none, rename {path.name} to"
                f" {path.name.replace(name, MATRIX_NAME)}: spots that are not under tissue by the"
                " position file are left out",
            )
    raise InputError(
        f"needs one {MATRIX_NAME} (.h5, or a folder), found {len(matrices)}",
        path=folder,
        fix=_WHOLE_OUTPUT,
    )


def _refuse_segmented(folder: Path) -> None:
    """Raise InputError for the cells that Space Ranger 4 finds in Visium HD.

    They lie in a folder beside that of the bins and are named by numbers without a position file.
    """
    own = folder.name == SEGMENTED or (folder / CELL_MATRIX).is_file()
    if not own and not (folder / SEGMENTED).is_dir():
        return
    if not own and any(folder.glob(f"*{MATRIX_NAME}*")):
        return
    outputs = folder.parent if own else folder
    bins = _bins_of(outputs / BINNED)
    raise InputError(
        f"holds cells of Visium HD ({SEGMENTED}), whose outlines are not read",
        path=folder,
        fix=f"give {BINNED}/{bins.name}, the bins of the same run, which are summed over squares"
        if bins is not None
        else f"give the folder {BINNED}/{_PREFERRED_BINS[0]} of the same run, whose bins are summed"
        " over squares",
    )


def find_positions(folder: Path) -> Path:
    """Return the file of spot positions; raise InputError if there is none."""
    for name in POSITION_FILES:
        if (folder / "spatial" / name).is_file():
            return folder / "spatial" / name
    raise InputError(
        f"has no {' or '.join(POSITION_FILES[:2])}",
        path=folder / "spatial",
        fix="copy it from the same run",
    )


def find_image(folder: Path, image: Path | None) -> SectionImage:
    """Return the image of a section: the user's, or else the largest picture in ``spatial``.

    The full-resolution image is not part of Space Ranger's outputs. The pictures show tissue, but
    no nuclei.

    Raises
    ------
    InputError
        If there is no image, or the scale of the picture is missing.
    """
    if image is not None:
        if not image.exists():
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
    path = scalefactors_file(folder)
    if path is None:
        raise InputError(
            "no such file",
            path=folder / "spatial" / SCALEFACTORS,
            fix="copy it from the same run, or give the full-resolution image with --image",
        )
    return scale_of(read_scalefactors(folder), picture, path=path)


def scalefactors_file(folder: Path) -> Path | None:
    """Return the file of scale factors, which may be compressed; None if there is none."""
    for name in (SCALEFACTORS, f"{SCALEFACTORS}.gz"):
        if (folder / "spatial" / name).is_file():
            return folder / "spatial" / name
    return None


def read_scalefactors(folder: Path) -> dict[str, Any]:
    """Return the fields of scalefactors_json.json; none if there is no such file.

    Raises
    ------
    InputError
        If the file is not valid JSON.
    """
    path = scalefactors_file(folder)
    if path is None:
        return {}
    return read_json(
        path,
        what="a JSON file of scale factors",
        fix="copy it again, or give the full-resolution image with --image",
    )


def scale_of(scalefactors: Any, picture: str, *, path: object) -> float:
    """Return the pixels of a picture for each pixel of the full-resolution image, at most 1.

    Parameters
    ----------
    scalefactors
        Contents of scalefactors_json.json, or the same fields of an .h5ad.
    picture
        ``hires`` or ``lowres``; the field is ``tissue_{picture}_scalef``.
    path
        The file, for messages.

    Raises
    ------
    InputError
        If the field is missing or is not a scale.

    Examples
    --------
    >>> scale_of({"tissue_hires_scalef": 0.25}, "hires", path="scalefactors_json.json")
    0.25
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
            fix="copy the file again, or give the full-resolution image with --image",
        )
    return scale
