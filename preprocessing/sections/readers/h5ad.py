"""Read sections from .h5ad files, as scanpy, squidpy and CELLxGENE Discover write them.

Spot centres are in ``obsm["spatial"]``, as x, y in full-resolution pixels. Pictures and their
scales are in ``uns["spatial"][library]``; a file without them needs the user's image. If a file
holds several libraries, the column ``obs["library_id"]`` tells which spot is of which. CELLxGENE
(schema 5.1) writes ``uns["spatial"]["is_single"]`` beside its library.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.io.hdf5 import open_hdf5
from tcgn_mil.preprocessing.sections.anndata_counts import open_table, read_raw_counts
from tcgn_mil.preprocessing.sections.lattice import (
    MIRRORED,
    Lattice,
)
from tcgn_mil.preprocessing.sections.raw_section import (
    RawSection,
    ReadSettings,
    SectionImage,
    SectionSource,
    broken_source,
)
from tcgn_mil.preprocessing.sections.readers.base import (
    SectionReader,
    SectionRequest,
    existing_files,
)
from tcgn_mil.preprocessing.sections.readers.bins import choose_pooling
from tcgn_mil.preprocessing.sections.readers.h5ad_pictures import (
    WRITE_FIX,
    find_picture,
    read_scalefactors,
)
from tcgn_mil.preprocessing.sections.readers.obs_columns import (
    patient_of_spots,
    place_spots,
    under_tissue,
)
from tcgn_mil.preprocessing.sections.readers.scale import (
    Statement,
    bin_size,
    choose_scale,
    statements_of,
)
from tcgn_mil.text import duplicates, preview

SUFFIX = ".h5ad"
_LIBRARY = "library_id"
_X_NAMES = frozenset({"x", "pxl_col_in_fullres", "imagecol", "pixel_x", "x_centroid"})
_Y_NAMES = frozenset({"y", "pxl_row_in_fullres", "imagerow", "pixel_y", "y_centroid"})


@dataclass(frozen=True)
class Library:
    """One section of the file `path`; `alone` tells whether the file holds no other section.

    `key` is its name in ``uns["spatial"]`` and ``obs["library_id"]``, empty if there is none.
    """

    path: Path
    key: str
    alone: bool


def is_h5ad(source: Path) -> bool:
    """Return whether a source is an .h5ad, or a folder that holds one."""
    return source.suffix == SUFFIX if source.is_file() else any(source.glob(f"*{SUFFIX}"))


def list_sources(source: Path, request: SectionRequest) -> list[SectionSource]:
    """List the sections of an .h5ad or of all .h5ad files of a folder."""
    paths = (
        [source]
        if source.is_file()
        else [path for path in sorted(source.glob(f"*{SUFFIX}")) if not path.name.startswith(".")]
    )
    if not paths:
        raise InputError("holds no .h5ad", path=source, fix="give a folder with .h5ad files")
    sources = []
    for path in paths:
        try:
            libraries = find_libraries(path)
        except Exception as error:  # one broken file must not end the others
            sources.append(broken_source(path.stem, error))
            continue
        for library in libraries:
            alone = request.section if request.section and len(paths) == 1 else path.stem
            name = alone if library.alone else library.key
            read = partial(read_library, library, request=replace(request, section=name))
            files = partial(existing_files, path, request.image)
            sources.append(
                SectionSource(name, files, read, (library.key, request.patient), library.key)
            )
    return sources


def find_libraries(path: Path) -> list[Library]:
    """Return the sections of a file.

    Raises
    ------
    InputError
        If the file is not an .h5ad, has no ``obsm["spatial"]``, or states that it holds several
        sections that it does not name.
    """
    with open_hdf5(path, kind="AnnData") as file:
        if "obsm/spatial" not in file:
            raise InputError(
                'has no obsm["spatial"]: it is no spatial data', path=path, fix=WRITE_FIX
            )
        spatial = file.get("uns/spatial")
        spatial = spatial if isinstance(spatial, h5py.Group) else {}
        keys = sorted(key for key in spatial if isinstance(spatial[key], h5py.Group))
        is_single = bool(spatial["is_single"][()]) if "is_single" in spatial else True
        keys = keys or _named_in_obs(file)
    if not keys and not is_single:
        raise InputError(
            'holds several sections (uns["spatial"]["is_single"] is False) without their names',
            path=path,
            fix="write a file for each section, or name the section of each spot in"
            f" obs['{_LIBRARY}']",
        )
    return [Library(path, key, len(keys) < 2) for key in keys or [""]]


def _named_in_obs(file: h5py.File) -> list[str]:
    """Return the libraries that the spots name, if they name several."""
    column = file.get(f"obs/{_LIBRARY}")
    if isinstance(column, h5py.Group):
        used = np.unique(column["codes"][:])
        stored = column["categories"][:][used[used >= 0]]
    elif isinstance(column, h5py.Dataset):
        stored = np.unique(column[:])
    else:
        return []
    names = [name.decode() if isinstance(name, bytes) else str(name) for name in stored]
    return sorted(names) if len(names) > 1 else []


def read_library(
    library: Library,
    settings: ReadSettings,
    request: SectionRequest,
    statements: tuple[Statement, ...] = (),
) -> RawSection:
    """Read one section of a file.

    Parameters
    ----------
    library
        The section.
    settings
        Settings for reading.
    request
        Name of the section. Its patient; if None, the one that ``obs`` names, or else the section
        itself. Its full-resolution image; if None, the largest picture of the file.
    statements
        Resolutions that other files of the section state.

    Returns
    -------
    RawSection
        The spots under tissue. Other spots are listed.

    Raises
    ------
    InputError
        If the file is damaged or has no positions, a value is not a count, or the resolution is
        unknown or contradictory.
    """
    path = library.path
    fields = read_scalefactors(path, library.key)
    with open_table(path) as table:
        rows = _rows_of(library, table)
        positions, lattice = _positions(table, rows, path)
        under, dropped = under_tissue(table.obs.iloc[rows], path)
        image, image_notes = (
            find_picture(path, library.key, fields)
            if request.image is None
            else (SectionImage(request.image, "full-resolution image"), ())
        )
        bin_um = bin_size(fields, list(positions.index), path=path)
        known = (*statements_of(fields, lattice, bin_um, path=path), *statements)
        scale = choose_scale(lattice, settings, known, image, path=path)
        pooling = choose_pooling(positions[under], lattice, bin_um, scale.mpp, settings, path=path)
        counts, genes, note = read_raw_counts(table, rows[under], settings.gene_ids, path)
        section = request.section or library.key or path.stem
        patient = request.patient or patient_of_spots(table.obs.iloc[rows]) or section
    positions = positions[under]
    warnings = [*([note] if note else []), *scale.warnings, *image_notes]
    if pooling is not None:
        counts, positions = pooling.sum_rows(counts).astype(np.float32), pooling.positions
        dropped = pooling.dropped
        warnings.append(pooling.note)
    if lattice.mirrored:
        warnings.append(MIRRORED)
    return RawSection(
        section, patient, counts, genes, positions, scale.mpp, image, dropped, tuple(warnings)
    )


def _rows_of(library: Library, table: anndata.AnnData) -> NDArray[np.int64]:
    """Return the rows of the spots of a library."""
    repeated = duplicates(table.obs_names)
    if repeated:
        raise InputError(
            f"names spot {preview(repeated)} more than once",
            path=library.path,
            fix="call obs_names_make_unique before you write the file",
        )
    if library.alone:
        return np.arange(table.n_obs)
    if _LIBRARY not in table.obs:
        raise InputError(
            "holds several libraries, but no obs['library_id']",
            path=library.path,
            fix=_library_fix(library, table.obs),
        )
    rows = np.flatnonzero(table.obs["library_id"].astype(str).to_numpy() == library.key)
    if not len(rows):
        named = preview(sorted(table.obs["library_id"].astype(str).unique()))
        raise InputError(
            f"has pictures of library {library.key!r}, but no spot of it: obs['library_id'] names"
            f" {named}",
            path=library.path,
            fix="use the same names in uns['spatial'] and in obs['library_id']",
        )
    return rows


def _library_fix(library: Library, obs: pd.DataFrame) -> str:
    naming = [
        str(name) for name in obs.columns if library.key in set(obs[name].astype(str).unique())
    ]
    if naming:
        return f"rename the column {preview(naming)} of obs to library_id: it names the libraries"
    return "add the column library_id to obs, with the library of each spot"


def _positions(
    table: anndata.AnnData, rows: NDArray[np.int64], path: Path
) -> tuple[pd.DataFrame, Lattice]:
    """Return the positions of spots in the array and in pixels, and the lattice they lie on."""
    if "spatial" not in table.obsm:
        raise InputError('has no obsm["spatial"]: it is no spatial data', path=path, fix=WRITE_FIX)
    try:
        pixels = np.asarray(_x_first(table.obsm["spatial"]), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            'obsm["spatial"] holds no numbers', path=path, fix="store x, y in pixels there"
        ) from error
    if pixels.ndim != 2 or pixels.shape[1] < 2:
        raise InputError(
            f'obsm["spatial"] of shape {pixels.shape} is not x, y for each spot',
            path=path,
            fix="store x, y in pixels there",
        )
    pixels = pixels[rows, :2]
    lost = ~np.isfinite(pixels).all(axis=1)
    if lost.any():
        first = table.obs_names[rows[int(np.argmax(lost))]]
        raise InputError(
            f'{int(lost.sum())} spots have no position in obsm["spatial"], the first is {first}',
            path=path,
            fix="store x, y in pixels there, or leave these spots out of the file",
        )
    return place_spots(table.obs.iloc[rows], pixels, path)


def _x_first(stored: object) -> object:
    """Return positions with x first: a data frame may name its columns and have them turned."""
    if not isinstance(stored, pd.DataFrame):
        return stored
    x, y = (
        [name for name in stored.columns if str(name).lower() in names]
        for names in (_X_NAMES, _Y_NAMES)
    )
    return stored[[x[0], y[0]]] if len(x) == len(y) == 1 else stored


READER = SectionReader("h5ad", ".h5ad files", is_h5ad, list_sources)
