"""Sections of spots as a run uses them: spots with too few counts are left out and listed."""

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

BLOCK_SHARE = 0.25  # share of a section's spots in the validation block
_MIN_BLOCK = 10  # smallest number of spots in either part


@dataclass(frozen=True)
class SpotSection:
    """One section without the spots that were left out.

    Attributes
    ----------
    spots
        The section as read from its file.
    rows
        (S,) rows of the kept spots in `spots`.
    totals
        (S,) counts over all measured genes of the kept spots.
    dropped
        Table of the other spots with the columns section, spot, total and reason.
    path
        File that the section was read from.
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
        """Pixel size, in µm, of the image that positions refer to."""
        return image_mpp(self.spots.patches_path)

    def subset(self, chosen: NDArray[np.bool_]) -> SpotSection:
        """Return the section with the kept spots that `chosen`, (S,) bool, marks."""
        return replace(self, rows=self.rows[chosen], totals=self.totals[chosen])

    def without(self, chosen: NDArray[np.bool_], reason: str) -> SpotSection:
        """Return the section without the spots that `chosen` marks; they are added to `dropped`."""
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
        """Return raw counts (S, number of measured genes), dense or sparse."""
        return self.spots.adata.X[self.rows]

    def patches(self) -> NDArray[np.uint8]:
        """Return the patches of the kept spots (S, px, px, 3) uint8."""
        return read_patches(self.spots.patches_path, self.rows)

    def obs(self) -> pd.DataFrame:
        """Return the spot table of the kept spots."""
        return self.spots.adata.obs.iloc[self.rows]

    def spatial(self) -> NDArray[np.floating]:
        """Return the spot centres (S, 2) in pixels of level 0, x then y."""
        return np.asarray(self.spots.adata.obsm["spatial"])[self.rows]


def load_section(path: Path, min_umi: int) -> SpotSection:
    """Read a section and leave out spots with fewer than `min_umi` counts.

    Raises
    ------
    InputError
        If the total of a spot is NaN, infinite or negative, or if no spot is left.
    """
    spots = read_spots(path)
    totals = total_counts(spots.adata.X)
    if not (np.isfinite(totals) & (totals >= 0)).all():
        bad = spots.adata.obs_names[~(np.isfinite(totals) & (totals >= 0))]
        raise InputError(
            f"the counts of {len(bad)} spots are NaN, infinite or negative: {preview(list(bad))}",
            path=path,
            fix="correct the counts and run tcgn-mil spots again",
        )
    kept = totals >= min_umi
    if not kept.any():
        raise InputError(
            f"all {len(kept)} spots have fewer than {min_umi} counts",
            path=path,
            fix="lower min_umi, or remove the section",
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
    """Split the spots of a section into training spots and a validation block.

    The block is the quarter of the spots at one end of the section's longer side. Spots nearer to
    it than `gap_um` are in neither part. With the side of a patch as gap, no pixel is in both
    parts.

    Returns
    -------
    train, val
        The two parts of the section.

    Raises
    ------
    InputError
        If either part has fewer than 10 spots.
    """
    # A contiguous block is used because single random spots would have training spots as
    # neighbours, which look alike and express alike.
    places = section.spatial().astype(np.float64)
    axis = int(np.argmax(np.ptp(places, axis=0)))
    along = places[:, axis]
    border = np.quantile(along, 1 - BLOCK_SHARE)
    gap = gap_um / section.image_mpp  # in pixels, as the positions are
    val, train = along >= border, along < border - gap
    if min(val.sum(), train.sum()) < _MIN_BLOCK:
        raise InputError(
            f"section {section.spots.section}: {len(along)} spots are too few to set a block aside"
            " for validation",
            path=section.path,
            fix="add sections, or set validation=join",
        )
    return section.subset(train), section.subset(val)


def one_patch_size(sections: Mapping[str, SpotSection]) -> PatchSize:
    """Return the patch size that all sections share.

    Raises
    ------
    InputError
        If the sizes of two sections differ.
    """
    (first, patch), *rest = ((name, section.patch) for name, section in sections.items())
    for name, other in rest:
        if not other.matches(patch):
            raise InputError(
                f"patches of {name} are {other}, but those of {first} are {patch}",
                fix="run tcgn-mil spots for all sections with the same --patch-px and --patch-mpp",
            )
    return patch
