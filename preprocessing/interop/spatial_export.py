"""Write one SpatialData store for each slide: what lies on it, as squidpy and napari open it.

A store has an element for each kind of rows, and a table that annotates it: squares ``tiles``,
``spots`` and ``map`` (points for ``predictions``, whose size is not known), and ``tiles_table`` and
so on. The coordinate system ``global`` is that of level-0 pixels; ``micrometer`` is there as well
where the resolution of the slide is known. An image is ``thumbnail``, if a file has one, or
``image`` of the slide itself, if the slides are given.
"""

from __future__ import annotations

import json
import math
import shutil
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from tcgn_mil.errors import InputError
from tcgn_mil.extras import need_extra
from tcgn_mil.io.anndata_file import META_KEY
from tcgn_mil.io.atomic import remove_leftovers, safe_file_name, temporary_prefix
from tcgn_mil.io.failures import Failure, LeftOut, unexpected, write_failures
from tcgn_mil.preprocessing.interop.spatial_elements import (
    Picture,
    PlacedTable,
    find_files,
    plain_columns,
    read_placed,
)
from tcgn_mil.preprocessing.slides.readers.base import Slide
from tcgn_mil.preprocessing.slides.readers.plain import MAX_IMAGE_PX
from tcgn_mil.preprocessing.slides.table import SlideEntry
from tcgn_mil.preprocessing.zarr_store import SUFFIX, read_attributes
from tcgn_mil.progress import Progress
from tcgn_mil.provenance import provenance

STAGE = "export-spatialdata"
KIND = "SpatialData of a slide"
REGION, INSTANCE = "region", "instance_id"
GLOBAL, MICROMETER = "global", "micrometer"
_MPP_TOLERANCE = 0.02
_LEVEL_PX = 1024  # pictures get coarser levels down to about this side


class ExportedSlides(NamedTuple):
    """Result of :func:`export_spatialdata`.

    Attributes
    ----------
    done
        Slides that were written.
    failures
        Files and slides that could not be used.
    left_out
        Files without a place on a slide.
    """

    done: list[str]
    failures: list[Failure]
    left_out: list[LeftOut]


def export_spatialdata(
    sources: Sequence[str | Path],
    out_dir: str | Path,
    entries: Sequence[SlideEntry] = (),
    *,
    image_mpp: float = 4.0,
) -> ExportedSlides:
    """Write ``<slide>.zarr`` for each slide of some files or folders.

    What several sources hold for one slide comes into one store. A slide that cannot be written is
    listed in ``failures.csv``, and the others are written.

    Parameters
    ----------
    sources
        Files, or folders of `tcgn-mil spots`, `tile`, `predict` or `spot-cv`.
    out_dir
        Folder to write. A store in it that was exported before is replaced.
    entries
        Slides whose image is written into the store; the slide ids are those of the files.
    image_mpp
        µm per pixel of that image.

    Raises
    ------
    InputError
        If spatialdata is not installed, or a source holds nothing that has a place on a slide.
    """
    need_extra("spatialdata", "writing SpatialData")
    paths: list[Path] = []
    left_out: list[LeftOut] = []
    for source in sources:
        found, others = find_files(Path(source))
        paths, left_out = [*paths, *found], [*left_out, *others]
    by_slide: dict[str, list[PlacedTable]] = {}
    failures: list[Failure] = []
    for path in paths:
        try:
            placed = read_placed(path)
            by_slide.setdefault(placed.slide_id, []).append(placed)
        except Exception as error:
            failures.append(unexpected(error, path.stem, STAGE))
    slides = {entry.slide_id: entry for entry in entries}
    done = []
    for slide_id, tables in Progress(by_slide.items(), desc="exporting", unit="slide"):
        try:
            if slides and slide_id not in slides:
                raise InputError(
                    f"slide {slide_id} is not among the slides given",
                    fix="give it with --slides, or export without images",
                )
            _export(slide_id, tables, slides.get(slide_id), Path(out_dir), image_mpp)
            done.append(slide_id)
        except Exception as error:
            failures.append(unexpected(error, slide_id, STAGE))
    write_failures(out_dir, failures)
    return ExportedSlides(done, failures, left_out)


def _export(
    slide_id: str,
    tables: Sequence[PlacedTable],
    entry: SlideEntry | None,
    out_dir: Path,
    image_mpp: float,
) -> None:
    pictures = [("thumbnail", each.picture) for each in tables if each.picture is not None]
    mpp = _common_mpp(tables)
    if entry is not None:
        with entry.open() as slide:
            mpp = _common_mpp(tables, slide)
            pictures = [("image", _picture_of(slide, image_mpp))]
    path = out_dir / f"{safe_file_name(slide_id, what='slide id')}{SUFFIX}"
    write_store(path, slide_id, tables, dict(pictures[:1]), mpp=mpp)


def write_store(
    path: Path,
    slide_id: str,
    tables: Sequence[PlacedTable],
    pictures: Mapping[str, Picture],
    *,
    mpp: float | None,
) -> None:
    """Write one store; it appears under its name when it is complete.

    Parameters
    ----------
    path
        Folder to write.
    slide_id
        Name of the slide.
    tables
        Rows that lie on it, of different kinds.
    pictures
        Pictures of the whole slide, by the name of their element.
    mpp
        µm per pixel of level 0; None if unknown.

    Raises
    ------
    InputError
        If two tables are of one kind, or the folder holds something else than an earlier export.
    """
    import spatialdata
    from spatialdata.models import Image2DModel

    kinds = [each.name for each in tables]
    if repeated := [name for name in kinds if kinds.count(name) > 1]:
        raise InputError(
            f"several files give the {repeated[0]} of slide {slide_id}",
            fix="export each source to a folder of its own",
        )
    _check_replaceable(path)
    elements: dict[str, dict[str, Any]] = {"images": {}, "shapes": {}, "points": {}, "tables": {}}
    for each in tables:
        kind, element, names = _element(each, mpp)
        elements[kind][each.name] = element
        elements["tables"][f"{each.name}_table"] = _table(each, names, slide_id, mpp)
    for name, picture in pictures.items():
        height, width = picture.pixels.shape[:2]
        to_global = (picture.size[0] / width, picture.size[1] / height)
        halvings = max(0, math.floor(math.log2(max(width, height) / _LEVEL_PX)))
        elements["images"][name] = Image2DModel.parse(
            np.moveaxis(picture.pixels, 2, 0),
            dims=("c", "y", "x"),
            c_coords=["r", "g", "b"],
            scale_factors=[2] * halvings or None,
            transformations=_systems(mpp, to_global),
        )
    made = provenance(kind=KIND, slide_id=slide_id, mpp=mpp, elements=kinds)
    data = spatialdata.SpatialData(**elements, attrs={META_KEY: made})
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent)
    prefix = temporary_prefix(path.stem)
    with tempfile.TemporaryDirectory(prefix=prefix, suffix=".tmp", dir=path.parent) as folder:
        temporary = Path(folder) / path.name
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of zarr, about formats that are to be standardised
            data.write(temporary)
        shutil.rmtree(path, ignore_errors=True)
        temporary.replace(path)


def _element(placed: PlacedTable, mpp: float | None) -> tuple[str, Any, list[Any]]:
    """Return the kind of an element, the element, and the names of its rows."""
    from spatialdata.models import PointsModel, ShapesModel

    x, y = placed.centres.T
    if placed.side_px is None:
        frame = pd.DataFrame({"x": x, "y": y})
        points = PointsModel.parse(frame, transformations=_systems(mpp))
        return "points", points, list(range(len(x)))
    import geopandas
    import shapely

    half, names = placed.side_px / 2, [str(name) for name in placed.table.obs_names]
    squares = shapely.box(x - half, y - half, x + half, y + half)
    frame = geopandas.GeoDataFrame({"geometry": squares}, index=pd.Index(names))
    return "shapes", ShapesModel.parse(frame, transformations=_systems(mpp)), names


def _table(placed: PlacedTable, names: list[Any], slide_id: str, mpp: float | None) -> Any:
    """Return the table that annotates an element."""
    from spatialdata.models import TableModel

    table = placed.table.copy()
    table.obs = plain_columns(table.obs)
    table.var = plain_columns(table.var)
    table.obs[REGION] = pd.Categorical([placed.name] * len(names))
    table.obs[INSTANCE] = names
    table.obsm["spatial"] = placed.centres
    made = {name: table.uns[name] for name in (META_KEY, "section") if name in table.uns}
    factors = {
        **({} if placed.side_px is None else {"spot_diameter_fullres": float(placed.side_px)}),
        **({} if mpp is None else {"microns_per_pixel": float(mpp)}),
    }
    # Only what names the origin of the values is kept: pictures are elements of the store.
    table.uns = {**made, **({"spatial": {slide_id: {"scalefactors": factors}}} if factors else {})}
    return TableModel.parse(table, region=placed.name, region_key=REGION, instance_key=INSTANCE)


def _systems(mpp: float | None, to_global: tuple[float, float] = (1.0, 1.0)) -> dict[str, Any]:
    """Return the transformations of an element whose unit is `to_global` level-0 pixels."""
    from spatialdata.transformations import Scale

    made = {GLOBAL: Scale(list(to_global), axes=("x", "y"))}
    if mpp is not None:
        made[MICROMETER] = Scale([side * mpp for side in to_global], axes=("x", "y"))
    return made


def _common_mpp(tables: Sequence[PlacedTable], slide: Slide | None = None) -> float | None:
    """Return the µm per pixel of level 0, after comparing the files with each other."""
    stated = [*([slide.mpp] if slide is not None else []), *(t.mpp for t in tables if t.mpp)]
    if not stated:
        return None
    if max(stated) / min(stated) > 1 + _MPP_TOLERANCE:
        raise InputError(
            f"its files state {min(stated):.4g} and {max(stated):.4g} µm/px",
            fix="give files and slides of one cohort",
        )
    return stated[0]


def _picture_of(slide: Slide, image_mpp: float) -> Picture:
    shrink = max(1.0, image_mpp / slide.mpp)
    pixels = math.prod(slide.size) / shrink**2
    if pixels > MAX_IMAGE_PX:
        raise InputError(
            f"its image would have {pixels / 1e6:.0f} million pixels",
            path=slide.path,
            fix="give a larger --image-mpp",
        )
    return Picture(slide.thumbnail(slide.mpp * shrink), slide.size)


def _check_replaceable(path: Path) -> None:
    if path.exists() and META_KEY not in json.dumps(read_attributes(path)):
        raise InputError(
            "exists, and no earlier export wrote it",
            path=path,
            fix="choose another --out, or move the folder away",
        )
