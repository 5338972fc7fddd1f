"""Summarise a section for its tables: warnings of its image, flagged spots, and the spot table."""

from __future__ import annotations

import json
from collections import Counter

import anndata
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.sections.alignment import Alignment, alignment_rows
from tcgn_mil.preprocessing.sections.raw_section import RawSection
from tcgn_mil.preprocessing.sections.tables import FinishedSection, SectionReport
from tcgn_mil.types.tile_geometry import MAX_UPSAMPLING, PatchSize

# A patch with less tissue than this is flagged. Tiling leaves out slide tiles of the same kind.
MIN_TISSUE = 0.1
# More spots beyond the image than this share are a warning, and more than the second an error.
MAX_OFF_IMAGE, TOO_MANY_OFF_IMAGE = 0.05, 0.5
# Above 1 µm/px nuclei appear as specks, and above 3 µm/px not at all.
_NUCLEI_MPP, _SPECKS_MPP = 1.0, 3.0


def image_warnings(
    raw: RawSection, patch: PatchSize, alarms: list[str], *, allow_coarse: bool
) -> list[str]:
    """Warn of an image that is not the full-resolution one, with what its pixels can show.

    Parameters
    ----------
    raw
        The section.
    patch
        Physical size of the patches.
    alarms
        Signs that the scale of the image is wrong. It is then not the image that is too coarse.
    allow_coarse
        Whether to write patches from a coarse image.

    Raises
    ------
    InputError
        If patches would have to be enlarged by more than `MAX_UPSAMPLING`, unless `allow_coarse`.
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
    warning = (
        f"the {raw.image.kind} has {raw.image_mpp:.3g} µm/px and shows {shows}: a patch of"
        f" {patch.um:.1f} µm is {patch.um / raw.image_mpp:.1f} of its pixels"
    )
    if factor <= MAX_UPSAMPLING:
        return [warning]
    if alarms and not allow_coarse:
        raise InputError(
            f"its image would have {raw.image_mpp:.3g} µm/px by the spots, and {alarms[0]}",
            path=raw.image.path,
            fix="give the image whose pixels the positions count: positions of a smaller picture do"
            " not fit the full-resolution image",
        )
    if not allow_coarse:
        raise InputError(
            f"{warning}, too coarse for patches at {patch.mpp:.3g} µm/px",
            path=raw.image.path,
            fix="give the full-resolution image (--image), ask for patches of more µm per pixel, or"
            " add --allow-coarse to write enlarged patches",
        )
    return [f"{warning}, enlarged {factor:.1f} times"]


def off_image_warnings(raw: RawSection, alignment: Alignment, size: tuple[int, int]) -> list[str]:
    """Warn of spots beyond the image, which tell of a wrong image or a wrong scale.

    Raises
    ------
    InputError
        If most spots lie beyond the image, or many do and the positions fit at another scale. A
        source that brings its own patches is not refused, since its image is a picture only.
    """
    off = alignment.given.off_image
    share = off / max(alignment.spots, 1)
    if share <= MAX_OFF_IMAGE:
        return []
    reach = np.ceil(raw.centres().max(axis=0) * raw.image.scale).astype(int)
    said = (
        f"{off} of {alignment.spots} spots ({share:.0%}) lie beyond the image of {size[0]} x"
        f" {size[1]} px, and the last ones lie at {reach[0]}, {reach[1]}"
    )
    too_small = alignment.scale < 1
    if too_small:
        said += (
            f"; they would cover its tissue if it were about {1 / alignment.scale:.2g} times as"
            " large"
        )
    if raw.patches is None and (too_small or share > TOO_MANY_OFF_IMAGE):
        raise InputError(
            said,
            path=raw.image.path,
            fix="give the full-resolution image to which the positions refer, the one that Space"
            " Ranger or the other program read, and no smaller copy or part of it",
        )
    return [f"{said}: is it the full-resolution image of this section?"]


def summarise_section(
    raw: RawSection,
    kept: NDArray[np.bool_],
    fractions: NDArray[np.float32],
    alignment: Alignment,
    warnings: list[str],
    size: tuple[int, int],
) -> FinishedSection:
    """Return a section as the tables need it.

    Parameters
    ----------
    raw
        The section.
    kept
        (S,) spots that have a patch.
    fractions
        (S,) share of tissue in the patch of each spot.
    alignment
        Comparison of orientations.
    warnings
        Messages that are printed for the user.
    size
        Width and height of the image in pixels.
    """
    spots = raw.spots.astype(str)
    reason = (
        "its patch is off the image"
        if raw.patches is None
        else f"has no patch in {raw.patches.path.name}"
    )
    total = len(raw.spots) + len(raw.dropped)
    dropped = [*raw.dropped, *((name, reason) for name in spots[~kept])]
    little_tissue = kept & (fractions < MIN_TISSUE)
    flagged = [
        (name, round(float(share), 4))
        for name, share in zip(spots[little_tissue], fractions[little_tissue], strict=True)
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
        better_orientation="" if alignment.better is None else alignment.better.name,
        darkness_margin=alignment.margin,
        warnings="; ".join(warnings),
        dropped_because=_reasons(dropped),
        fitting_scale=alignment.scale,
        extent_scale=None if np.isnan(alignment.extent_scale) else alignment.extent_scale,
        stated_mpp=raw.image.stated_mpp(),
    )
    left_out = [f"{len(dropped)} of {total} spots left out: {_reasons(dropped)}"] if dropped else []
    notes = [*warnings, *left_out, *([] if genes_note is None else [genes_note])]
    rows = alignment_rows(raw.section, alignment.orientations)
    return FinishedSection(report, dropped, flagged, rows, raw.genes.as_row(), notes, _profile(raw))


def _reasons(dropped: list[tuple[str, str]]) -> str:
    """Return the number of spots for each reason, most first."""
    counts = Counter(reason for _, reason in dropped).most_common()
    return ", ".join(f"{number} ({reason})" for reason, number in counts)


def _profile(raw: RawSection) -> pd.Series:
    """Sum the counts over all spots that have a position, also those without a patch."""
    sums = np.asarray(raw.counts.sum(axis=0, dtype=np.float64)).ravel()
    return pd.Series(sums.astype(np.int64), index=list(raw.genes.names))


def spot_table(
    raw: RawSection,
    kept: NDArray[np.bool_],
    fractions: NDArray[np.float32],
    section: FinishedSection,
    made_from: str,
) -> anndata.AnnData:
    """Return the AnnData of the kept spots, with what a later run needs to keep the section."""
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
