"""Sections as a study sees them: which spots are kept, and their targets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.io.spot_files import SpotSet, image_mpp, read_patches, read_spots
from tcgn_mil.targets.spots import total_counts
from tcgn_mil.text import preview
from tcgn_mil.types.tile_geometry import PatchSize

BLOCK_SHARE = 0.25  # of a section's spots, set aside for validation where there is no other section
_LEAST_BLOCK = 10


@dataclass(frozen=True)
class SpotSection:
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

    def subset(self, chosen: NDArray[np.bool_]) -> SpotSection:
        """The section with only some of its kept spots, (S_kept,) bool."""
        return replace(self, rows=self.rows[chosen], totals=self.totals[chosen])

    def without(self, chosen: NDArray[np.bool_], reason: str) -> SpotSection:
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


def load_section(path: Path, min_umi: int) -> SpotSection:
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
    return SpotSection(spots, np.flatnonzero(kept), totals[kept], dropped, Path(path))


def set_aside_block(section: SpotSection, gap_um: float) -> tuple[SpotSection, SpotSection]:
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


def one_patch_size(sections: Mapping[str, SpotSection]) -> PatchSize:
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
