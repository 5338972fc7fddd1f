"""Read Xenium output folders with an aligned H&E image, and sum the cells over squares.

A folder holds ``experiment.xenium`` with the µm per pixel of the morphology image,
``cells.parquet`` (or ``cells.csv.gz``) with the centre of each cell in µm, and
``cell_feature_matrix.h5`` (or a folder). The H&E image is a file of its own, since the section is
stained after the run. Xenium Explorer writes its alignment, ``*imagealignment.csv``: a 3 x 3 matrix
from pixels of the H&E image to pixels of the morphology image. It also gives the µm per pixel of
the H&E image, which is therefore not guessed.

By default the counts of cells are summed, so that transcripts outside of cells do not count. With
``--pool-from transcripts`` or ``nuclei`` they are summed from ``transcripts.parquet`` (see
:mod:`~tcgn_mil.preprocessing.sections.readers.tenx.xenium_counts`). The layout is that of the
public documentation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.json_file import read_json
from tcgn_mil.io.tables.delimited import read_cells
from tcgn_mil.preprocessing.sections.genes import name_counts
from tcgn_mil.preprocessing.sections.lattice import Lattice
from tcgn_mil.preprocessing.sections.raw_section import (
    CELLS,
    NUCLEI,
    RawSection,
    ReadSettings,
    SectionImage,
    SectionSource,
)
from tcgn_mil.preprocessing.sections.readers.base import SectionReader, SectionRequest
from tcgn_mil.preprocessing.sections.readers.scale import Statement, choose_scale
from tcgn_mil.preprocessing.sections.readers.tenx.space_ranger import section_name
from tcgn_mil.preprocessing.sections.readers.tenx.tenx_matrix import matrix_files
from tcgn_mil.preprocessing.sections.readers.tenx.xenium_counts import (
    TRANSCRIPT_FILES,
    SquareGrid,
    sum_cells,
    sum_transcripts,
)
from tcgn_mil.text import preview

EXPERIMENT = "experiment.xenium"
_CELLS = ("cells.parquet", "cells.csv.gz", "cells.csv")
_MAX_UNEVEN = 1.05  # an alignment may turn and mirror the image, but hardly stretch it
_ALIGN_FIX = (
    "align the H&E image in Xenium Explorer, download the matrix, and put it beside the image as"
    " {name}"
)


@dataclass(frozen=True)
class XeniumFiles:
    """Files of a section."""

    experiment: Path
    cells: Path
    matrix: Path
    image: Path
    alignment: Path
    transcripts: Path | None

    def paths(self) -> tuple[Path, ...]:
        """Return all files that the section is read from."""
        return (
            self.experiment,
            self.cells,
            *matrix_files(self.matrix),
            self.image,
            self.alignment,
            *([] if self.transcripts is None else [self.transcripts]),
        )


def _outputs_of(folder: Path) -> Path | None:
    for outputs in (folder, folder / "outs"):
        if (outputs / EXPERIMENT).is_file():
            return outputs
    return None


def _folders(source: Path) -> list[Path]:
    """Return the output folder that `source` is, or those in it."""
    own = _outputs_of(source)
    if own is not None:
        return [own]
    inside = [_outputs_of(folder) for folder in sorted(source.iterdir()) if folder.is_dir()]
    return [folder for folder in inside if folder is not None]


def is_xenium(source: Path) -> bool:
    """Return whether a folder, or folders in it, are outputs of Xenium."""
    return source.is_dir() and bool(_folders(source))


def list_sources(source: Path, request: SectionRequest) -> list[SectionSource]:
    """List the section of an output folder, or the sections of a folder of such folders."""
    folders = _folders(source)
    if not folders:
        raise InputError(
            f"has no {EXPERIMENT}", path=source, fix="give the output folder of a Xenium run"
        )
    sources = []
    for folder in folders:
        named = request.section if request.section and len(folders) == 1 else None
        name = named or section_name(folder)
        locate = partial(find_files, folder, request.image)
        read = partial(_read, folder, request, name)
        sources.append(SectionSource(name, partial(_paths, locate), read, (request.patient,)))
    return sources


def _paths(locate: partial[XeniumFiles]) -> tuple[Path, ...]:
    return locate().paths()


def _read(folder: Path, request: SectionRequest, name: str, settings: ReadSettings) -> RawSection:
    files = find_files(folder, request.image)
    return read_section(files, settings, section=name, patient=request.patient or name)


def find_files(folder: Path, image: Path | None) -> XeniumFiles:
    """Return the files of a section.

    Raises
    ------
    InputError
        If a file is missing, or it is unclear which is the H&E image or its alignment.
    """
    cells = [folder / name for name in _CELLS if (folder / name).is_file()]
    matrices = [
        path
        for name in ("cell_feature_matrix.h5", "cell_feature_matrix")
        if (path := folder / name).exists()
    ]
    for kind, paths in (("cells.parquet", cells), ("cell_feature_matrix.h5", matrices)):
        if not paths:
            raise InputError(f"has no {kind}", path=folder, fix="copy it from the same run")
    if image is None:
        images = sorted(folder.glob("*he_image*.tif*"))
        if len(images) != 1:
            raise InputError(
                f"needs one H&E image (*he_image.ome.tif), found {len(images)}",
                path=folder,
                fix="give the H&E image with --image, or in the column image of a table",
            )
        image = images[0]
    elif not image.exists():
        raise InputError("no such image", path=image, fix="check --image")
    transcripts = [folder / name for name in TRANSCRIPT_FILES if (folder / name).is_file()]
    return XeniumFiles(
        folder / EXPERIMENT,
        cells[0],
        matrices[0],
        image,
        _alignment(folder, image),
        transcripts[0] if transcripts else None,
    )


def _alignment(folder: Path, image: Path) -> Path:
    """Return the file of the alignment: by the image's name, or else the only one there is."""
    stem = image.name.split(".")[0]
    candidates = sorted(
        {path for place in (image.parent, folder) for path in place.glob("*alignment*.csv")}
    )
    matching = [path for path in candidates if path.name.startswith(stem)]
    chosen = matching if len(matching) == 1 else candidates
    if len(chosen) == 1:
        return chosen[0]
    found = f", but {preview([path.name for path in chosen])}" if chosen else ""
    raise InputError(
        f"has no alignment file of its own{found}: its pixels and the cells have no common scale",
        path=image,
        fix=_ALIGN_FIX.format(name=f"{stem}alignment.csv"),
    )


def read_section(
    files: XeniumFiles, settings: ReadSettings, *, section: str, patient: str
) -> RawSection:
    """Read the cells or transcripts of a section and sum them over squares of the H&E image.

    Parameters
    ----------
    files
        Files of the section.
    settings
        Settings for reading. Squares have the side `pool_um`, or that of a patch.
    section, patient
        Names of the section and of its patient.

    Raises
    ------
    InputError
        If a file is damaged, no cell has counts, the alignment is no plain one, or transcripts are
        asked for and there is no file of them.
    """
    pixel_um = _pixel_size(files.experiment)
    matrix = read_alignment(files.alignment)
    image = SectionImage(files.image, "H&E image")
    stated = Statement(
        pixel_um * float(np.sqrt(abs(np.linalg.det(matrix[:2, :2])))),
        f"alignment {files.alignment.name}",
    )
    scale = choose_scale(Lattice(None, None), settings, (stated,), image, path=files.alignment)
    pool_um = settings.patch.um if settings.pool_um is None else settings.pool_um

    def to_pixels(places_um: NDArray[np.float64]) -> NDArray[np.float64]:
        return to_image(places_um / pixel_um, matrix)

    grid = SquareGrid(to_pixels, scale.mpp, pool_um)
    in_nuclei = settings.pool_from == NUCLEI
    summed = (
        sum_cells(files.cells, files.matrix, grid)
        if settings.pool_from == CELLS
        else sum_transcripts(
            _transcripts_of(files, settings), files.matrix, grid, in_nuclei=in_nuclei
        )
    )
    counts, genes = name_counts(
        summed.matrix.counts,
        summed.matrix.ids,
        summed.matrix.symbols,
        types=summed.matrix.types,
        by=settings.gene_ids,
        path=files.matrix,
    )
    return RawSection(
        section,
        patient,
        counts,
        genes,
        summed.pooling.positions,
        scale.mpp,
        image,
        summed.pooling.dropped,
        (*scale.warnings, summed.note),
    )


def _transcripts_of(files: XeniumFiles, settings: ReadSettings) -> Path:
    if files.transcripts is None:
        raise InputError(
            f"has no {TRANSCRIPT_FILES[0]}, from which {settings.pool_from} are summed",
            path=files.experiment.parent,
            fix="copy it from the same run, or remove --pool-from to sum the counts of cells",
        )
    return files.transcripts


def to_image(morphology: NDArray[np.float64], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (S, 2) positions in the H&E image of pixels of the morphology image.

    Examples
    --------
    >>> matrix = np.array([[2.0, 0, 10], [0, 2.0, 20], [0, 0, 1]])
    >>> to_image(np.array([[30.0, 40.0]]), matrix).tolist()
    [[10.0, 10.0]]
    """
    # The matrix leads from the H&E image to the morphology image, so it is solved for.
    return np.asarray(np.linalg.solve(matrix[:2, :2], (morphology - matrix[:2, 2]).T).T)


def read_alignment(path: Path) -> NDArray[np.float64]:
    """Read the (3, 3) matrix of an alignment.

    Raises
    ------
    InputError
        If the file holds no such matrix, or the matrix stretches the image.
    """
    cells = read_cells(path).apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64)
    sides = np.linalg.svd(cells[:2, :2], compute_uv=False) if np.isfinite(cells).all() else [0.0]
    if cells.shape != (3, 3) or min(sides) <= 0 or not np.allclose(cells[2], [0, 0, 1]):
        raise InputError(
            "holds no 3 x 3 matrix whose last row is 0, 0, 1",
            path=path,
            fix="download the matrix again from Xenium Explorer",
        )
    if max(sides) / min(sides) > _MAX_UNEVEN:
        raise InputError(
            f"stretches the image: its sides are scaled by {max(sides):.4g} and {min(sides):.4g}",
            path=path,
            fix="align the image again in Xenium Explorer; more key points help",
        )
    return cells


def _pixel_size(path: Path) -> float:
    again = "copy the file again from the same run"
    value = read_json(path, what="the record of a Xenium run", fix=again).get("pixel_size")
    try:
        pixel_um = float(value)  # type: ignore[arg-type]
    except (ValueError, TypeError) as error:
        raise InputError(
            "states no pixel_size, the µm per pixel of the morphology image",
            path=path,
            fix=again,
        ) from error
    if not 0 < pixel_um < float("inf"):
        raise InputError(f"states a pixel_size of {pixel_um}", path=path, fix="copy the file again")
    return pixel_um


READER = SectionReader("xenium", f"a Xenium output folder ({EXPERIMENT})", is_xenium, list_sources)
