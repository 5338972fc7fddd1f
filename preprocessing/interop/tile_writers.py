"""Write tiles in the layouts of CLAM, TRIDENT and HEST, and as GeoJSON for QuPath.

CLAM and TRIDENT store whole level-0 pixels, so sizes in micrometres are rounded for them. The exact
geometry is stored as well, in a root attribute `spec` that the other tools ignore. So an exported
file is read back as exactly the same tiles.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from tcgn_mil.errors import InputError
from tcgn_mil.io.atomic import safe_file_name
from tcgn_mil.io.failures import Failure, unexpected, write_failures
from tcgn_mil.io.geojson import BOUNDS, ORIGINS, write_geojson
from tcgn_mil.io.hdf5 import create_hdf5, write_stain
from tcgn_mil.io.spot_files import create_patch_file
from tcgn_mil.preprocessing.interop.tile_readers import read_any_tiles
from tcgn_mil.preprocessing.interop.tile_source import check_same_slide, read_slide_tiles
from tcgn_mil.preprocessing.slides.table import SlideEntry
from tcgn_mil.preprocessing.tiles.cohort import CohortTiles
from tcgn_mil.preprocessing.tiles.pixels import iter_tiles
from tcgn_mil.progress import Progress, tell
from tcgn_mil.resume.cohort_list import plan_cohort
from tcgn_mil.resume.set_aside import set_aside
from tcgn_mil.types.tile_geometry import TileSpec
from tcgn_mil.types.tiles import TileSet

STAGE = "export-tiles"
MAGNIFICATIONS = (1.25, 2.5, 5, 10, 20, 40, 60, 80)
UM_AT_1X = 10.0  # a scanner's 10x is 1 µm per pixel
_BATCH = 64


def nominal_magnification(mpp: float) -> float:
    """Return the usual magnification that is nearest to a resolution, by ratio.

    It is only a name that TRIDENT's files need. Nothing is measured by it.

    Examples
    --------
    >>> nominal_magnification(0.5), nominal_magnification(0.46), nominal_magnification(0.1945)
    (20, 20, 60)
    """
    return min(MAGNIFICATIONS, key=lambda step: abs(math.log(step * mpp / UM_AT_1X)))


def target_magnification(spec: TileSpec) -> float:
    """Return 10 / mpp to the nearest whole number: 14 for 0.69 µm/px, 20 for 0.5."""
    return max(1, round(UM_AT_1X / spec.mpp))


def overlap_px(spec: TileSpec) -> int:
    """Return by how many of its pixels a tile overlaps the next one."""
    return max(0, spec.tile_px - spec.stride_px)


def trident_folder(spec: TileSpec) -> str:
    """Return the name that TRIDENT gives to the folder of these tiles."""
    return f"{target_magnification(spec):g}x_{spec.tile_px}px_{overlap_px(spec)}px_overlap"


def write_clam(path: str | Path, tiles: TileSet) -> None:
    """Write ``patches/{slide}.h5`` as CLAM does.

    `patch_level` is always 0, because that is the only level whose size a tile file knows exactly.
    """
    side = max(1, round(tiles.spec.level0_px))
    size = np.array(tiles.slide_size, dtype=np.int64)
    with create_hdf5(path) as file:
        coords = _write_coords(file, tiles)
        coords.attrs["patch_size"] = np.int64(side)
        coords.attrs["patch_level"] = np.int64(0)
        coords.attrs["downsample"] = np.array([1.0, 1.0])
        coords.attrs["downsampled_level_dim"] = size
        coords.attrs["level_dim"] = size
        coords.attrs["name"] = tiles.slide_id
        coords.attrs["save_path"] = Path(path).parent.name


def write_trident(path: str | Path, tiles: TileSet) -> None:
    """Write ``{mag}x_{px}px_{overlap}px_overlap/patches/{slide}_patches.h5`` as TRIDENT does."""
    spec = tiles.spec
    with create_hdf5(path) as file:
        coords = _write_coords(file, tiles)
        coords.attrs["patch_size"] = np.int64(spec.tile_px)
        coords.attrs["patch_size_level0"] = np.int64(max(1, round(spec.level0_px)))
        coords.attrs["level0_magnification"] = _whole(nominal_magnification(spec.slide_mpp))
        coords.attrs["target_magnification"] = _whole(target_magnification(spec))
        coords.attrs["overlap"] = np.int64(overlap_px(spec))
        coords.attrs["name"] = tiles.slide_id
        coords.attrs["savetodir"] = trident_folder(spec)
        coords.attrs["level0_width"], coords.attrs["level0_height"] = (
            np.int64(side) for side in tiles.slide_size
        )


def write_hest(path: str | Path, tiles: TileSet, entry: SlideEntry) -> None:
    """Write tiles with their pixels as HEST does, batch by batch.

    The barcode of a tile is its position, ``{x}x{y}``. The pixels are those that an encoder would
    get: a stain normalisation is applied, and recorded.

    Raises
    ------
    InputError
        If there is no tile, or the slide cannot be read or changed since its tiles were laid.
    """
    if not len(tiles):
        raise InputError(
            f"slide {tiles.slide_id} has no tile to write", fix="remove this slide from --slides"
        )
    check_same_slide(entry, tiles)
    barcodes = [f"{x}x{y}" for x, y in tiles.coords.tolist()]
    spec = tiles.spec
    with (
        entry.open() as slide,
        create_patch_file(
            path, barcodes, spec.patch, section=tiles.slide_id, pixel_size=spec.slide_mpp
        ) as file,
    ):
        file.attrs["spec"] = json.dumps(spec.as_dict())
        write_stain(file, tiles.stain)
        done = 0
        for pixels, coords in iter_tiles(slide, tiles.coords, spec, _BATCH, stain=tiles.stain):
            file["img"][done : done + len(coords)] = pixels
            file["coords"][done : done + len(coords)] = coords
            done += len(coords)


def _write_coords(file: h5py.File, tiles: TileSet) -> h5py.Dataset:
    file.attrs["spec"] = json.dumps(tiles.spec.as_dict())
    return file.create_dataset("coords", data=tiles.coords.astype(np.int64))


def _whole(magnification: float) -> np.int64 | np.float64:
    """Store a whole magnification as an integer, as TRIDENT does."""
    if magnification == int(magnification):
        return np.int64(magnification)
    return np.float64(magnification)


def _export_clam(out: Path, name: str, tiles: TileSet, _entry: SlideEntry | None) -> None:
    write_clam(out / "patches" / f"{name}.h5", tiles)


def _export_trident(out: Path, name: str, tiles: TileSet, _entry: SlideEntry | None) -> None:
    write_trident(out / trident_folder(tiles.spec) / "patches" / f"{name}_patches.h5", tiles)


def _export_hest(out: Path, name: str, tiles: TileSet, entry: SlideEntry | None) -> None:
    assert entry is not None  # checked by export_cohort
    write_hest(out / "patches" / f"{name}.h5", tiles, entry)


def _export_geojson(
    out: Path, name: str, tiles: TileSet, _entry: SlideEntry | None, *, origin: str = BOUNDS
) -> None:
    write_geojson(out / f"{name}.geojson", tiles, origin=origin)


EXPORTS: dict[str, Callable[[Path, str, TileSet, SlideEntry | None], None]] = {
    "clam": _export_clam,
    "trident": _export_trident,
    "hest": _export_hest,
    "geojson": _export_geojson,
}
"""Layout -> function that writes a slide's tiles where the tool looks for them.

The arguments are the folder, the slide id as a file name, the tiles, and the slide or None."""


def export_cohort(
    folder: str | Path,
    layout: str,
    out_dir: str | Path,
    entries: Sequence[SlideEntry] | None = None,
    *,
    origin: str = BOUNDS,
) -> CohortTiles:
    """Write the tiles of each slide in another layout.

    A slide that cannot be exported becomes a row of ``failures.csv``, and the others are exported.

    Parameters
    ----------
    folder
        Folder of tile files: of this package, or of any known layout if the slides are given.
    layout
        A name in :data:`EXPORTS`.
    out_dir
        Folder to write to.
    entries
        Slides to export. They are needed for ``hest``, which holds pixels, and for files of other
        tools. Without them every slide in the folder is exported.
    origin
        Point that is 0, 0 in a GeoJSON: a name in :data:`~tcgn_mil.io.geojson.ORIGINS`.

    Returns
    -------
    CohortTiles
        Slides that were exported, and failures.

    Raises
    ------
    InputError
        If the layout is unknown, slides are needed and not given, or the folder holds no tile file.
    """
    if layout not in EXPORTS:
        raise InputError(f"unknown tile layout {layout!r}", fix=f"give one of {', '.join(EXPORTS)}")
    if origin not in ORIGINS:
        raise InputError(f"unknown origin {origin!r}", fix=f"give one of {', '.join(ORIGINS)}")
    if origin != BOUNDS and layout != "geojson":
        raise InputError(
            f"the origin has no effect on the layout {layout}", fix="remove the option --origin"
        )
    export = EXPORTS[layout]
    if layout == "geojson":
        export = partial(_export_geojson, origin=origin)
    if layout == "hest" and entries is None:
        raise InputError(
            "HEST files hold pixels, which tile files do not", fix="give the slides too (--slides)"
        )
    if not Path(folder).is_dir():
        raise InputError(
            "no such folder of tile files", path=folder, fix="run `tcgn-mil tile` first"
        )
    slides: list[tuple[str, SlideEntry | None]] = (
        [(path.stem, None) for path in _own_tile_files(folder)]
        if entries is None
        else [(each.slide_id, each) for each in entries]
    )
    done: list[str] = []
    failures: list[Failure] = []
    for slide_id, entry in Progress(slides, desc="exporting", unit="slide"):
        try:
            if entry is None:
                tiles = read_any_tiles(Path(folder) / f"{slide_id}.h5")
            else:
                tiles = read_slide_tiles(folder, entry)
            name = safe_file_name(tiles.slide_id, what="slide id")
            export(Path(out_dir), name, tiles, entry)
        except Exception as error:
            failure = unexpected(error, slide_id, STAGE)
            path = error.path if isinstance(error, InputError) else None
            where = "" if path is None else f"{path}: "
            failures.append(replace(failure, reason=where + failure.reason))
        else:
            done.append(slide_id)
    if entries is None:
        _set_aside_left(Path(out_dir), folder, layout, [name for name, _ in slides])
    write_failures(out_dir, failures)
    return CohortTiles(done, failures)


def _set_aside_left(out: Path, folder: str | Path, layout: str, names: Sequence[str]) -> None:
    """Set aside what was exported of slides whose tile files left the folder since."""
    planned = plan_cohort(out, folder, names, ending=".geojson", choice=layout)
    for name in planned.left:
        own = {f"{name}.h5", f"{name}_patches.h5", f"{name}.geojson"}
        for path in [*out.glob("*"), *out.glob("patches/*"), *out.glob("*/patches/*")]:
            if path.name in own:
                set_aside(path.parent, [path])
    planned.apply(lambda name: [])
    for sentence in planned.sentences()[: len(planned.left) and 1]:
        tell(sentence)


def _own_tile_files(folder: str | Path) -> list[Path]:
    paths = [path for path in sorted(Path(folder).glob("*.h5")) if not path.name.startswith(".")]
    if not paths:
        raise InputError(
            "holds no tile file (*.h5)",
            path=folder,
            fix="give the folder that `tcgn-mil tile` wrote; for folders of other tools give the"
            " slides too (--slides)",
        )
    return paths
