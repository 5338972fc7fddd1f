"""Write the files of one section: the spot set, its patches, and a picture of spots and image."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.reading import describe_damage
from tcgn_mil.io.anndata_file import open_anndata
from tcgn_mil.io.atomic import safe_file_name
from tcgn_mil.io.hdf5 import open_hdf5
from tcgn_mil.io.pyramid import pyramid_description, write_pyramid
from tcgn_mil.io.spot_files import PATCHES_SUFFIX, SpotSet, create_patch_file, write_spot_table
from tcgn_mil.preprocessing.sections.alignment import measure_alignment
from tcgn_mil.preprocessing.sections.overlay import SHOWN_PX, write_overlay
from tcgn_mil.preprocessing.sections.patches import cut_patches, inside, patch_corners
from tcgn_mil.preprocessing.sections.raw_section import (
    RawSection,
    ReadSettings,
    SectionSource,
    whole_image,
)
from tcgn_mil.preprocessing.sections.section_summary import (
    image_warnings,
    off_image_warnings,
    spot_table,
    summarise_section,
)
from tcgn_mil.preprocessing.sections.tables import FinishedSection
from tcgn_mil.preprocessing.slides.readers.base import Slide
from tcgn_mil.preprocessing.tiles.grid import tissue_fractions
from tcgn_mil.preprocessing.tiles.settings import TISSUE_MPP
from tcgn_mil.preprocessing.tiles.tissue import find_tissue
from tcgn_mil.preprocessing.zarr_store import fingerprint, is_store
from tcgn_mil.provenance import SCHEMA_VERSION
from tcgn_mil.resume.digests import input_digest
from tcgn_mil.resume.set_aside import bring_back
from tcgn_mil.text import content_hash
from tcgn_mil.types.tile_geometry import PatchSize

SLIDE_JPEG_QUALITY = 80
# Raised when the same inputs and settings give other files, so that older files are made again.
_RECIPE = 6


@dataclass(frozen=True)
class SectionWriter:
    """Writer of section files with one choice of settings.

    Attributes
    ----------
    out_dir
        Folder for the files.
    settings
        Settings for reading.
    allow_coarse
        Whether to write patches also from an image that is too coarse for them.
    """

    out_dir: Path
    settings: ReadSettings
    allow_coarse: bool = False

    @property
    def patch(self) -> PatchSize:
        """Physical size of the patches."""
        return self.settings.patch

    def finish(self, source: SectionSource, slides_out: Path | None) -> FinishedSection:
        """Write the files of a section that are missing or outdated.

        A section whose files were made from the same inputs and settings is not read again.

        Parameters
        ----------
        source
            The section.
        slides_out
            Folder for the section's image as a slide; None to write none.

        Raises
        ------
        InputError
            If the section cannot be read, no spot lies on its image, or its image is too coarse.
        """
        name = safe_file_name(source.section, what="section")
        # A hash of the inputs and settings is stored in the files. If it is equal, the files are
        # current.
        inputs = [
            _identity(file)
            for path in source.files()
            for file in (fingerprint(path) if is_store(path) else [path])
        ]
        chosen = [source.choices, asdict(self.settings), self.allow_coarse]
        made_from = content_hash([SCHEMA_VERSION, _RECIPE, inputs, chosen])
        section, raw = self._finished(name, made_from), None
        if section is None:
            raw = source.read(self.settings)
            section = self._write(raw, made_from)
        if slides_out is not None:
            slide = slides_out / f"{name}.tiff"
            # The slide depends on fewer settings than the spots, so it has a hash of its own.
            slide_of = content_hash(
                [SCHEMA_VERSION, inputs, section.report.image_mpp, SLIDE_JPEG_QUALITY]
            )
            if pyramid_description(slide) != slide_of:
                raw = source.read(self.settings) if raw is None else raw
                with raw.image.open(raw.image_mpp) as opened:
                    pixels = whole_image(opened)
                write_pyramid(
                    slide,
                    pixels,
                    mpp=raw.image_mpp,
                    quality=SLIDE_JPEG_QUALITY,
                    description=slide_of,
                )
        return section

    def _write(self, raw: RawSection, made_from: str) -> FinishedSection:
        disagreement = raw.image.disagreement(raw.image_mpp)
        with raw.image.open(raw.image_mpp) as slide:
            # Positions are in full-resolution pixels, patches are cut from the available image.
            corners, side = patch_corners(raw.centres() * raw.image.scale, self.patch, slide.mpp)
            kept = self._kept(raw, slide, corners, side)
            # Tissue is found at the same resolution as on slides; a coarser image stays as it is.
            mpp = max(TISSUE_MPP, slide.mpp)
            thumbnail = slide.thumbnail(mpp) if slide.mpp < mpp else whole_image(slide)
            tissue = find_tissue(thumbnail, mpp)
            alignment = measure_alignment(
                thumbnail, tissue, raw.centres() * (raw.mpp / mpp), raw.totals(), mpp=mpp
            )
            off_image = off_image_warnings(raw, alignment, slide.size)
            # A wrong scale also makes an image look coarse, so that the signs of one come first.
            alarms = [text for text in (disagreement, alignment.alarm_of_scale()) if text]
            coarse = image_warnings(raw, self.patch, alarms, allow_coarse=self.allow_coarse)
            warnings = [*raw.warnings, *coarse, *([disagreement] if disagreement else [])]
            warnings += off_image
            # A corner off the image is moved onto it, because the tissue mask ends there.
            fractions = tissue_fractions(tissue, np.maximum(corners, 0), side, slide.size)
            section = summarise_section(raw, kept, fractions, alignment, warnings, slide.size)
            adata = spot_table(raw, kept, fractions, section, made_from)
            patches_path = self._write_patches(raw, kept, slide)
            large = max(slide.size) > SHOWN_PX
            shown = (
                slide.thumbnail(max(slide.size) * slide.mpp / SHOWN_PX)
                if large
                else whole_image(slide)
            )
            size_um = (slide.size[0] * slide.mpp, slide.size[1] * slide.mpp)
        write_overlay(
            self._overlay_path(raw.section),
            shown,
            adata,
            alignment,
            size_um=size_um,
            field_um=self.patch.um,
        )
        spots = SpotSet(adata, str(patches_path), self.patch)
        # Written last, because it marks the section as done.
        write_spot_table(self.out_dir / f"{raw.section}.h5ad", spots)
        return section

    def _kept(
        self, raw: RawSection, slide: Slide, corners: NDArray[np.int64], side: int
    ) -> NDArray[np.bool_]:
        """Return (S,) whether a spot has a patch."""
        if raw.patches is not None:
            return raw.patches.rows >= 0
        kept = inside(corners, side, *slide.size)
        if not kept.any():
            raise InputError(
                f"none of {len(kept)} spots lies on the image of {slide.size[0]} x"
                f" {slide.size[1]} px",
                path=slide.path,
                fix="check that it is the image of this section, that positions are in its pixels,"
                " and that x and y are not swapped",
            )
        return kept

    def _write_patches(self, raw: RawSection, kept: NDArray[np.bool_], slide: Slide) -> Path:
        path = self.out_dir / f"{raw.section}{PATCHES_SUFFIX}"
        corners, _ = patch_corners(raw.centres()[kept], self.patch, raw.mpp)
        barcodes = [str(name) for name in raw.spots[kept]]
        if raw.patches is None:
            pixels = cut_patches(slide, raw.centres()[kept] * raw.image.scale, self.patch)
        else:
            pixels = _stored_patches(raw.patches.path, raw.patches.rows[kept])
        with create_patch_file(
            path, barcodes, self.patch, section=raw.section, pixel_size=raw.mpp
        ) as file:
            file["coords"][:] = corners
            for row, shown in enumerate(pixels):
                file["img"][row] = shown
        return path

    def _finished(self, name: str, made_from: str) -> FinishedSection | None:
        """Return a section that is complete and current; None if it has to be made.

        The .h5ad is written last, so a section that was interrupted has none.
        """
        files = self.files_of(name)
        bring_back(self.out_dir, files)  # they are looked at like all others
        if not all(file.is_file() for file in files):
            return None
        path, again = files[-1], "the file is made again"
        with suppress(InputError):  # a damaged file is made again
            table = open_anndata(
                path, what="spot file", missing_fix=again, broken_fix=again, backed=True
            )
            try:
                with describe_damage(path, what="spots", fix=again):
                    stored = json.loads(str(table.uns.get("section", "{}")))
                    if stored.get("made_from") == made_from:
                        return FinishedSection.from_json(stored, table.var["section_counts"].copy())
            finally:
                table.file.close()
        return None

    def files_of(self, name: str) -> list[Path]:
        """Return the files of a section, in the order in which they are written."""
        patches, table = f"{name}{PATCHES_SUFFIX}", f"{name}.h5ad"
        return [self._overlay_path(name), self.out_dir / patches, self.out_dir / table]

    def _overlay_path(self, name: str) -> Path:
        return self.out_dir / f"{name}_spots.png"


def _stored_patches(path: Path, rows: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
    with open_hdf5(path, kind="patch", needs=("img",)) as file:
        for row in rows.tolist():
            yield file["img"][row]


def _identity(path: Path) -> list[object]:
    """Return name, time of change and digest of an input, which differ if it was replaced."""
    return [path.name, path.stat().st_mtime_ns, input_digest(path)]
