"""Do spots and image belong together as they lie? Spots were placed on tissue, so tissue should lie under them.

The darkness (optical density) of the image under the spots is compared with the same for the seven other ways to lay
the image: flipped, transposed, rotated. On five her2st sections the true orientation is the darkest by 13 to 23 %, and
its spots lie on tissue, those of the others for 14 to 82 %; the correlation of darkness with the counts, which is
reported beside it, ranks the true one first on three of the five only.

Of windows cut at random from these sections none laid right is an alarm, of those laid wrong 99 % are. Nothing is said
where the orientations are too alike: a section that fills its image looks much the same under all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from tcgn_mil.preprocessing.tiles.ink import disk, find_ink, optical_density

SPOT_UM = 100.0  # width of the disk over which a spot's darkness is taken
MIN_DARKER = 1.05  # times as dark; of 1,823 windows of the five sections, laid right, one reaches 1.07, the rest 1.035
MIN_MORE_TISSUE = 0.05  # of the spots; none of those windows gains tissue in a darker orientation
MIN_SPOTS = 20
VERDICTS = ("fits", "undecided", "misplaced")


class Symmetry(NamedTuple):
    """What is done to spot positions: x and y swapped first, then mirrored."""

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
    """The image under the spots in one orientation.

    Attributes
    ----------
    name
        Of the symmetry that is applied to the spots.
    darkness
        Mean optical density under them, off the image 0.
    tissue
        Share of them on tissue.
    off_image
        Spots that lie off the image.
    correlation
        Of darkness with log(1 + counts); NaN where either is constant.
    """

    name: str
    darkness: float
    tissue: float
    off_image: int
    correlation: float


@dataclass(frozen=True)
class Alignment:
    """All orientations, in the order of `SYMMETRIES`."""

    orientations: tuple[Orientation, ...]
    spots: int

    @property
    def given(self) -> Orientation:
        """The one that the files state."""
        return self.orientations[0]

    @property
    def best_other(self) -> Orientation:
        """The darkest of the rest."""
        return max(self.orientations[1:], key=lambda orientation: orientation.darkness)

    @property
    def margin(self) -> float:
        """Darkness as given over that of the best other orientation; above 1 where the given one is darkest."""
        return self.given.darkness / max(self.best_other.darkness, 1e-6)

    @property
    def verdict(self) -> str:
        """``misplaced`` if another orientation is clearly darker and puts clearly more spots on tissue, ``fits`` if the
        given one is clearly the darkest, else ``undecided``.

        Both are asked for an alarm, since darkness alone may be a dark region beside pale tissue that was measured.
        """
        other = self.best_other
        if self.spots < MIN_SPOTS:
            return "undecided"
        if self.margin * MIN_DARKER < 1 and other.tissue > self.given.tissue + MIN_MORE_TISSUE:
            return "misplaced"
        return "fits" if self.margin > MIN_DARKER else "undecided"

    def alarm(self) -> str | None:
        """What to tell the user where another orientation fits better."""
        if self.verdict != "misplaced":
            return None
        other = self.best_other
        return (
            f"spots and image do not fit: with the spots {other.name} {other.tissue:.0%} of them lie on tissue, not"
            f" {self.given.tissue:.0%}, and the image under them is darker ({other.darkness:.2f}, not"
            f" {self.given.darkness:.2f})"
        )


def measure_alignment(
    thumbnail: NDArray[np.uint8],
    tissue: NDArray[np.bool_],
    centres: NDArray[np.floating],
    counts: NDArray[np.floating],
    *,
    mpp: float,
) -> Alignment:
    """Compare the eight orientations.

    Parameters
    ----------
    thumbnail
        (H, W, 3) uint8, all of the section's image.
    tissue
        (H, W) bool, where it shows tissue.
    centres
        (S, 2) spot centres x, y in pixels of the thumbnail.
    counts
        (S,) total counts.
    mpp
        µm per pixel of the thumbnail.
    """
    dark = spot_darkness(thumbnail, mpp)
    on_tissue = _mean_under_spots(tissue.astype(np.float32), mpp)
    height, width = tissue.shape
    depth = np.log1p(np.asarray(counts, dtype=np.float64))
    found = []
    for symmetry in SYMMETRIES:
        placed = apply_symmetry(centres, symmetry, width, height)
        darkness, off = _sample(dark, placed)
        covered, _ = _sample(on_tissue, placed)
        found.append(
            Orientation(
                symmetry.name,
                float(darkness.mean()),
                float((covered > 0.5).mean()),
                int(off.sum()),
                _correlation(darkness, depth),
            )
        )
    return Alignment(tuple(found), len(centres))


def apply_symmetry(
    centres: NDArray[np.floating], symmetry: Symmetry, width: float, height: float
) -> NDArray[np.float64]:
    """(S, 2) positions on an image of `width` x `height`, of spots placed on the image before it was turned or flipped.

    Swapped positions are not scaled: x and y trade places, as they do where columns were confused or an image was
    turned, so that on an image that is not square some may come to lie off it.
    """
    x, y = np.asarray(centres, dtype=np.float64).T
    if symmetry.swap:
        x, y = y, x
    return np.column_stack(
        [width - x if symmetry.mirror_x else x, height - y if symmetry.mirror_y else y]
    )


def spot_darkness(thumbnail: NDArray[np.uint8], mpp: float) -> NDArray[np.float32]:
    """(H, W) mean optical density over colours, within a spot around each pixel; ink and black borders count 0."""
    density = optical_density(thumbnail)
    total = density.mean(axis=2)
    total[find_ink(density, mpp).any] = 0
    return _mean_under_spots(total, mpp)


def _mean_under_spots(layer: NDArray[np.float32], mpp: float) -> NDArray[np.float32]:
    kernel = disk(SPOT_UM / 2 / mpp).astype(np.float32)
    averaged = cv2.filter2D(layer, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE)
    return np.asarray(averaged, dtype=np.float32)


def _sample(
    layer: NDArray[np.float32], points: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """(S,) values at the points, 0 off the image, and which those are."""
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
    """Rows of alignment.csv, the darkest ranked 1."""
    order = sorted(range(len(orientations)), key=lambda index: -orientations[index].darkness)
    return [
        {
            "section": section,
            "orientation": one.name,
            "rank": order.index(index) + 1,
            "darkness": one.darkness,
            "tissue": one.tissue,
            "off_image": one.off_image,
            "correlation_log_counts": None if np.isnan(one.correlation) else one.correlation,
        }
        for index, one in enumerate(orientations)
    ]
