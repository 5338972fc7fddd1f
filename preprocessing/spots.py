"""``tcgn-mil spots``: spatial transcriptomics into one SpotSet a section, with an overlay to look at."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from tqdm import tqdm

from tcgn_mil.artefacts import SCHEMA_VERSION, content_hash, safe_file_name
from tcgn_mil.contracts import MAX_UPSAMPLING, PatchSize, SpotSet
from tcgn_mil.data.pyramids import pyramid_description, write_pyramid
from tcgn_mil.data.spot_files import PATCHES_SUFFIX, create_patch_file, write_spot_table
from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing import her2st
from tcgn_mil.preprocessing.plain_images import read_image
from tcgn_mil.preprocessing.section_tables import (
    PSEUDOBULK_BY,
    FinishedSection,
    SectionReport,
    write_section_tables,
    write_slide_tables,
)
from tcgn_mil.preprocessing.spot_overlays import write_overlay
from tcgn_mil.preprocessing.spot_patches import cut_patches, inside, patch_corners

FORMATS = ("her2st",)
_RECIPE = 2  # raised when the same inputs and settings give other files, so that older ones are made again
SLIDE_JPEG_QUALITY = 80


def write_spots(
    source: str | Path,
    out_dir: str | Path,
    *,
    format: str = "her2st",
    sections: Sequence[str] | None = None,
    patch: PatchSize | None = None,
    spot_pitch_um: float = her2st.SPOT_PITCH_UM,
    mpp: float | None = None,
    slides_out: str | Path | None = None,
    pseudobulk_by: str = "section",
) -> list[str]:
    """Read sections and write ``<section>.h5ad``, ``<section>_patches.h5``, ``<section>_spots.png`` each.

    Beside them ``sections.csv`` (what was read) and ``dropped_spots.csv`` (what was not, and why), over the sections of
    this call. A section whose files were made from the same inputs and settings is kept, and not read again.

    Parameters
    ----------
    source
        Folder in the layout `format`.
    sections
        Only these; all if None.
    patch
        Physical size of the patches, 112 px at 0.69 µm/px by default.
    spot_pitch_um
        Distance of neighbouring spots in µm, from which the image's resolution is measured.
    mpp
        µm per pixel of the images, instead of measuring it; refused if 5 % off what the spots say.
    slides_out
        If given, each section's image also becomes a pyramidal TIFF slide there, with ``slides.csv`` (slide_id,
        patient_id, path, mpp, donor) and ``pseudobulk.csv`` (raw counts summed, unit ``counts``; a gene that a section
        does not name counts 0), both over the sections of this call.
    pseudobulk_by
        ``section``: a section stands for a patient with its own profile, as many observations as sections, of which
        those of one donor are no independent patients: ``donor`` names the person, for grouping and for the label
        `patient leakage`. ``patient``: the sections of a donor are slides of one patient, their counts summed.

    Returns
    -------
    Section ids.

    Raises
    ------
    InputError
        If a section cannot be read, has no spot on its image, or is too coarse for `patch`; those before it are kept.
    """
    if format not in FORMATS:
        raise InputError(f"unknown format {format!r}", fix=f"choose one of {', '.join(FORMATS)}")
    if pseudobulk_by not in PSEUDOBULK_BY:
        raise InputError(f"unknown pseudobulk {pseudobulk_by!r}", fix=f"choose {' or '.join(PSEUDOBULK_BY)}")
    if not (np.isfinite(spot_pitch_um) and spot_pitch_um > 0):
        raise InputError(f"spot distance of {spot_pitch_um} µm", fix="give micrometres above 0; her2st has 200")
    reader = _SectionWriter(Path(out_dir), patch or PatchSize(), spot_pitch_um, mpp)
    finished = [
        reader.finish(files, None if slides_out is None else Path(slides_out))
        for files in tqdm(her2st.find_sections(source, sections), desc="spots", unit="section")
    ]
    write_section_tables(Path(out_dir), finished)
    if slides_out is not None:
        write_slide_tables(Path(slides_out), finished, by=pseudobulk_by)
    return [section.report.section for section in finished]


@dataclass(frozen=True)
class _SectionWriter:
    """Brings sections to files with one choice of settings."""

    out_dir: Path
    patch: PatchSize
    spot_pitch_um: float
    mpp: float | None

    def finish(self, files: her2st.SectionFiles, slides_out: Path | None) -> FinishedSection:
        """Write what is missing of one section; nothing is decoded where nothing is."""
        name = safe_file_name(files.section, what="section")
        inputs = [_identity(path) for path in (files.counts, files.positions, files.image)]
        settings = [self.patch.px, self.patch.mpp, self.spot_pitch_um, self.mpp]
        made_from = content_hash([SCHEMA_VERSION, _RECIPE, inputs, settings])
        section = self._finished(name, made_from)
        image = None
        if section is None:
            raw = her2st.read_section(files, spot_pitch_um=self.spot_pitch_um, mpp=self.mpp)
            image = read_image(files.image)
            section = self._write(raw, image, made_from)
        if slides_out is not None:
            slide = slides_out / f"{name}.tiff"
            slide_of = content_hash([SCHEMA_VERSION, _identity(files.image), section.report.mpp, SLIDE_JPEG_QUALITY])
            if pyramid_description(slide) != slide_of:
                image = read_image(files.image) if image is None else image
                write_pyramid(
                    slide, image, mpp=section.report.mpp, quality=SLIDE_JPEG_QUALITY, description=slide_of
                )  # fmt: skip
        return section

    def _write(self, raw: her2st.RawSection, image: NDArray[np.uint8], made_from: str) -> FinishedSection:
        name = raw.files.section
        if raw.mpp > self.patch.mpp * MAX_UPSAMPLING:
            raise InputError(
                f"has {raw.mpp:.3g} µm/px, too coarse for patches at {self.patch.mpp:.3g} µm/px",
                path=raw.files.image,
                fix="give the full-resolution image, or patches of more µm per pixel",
            )
        corners, side = patch_corners(raw.positions[["pixel_x", "pixel_y"]].to_numpy(), self.patch, raw.mpp)
        height, width = image.shape[:2]
        kept = inside(corners, side, width, height)
        if not kept.any():
            raise InputError(
                f"none of {len(kept)} spots lies on the image of {width} x {height} px",
                path=raw.files.positions,
                fix="check that the positions are in pixels of this image",
            )
        section = _report(raw, kept, width, height)
        patches_path = self.out_dir / f"{name}{PATCHES_SUFFIX}"
        barcodes = list(raw.counts.index[kept])
        with create_patch_file(patches_path, barcodes, self.patch, section=name, pixel_size=raw.mpp) as file:
            file["coords"][:] = corners[kept]
            for row, pixels in enumerate(cut_patches(image, corners[kept], side, self.patch)):
                file["img"][row] = pixels
        adata = _table(raw, kept, section, made_from)
        write_overlay(self._overlay_path(name), image, adata, side, mpp=raw.mpp)
        spots = SpotSet(adata, str(patches_path), self.patch)
        write_spot_table(self.out_dir / f"{name}.h5ad", spots)  # last: it marks the section as done
        return section

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
            return FinishedSection(
                SectionReport(**stored["report"]),
                [(spot, reason) for spot, reason in stored["dropped"]],
                found.var["section_counts"].copy(),
            )
        finally:
            found.file.close()

    def _overlay_path(self, name: str) -> Path:
        return self.out_dir / f"{name}_spots.png"


def _report(raw: her2st.RawSection, kept: NDArray[np.bool_], width: int, height: int) -> FinishedSection:
    report = SectionReport(
        section=raw.files.section,
        patient=raw.files.patient,
        spots=int(kept.sum()),
        genes=raw.counts.shape[1],
        mpp=raw.mpp,
        median_umi=float(np.median(raw.counts.to_numpy()[kept].sum(axis=1))),
        width_px=width,
        height_px=height,
    )
    off = [(str(spot), "its patch is off the image") for spot in raw.counts.index[~kept]]
    return FinishedSection(report, [*raw.dropped, *off], raw.counts.sum(axis=0).astype(np.int64))


def _table(
    raw: her2st.RawSection, kept: NDArray[np.bool_], section: FinishedSection, made_from: str
) -> anndata.AnnData:
    """AnnData of the kept spots, with all that a later run needs to keep the section."""
    counts, positions = raw.counts[kept], raw.positions[kept]
    obs = pd.DataFrame(
        {
            "patient": raw.files.patient,
            "section": raw.files.section,
            "array_col": positions["x"].to_numpy(),
            "array_row": positions["y"].to_numpy(),
            "total_counts": counts.sum(axis=1).to_numpy(),
        },
        index=counts.index,
    )
    var = pd.DataFrame({"section_counts": section.profile.to_numpy()}, index=counts.columns.astype(str))
    adata = anndata.AnnData(sparse.csr_matrix(counts.to_numpy(dtype=np.float32)), obs=obs, var=var)
    adata.obsm["spatial"] = positions[["pixel_x", "pixel_y"]].to_numpy(dtype=np.float64)
    adata.uns["mpp"] = raw.mpp
    adata.uns["section"] = json.dumps(
        {"made_from": made_from, "report": asdict(section.report), "dropped": section.dropped}
    )
    return adata


def _identity(path: Path) -> list[object]:
    """Name, size and time of change of an input: enough to see that it was replaced."""
    status = path.stat()
    return [path.name, status.st_size, status.st_mtime_ns]
