"""``tcgn-mil spots``: spatial transcriptomics into one SpotSet a section, with an overlay to look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from scipy import sparse
from tqdm import tqdm

from tcgn_mil.artefacts import atomic_path, content_hash, safe_file_name
from tcgn_mil.contracts import PatchSize, SpotSet, preview
from tcgn_mil.data.pyramids import write_pyramid
from tcgn_mil.data.spot_files import PATCHES_SUFFIX, create_patch_file, write_spot_table
from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing import her2st
from tcgn_mil.preprocessing.spot_overlays import write_overlay
from tcgn_mil.preprocessing.spot_patches import cut_patches, inside, patch_corners

FORMATS = ("her2st",)
SLIDE_JPEG_QUALITY = 80


def write_spots(
    source: str | Path,
    out_dir: str | Path,
    *,
    format: str = "her2st",  # noqa: A002 - the option's name
    sections: Sequence[str] | None = None,
    patch: PatchSize | None = None,
    spot_pitch_um: float = her2st.SPOT_PITCH_UM,
    slides_out: str | Path | None = None,
) -> list[str]:
    """Read sections and write ``<section>.h5ad``, ``<section>_patches.h5``, ``<section>_spots.png`` each.

    Beside them ``sections.csv`` (what was read) and ``dropped_spots.csv`` (what was not, and why). A section whose
    files were made from the same inputs and settings is kept.

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
    slides_out
        If given, each section's image also becomes a pyramidal TIFF slide there, with ``slides.csv`` (slide_id,
        patient_id, path, mpp, donor) and ``pseudobulk.csv`` (summed raw counts, unit ``counts``). The section stands
        for a patient, since a section has one profile; ``donor`` names the true patient, whom sections may share.

    Returns
    -------
    Section ids.
    """
    if format not in FORMATS:
        raise InputError(f"unknown format {format!r}", fix=f"choose one of {', '.join(FORMATS)}")
    patch = patch or PatchSize()
    out_dir = Path(out_dir)
    found = _selected(list(her2st.find_sections(source)), sections, source)
    reports, dropped, bulk = [], [], {}
    for files in tqdm(found, desc="spots", unit="section"):
        safe_file_name(files.section, what="section")
        raw = her2st.read_section(files, spot_pitch_um=spot_pitch_um)
        report, lost = _write_section(raw, out_dir, patch, slides_out)
        reports.append(report)
        dropped += [(files.section, spot, reason) for spot, reason in [*raw.dropped, *lost]]
        bulk[files.section] = raw.counts.sum(axis=0)
    _write_csv(out_dir / "sections.csv", pd.DataFrame(reports))
    _write_csv(out_dir / "dropped_spots.csv", pd.DataFrame(dropped, columns=["section", "spot", "reason"]))
    if slides_out is not None:
        _write_slide_tables(Path(slides_out), reports, bulk)
    return [files.section for files in found]


def _selected(
    found: list[her2st.SectionFiles], wanted: Sequence[str] | None, source: str | Path
) -> list[her2st.SectionFiles]:
    if not wanted:
        return found
    known = {files.section: files for files in found}
    missing = [name for name in wanted if name not in known]
    if missing:
        raise InputError(f"has no section {preview(missing)}", path=source, fix=f"it has {preview(list(known), most=40)}")
    return [known[name] for name in wanted]


def _write_section(
    raw: her2st.RawSection, out_dir: Path, patch: PatchSize, slides_out: str | Path | None
) -> tuple[dict[str, object], list[tuple[str, str]]]:
    """Write one section; returns its row of sections.csv and the spots whose patch is off the image."""
    name = raw.files.section
    inputs = [_identity(path) for path in (raw.files.counts, raw.files.positions, raw.files.image)]
    made_from = content_hash([inputs, patch.px, patch.mpp, raw.mpp])
    table_path = out_dir / f"{name}.h5ad"
    slide_path = None if slides_out is None else Path(slides_out) / f"{name}.tiff"
    image = her2st.read_image(raw.files.image)
    height, width = image.shape[:2]
    centres = raw.positions[["pixel_x", "pixel_y"]].to_numpy()
    corners, side = patch_corners(centres, patch, raw.mpp)
    kept = inside(corners, side, width, height)
    if not kept.any():
        raise InputError(
            f"none of {len(kept)} spots lies on the image of {width} x {height} px",
            path=raw.files.positions,
            fix="check that the positions are in pixels of this image",
        )
    if not _is_current(table_path, made_from):
        patches_path = out_dir / f"{name}{PATCHES_SUFFIX}"
        barcodes = list(raw.counts.index[kept])
        with create_patch_file(patches_path, barcodes, patch, section=name, pixel_size=raw.mpp) as file:
            file["coords"][:] = corners[kept]
            for row, pixels in enumerate(cut_patches(image, corners[kept], side, patch)):
                file["img"][row] = pixels
        adata = _table(raw, kept, made_from)
        write_overlay(out_dir / f"{name}_spots.png", image, adata, side, mpp=raw.mpp)
        write_spot_table(table_path, SpotSet(adata, str(patches_path), patch))  # last: it marks the section as done
    if slide_path is not None and not slide_path.is_file():
        write_pyramid(slide_path, image, mpp=raw.mpp, quality=SLIDE_JPEG_QUALITY)
    totals = raw.counts.to_numpy()[kept].sum(axis=1)
    report = {
        "section": name, "patient": raw.files.patient, "spots": int(kept.sum()), "genes": raw.counts.shape[1],
        "mpp": raw.mpp, "median_umi": float(np.median(totals)), "width_px": width, "height_px": height,
    }  # fmt: skip
    return report, [(spot, "its patch is off the image") for spot in raw.counts.index[~kept]]


def _table(raw: her2st.RawSection, kept: np.ndarray, made_from: str) -> anndata.AnnData:
    """AnnData of the kept spots."""
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
    adata = anndata.AnnData(
        sparse.csr_matrix(counts.to_numpy(dtype=np.float32)), obs=obs, var=pd.DataFrame(index=counts.columns.astype(str))
    )
    adata.obsm["spatial"] = positions[["pixel_x", "pixel_y"]].to_numpy(dtype=np.float64)
    adata.uns["mpp"] = raw.mpp
    adata.uns["made_from"] = made_from
    return adata


def _identity(path: Path) -> list[object]:
    """Name, size and time of change of an input: enough to see that it was replaced."""
    status = path.stat()
    return [path.name, status.st_size, status.st_mtime_ns]


def _is_current(path: Path, made_from: str) -> bool:
    """Whether a section's table, which is written last, was made from these inputs and settings."""
    if not path.is_file():
        return False
    try:
        found = anndata.read_h5ad(path, backed="r")
    except (OSError, ValueError, KeyError):
        return False
    try:
        return str(found.uns.get("made_from")) == made_from
    finally:
        found.file.close()


def _write_slide_tables(folder: Path, reports: list[dict[str, object]], bulk: dict[str, pd.Series]) -> None:
    """slides.csv and pseudobulk.csv, a section standing for a patient."""
    slides = pd.DataFrame(reports).assign(slide_id=lambda table: table["section"], patient_id=lambda table: table["section"])
    slides["path"] = slides["section"] + ".tiff"
    slides["donor"] = slides["patient"]
    _write_csv(folder / "slides.csv", slides[["slide_id", "patient_id", "path", "mpp", "donor"]])
    profiles = pd.DataFrame(bulk).T.fillna(0).astype(np.int64)
    profiles.index.name = "patient_id"
    _write_csv(folder / "pseudobulk.csv", profiles.reset_index())


def _write_csv(path: Path, table: pd.DataFrame) -> None:
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False)


