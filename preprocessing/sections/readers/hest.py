"""Reader of the HEST layout (Jaume et al. 2024, NeurIPS): ``st/{id}.h5ad``, ``patches/{id}.h5``, ``wsis/{id}.tif``.

Patches are used as they are where their field and sharpness are those asked for, and cut anew from the slide otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.io.hdf5 import check_pixels, open_hdf5
from tcgn_mil.preprocessing.sections.raw_section import RawSection, ReadSettings, StoredPatches
from tcgn_mil.preprocessing.sections.readers.h5ad import find_libraries, read_library
from tcgn_mil.text import duplicates, preview
from tcgn_mil.types.tile_geometry import PatchSize, check_mpp

_SLIDE_SUFFIXES = (".tif", ".tiff")
_ATTRIBUTES = ("patch_size_src", "patch_size_target", "pixel_size")


@dataclass(frozen=True)
class HestFiles:
    """The files of a sample; patches and slide may be missing."""

    sample: str
    table: Path
    patches: Path | None
    slide: Path | None

    def paths(self) -> tuple[Path, ...]:
        """Those that are there."""
        return tuple(path for path in (self.table, self.patches, self.slide) if path is not None)


def find_samples(folder: Path) -> list[HestFiles]:
    """The samples of a HEST folder, in order of their ids."""
    return [
        files_of(path)
        for path in sorted((folder / "st").glob("*.h5ad"))
        if not path.name.startswith(".")
    ]


def files_of(table: Path) -> HestFiles:
    """What lies beside ``st/{id}.h5ad``."""
    root, sample = table.parent.parent, table.stem
    patches = root / "patches" / f"{sample}.h5"
    slides = [
        path
        for suffix in _SLIDE_SUFFIXES
        if (path := root / "wsis" / f"{sample}{suffix}").is_file()
    ]
    return HestFiles(
        sample, table, patches if patches.is_file() else None, slides[0] if slides else None
    )


def read_sample(
    files: HestFiles,
    settings: ReadSettings,
    *,
    section: str,
    patient: str | None = None,
    image: Path | None = None,
) -> RawSection:
    """Read a sample.

    Parameters
    ----------
    image
        The slide, instead of ``wsis/{id}.tif``.

    Raises
    ------
    InputError
        As for an .h5ad; or if its patches are of another size and there is no slide, or are not those of its spots.
    """
    (library, *others) = find_libraries(files.table)
    if others:
        raise InputError(
            "holds several libraries, where HEST has one", path=files.table, fix="use --format h5ad"
        )
    slide = image or files.slide
    stored = None if files.patches is None else _read_patches(files.patches)
    if stored is not None and settings.mpp is None:
        settings = replace(settings, mpp=stored.pixel_size)
    raw = read_library(library, settings, section=section, patient=patient, image=slide)
    if stored is None:
        return raw
    if stored.size.matches(settings.patch):
        return replace(raw, patches=StoredPatches(stored.path, stored.rows_of(raw)))
    if slide is None:
        raise InputError(
            f"its patches are {stored.size}, asked are {settings.patch}",
            path=stored.path,
            fix=f"give the slide (wsis/{files.sample}.tif or --image), or ask for --patch-px {stored.size.px}"
            f" --patch-mpp {stored.size.mpp:.4g}",
        )
    return raw


@dataclass(frozen=True)
class _HestPatches:
    """A patch file without its pixels: `pixel_size` is the slide's µm/px, `side_px` a patch's side there."""

    path: Path
    size: PatchSize
    pixel_size: float
    side_px: float
    barcodes: list[str]
    coords: NDArray[np.int64]

    def rows_of(self, raw: RawSection) -> NDArray[np.int64]:
        """(S,) row of each spot's patch, -1 without one.

        Raises
        ------
        InputError
            If no spot has a patch, or patches lie elsewhere than their spots (all Visium slides share their barcodes).
        """
        rows = pd.Index(self.barcodes).get_indexer(raw.spots.astype(str)).astype(np.int64)
        found = rows >= 0
        if not found.any():
            raise InputError(
                f"none of its {len(rows)} patches is of a spot: it names {preview(self.barcodes, most=2)}, the table"
                f" {preview(list(raw.spots), most=2)}",
                path=self.path,
                fix="give table and patches of one sample",
            )
        off = np.abs(self.coords[rows[found]] + self.side_px / 2 - raw.centres()[found]).max(axis=1)
        if np.median(off) > self.side_px / 4:
            raise InputError(
                f"its patches lie {np.median(off):.0f} px from the spots of their barcodes",
                path=self.path,
                fix="give table and patches of one sample; coords are the top-left corners x, y",
            )
        return rows


def _read_patches(path: Path) -> _HestPatches:
    with open_hdf5(path, kind="HEST patch", needs=("img", "coords", "barcode")) as file:
        attributes: Mapping[str, Any] = file["img"].attrs
        absent = [name for name in _ATTRIBUTES if name not in attributes]
        if absent:
            raise InputError(
                f"does not state {preview(absent)} of its patches",
                path=path,
                fix="make them again with HEST",
            )
        side_px, px, pixel_size = (
            float(np.asarray(attributes[name]).reshape(-1)[0]) for name in _ATTRIBUTES
        )
        barcodes = [_decode(name) for name in file["barcode"][:].reshape(-1)]
        check_pixels(file["img"], barcodes, path=path)
        coords = file["coords"][:]
        if file["img"].shape[1:] != (px, px, 3) or coords.shape != (len(barcodes), 2):
            raise InputError(
                f"holds patches {file['img'].shape} and coords {coords.shape}, states {px:g} px",
                path=path,
                fix="copy the file again",
            )
    if duplicates(barcodes):
        raise InputError(
            f"names {preview(duplicates(barcodes))} more than once",
            path=path,
            fix="one patch a spot",
        )
    check_mpp(pixel_size, what="pixel_size", path=path)
    return _HestPatches(
        path, PatchSize(int(px), side_px * pixel_size / px), pixel_size, side_px, barcodes, coords
    )


def _decode(name: object) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)
