"""Check whether spots and image lie on each other as they should.

Spots were placed on tissue, so there should be tissue under them. The darkness of the image (its
mean optical density) under the spots is the score. It is compared with the scores of the seven
other orientations of a rectangle: flipped, transposed, rotated. These are the errors that occur in
practice, when columns of a table are swapped or an image was turned before it was saved.

Evidence: in five her2st sections the true orientation has the highest score, by 13 to 23 %. All
spots lie on tissue in it, and 14 to 82 % of them in the others. The correlation of darkness with
counts, which is reported as well, ranks the true orientation first in only three of the five.

The scale is checked in a similar way. A picture of another size than the one that positions refer
to, for example the high-resolution picture in place of the full-resolution image, is found if the
extent of the spots is that of the tissue after all positions are multiplied by one number. None of
586 windows cut at random from the five sections raises this alarm, and each whole section does
whose image was scaled by 0.2, 0.5, 0.8, 1.25 or 2.

The thresholds were set on windows cut at random from these sections. None of the windows in the
true orientation raises an alarm, and 99 % of those in a wrong one do. There is no verdict if the
orientations score alike: a section that fills its image looks much the same in all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from tcgn_mil.preprocessing.sections.lattice import extent_scale
from tcgn_mil.preprocessing.tiles.ink import disk, find_ink, optical_density

SPOT_UM = 100.0  # diameter of the disk over which the darkness of a spot is averaged
# Another orientation has to be darker by this factor. Of 1,823 windows in the true orientation, one
# reaches 1.07 and all others at most 1.035.
MIN_DARKER = 1.05
# It also has to put more spots on tissue, by this share of the spots. No window in the true
# orientation gains tissue in a darker one.
MIN_MORE_TISSUE = 0.05
MIN_SPOTS_TO_ALIGN = 20
# Spots mark tissue to about one pitch, so that a difference of 10 % in their extent is no error.
MAX_OFF_SCALE = 0.1
VERDICTS = ("fits", "undecided", "misplaced")


class Symmetry(NamedTuple):
    """Change of the spot positions: x and y are swapped first, then mirrored."""

    name: str
    swap: bool
    mirror_x: bool
    mirror_y: bool


SYMMETRIES = (
    Symmetry("as given", False, False, False),
    Symmetry("x mirrored", False, True, False),
    Symmetry("y mirrored", False, False, True),
    Symmetry("turned by 180°", False, True, True),
    Symmetry("x and y swapped", True, False, False),
    Symmetry("turned by 90° clockwise", True, True, False),
    Symmetry("turned by 90° counterclockwise", True, False, True),
    Symmetry("x and y swapped and mirrored", True, True, True),
)


@dataclass(frozen=True)
class Orientation:
    """Image under the spots in one orientation.

    Attributes
    ----------
    name
        Name of the change that was applied to the spot positions.
    darkness
        Mean optical density under the spots. A spot off the image counts as 0.
    tissue
        Share of spots on tissue, 0 to 1.
    off_image
        Number of spots off the image.
    correlation
        Pearson correlation of darkness with log(1 + counts); NaN if one of them is constant.
    """

    name: str
    darkness: float
    tissue: float
    off_image: int
    correlation: float


@dataclass(frozen=True)
class Alignment:
    """Comparison of all orientations of a section.

    Attributes
    ----------
    orientations
        One for each of `SYMMETRIES`, in the same order.
    spots
        Number of spots.
    scale
        Factor of all positions with which the spots cover the extent of the tissue; 1 if the given
        positions do, or no factor does.
    tissue_at_scale
        Share of spots on tissue after the positions were multiplied by `scale`.
    extent_scale
        See :func:`~tcgn_mil.preprocessing.sections.lattice.extent_scale`. Up to 10 % it is no sign
        of an error.
    """

    orientations: tuple[Orientation, ...]
    spots: int
    scale: float = 1.0
    tissue_at_scale: float = float("nan")
    extent_scale: float = float("nan")

    @property
    def given(self) -> Orientation:
        """Orientation that the files state."""
        return self.orientations[0]

    @property
    def best_other(self) -> Orientation:
        """Darkest of the other orientations."""
        return max(self.orientations[1:], key=lambda orientation: orientation.darkness)

    @property
    def margin(self) -> float:
        """Darkness of the given orientation divided by that of the darkest other one."""
        return self.given.darkness / max(self.best_other.darkness, 1e-6)

    @property
    def verdict(self) -> str:
        """Verdict on the given orientation.

        ``misplaced`` if another orientation is clearly darker and puts clearly more spots on
        tissue, ``fits`` if the given one is clearly the darkest, else ``undecided``. Darkness alone
        is not enough for ``misplaced``: the spots may be on pale tissue beside a dark region. A
        section is also ``misplaced`` if its positions fit the tissue at another scale.
        """
        other = self.best_other
        if self.spots < MIN_SPOTS_TO_ALIGN:
            return "undecided"
        if self.scale != 1:
            return "misplaced"
        if self.margin * MIN_DARKER < 1 and other.tissue > self.given.tissue + MIN_MORE_TISSUE:
            return "misplaced"
        return "fits" if self.margin > MIN_DARKER else "undecided"

    @property
    def better(self) -> Orientation | None:
        """Orientation that fits better, if the given one is misplaced and not out of scale."""
        return self.best_other if self.verdict == "misplaced" and self.scale == 1 else None

    def alarm(self) -> str | None:
        """Return a warning if another orientation or another scale fits better, else None."""
        other = self.better
        if other is None:
            return self.alarm_of_scale()
        return (
            f"spots and image do not fit: with the spots {other.name} {other.tissue:.0%} of them"
            f" lie on tissue, not {self.given.tissue:.0%}, and the image under them is darker"
            f" ({other.darkness:.2f}, not {self.given.darkness:.2f})"
        )

    def alarm_of_scale(self) -> str | None:
        """Return a warning if the positions fit the tissue at another scale, else None."""
        if self.scale == 1:
            return None
        return (
            f"the scale of spots and image does not fit: with all positions times {self.scale:.2g}"
            f" the spots cover the tissue, and {self.tissue_at_scale:.0%} of them lie on it, not"
            f" {self.given.tissue:.0%}: positions and image are of different sizes"
        )


def measure_alignment(
    thumbnail: NDArray[np.uint8],
    tissue: NDArray[np.bool_],
    centres: NDArray[np.floating],
    counts: NDArray[np.floating],
    *,
    mpp: float,
) -> Alignment:
    """Compare the eight orientations of a section.

    Parameters
    ----------
    thumbnail
        (H, W, 3) uint8, the whole image of the section.
    tissue
        (H, W) bool, True for pixels that show tissue.
    centres
        (S, 2) spot centres x, y in pixels of the thumbnail.
    counts
        (S,) counts summed over genes.
    mpp
        µm per pixel of the thumbnail.
    """
    # Both maps are averaged over a spot once. A spot is then read at its centre in all
    # orientations.
    dark = spot_darkness(thumbnail, mpp)
    on_tissue = _mean_under_spots(tissue.astype(np.float32), mpp)
    height, width = tissue.shape
    # Counts grow with the number of cells, and so does darkness. Their logarithm, because counts
    # vary over orders of magnitude.
    depth = np.log1p(np.asarray(counts, dtype=np.float64))
    orientations = []
    for symmetry in SYMMETRIES:
        placed = apply_symmetry(centres, symmetry, width, height)
        darkness, off = _sample(dark, placed)
        covered, _ = _sample(on_tissue, placed)
        orientations.append(
            Orientation(
                symmetry.name,
                float(darkness.mean()),
                # A spot is on tissue if tissue covers more than half of its area.
                float((covered > 0.5).mean()),
                int(off.sum()),
                _correlation(darkness, depth),
            )
        )
    extent = extent_scale(tissue, centres) if len(centres) >= MIN_SPOTS_TO_ALIGN else float("nan")
    scale = extent if abs(extent - 1) > MAX_OFF_SCALE else 1.0
    covered, _ = _sample(on_tissue, np.asarray(centres, dtype=np.float64) * scale)
    at_scale = float((covered > 0.5).mean())
    # A coincidence of extents is no evidence if the spots then lie beside the tissue. Spots that
    # are drawn together also have to gain tissue, as they do in a picture that is too small.
    gained = at_scale - orientations[0].tissue
    if gained < (MIN_MORE_TISSUE if scale < 1 else -MIN_MORE_TISSUE):
        scale, at_scale = 1.0, orientations[0].tissue
    return Alignment(tuple(orientations), len(centres), scale, at_scale, extent)


def apply_symmetry(
    centres: NDArray[np.floating], symmetry: Symmetry, width: float, height: float
) -> NDArray[np.float64]:
    """Return (S, 2) spot positions in another orientation of the image.

    Swapped positions are not scaled. If columns of a table were swapped or an image was turned, x
    and y change places as they are, and some spots may then lie off an image that is not square.

    Parameters
    ----------
    centres
        (S, 2) spot centres x, y in pixels.
    symmetry
        The change.
    width, height
        Size of the image in pixels.

    Examples
    --------
    >>> apply_symmetry(np.array([[10.0, 20.0]]), SYMMETRIES[1], width=100, height=50).tolist()
    [[90.0, 20.0]]
    """
    # Swapping first and mirroring second gives all eight symmetries of the square, each once.
    x, y = np.asarray(centres, dtype=np.float64).T
    if symmetry.swap:
        x, y = y, x
    return np.column_stack(
        [width - x if symmetry.mirror_x else x, height - y if symmetry.mirror_y else y]
    )


def spot_darkness(thumbnail: NDArray[np.uint8], mpp: float) -> NDArray[np.float32]:
    """Return (H, W) darkness of a spot around each pixel.

    Darkness is the optical density, averaged over the colours and over the area of a spot. Pen
    marks and black borders count as 0, because they are dark without tissue.
    """
    density = optical_density(thumbnail)
    total = density.mean(axis=2)
    total[find_ink(density, mpp).any] = 0
    return _mean_under_spots(total, mpp)


def _mean_under_spots(layer: NDArray[np.float32], mpp: float) -> NDArray[np.float32]:
    kernel = disk(SPOT_UM / 2 / mpp).astype(np.float32)
    # Replicated borders: black or white borders would change the score of spots near the edge.
    averaged = cv2.filter2D(layer, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE)
    return np.asarray(averaged, dtype=np.float32)


def _sample(
    layer: NDArray[np.float32], points: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return (S,) values at the points, 0 off the image, and which points are off the image."""
    columns, rows = np.floor(points).astype(np.int64).T
    off = (columns < 0) | (rows < 0) | (columns >= layer.shape[1]) | (rows >= layer.shape[0])
    values = np.zeros(len(points))
    values[~off] = layer[rows[~off], columns[~off]]
    return values, off


def _correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    if len(first) < 3 or first.std() < 1e-9 or second.std() < 1e-9:
        return float("nan")
    return float(np.corrcoef(first, second)[0, 1])


def alignment_rows(section: str, orientations: Sequence[Orientation]) -> list[dict[str, object]]:
    """Return the rows of alignment.csv for a section; rank 1 is the darkest orientation."""
    order = sorted(range(len(orientations)), key=lambda index: -orientations[index].darkness)
    return [
        {
            "section": section,
            "orientation": orientation.name,
            "rank": order.index(index) + 1,
            "darkness": orientation.darkness,
            "tissue": orientation.tissue,
            "off_image": orientation.off_image,
            "correlation_log_counts": None
            if np.isnan(orientation.correlation)
            else orientation.correlation,
        }
        for index, orientation in enumerate(orientations)
    ]
