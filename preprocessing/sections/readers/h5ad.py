"""Reader of Visium sections in .h5ad, as scanpy's and squidpy's ``read_visium`` write them.

Pictures and their scale are in ``uns["spatial"][library]``, spot centres in ``obsm["spatial"]`` (x, y, full-resolution
pixels), several libraries of one file told apart by ``obs["library_id"]``. Counts are X, or where X was normalised the
layer ``counts``, else ``raw``: the first that holds whole numbers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from tcgn_mil.errors import InputError
from tcgn_mil.io.hdf5 import open_hdf5
from tcgn_mil.preprocessing.gene_names import is_ensembl
from tcgn_mil.preprocessing.sections.genes import are_counts, check_counts, name_counts
from tcgn_mil.preprocessing.sections.lattice import (
    Lattice,
    fit_lattice,
    nearest_spacing,
    resolution,
)
from tcgn_mil.preprocessing.sections.raw_section import (
    MAX_DISAGREEMENT,
    RawSection,
    ReadSettings,
    SectionImage,
)
from tcgn_mil.preprocessing.sections.readers.visium import MIRRORED, NOT_IN_TISSUE, scale_of
from tcgn_mil.preprocessing.slides.readers.base import on_white
from tcgn_mil.text import duplicates, preview

_ID_COLUMNS = ("gene_ids", "gene_id", "ensembl_id", "ensembl")
_SYMBOL_COLUMNS = (
    "symbol",
    "gene_symbol",
    "gene_symbols",
    "gene_name",
    "gene_names",
    "feature_name",
)
_PATIENT_COLUMNS = ("patient", "patient_id")
_REPEAT_MARK = re.compile(r"(.+)-\d+")  # var_names_make_unique's
_MAX_PICTURE_PX = 100_000_000
_WRITE_FIX = "give a file as scanpy or squidpy write it after read_visium"


@dataclass(frozen=True)
class Library:
    """One section of a file: its key in ``uns["spatial"]``, and whether the file holds others."""

    path: Path
    key: str
    alone: bool


def find_libraries(path: Path) -> list[Library]:
    """The sections of a file.

    Raises
    ------
    InputError
        If it is no .h5ad, or holds no ``uns["spatial"]``.
    """
    with open_hdf5(path, kind="AnnData") as file:
        spatial = file.get("uns/spatial")
        keys = sorted(spatial) if isinstance(spatial, h5py.Group) else []
        if not keys or "obsm/spatial" not in file:
            missing = 'uns["spatial"]' if not keys else 'obsm["spatial"]'
            raise InputError(f"has no {missing}: it is no spatial data", path=path, fix=_WRITE_FIX)
    return [Library(path, key, len(keys) == 1) for key in keys]


def read_library(
    library: Library,
    settings: ReadSettings,
    *,
    section: str,
    patient: str | None = None,
    image: Path | None = None,
) -> RawSection:
    """Read one section of a file.

    Parameters
    ----------
    patient
        Else ``obs["patient"]`` or ``obs["patient_id"]`` says, else the section stands for itself.
    image
        The full-resolution image; without it the largest picture in the file.

    Raises
    ------
    InputError
        For a damaged file, one without positions, values that are no counts, or a stated resolution more than 5 % off
        the measured one.
    """
    path = library.path
    with open_table(path) as found:
        rows = _rows_of(library, found)
        positions, lattice = _positions(found, rows, path)
        mpp = resolution(
            lattice,
            spot_pitch_um=settings.spot_pitch_um,
            mpp=settings.mpp,
            tolerance=MAX_DISAGREEMENT,
            path=path,
        )
        under = (
            found.obs["in_tissue"].to_numpy()[rows].astype(float) != 0
            if "in_tissue" in found.obs
            else None
        )
        names = positions.index
        dropped = [] if under is None else [(str(name), NOT_IN_TISSUE) for name in names[~under]]
        kept = np.ones(len(rows), dtype=bool) if under is None else under
        if not kept.any():
            raise InputError("has no spot under tissue", path=path, fix="check obs['in_tissue']")
        counts, genes, note = _counts(found, rows[kept], settings, path)
        who = patient or _patient(found.obs.iloc[rows]) or section
    warnings = [note] if note else []
    if lattice.mirrored:
        warnings.append(MIRRORED)
    pixels = (
        SectionImage(image, "full-resolution image") if image is not None else _picture(library)
    )
    return RawSection(
        section, who, counts, genes, positions[kept], mpp, pixels, dropped, warnings=tuple(warnings)
    )


@contextmanager
def open_table(path: Path) -> Iterator[anndata.AnnData]:
    """The AnnData with its matrices left on disk."""
    try:
        found = anndata.read_h5ad(path, backed="r")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(
            f"cannot be read as AnnData ({reason[:200]})", path=path, fix="copy the file again"
        ) from error
    try:
        yield found
    except OSError as error:
        if error.errno is not None:
            raise
        raise InputError(
            f"is damaged ({str(error)[:100]})", path=path, fix="copy the file again"
        ) from error
    finally:
        found.file.close()


def _rows_of(library: Library, found: anndata.AnnData) -> NDArray[np.int64]:
    repeated = duplicates(found.obs_names)
    if repeated:
        raise InputError(
            f"names spot {preview(repeated)} more than once",
            path=library.path,
            fix="use obs_names_make_unique",
        )
    if library.alone:
        return np.arange(found.n_obs)
    if "library_id" not in found.obs:
        raise InputError(
            "holds several libraries, but no obs['library_id']",
            path=library.path,
            fix="say which spot is whose",
        )
    rows = np.flatnonzero(found.obs["library_id"].astype(str).to_numpy() == library.key)
    if not len(rows):
        known = preview(sorted(found.obs["library_id"].astype(str).unique()))
        raise InputError(
            f"has pictures of library {library.key!r}, but no spot: obs['library_id'] names {known}",
            path=library.path,
            fix="name libraries alike in both",
        )
    return rows


def _positions(
    found: anndata.AnnData, rows: NDArray[np.int64], path: Path
) -> tuple[pd.DataFrame, Lattice]:
    if "spatial" not in found.obsm:
        raise InputError('has no obsm["spatial"]: it is no spatial data', path=path, fix=_WRITE_FIX)
    try:
        pixels = np.asarray(found.obsm["spatial"], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            'obsm["spatial"] holds no numbers', path=path, fix="give x, y in pixels"
        ) from error
    if pixels.ndim != 2 or pixels.shape[1] < 2 or not np.isfinite(pixels[rows, :2]).all():
        raise InputError(
            f'obsm["spatial"] of shape {pixels.shape} is not x, y for each spot',
            path=path,
            fix="give x, y in pixels",
        )
    pixels = pixels[rows, :2]
    known = {"array_col", "array_row"} <= set(found.obs.columns)
    array = np.full((len(rows), 2), -1.0)
    if known:
        columns = (
            found.obs[["array_col", "array_row"]].iloc[rows].apply(pd.to_numeric, errors="coerce")
        )
        array = columns.to_numpy(dtype=np.float64)
        if not np.isfinite(array).all():
            bad = found.obs_names[rows[int(np.argmin(np.isfinite(array).all(axis=1)))]]
            raise InputError(
                f"spot {bad} has no number for its array position", path=path, fix="correct obs"
            )
    lattice = fit_lattice(array, pixels, path=path) if known else nearest_spacing(pixels, path=path)
    whole = np.rint(array).astype(np.int64)
    table = pd.DataFrame(
        {"x": whole[:, 0], "y": whole[:, 1], "pixel_x": pixels[:, 0], "pixel_y": pixels[:, 1]},
        index=found.obs_names[rows],
    )
    return table, lattice


def _counts(
    found: anndata.AnnData, rows: NDArray[np.int64], settings: ReadSettings, path: Path
) -> tuple[sparse.csr_matrix, Any, str | None]:
    """Counts, genes, and a note where they are not X."""
    spots = [str(name) for name in found.obs_names[rows]]
    places = {"X": (lambda: found.X, found.var)}
    if "counts" in found.layers:
        places["layers['counts']"] = (lambda: found.layers["counts"], found.var)
    if found.raw is not None:
        places["raw"] = (lambda: found.raw.X, found.raw.var)
    place, (values, var) = _first_counts(places, rows)
    genes = [str(name) for name in var.index]
    matrix = check_counts(values, spots, genes, path=path)
    ids, symbols = _gene_names(var)
    types = var["feature_types"].astype(str).tolist() if "feature_types" in var else None
    counts, named = name_counts(matrix, ids, symbols, types=types, by=settings.gene_ids, path=path)
    return (
        counts,
        named,
        None if place == "X" else f"X holds no counts: they were taken from {place}",
    )


def _first_counts(
    places: Mapping[str, tuple[Callable[[], Any], pd.DataFrame]], rows: NDArray[np.int64]
) -> tuple[str, tuple[sparse.csr_matrix, pd.DataFrame]]:
    """The first place that holds whole numbers, else X, to be refused."""
    found = None
    for place, (stored, var) in places.items():
        values = _take_rows(stored(), rows)
        if are_counts(values.data).all():
            return place, (values, var)
        found = found or (place, (values, var))
    assert found is not None
    return found


def _take_rows(stored: Any, rows: NDArray[np.int64]) -> sparse.csr_matrix:
    """Rows of a matrix on disk; without a copy of the rest where it lies by rows."""
    chosen = stored[:] if getattr(stored, "format", "csr") == "csc" else stored[rows]
    chosen = chosen[rows] if len(rows) != chosen.shape[0] else chosen
    return sparse.csr_matrix(chosen)


def _gene_names(var: pd.DataFrame) -> tuple[list[str], list[str] | None]:
    """Ids and symbols, by what the columns hold."""
    own = [str(name) for name in var.index]
    if sum(map(is_ensembl, own)) > len(own) / 2:
        column = next((name for name in _SYMBOL_COLUMNS if name in var), None)
        return own, None if column is None else var[column].astype(object).where(
            var[column].notna(), ""
        ).tolist()
    column = next((name for name in _ID_COLUMNS if name in var), None)
    if column is None:
        return own, None
    return var[column].astype(str).tolist(), _without_marks(own)


def _without_marks(names: list[str]) -> list[str]:
    """Symbols without the number that AnnData adds to a repeated one: GENE and GENE-1 are GENE twice."""
    known = set(names)
    marks = ((name, _REPEAT_MARK.fullmatch(name)) for name in names)
    return [found[1] if found is not None and found[1] in known else name for name, found in marks]


def _patient(obs: pd.DataFrame) -> str | None:
    for column in _PATIENT_COLUMNS:
        if column in obs and obs[column].nunique() == 1:
            return str(obs[column].iloc[0])
    return None


def _picture(library: Library) -> SectionImage:
    """The largest picture of a library, by its scale."""
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
    """(H, W, 3) uint8 of a picture that may be stored as shares of 1, as Matplotlib reads a PNG, or with alpha."""
    with open_hdf5(path, kind="AnnData", needs=(name,)) as file:
        stored = file[name]
        if (
            stored.ndim != 3
            or stored.shape[2] not in (3, 4)
            or not 0 < stored.size <= 4 * _MAX_PICTURE_PX
        ):
            raise InputError(
                f"{name} of shape {stored.shape} is no RGB picture", path=path, fix=_WRITE_FIX
            )
        pixels = stored[:]
    if np.issubdtype(pixels.dtype, np.floating):
        top = 1.0 if np.nanmax(pixels) <= 1 else 255.0
        pixels = np.nan_to_num(pixels, nan=top) * (255 / top)
        pixels = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    if pixels.dtype != np.uint8:
        raise InputError(
            f"{name} holds {pixels.dtype}, not 8 bits a channel", path=path, fix="store it as uint8"
        )
    return on_white(pixels) if pixels.shape[2] == 4 else pixels
