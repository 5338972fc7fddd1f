"""The tiles of a cohort in a folder of any layout: found for a slide, and written in another layout."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from tcgn_mil.errors import InputError
from tcgn_mil.io.atomic import safe_file_name
from tcgn_mil.io.failures import write_failures
from tcgn_mil.io.geojson import write_geojson
from tcgn_mil.io.hdf5 import write_stain
from tcgn_mil.io.spot_files import create_patch_file
from tcgn_mil.preprocessing.interop.tile_readers import find_tile_file, read_any_tiles, tile_layout
from tcgn_mil.preprocessing.interop.tile_writers import trident_folder, write_clam, write_trident
from tcgn_mil.preprocessing.slides.table import SlideEntry
from tcgn_mil.preprocessing.tiles.pixels import iter_tiles
from tcgn_mil.preprocessing.tiles.tiling import CohortTiles
from tcgn_mil.types.tiles import Failure, TileSet

EXPORTS = ("clam", "trident", "hest", "geojson")
STAGE = "export-tiles"
_BATCH = 64


def read_slide_tiles(folder: str | Path, entry: SlideEntry) -> TileSet:
    """A slide's tiles from a folder of any layout; the slide itself is opened only for other tools' files.

    Raises
    ------
    InputError
        If there is no file or several, it is of another slide, or the slide cannot be opened.
    """
    stem = entry.path.stem.removesuffix(".ome")
    path = find_tile_file(folder, [entry.slide_id, stem])
    if tile_layout(path) == "tcgn-mil":
        tiles = read_any_tiles(path)
        if tiles.slide_id != entry.slide_id:
            raise InputError(
                f"is of slide {tiles.slide_id!r}, not {entry.slide_id!r}",
                path=path,
                fix="tile the slide again",
            )
        return tiles
    with entry.open() as slide:
        return read_any_tiles(
            path, slide, slide_id=entry.slide_id, patient_id=entry.patient_id, file_name=stem
        )


def export_cohort(
    folder: str | Path,
    layout: str,
    out_dir: str | Path,
    entries: Sequence[SlideEntry] | None = None,
) -> CohortTiles:
    """Write the tiles of each slide in another layout; a slide that fails costs a row of failures.csv.

    Parameters
    ----------
    folder
        Of tile files, ours or, with the slides, of any known layout.
    layout
        clam, trident, hest or geojson.
    entries
        The slides; needed for hest, and for files that are not ours. Without, every slide in the folder.

    Raises
    ------
    InputError
        If the layout is unknown, slides are needed and not given, or the folder holds no tile file.
    """
    if layout not in EXPORTS:
        raise InputError(f"unknown tile layout {layout!r}", fix=f"give one of {', '.join(EXPORTS)}")
    if layout == "hest" and entries is None:
        raise InputError(
            "HEST files hold pixels, which tile files do not", fix="give the slides too (--slides)"
        )
    if not Path(folder).is_dir():
        raise InputError("no such folder of tile files", path=folder, fix="run tcgn-mil tile first")
    slides: list[tuple[str, SlideEntry | None]] = (
        [(path.stem, None) for path in _own(folder)]
        if entries is None
        else [(each.slide_id, each) for each in entries]
    )
    done: list[str] = []
    failures: list[Failure] = []
    for slide_id, entry in tqdm(slides, desc="exporting", unit="slide"):
        try:
            if entry is None:
                tiles = read_any_tiles(Path(folder) / f"{slide_id}.h5")
            else:
                tiles = read_slide_tiles(folder, entry)
            _export(tiles, layout, out_dir, entry)
        except InputError as error:
            where = "" if error.path is None else f"{error.path}: "
            failures.append(Failure(slide_id, STAGE, where + error.reason, error.fix or ""))
        else:
            done.append(slide_id)
    write_failures(out_dir, failures)
    return CohortTiles(done, failures)


def _own(folder: str | Path) -> list[Path]:
    found = [path for path in sorted(Path(folder).glob("*.h5")) if not path.name.startswith(".")]
    if not found:
        raise InputError(
            "holds no tile file (*.h5)",
            path=folder,
            fix="give the folder that tcgn-mil tile wrote; for other tools' folders give the slides too (--slides)",
        )
    return found


def _export(tiles: TileSet, layout: str, out_dir: str | Path, entry: SlideEntry | None) -> None:
    name, out = safe_file_name(tiles.slide_id, what="slide id"), Path(out_dir)
    if layout == "clam":
        write_clam(out / "patches" / f"{name}.h5", tiles)
    elif layout == "trident":
        write_trident(out / trident_folder(tiles.spec) / "patches" / f"{name}_patches.h5", tiles)
    elif layout == "geojson":
        write_geojson(out / f"{name}.geojson", tiles)
    else:
        assert entry is not None
        write_hest(out / "patches" / f"{name}.h5", tiles, entry)


def write_hest(path: str | Path, tiles: TileSet, entry: SlideEntry) -> None:
    """Write tiles with their pixels as HEST does, batch by batch; a tile's barcode is its place, ``{x}x{y}``.

    The pixels are those that would be encoded: with a stain normalisation, that is applied, and recorded.
    """
    if not len(tiles):
        raise InputError(f"slide {tiles.slide_id} has no tile to cut", fix="leave the slide out")
    barcodes = [f"{x}x{y}" for x, y in tiles.coords.tolist()]
    spec = tiles.spec
    with (
        entry.open() as slide,
        create_patch_file(
            path, barcodes, spec.patch, section=tiles.slide_id, pixel_size=slide.mpp
        ) as file,
    ):
        file.attrs["spec"] = json.dumps(spec.as_dict())
        write_stain(file, tiles.stain)
        done = 0
        for pixels, coords in iter_tiles(slide, tiles.coords, spec, _BATCH, stain=tiles.stain):
            file["img"][done : done + len(coords)] = pixels
            file["coords"][done : done + len(coords)] = coords
            done += len(coords)
