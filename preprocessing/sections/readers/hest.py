"""Read samples in the layout of HEST (Jaume et al., NeurIPS 2024).

A folder holds ``st/{id}.h5ad``, ``patches/{id}.h5``, ``wsis/{id}.tif`` and ``metadata/{id}.json``.
Patches of HEST are used
if they have the size and the resolution asked for. Otherwise patches are cut from the slide.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.json_file import read_json
from tcgn_mil.io.hdf5 import check_pixels, open_hdf5
from tcgn_mil.preprocessing.sections.raw_section import (
    RawSection,
    ReadSettings,
    SectionSource,
    SourcePatches,
)
from tcgn_mil.preprocessing.sections.readers.base import (
    SectionReader,
    SectionRequest,
    existing_files,
)
from tcgn_mil.preprocessing.sections.readers.h5ad import find_libraries, read_library
from tcgn_mil.preprocessing.sections.readers.scale import Statement
from tcgn_mil.text import duplicates, preview
from tcgn_mil.types.tile_geometry import PatchSize, check_mpp

_SLIDE_SUFFIXES = (".tif", ".tiff")
_ESTIMATE = "pixel_size_um_estimated"
_ATTRIBUTES = ("patch_size_src", "patch_size_target", "pixel_size")


@dataclass(frozen=True)
class HestFiles:
    """Files of a sample.

    Attributes
    ----------
    sample
        Id of the sample.
    table
        The .h5ad.
    patches, slide, metadata
        Patches, slide and metadata; None if they are missing.
    """

    sample: str
    table: Path
    patches: Path | None
    slide: Path | None
    metadata: Path | None

    def paths(self) -> tuple[Path, ...]:
        """Return the files that exist."""
        return tuple(
            path
            for path in (self.table, self.patches, self.slide, self.metadata)
            if path is not None
        )


def is_hest(source: Path) -> bool:
    """Return whether a source is an .h5ad with patches of HEST, or a folder with ``st/*.h5ad``."""
    if source.is_file():
        in_st = source.suffix == ".h5ad" and source.parent.name == "st"
        return in_st and files_of(source).patches is not None
    return any((source / "st").glob("*.h5ad"))


def list_sources(source: Path, request: SectionRequest) -> list[SectionSource]:
    """List the samples of a HEST folder, or the one sample of a file."""
    samples = [files_of(source)] if source.is_file() else find_samples(source)
    if not samples:
        raise InputError(
            "has no st/*.h5ad", path=source, fix="give the folder that holds st and patches"
        )
    sources = []
    for files in samples:
        one_named = request.section is not None and len(samples) == 1
        name = request.section if one_named and request.section else files.sample
        read = partial(read_sample, files, request=replace(request, section=name))
        inputs = partial(existing_files, *files.paths(), request.image)
        sources.append(SectionSource(name, inputs, read, (request.patient,)))
    return sources


def find_samples(folder: Path) -> list[HestFiles]:
    """Return the samples of a HEST folder, in order of their ids."""
    return [
        files_of(path)
        for path in sorted((folder / "st").glob("*.h5ad"))
        if not path.name.startswith(".")
    ]


def files_of(table: Path) -> HestFiles:
    """Return the files that belong to ``st/{id}.h5ad``."""
    root, sample = table.parent.parent, table.stem
    patches = root / "patches" / f"{sample}.h5"
    slides = [
        path
        for suffix in _SLIDE_SUFFIXES
        if (path := root / "wsis" / f"{sample}{suffix}").is_file()
    ]
    metadata = root / "metadata" / f"{sample}.json"
    return HestFiles(
        sample,
        table,
        patches if patches.is_file() else None,
        slides[0] if slides else None,
        metadata if metadata.is_file() else None,
    )


def _of_metadata(path: Path | None) -> list[Statement]:
    """Return the resolution of the slide that the metadata of a sample states.

    HEST estimates it from the distance of spots or the alignment of cells, and also copies what the
    image states, which is often wrong and therefore not read.
    """
    if path is None:
        return []
    fields = read_json(path, what="the metadata of a HEST sample", fix="copy the file again")
    value = fields.get(_ESTIMATE)
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return []
    check_mpp(float(value), what=_ESTIMATE, path=path)
    source = f"{_ESTIMATE} of {path.parent.name}/{path.name}"
    return [Statement(float(value), source, measured=True)]


def read_sample(files: HestFiles, settings: ReadSettings, request: SectionRequest) -> RawSection:
    """Read a sample.

    Parameters
    ----------
    files
        Files of the sample.
    settings
        Settings for reading.
    request
        Name of the section; its patient, if the file does not state it; and the slide, if it is not
        ``wsis/{id}.tif``.

    Raises
    ------
    InputError
        If the .h5ad cannot be used, the patches are of another size and there is no slide, or the
        patches are not those of the spots.
    """
    (library, *others) = find_libraries(files.table)
    if others:
        raise InputError(
            "holds several libraries, but a sample of HEST has one",
            path=files.table,
            fix="give --format h5ad",
        )
    slide = request.image or files.slide
    stored = None if files.patches is None else _read_patches(files.patches)
    # HEST states the resolution of the slide with its patches and in its metadata.
    statements = [*_of_metadata(files.metadata)]
    if stored is not None:
        source = f"pixel_size of {stored.path.parent.name}/{stored.path.name}"
        # The patches of HEST were cut at this resolution.
        statements.insert(0, Statement(stored.pixel_size, source, measured=True, preferred=True))
    raw = read_library(library, settings, replace(request, image=slide), tuple(statements))
    if stored is None:
        return raw
    if stored.size.matches(settings.patch):
        return replace(raw, patches=SourcePatches(stored.path, stored.rows_of(raw)))
    if slide is None:
        raise InputError(
            f"its patches are {stored.size}, asked are {settings.patch}",
            path=stored.path,
            fix=f"give the slide (wsis/{files.sample}.tif or --image), or ask for"
            f" --patch-px {stored.size.px} --patch-mpp {stored.size.mpp:.4g}",
        )
    return raw


@dataclass(frozen=True)
class _HestPatches:
    """A patch file without its pixels.

    `pixel_size` is µm per pixel of the slide, and `side_px` the side of a patch in its pixels.
    """

    path: Path
    size: PatchSize
    pixel_size: float
    side_px: float
    barcodes: list[str]
    coords: NDArray[np.int64]

    def rows_of(self, raw: RawSection) -> NDArray[np.int64]:
        """Return (S,) rows of the spots' patches; -1 for a spot without a patch.

        All Visium slides have the same barcodes, so patches of another sample match by name. The
        positions are therefore compared as well.

        Raises
        ------
        InputError
            If no spot has a patch, or the patches lie elsewhere than their spots.
        """
        rows = pd.Index(self.barcodes).get_indexer(raw.spots.astype(str)).astype(np.int64)
        has_patch = rows >= 0
        if not has_patch.any():
            raise InputError(
                f"none of its {len(rows)} patches is of a spot: it names"
                f" {preview(self.barcodes, most=2)}, the table {preview(list(raw.spots), most=2)}",
                path=self.path,
                fix="give table and patches of one sample",
            )
        patch_centres = self.coords[rows[has_patch]] + self.side_px / 2
        off = np.abs(patch_centres - raw.centres()[has_patch]).max(axis=1)
        # The median, so that a few patches alone do not decide.
        if np.median(off) > self.side_px / 4:
            raise InputError(
                f"its patches lie {np.median(off):.0f} px from the spots of their barcodes",
                path=self.path,
                fix="give table and patches of one sample, with coords as top-left corners x, y",
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
                fix="make the patches again with HEST",
            )
        side_px, px, pixel_size = (
            float(np.asarray(attributes[name]).reshape(-1)[0]) for name in _ATTRIBUTES
        )
        barcodes = [_decode(name) for name in file["barcode"][:].reshape(-1)]
        check_pixels(file["img"], barcodes, path=path)
        coords = file["coords"][:]
        if file["img"].shape[1:] != (px, px, 3) or coords.shape != (len(barcodes), 2):
            raise InputError(
                f"holds patches {file['img'].shape} and coords {coords.shape}, but states"
                f" {px:g} px",
                path=path,
                fix="copy the file again",
            )
    if duplicates(barcodes):
        raise InputError(
            f"names {preview(duplicates(barcodes))} more than once",
            path=path,
            fix="keep one patch for each spot",
        )
    check_mpp(pixel_size, what="pixel_size", path=path)
    return _HestPatches(
        path, PatchSize(int(px), side_px * pixel_size / px), pixel_size, side_px, barcodes, coords
    )


def _decode(name: object) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


READER = SectionReader("hest", "HEST (st, patches, wsis)", is_hest, list_sources)
