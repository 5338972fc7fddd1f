"""One section into its files: the SpotSet, its patches, and a picture of how spots and image lie."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.io.atomic import safe_file_name
from tcgn_mil.io.hdf5 import open_hdf5
from tcgn_mil.io.pyramid import pyramid_description, write_pyramid
from tcgn_mil.io.spot_files import PATCHES_SUFFIX, SpotSet, create_patch_file, write_spot_table
from tcgn_mil.preprocessing.sections.alignment import Alignment, alignment_rows, measure_alignment
from tcgn_mil.preprocessing.sections.overlay import SHOWN_PX, write_overlay
from tcgn_mil.preprocessing.sections.patches import cut_patches, inside, patch_corners
from tcgn_mil.preprocessing.sections.raw_section import (
    RawSection,
    ReadSettings,
    SectionSource,
    whole_image,
)
from tcgn_mil.preprocessing.sections.tables import FinishedSection, SectionReport
from tcgn_mil.preprocessing.slides.readers.base import Slide
from tcgn_mil.preprocessing.tiles.grid import tissue_fractions
from tcgn_mil.preprocessing.tiles.tissue import find_tissue
from tcgn_mil.preprocessing.tiles.settings import TISSUE_MPP
from tcgn_mil.provenance import SCHEMA_VERSION
from tcgn_mil.text import content_hash
from tcgn_mil.types.tile_geometry import MAX_UPSAMPLING, PatchSize

MIN_TISSUE = 0.1  # share of a patch under which a spot is flagged, as tiling leaves such tiles out
SLIDE_JPEG_QUALITY = 80
_RECIPE = 3  # raised when the same inputs and settings give other files, so that older ones are made again
_NUCLEI_MPP = 1.0  # coarser pixels show nuclei as specks,
_SPECKS_MPP = 3.0  # and coarser than this not at all


@dataclass(frozen=True)
class SectionWriter:
    """Brings sections to files with one choice of settings.

    Attributes
    ----------
    out_dir
        Folder of the sections.
    settings
        How sections are read.
    allow_coarse
        Write patches of an image that is too coarse for them.
    """

    out_dir: Path
    settings: ReadSettings
    allow_coarse: bool = False

    @property
    def patch(self) -> PatchSize:
        """Physical size of the patches."""
        return self.settings.patch

    def finish(self, source: SectionSource, slides_out: Path | None) -> FinishedSection:
        """Write what is missing of one section; nothing is decoded where nothing is.

        Raises
        ------
        InputError
            If it cannot be read, has no spot on its image, or its image is too coarse.
        """
        name = safe_file_name(source.section, what="section")
        inputs = [_identity(path) for path in source.files()]
        chosen = [source.choices, asdict(self.settings), self.allow_coarse]
        made_from = content_hash([SCHEMA_VERSION, _RECIPE, inputs, chosen])
        section, raw = self._finished(name, made_from), None
        if section is None:
            raw = source.read(self.settings)
            section = self._write(raw, made_from)
        if slides_out is not None:
            slide = slides_out / f"{name}.tiff"
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
        warnings = [*raw.warnings, *_of_pixels(raw, self.patch, allow_coarse=self.allow_coarse)]
        if (disagreement := raw.image.disagreement(raw.image_mpp)) is not None:
            warnings.append(disagreement)
        with raw.image.open(raw.image_mpp) as slide:
            corners, side = patch_corners(raw.centres() * raw.image.scale, self.patch, slide.mpp)
            kept = self._kept(raw, slide, corners, side)
            mpp = max(TISSUE_MPP, slide.mpp)
            thumbnail = slide.thumbnail(mpp) if slide.mpp < mpp else whole_image(slide)
            tissue = find_tissue(thumbnail, mpp)
            alignment = measure_alignment(
                thumbnail, tissue, raw.centres() * (raw.mpp / mpp), raw.totals(), mpp=mpp
            )
            fractions = tissue_fractions(tissue, np.maximum(corners, 0), side, slide.size)
            section = _finish(raw, kept, fractions, alignment, warnings, slide.size)
            adata = _table(raw, kept, fractions, section, made_from)
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
        write_spot_table(
            self.out_dir / f"{raw.section}.h5ad", spots
        )  # last: it marks the section as done
        return section

    def _kept(
        self, raw: RawSection, slide: Slide, corners: NDArray[np.int64], side: int
    ) -> NDArray[np.bool_]:
        """(S,) spots that have a patch."""
        if raw.patches is not None:
            return raw.patches.rows >= 0
        kept = inside(corners, side, *slide.size)
        if not kept.any():
            raise InputError(
                f"none of {len(kept)} spots lies on the image of {slide.size[0]} x {slide.size[1]} px",
                path=slide.path,
                fix="check that it is the image of this section, and that positions are in its pixels, x not for y",
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
        """The section as its table, which is written last, states it; None if it has to be made (again)."""
        path = self.out_dir / f"{name}.h5ad"
        others = (self.out_dir / f"{name}{PATCHES_SUFFIX}", self._overlay_path(name))
        if not all(file.is_file() for file in (path, *others)):
            return None
        try:
            found = anndata.read_h5ad(path, backed="r")
        except (OSError, ValueError, KeyError):
            return None  # a damaged file is made again
        try:
            stored = json.loads(str(found.uns.get("section", "{}")))
            if stored.get("made_from") != made_from:
                return None
            return FinishedSection.from_json(stored, found.var["section_counts"].copy())
        finally:
            found.file.close()

    def _overlay_path(self, name: str) -> Path:
        return self.out_dir / f"{name}_spots.png"


def _of_pixels(raw: RawSection, patch: PatchSize, *, allow_coarse: bool) -> list[str]:
    """What the image's pixels can show of a patch, where they are not the full resolution's.

    Raises
    ------
    InputError
        If they would have to be enlarged past `MAX_UPSAMPLING` and that is not allowed.
    """
    if raw.patches is not None:
        return []
    factor = raw.image_mpp / patch.mpp
    if factor <= MAX_UPSAMPLING and raw.image.scale == 1:
        return []
    shows = (
        "nuclei"
        if raw.image_mpp <= _NUCLEI_MPP
        else "nuclei as specks"
        if raw.image_mpp <= _SPECKS_MPP
        else "no nuclei, only regions"
    )
    said = (
        f"the {raw.image.kind} has {raw.image_mpp:.3g} µm/px and shows {shows}: a patch of {patch.um:.1f} µm is"
        f" {patch.um / raw.image_mpp:.1f} of its pixels"
    )
    if factor <= MAX_UPSAMPLING:
        return [said]
    if not allow_coarse:
        raise InputError(
            f"{said}, too coarse for patches at {patch.mpp:.3g} µm/px",
            path=raw.image.path,
            fix="give the full-resolution image (--image), or patches of more µm per pixel; --allow-coarse writes them"
            " enlarged all the same",
        )
    return [f"{said}, enlarged {factor:.1f} times"]


def _stored_patches(path: Path, rows: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
    with open_hdf5(path, kind="patch", needs=("img",)) as file:
        for row in rows.tolist():
            yield file["img"][row]


def _finish(
    raw: RawSection,
    kept: NDArray[np.bool_],
    fractions: NDArray[np.float32],
    alignment: Alignment,
    warnings: list[str],
    size: tuple[int, int],
) -> FinishedSection:
    """What the tables say of a section whose `kept` (S,) spots show these shares of tissue (S,)."""
    spots = raw.spots.astype(str)
    reason = (
        "its patch is off the image"
        if raw.patches is None
        else f"has no patch in {raw.patches.path.name}"
    )
    dropped = [*raw.dropped, *((name, reason) for name in spots[~kept])]
    bare = kept & (fractions < MIN_TISSUE)
    flagged = [
        (name, round(float(share), 4))
        for name, share in zip(spots[bare], fractions[bare], strict=True)
    ]
    alarm, genes_note = alignment.alarm(), raw.genes.note()
    warnings = [*([] if alarm is None else [alarm]), *warnings]
    report = SectionReport(
        section=raw.section,
        patient=raw.patient,
        spots=int(kept.sum()),
        genes=raw.counts.shape[1],
        mpp=raw.mpp,
        median_umi=float(np.median(raw.totals()[kept])),
        width_px=size[0],
        height_px=size[1],
        image=raw.image.kind,
        image_mpp=raw.image_mpp,
        dropped=len(dropped),
        flagged=len(flagged),
        alignment=alignment.verdict,
        better_orientation="" if alarm is None else alignment.best_other.name,
        darkness_margin=alignment.margin,
        warnings="; ".join(warnings),
    )
    notes = [*warnings, *([] if genes_note is None else [genes_note])]
    rows = alignment_rows(raw.section, alignment.orientations)
    return FinishedSection(report, dropped, flagged, rows, raw.genes.as_row(), notes, _profile(raw))


def _profile(raw: RawSection) -> pd.Series:
    """Counts summed over all spots that have a position."""
    sums = np.asarray(raw.counts.sum(axis=0, dtype=np.float64)).ravel()
    return pd.Series(sums.astype(np.int64), index=list(raw.genes.names))


def _table(
    raw: RawSection,
    kept: NDArray[np.bool_],
    fractions: NDArray[np.float32],
    section: FinishedSection,
    made_from: str,
) -> anndata.AnnData:
    """AnnData of the kept spots, with all that a later run needs to keep the section."""
    positions = raw.positions[kept]
    obs = pd.DataFrame(
        {
            "patient": raw.patient,
            "section": raw.section,
            "array_col": positions["x"].to_numpy(),
            "array_row": positions["y"].to_numpy(),
            "total_counts": raw.totals()[kept].astype(np.int64),
            "tissue_fraction": fractions[kept],
        },
        index=raw.spots[kept].astype(str),
    )
    var = pd.DataFrame(
        {"section_counts": section.profile.to_numpy()}, index=section.profile.index.astype(str)
    )
    if raw.genes.ids is not None:
        var["gene_id"] = list(raw.genes.ids)
    adata = anndata.AnnData(raw.counts[kept], obs=obs, var=var)
    adata.obsm["spatial"] = raw.centres()[kept]
    adata.uns["mpp"] = raw.mpp
    adata.uns["section"] = json.dumps({"made_from": made_from, **section.as_json()})
    return adata


def _identity(path: Path) -> list[object]:
    """Name, size and time of change of an input: enough to see that it was replaced."""
    status = path.stat()
    return [path.name, status.st_size, status.st_mtime_ns]
