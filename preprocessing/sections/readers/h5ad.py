"""Read Visium sections from .h5ad files, as ``read_visium`` of scanpy and squidpy writes them.

Pictures and their scales are in ``uns["spatial"][library]``. Spot centres are in
``obsm["spatial"]``, as x, y in full-resolution pixels. If a file holds several libraries, the
column ``obs["library_id"]`` tells which spot is of which.
"""

from __future__ import annotations

from collections.abc import Mapping
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
    fit_lattice,
    nearest_spacing,
    resolution,
)
from tcgn_mil.preprocessing.sections.raw_section import (
    NOT_IN_TISSUE,
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
from tcgn_mil.preprocessing.sections.readers.space_ranger import scale_of
from tcgn_mil.preprocessing.slides.readers.base import on_white
from tcgn_mil.text import duplicates, preview

SUFFIX = ".h5ad"
_PATIENT_COLUMNS = ("patient", "patient_id")
_MAX_PICTURE_PX = 100_000_000
_WRITE_FIX = "give a file as scanpy or squidpy write it after read_visium"


@dataclass(frozen=True)
class Library:
    """One section of a file.

    Attributes
    ----------
    path
        The file.
    key
        Name of the section in ``uns["spatial"]``.
    alone
        Whether the file holds no other section.
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
        except InputError as error:
            sources.append(broken_source(path.stem, error))
            continue
        for library in libraries:
            alone = request.section if request.section and len(paths) == 1 else path.stem
            name = alone if library.alone else library.key
            read = partial(read_library, library, request=replace(request, section=name))
            files = partial(existing_files, path, request.image)
            sources.append(SectionSource(name, files, read, (library.key, request.patient)))
    return sources


def find_libraries(path: Path) -> list[Library]:
    """Return the sections of a file.

    Raises
    ------
    InputError
        If the file is not an .h5ad, or has no ``uns["spatial"]`` or no ``obsm["spatial"]``.
    """
    with open_hdf5(path, kind="AnnData") as file:
        spatial = file.get("uns/spatial")
        keys = sorted(spatial) if isinstance(spatial, h5py.Group) else []
        if not keys or "obsm/spatial" not in file:
            missing = 'uns["spatial"]' if not keys else 'obsm["spatial"]'
            raise InputError(f"has no {missing}: it is no spatial data", path=path, fix=_WRITE_FIX)
    return [Library(path, key, len(keys) == 1) for key in keys]


def read_library(library: Library, settings: ReadSettings, request: SectionRequest) -> RawSection:
    """Read one section of a file.

    Parameters
    ----------
    library
        The section.
    settings
        Settings for reading.
    request
        Name of the section. Its patient; if None, ``obs["patient"]`` or ``obs["patient_id"]``, or
        else the section itself. Its full-resolution image; if None, the largest picture of the
        file.

    Returns
    -------
    RawSection
        The spots under tissue. Other spots are listed.

    Raises
    ------
    InputError
        If the file is damaged or has no positions, a value is not a count, or the stated resolution
        is more than 5 % off the measured one.
    """
    path = library.path
    with open_table(path) as table:
        rows = _rows_of(library, table)
        positions, lattice = _positions(table, rows, path)
        mpp = resolution(lattice, settings, path=path)
        under = np.ones(len(rows), dtype=bool)
        if "in_tissue" in table.obs:
            under = table.obs["in_tissue"].to_numpy()[rows].astype(float) != 0
        if not under.any():
            raise InputError("has no spot under tissue", path=path, fix="check obs['in_tissue']")
        dropped = [(str(name), NOT_IN_TISSUE) for name in positions.index[~under]]
        counts, genes, note = read_raw_counts(table, rows[under], settings.gene_ids, path)
        section = request.section or library.key
        patient = request.patient or _patient(table.obs.iloc[rows]) or section
    warnings = [note] if note else []
    if lattice.mirrored:
        warnings.append(MIRRORED)
    image = (
        _picture(library)
        if request.image is None
        else SectionImage(request.image, "full-resolution image")
    )
    return RawSection(
        section,
        patient,
        counts,
        genes,
        positions[under],
        mpp,
        image,
        dropped,
        warnings=tuple(warnings),
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
    if "library_id" not in table.obs:
        raise InputError(
            "holds several libraries, but no obs['library_id']",
            path=library.path,
            fix="add the column library_id to obs, with the library of each spot",
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


def _positions(
    table: anndata.AnnData, rows: NDArray[np.int64], path: Path
) -> tuple[pd.DataFrame, Lattice]:
    """Return the positions of spots in the array and in pixels, and the lattice they lie on."""
    if "spatial" not in table.obsm:
        raise InputError('has no obsm["spatial"]: it is no spatial data', path=path, fix=_WRITE_FIX)
    try:
        pixels = np.asarray(table.obsm["spatial"], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            'obsm["spatial"] holds no numbers', path=path, fix="store x, y in pixels there"
        ) from error
    if pixels.ndim != 2 or pixels.shape[1] < 2 or not np.isfinite(pixels[rows, :2]).all():
        raise InputError(
            f'obsm["spatial"] of shape {pixels.shape} is not x, y for each spot',
            path=path,
            fix="store x, y in pixels there",
        )
    pixels = pixels[rows, :2]
    has_array = {"array_col", "array_row"} <= set(table.obs.columns)
    array = np.full((len(rows), 2), -1.0)
    if has_array:
        columns = (
            table.obs[["array_col", "array_row"]].iloc[rows].apply(pd.to_numeric, errors="coerce")
        )
        array = columns.to_numpy(dtype=np.float64)
        if not np.isfinite(array).all():
            bad = table.obs_names[rows[int(np.argmin(np.isfinite(array).all(axis=1)))]]
            raise InputError(
                f"spot {bad} has no number for its array position",
                path=path,
                fix="correct array_col and array_row in obs",
            )
    lattice = (
        fit_lattice(array, pixels, path=path) if has_array else nearest_spacing(pixels, path=path)
    )
    whole = np.rint(array).astype(np.int64)
    positions = pd.DataFrame(
        {"x": whole[:, 0], "y": whole[:, 1], "pixel_x": pixels[:, 0], "pixel_y": pixels[:, 1]},
        index=table.obs_names[rows],
    )
    return positions, lattice


def _patient(obs: pd.DataFrame) -> str | None:
    """Return the patient, if one column of obs names the same for all spots."""
    for column in _PATIENT_COLUMNS:
        if column in obs and obs[column].nunique() == 1:
            return str(obs[column].iloc[0])
    return None


def _picture(library: Library) -> SectionImage:
    """Return the largest picture of a library, by its scale."""
    group = f"uns/spatial/{library.key}"
    with open_hdf5(library.path, kind="AnnData") as file:
        pictures = (
            sorted(file[group].get("images", {})) if isinstance(file.get(group), h5py.Group) else []
        )
        stored = file[group].get("scalefactors", {}) if pictures else {}
        scales = {key: stored[key][()] for key in stored if isinstance(stored[key], h5py.Dataset)}
    if not pictures:
        raise InputError(
            f'uns["spatial"]["{library.key}"] has no image',
            path=library.path,
            fix="give the full-resolution image with --image",
        )
    factors: Mapping[str, float] = {
        name: scale_of(scales, name, path=library.path) for name in pictures
    }
    largest = max(pictures, key=lambda name: factors[name])
    return SectionImage(
        library.path,
        f"{largest} image",
        factors[largest],
        load=lambda: _load_picture(library.path, f"{group}/images/{largest}"),
    )


def _load_picture(path: Path, name: str) -> NDArray[np.uint8]:
    """Read a picture as (H, W, 3) uint8.

    Matplotlib, by which scanpy reads PNG files, gives floats from 0 to 1. Other programs store 0 to
    255, or a channel of transparency.
    """
    with open_hdf5(path, kind="AnnData", needs=(name,)) as file:
        stored = file[name]
        if (
            stored.ndim != 3
            or stored.shape[2] not in (3, 4)
            or not 0 < stored.size <= 4 * _MAX_PICTURE_PX
        ):
            raise InputError(
                f"{name} of shape {stored.shape} is not an RGB picture", path=path, fix=_WRITE_FIX
            )
        pixels = stored[:]
    # The largest value tells shares of 1 from values of 0 to 255.
    if np.issubdtype(pixels.dtype, np.floating):
        top = 1.0 if np.nanmax(pixels) <= 1 else 255.0
        pixels = np.nan_to_num(pixels, nan=top) * (255 / top)
        pixels = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    if pixels.dtype != np.uint8:
        raise InputError(
            f"{name} holds {pixels.dtype}, not 8 bits per channel",
            path=path,
            fix="store it as uint8",
        )
    return on_white(pixels) if pixels.shape[2] == 4 else pixels


READER = SectionReader("h5ad", ".h5ad files", is_h5ad, list_sources)
