"""Sections as a study sees them: which spots are kept, and their targets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.spot_level.evaluate import SpotTargets
from tcgn_mil.io.spot_files import SpotSet, image_mpp, read_patches, read_spots
from tcgn_mil.targets.spots import Normalisation, detection, spot_expression, total_counts
from tcgn_mil.text import preview
from tcgn_mil.types.genes import GenePanel
from tcgn_mil.types.tile_geometry import PatchSize

BLOCK_SHARE = 0.25  # of a section's spots, set aside for validation where there is no other section
_LEAST_BLOCK = 10


@dataclass(frozen=True)
class Section:
    """One section without its poor spots.

    Attributes
    ----------
    spots
        As read.
    rows
        (S_kept,) rows with at least ``min_umi`` counts.
    totals
        (S_kept,) counts over all measured genes.
    dropped
        Table of the other spots: section, spot, total, reason.
    path
        File it was read from.
    """

    spots: SpotSet
    rows: NDArray[np.int64]
    totals: NDArray[np.float64]
    dropped: pd.DataFrame
    path: Path

    @property
    def genes(self) -> list[str]:
        """Measured genes."""
        return list(self.spots.adata.var_names)

    @property
    def patch(self) -> PatchSize:
        """Physical size of the patches."""
        return self.spots.patch

    @property
    def image_mpp(self) -> float:
        """µm per pixel of the image that positions are in."""
        return image_mpp(self.spots.patches_path)

    def subset(self, chosen: NDArray[np.bool_]) -> Section:
        """The section with only some of its kept spots, (S_kept,) bool."""
        return replace(self, rows=self.rows[chosen], totals=self.totals[chosen])

    def without(self, chosen: NDArray[np.bool_], reason: str) -> Section:
        """The section less some of its kept spots, which are listed as dropped."""
        names = self.obs().index[chosen]
        more = pd.DataFrame(
            {
                "section": self.path.stem,
                "spot": names,
                "total": self.totals[chosen],
                "reason": reason,
            }
        )
        return replace(
            self.subset(~chosen), dropped=pd.concat([self.dropped, more], ignore_index=True)
        )

    def counts(self) -> Any:
        """(S_kept, G_all) raw counts, dense or sparse."""
        return self.spots.adata.X[self.rows]

    def patches(self) -> NDArray[np.uint8]:
        """(S_kept, px, px, 3) uint8."""
        return read_patches(self.spots.patches_path, self.rows)

    def obs(self) -> pd.DataFrame:
        """Spot table of the kept rows."""
        return self.spots.adata.obs.iloc[self.rows]

    def spatial(self) -> NDArray[np.floating]:
        """(S_kept, 2) level-0 spot centres, x then y."""
        return np.asarray(self.spots.adata.obsm["spatial"])[self.rows]


def load_section(path: Path, min_umi: int) -> Section:
    """Read a section and drop spots with fewer than `min_umi` counts.

    Raises
    ------
    InputError
        If a spot's total is not a finite count, or no spot is left.
    """
    spots = read_spots(path)
    totals = total_counts(spots.adata.X)
    if not (np.isfinite(totals) & (totals >= 0)).all():
        bad = spots.adata.obs_names[~(np.isfinite(totals) & (totals >= 0))]
        raise InputError(
            f"the counts of {len(bad)} spots are NaN, infinite or negative: {preview(list(bad))}",
            path=path,
            fix="mend the counts and run tcgn-mil spots again",
        )
    kept = totals >= min_umi
    if not kept.any():
        raise InputError(
            f"all {len(kept)} spots have fewer than {min_umi} counts",
            path=path,
            fix="lower min_umi or leave it out",
        )
    dropped = pd.DataFrame(
        {
            "section": path.stem,
            "spot": spots.adata.obs_names[~kept],
            "total": totals[~kept],
            "reason": f"fewer than {min_umi} counts",
        }
    )
    return Section(spots, np.flatnonzero(kept), totals[kept], dropped, Path(path))


def section_targets(
    section: Section, panel: GenePanel, normalisation: Normalisation, *, allow_empty: bool = False
) -> SpotTargets:
    """Normalised expression of the panel, with depth and detection, for the kept spots.

    A panel gene that the section did not measure has no counts: :func:`usable_panel` decides whether that may be.

    Raises
    ------
    InputError
        If no panel gene has a count in the section, or (unless `allow_empty`, where its values are NaN) a spot has no
        value.
    """
    counts, columns = panel_counts(section, panel)
    expression = spot_expression(counts, columns, normalisation=normalisation)
    seen = detection(counts, columns)
    if not seen.any():
        raise InputError(
            f"section {section.spots.section}: none of the {len(panel)} panel genes has a count in its"
            f" {len(section.rows)} spots",
            path=section.path,
            fix="check that panel and section name genes alike, or leave the section out",
        )
    if not allow_empty and not np.isfinite(expression).all():
        empty = int((~np.isfinite(expression).all(axis=1)).sum())
        raise InputError(
            f"section {section.spots.section}: {empty} spots have no finite value (no count of any panel gene, or NaN)",
            path=section.path,
            fix="raise min_umi, use normalisation=library, or mend the counts",
        )
    return SpotTargets(expression, np.log(section.totals), seen, section.spatial())


def without_empty_spots(section: Section, panel: GenePanel) -> Section:
    """The section less the spots without a count of any panel gene, which `published` normalisation cannot scale."""
    counts, columns = panel_counts(section, panel)
    empty = np.asarray(counts[:, columns].sum(axis=1)).ravel() == 0
    return (
        section.without(empty, "no count of any panel gene")
        if empty.any() and not empty.all()
        else section
    )


def panel_counts(section: Section, panel: GenePanel) -> tuple[Any, NDArray[np.int64]]:
    """Counts (S, G_all or G_all + 1), and the panel's columns in them; the last one is that of genes not measured."""
    counts = section.counts()
    position = {gene: index for index, gene in enumerate(section.genes)}
    columns = np.array(
        [position.get(gene, len(section.genes)) for gene in panel.genes], dtype=np.int64
    )
    if (columns < len(section.genes)).all():
        return counts, columns
    empty = np.zeros((counts.shape[0], 1), dtype=counts.dtype)
    if hasattr(counts, "toarray"):
        from scipy import sparse

        return sparse.hstack([counts, sparse.csr_matrix(empty)], format="csr"), columns
    return np.hstack([counts, empty]), columns


class PanelReport(NamedTuple):
    """The panel that is used, and a table (section, gene, done) of its genes that sections did not measure."""

    panel: GenePanel
    missing: pd.DataFrame


def usable_panel(
    panel: GenePanel, sections: Mapping[str, Section], missing: Literal["error", "zero", "drop"]
) -> PanelReport:
    """What is done about panel genes that a section did not measure; see :class:`PanelConfig`.

    Raises
    ------
    InputError
        If a gene is missing and that is an error, or no gene is left.
    """
    lacking = {
        name: sorted(set(panel.genes) - set(section.genes)) for name, section in sections.items()
    }
    rows = [
        (name, gene, "no counts" if missing == "zero" else "dropped")
        for name in lacking
        for gene in lacking[name]
    ]
    table = pd.DataFrame(rows, columns=["section", "gene", "done"])
    if not rows or missing == "zero":
        return PanelReport(panel, table)
    if missing == "error":
        name = max(lacking, key=lambda section: len(lacking[section]))
        raise InputError(
            f"section {name} lacks {len(lacking[name])} of {len(panel)} panel genes: {preview(lacking[name])}",
            path=sections[name].path,
            fix="set panel.missing=drop (leave such genes out), or zero (no counts there)",
        )
    gone = set(table["gene"])
    left = tuple(gene for gene in panel.genes if gene not in gone)
    if not left:
        raise InputError(
            "no panel gene is measured in every section",
            fix="check that panel and sections name genes alike",
        )
    return PanelReport(GenePanel(left), table)


def set_aside_block(section: Section, gap_um: float) -> tuple[Section, Section]:
    """A section's spots for training and for validation: a block at one end, with a gap between the two.

    The block is the quarter of the spots farthest along the longer side; spots nearer to it than `gap_um`, the side of
    a patch, are in neither, so that no pixel is in both.

    Raises
    ------
    InputError
        If either part has fewer than 10 spots.
    """
    places = section.spatial().astype(np.float64)
    axis = int(np.argmax(np.ptp(places, axis=0)))
    along = places[:, axis]
    border = np.quantile(along, 1 - BLOCK_SHARE)
    gap = gap_um / section.image_mpp
    val, train = along >= border, along < border - gap
    if min(val.sum(), train.sum()) < _LEAST_BLOCK:
        raise InputError(
            f"section {section.spots.section}: {len(along)} spots are too few to set a block aside for validation",
            path=section.path,
            fix="read more sections, or set validation=join",
        )
    return section.subset(train), section.subset(val)


def one_patch_size(sections: Mapping[str, Section]) -> PatchSize:
    """The patch size that all sections share.

    Raises
    ------
    InputError
        If two differ.
    """
    (first, patch), *rest = ((name, section.patch) for name, section in sections.items())
    for name, other in rest:
        if not other.matches(patch):
            raise InputError(
                f"patches of {name} are {other}, those of {first} {patch}",
                fix="read all sections with one patch size",
            )
    return patch
