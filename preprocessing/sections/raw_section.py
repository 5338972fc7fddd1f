"""Section of spatial transcriptomics as a reader returns it, with its image not yet opened.

Positions and µm per pixel refer to the full-resolution image, also if only a smaller picture of the
section is left. The image then gives the scale of its pixels against the full-resolution ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.sections.genes import SectionGenes
from tcgn_mil.preprocessing.slides.readers import open_slide
from tcgn_mil.preprocessing.slides.readers.base import MAX_READ_PX, Slide
from tcgn_mil.preprocessing.slides.readers.plain import MAX_IMAGE_PX, PlainSlide, read_image
from tcgn_mil.types.tile_geometry import PatchSize

MAX_DISAGREEMENT = 0.05  # relative, between a stated and a measured resolution
CELLS, TRANSCRIPTS, NUCLEI = "cells", "transcripts", "nuclei"
NOT_IN_TISSUE = "not under tissue (in_tissue 0)"
_UNSTATED_MPP = 19.876543  # no scanner has this value, so that it is recognised when it comes back


@dataclass(frozen=True)
class ReadSettings:
    """Settings for reading sections.

    Attributes
    ----------
    patch
        Physical size of the patches.
    spot_pitch_um
        Distance between neighbouring spots in µm; None for the usual one of the layout.
    mpp
        µm per pixel of the full-resolution image, instead of measuring it.
    gene_ids
        Name genes by ``symbol`` or by ``ensembl`` id.
    override_mpp
        Use `mpp` also if the files of the section contradict it.
    pool_um
        Side of the squares over which bins and cells are summed, in µm; None for the side of a
        patch.
    pool_from
        What is summed of a Xenium section: ``cells``, ``transcripts``, or ``nuclei`` for the
        transcripts over nuclei.
    """

    patch: PatchSize
    spot_pitch_um: float | None = None
    mpp: float | None = None
    gene_ids: str = "symbol"
    override_mpp: bool = False
    pool_um: float | None = None
    pool_from: str = CELLS


class ArraySlide(PlainSlide):
    """Pixels in memory, with the methods of a slide."""

    def __init__(self, path: Path, mpp: float, pixels: NDArray[np.uint8]) -> None:
        self.path, self.mpp, self._pixels = path, mpp, pixels
        self.size = (pixels.shape[1], pixels.shape[0])
        self.level_sizes, self.level_downsamples = (self.size,), (1.0,)


@dataclass(frozen=True)
class SectionImage:
    """Image of a section, not yet opened.

    Attributes
    ----------
    path
        File that holds the pixels.
    kind
        Kind of image, for messages: ``image`` or ``hires image``.
    scale
        Pixels of this image for each pixel of the full-resolution image, at most 1.
    load
        Function that reads (H, W, 3) uint8 RGB, if `path` is not an image file.
    """

    path: Path
    kind: str = "image"
    scale: float = 1.0
    load: Callable[[], NDArray[np.uint8]] | None = None

    def open(self, mpp: float) -> Slide:
        """Open the image as a slide of `mpp` µm per pixel, whatever resolution the file states."""
        if self.load is not None:
            return ArraySlide(self.path, mpp, self.load())
        if self.scale < 1:
            # A slide reader would refuse so coarse a resolution.
            return ArraySlide(self.path, mpp, read_image(self.path))
        slide = open_slide(self.path, fallback_mpp=mpp)
        slide.mpp = mpp
        return slide

    def stated_mpp(self) -> float | None:
        """Return the µm per pixel that the image file states; None if it states none."""
        if self.load is not None or self.scale < 1:
            return None
        # A reader uses the fallback only if the file states no plausible resolution.
        with open_slide(self.path, fallback_mpp=_UNSTATED_MPP) as slide:
            return None if slide.mpp == _UNSTATED_MPP else slide.mpp

    def disagreement(self, mpp: float) -> str | None:
        """Return a warning if the file clearly states another resolution than the spots give."""
        stated = self.stated_mpp()
        if stated is None or abs(stated / mpp - 1) <= MAX_DISAGREEMENT:
            return None
        return (
            f"{self.path.name} states {stated:.4g} µm/px, its spots give {mpp:.4g}:"
            " is it the image of this section?"
        )


@dataclass(frozen=True)
class SourcePatches:
    """Patches of the size asked for that a source already holds.

    Attributes
    ----------
    path
        HDF5 file with ``img``, in the layout of HEST.
    rows
        (S,) row of each spot in it; -1 for a spot without a patch.
    """

    path: Path
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class RawSection:
    """Section as a reader returns it.

    Attributes
    ----------
    section, patient
        Names of the section and of its patient.
    counts
        (S, G) whole numbers, float32 CSR.
    genes
        Names of the G genes.
    positions
        Indexed by spot, S rows. Columns x, y are the position in the array (column, row). Columns
        pixel_x (column) and pixel_y (row) are the centre in pixels of the full-resolution image.
    mpp
        µm per pixel of the full-resolution image, stated or measured from the distance of the
        spots.
    image
        The finest image that is available.
    dropped
        Spots that were left out, with the reason.
    warnings
        Messages that are printed for the user.
    patches
        Patches that the source already holds, if they have the size asked for.
    """

    section: str
    patient: str
    counts: sparse.csr_matrix
    genes: SectionGenes
    positions: pd.DataFrame
    mpp: float
    image: SectionImage
    dropped: list[tuple[str, str]]
    warnings: tuple[str, ...] = ()
    patches: SourcePatches | None = None

    @property
    def spots(self) -> pd.Index:
        """Names of the S spots."""
        return self.positions.index

    @property
    def image_mpp(self) -> float:
        """µm per pixel of the available image."""
        return self.mpp / self.image.scale

    def centres(self) -> NDArray[np.float64]:
        """Return (S, 2) spot centres x, y in pixels of the full-resolution image."""
        return self.positions[["pixel_x", "pixel_y"]].to_numpy(dtype=np.float64)

    def totals(self) -> NDArray[np.float64]:
        """Return (S,) counts summed over all genes."""
        return np.asarray(self.counts.sum(axis=1, dtype=np.float64)).ravel()


@dataclass(frozen=True)
class SectionSource:
    """Section that was found, but not yet read.

    Attributes
    ----------
    section
        Name of the section.
    files
        Returns the files that the section is read from. A section is read again if one of them has
        changed. May raise InputError.
    read
        Reads the section. May raise InputError.
    choices
        Other values that the section depends on, such as its patient. The section is read again if
        one of them has changed.
    alias
        Name of the section in its file, if that differs.
    """

    section: str
    files: Callable[[], tuple[Path, ...]]
    read: Callable[[ReadSettings], RawSection]
    choices: tuple[object, ...] = ()
    alias: str = ""


def broken_source(section: str, error: Exception) -> SectionSource:
    """Return a source that raises `error` when it is read; other sections are not affected."""

    def fail(*_: object) -> NoReturn:
        raise error

    return SectionSource(section, fail, fail)


def whole_image(slide: Slide) -> NDArray[np.uint8]:
    """Read level 0 of a slide as (H, W, 3) uint8.

    Raises
    ------
    InputError
        If the slide has more than `MAX_IMAGE_PX` pixels.
    """
    width, height = slide.size
    if width * height > MAX_IMAGE_PX:
        raise InputError(
            f"has {width} x {height} pixels, more than the {MAX_IMAGE_PX / 1e6:.0f} million that"
            " can be copied into a slide",
            path=slide.path,
            fix="remove the option --slides-out, and use the image itself as the slide",
        )
    whole = width * height <= MAX_READ_PX
    return slide.read(0, 0, 0, width, height) if whole else slide.thumbnail(slide.mpp)
