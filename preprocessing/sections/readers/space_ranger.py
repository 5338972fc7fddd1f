"""Find the matrix, the positions and the pictures in an output folder of Space Ranger."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.sections.raw_section import SectionImage

MATRIX_NAME = "filtered_feature_bc_matrix"
# The first name is that of Space Ranger 2 and later, whose file has a header.
POSITION_FILES = ("tissue_positions.csv", "tissue_positions_list.csv")
SCALEFACTORS = "scalefactors_json.json"
PICTURES = ("hires", "lowres")


def outputs_of(folder: Path) -> Path | None:
    """Return the folder with the outputs, `folder` itself or its ``outs``; None if neither is."""
    for outputs in (folder, folder / "outs"):
        if (outputs / "spatial").is_dir() or any(outputs.glob(f"*{MATRIX_NAME}*")):
            return outputs
    return None


def section_name(folder: Path) -> str:
    """Return the name of the sample's folder, which is above its ``outs``."""
    folder = folder.resolve()
    return folder.parent.name if folder.name == "outs" else folder.name


def refuse_other_layouts(folder: Path) -> None:
    """Raise InputError for outputs of other platforms of 10x, which have no spots of this kind."""
    bins = (folder / "binned_outputs").is_dir() or any(folder.glob("square_0*"))
    if bins or (folder / "spatial" / "tissue_positions.parquet").is_file():
        raise InputError(
            "is Visium HD, which has bins instead of spots",
            path=folder,
            fix="give a standard Visium section, or an .h5ad of it",
        )
    if (folder / "experiment.xenium").is_file():
        raise InputError(
            "is a Xenium run, not Visium",
            path=folder,
            fix="give an .h5ad of it with spots, as HEST provides",
        )


def find_matrix(folder: Path) -> Path:
    """Return the count matrix, a file .h5 or a folder; raise InputError unless there is one."""
    matrices = sorted(folder.glob(f"*{MATRIX_NAME}.h5")) or [
        path for path in sorted(folder.glob(f"*{MATRIX_NAME}")) if path.is_dir()
    ]
    if len(matrices) != 1:
        raise InputError(
            f"needs one {MATRIX_NAME} (.h5, or a folder), found {len(matrices)}",
            path=folder,
            fix="give the folder that Space Ranger wrote for one section, usually named outs",
        )
    return matrices[0]


def find_positions(folder: Path) -> Path:
    """Return the file of spot positions; raise InputError if there is none."""
    for name in POSITION_FILES:
        if (folder / "spatial" / name).is_file():
            return folder / "spatial" / name
    raise InputError(
        f"has no {' or '.join(POSITION_FILES)}",
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
            "no such file",
            path=path,
            fix="copy it from the same run, or give the full-resolution image with --image",
        )
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"is not valid JSON ({str(error)[:100]})",
            path=path,
            fix="copy it again, or give the full-resolution image with --image",
        ) from error
    return scale_of(fields, picture, path=path)


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
