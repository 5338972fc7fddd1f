"""Read one section of a SpatialData store: the counts of its table, its spots and its image."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.extras import need_extra
from tcgn_mil.preprocessing.sections.anndata_counts import read_raw_counts
from tcgn_mil.preprocessing.sections.lattice import MIRRORED, Lattice
from tcgn_mil.preprocessing.sections.pooling import Pooling, pool_points
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
from tcgn_mil.preprocessing.sections.readers.obs_columns import (
    patient_of_spots,
    place_spots,
    under_tissue,
)
from tcgn_mil.preprocessing.sections.readers.scale import (
    Scale,
    bin_size,
    choose_scale,
    statements_of,
)
from tcgn_mil.preprocessing.sections.readers.spatial_store.annotation import (
    check_rows,
    join_rows,
    open_region,
    rows_of,
)
from tcgn_mil.preprocessing.sections.readers.spatial_store.contents import (
    Region,
    find_regions,
    is_spatial_store,
    stores_of,
    table_in_store,
)
from tcgn_mil.preprocessing.sections.readers.spatial_store.placement import (
    centres_of,
    choose_image,
    pixels_of,
    transformations,
)
from tcgn_mil.preprocessing.zarr_store import check_arrays, check_links

_FULL = 0.02  # relative; pixels of the image are then the unit of the spots
# Cells lie closer together than the patches around them; spots of an array do not.
_DENSE = 0.5


def is_layout(source: Path) -> bool:
    """Return whether a source is a store of SpatialData, a table in one, or a folder of stores.

    Raises
    ------
    InputError
        If a folder holds stores and .h5ad files, of which one kind would be left out.
    """
    if not source.is_dir():
        return False
    if table_in_store(source) is not None or is_spatial_store(source):
        return True
    stores = stores_of(source)
    if not stores or len(stores) < sum(path.is_dir() for path in source.glob("[!.]*")):
        return False  # output folders of other tools may hold a store as well
    if any(source.glob("*.h5ad")):
        raise InputError(
            "holds stores of SpatialData and .h5ad files",
            path=source,
            fix="put them into a folder each, or list them in a table with column path",
        )
    return True


def list_sources(source: Path, request: SectionRequest) -> list[SectionSource]:
    """List the sections of a store, of one of its tables, or of all stores of a folder.

    Raises
    ------
    InputError
        If the source is no store. A store that cannot be read becomes one broken section.
    """
    chosen = table_in_store(source)
    stores: list[tuple[Path, Path | None]] = (
        [chosen] if chosen is not None else [(store, None) for store in stores_of(source)]
    )
    if not stores:
        raise InputError(
            "is no store of SpatialData", path=source, fix="give a .zarr that SpatialData wrote"
        )
    sources = []
    for store, table in stores:
        try:
            regions = find_regions(store, table)
        except Exception as error:  # one broken store must not end the others
            sources.append(broken_source(request.section or store.stem, error))
            continue
        for region in regions:
            own = request.section if request.section and len(stores) == 1 else store.stem
            name = own if len(regions) == 1 else region.name
            read = partial(read_region, region, request=replace(request, section=name))
            files = partial(existing_files, store, request.image)
            choices = (region.name, region.table.name, request.patient)
            sources.append(SectionSource(name, files, read, choices, region.name))
    return sources


def read_region(region: Region, settings: ReadSettings, request: SectionRequest) -> RawSection:
    """Read one section of a store.

    Parameters
    ----------
    region
        The section.
    settings
        Settings for reading.
    request
        Name of the section, its patient, and its image: an image of the store, or a file in whose
        pixels the spots are stored.

    Returns
    -------
    RawSection
        The spots under tissue. Other spots are listed.

    Raises
    ------
    InputError
        If spatialdata is not installed, the store is damaged or leads out of itself, there is no
        image or a choice to make between several, a value is no count, or the resolution is unknown
        or contradictory.
    """
    store, table_path = region.store, region.table
    need_extra("spatialdata", "reading SpatialData", path=store)
    check_links(store)
    check_arrays(table_path.parent)
    check_rows(store)
    with open_region(region) as (data, table):
        rows, instances = rows_of(table, region)
        centres = centres_of(data[region.name], region)
        systems = transformations(data[region.name])
        rows, centres, dropped, notes = join_rows(table, rows, instances, centres, region)
        inside = request.image is not None and _is_inside(request.image, store)
        placed, image_notes = (
            (None, [_as_pixels(region, request.image)])
            if request.image is not None and not inside
            else choose_image(data, region, request.image)
        )
        path = request.image if placed is None else placed.path
        assert path is not None
        image = SectionImage(path, "image")
        matrix = np.eye(3) if placed is None else systems[placed.system]
        pixels, per_unit = pixels_of(centres, matrix, placed)
        obs = table.obs.iloc[rows]
        positions, lattice = place_spots(obs, pixels, table_path)
        under, off = under_tissue(obs, table_path)
        fields = _scalefactors(table)
        bin_um = bin_size(fields, list(positions.index), path=table_path)
        scale = _scale(lattice, settings, fields, bin_um, image, per_unit, region)
        counts, genes, note = read_raw_counts(table, rows[under], settings.gene_ids, table_path)
        section = request.section or region.name
        patient = request.patient or patient_of_spots(obs) or section
    positions = positions[under]
    pooling = _pooling(positions, lattice, bin_um, scale.mpp, settings, table_path)
    left_out = [*dropped, *off]
    warnings_ = [*([note] if note else []), *scale.warnings, *image_notes, *notes]
    if pooling is not None:
        counts, positions = pooling.sum_rows(counts).astype(np.float32), pooling.positions
        left_out = [*dropped, *pooling.dropped]
        warnings_.append(pooling.note)
    if lattice.mirrored:
        warnings_.append(MIRRORED)
    return RawSection(
        section, patient, counts, genes, positions, scale.mpp, image, left_out, tuple(warnings_)
    )


def _is_inside(image: Path, store: Path) -> bool:
    return image.parent.resolve() == (store / "images").resolve()


def _as_pixels(region: Region, image: Path | None) -> str:
    name = "the image" if image is None else image.name
    return (
        f"{name} is not of the store: the coordinates of {region.name} are taken as its pixels;"
        " look at the alignment figure"
    )


def _scalefactors(table: Any) -> dict[str, Any]:
    """Return the scale factors of Visium in uns, if the table has those of one library."""
    libraries = table.uns.get("spatial", {})
    fields = [each.get("scalefactors") for each in libraries.values() if hasattr(each, "get")]
    return dict(fields[0]) if len(fields) == 1 and hasattr(fields[0], "keys") else {}


def _scale(
    lattice: Lattice,
    settings: ReadSettings,
    fields: dict[str, Any],
    bin_um: float | None,
    image: SectionImage,
    per_unit: float,
    region: Region,
) -> Scale:
    """Return the µm per pixel; a message says how it follows from the unit of the store."""
    # Fields are about full-resolution pixels, the unit of spots that have such fields. What was
    # measured from the lattice is about pixels of the image already.
    known = [
        each if each.measured else replace(each, mpp=each.mpp / per_unit)
        for each in statements_of(fields, lattice, bin_um, path=region.table)
    ]
    try:
        return choose_scale(lattice, settings, known, image, path=region.store)
    except InputError as error:
        if known or settings.mpp is not None or settings.spot_pitch_um is not None:
            raise
        hint = (
            f"; a unit of {region.name} is {per_unit:.6g} pixels of {image.path.name}, so that its"
            f" pixels have {1 / per_unit:.4g} µm if that unit is 1 µm"
        )
        fix = f"{error.fix}{hint}" if abs(per_unit - 1) > _FULL else error.fix
        raise InputError(error.reason, path=error.path, fix=fix) from error


def _pooling(
    positions: pd.DataFrame,
    lattice: Lattice,
    bin_um: float | None,
    mpp: float,
    settings: ReadSettings,
    path: Path,
) -> Pooling | None:
    """Return how to sum bins and cells over squares; None if the spots stay as they are."""
    if lattice.pitch_px is not None:
        return choose_pooling(positions, lattice, bin_um, mpp, settings, path=path)
    pixels = positions[["pixel_x", "pixel_y"]].to_numpy(dtype=np.float64)
    if settings.pool_um is None and not _is_dense(pixels, settings.patch.um / mpp):
        return None
    pool_um = settings.patch.um if settings.pool_um is None else settings.pool_um
    return pool_points(pixels, mpp, pool_um, what="cells")


def _is_dense(pixels: NDArray[np.float64], patch_px: float) -> bool:
    """Return whether most points have a neighbour within half a patch, as cells have."""
    from scipy.spatial import cKDTree

    if len(pixels) < 3:
        return False
    nearest = cKDTree(pixels).query(pixels, k=2)[0][:, 1]
    return float(np.median(nearest)) < _DENSE * patch_px


READER = SectionReader("spatialdata", "a SpatialData store (.zarr)", is_layout, list_sources)
