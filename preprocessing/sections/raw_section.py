"""A section of spatial transcriptomics as any reader gives it: counts, where its spots lie, and its pixels unopened.

Positions and µm per pixel refer to the full-resolution frame, also where only a smaller image of the section is left;
the image then says how many of its pixels one pixel of that frame is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

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

MAX_DISAGREEMENT = 0.05  # of a given and a measured resolution


@dataclass(frozen=True)
class ReadSettings:
    """How sections are read.

    Attributes
    ----------
    patch
        Physical size of the patches asked for.
    spot_pitch_um
        Distance of neighbouring spots in µm; None for the layout's own.
    mpp
        µm per pixel of the full-resolution image, instead of measuring it.
    gene_ids
        What names genes: ``symbol`` or ``ensembl``.
    """

    patch: PatchSize
    spot_pitch_um: float | None = None
    mpp: float | None = None
    gene_ids: str = "symbol"


class ArraySlide(PlainSlide):
    """Pixels out of another file than an image, behind the interface of slides."""

    def __init__(self, path: Path, mpp: float, pixels: NDArray[np.uint8]) -> None:
        self.path, self.mpp, self._pixels = path, mpp, pixels
        self.size = (pixels.shape[1], pixels.shape[0])
        self.level_sizes, self.level_downsamples = (self.size,), (1.0,)


@dataclass(frozen=True)
class SectionImage:
    """Pixels of a section, not yet opened.

    Attributes
    ----------
    path
        The file that holds them.
    kind
        What they are, for messages: ``image``, ``hires image``.
    scale
        Pixels of this image per pixel of the full-resolution frame, at most 1.
    load
        Reads (H, W, 3) uint8 RGB, where `path` is no image file.
    """

    path: Path
    kind: str = "image"
    scale: float = 1.0
    load: Callable[[], NDArray[np.uint8]] | None = None

    def open(self, mpp: float) -> Slide:
        """The pixels, as a slide of `mpp` µm per pixel: by the spots, whatever the file states."""
        if self.load is not None:
            return ArraySlide(self.path, mpp, self.load())
        if self.scale < 1:
            return ArraySlide(self.path, mpp, read_image(self.path))  # coarser than any scan may be
        slide = open_slide(self.path, fallback_mpp=mpp)
        slide.mpp = mpp
        return slide

    def disagreement(self, mpp: float) -> str | None:
        """A warning where the file states another resolution than the spots give."""
        if self.load is not None or self.scale < 1:
            return None
        with open_slide(self.path, fallback_mpp=mpp) as slide:
            stated = slide.mpp
        if abs(stated / mpp - 1) <= MAX_DISAGREEMENT:
            return None
        return f"{self.path.name} states {stated:.4g} µm/px, its spots give {mpp:.4g}: is it the image of this section?"


@dataclass(frozen=True)
class StoredPatches:
    """Patches of the asked size that a source already holds.

    Attributes
    ----------
    path
        HDF5 with ``img`` in the HEST layout.
    rows
        (S,) row of each spot there, -1 where it has none.
    """

    path: Path
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class RawSection:
    """One section as read.

    Attributes
    ----------
    section, patient
        Ids.
    counts
        (S, G) whole numbers, float32 in CSR.
    genes
        Names of the G genes and what became of the source's.
    positions
        Indexed by spot, S rows: x, y in the array (column, row); pixel_x (column), pixel_y (row) of the centre in the
        full-resolution frame.
    mpp
        µm per pixel of that frame, given or measured from the distance of the spots.
    image
        The finest pixels there are.
    dropped
        Spots left out: spot, reason.
    warnings
        What the user should know.
    patches
        Where the source holds patches that fit; they are used as they are.
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
    patches: StoredPatches | None = None

    @property
    def spots(self) -> pd.Index:
        """Names of the S spots."""
        return self.positions.index

    @property
    def image_mpp(self) -> float:
        """µm per pixel of the image."""
        return self.mpp / self.image.scale

    def centres(self) -> NDArray[np.float64]:
        """(S, 2) spot centres x, y in the full-resolution frame."""
        return self.positions[["pixel_x", "pixel_y"]].to_numpy(dtype=np.float64)

    def totals(self) -> NDArray[np.float64]:
        """(S,) counts over all genes."""
        return np.asarray(self.counts.sum(axis=1, dtype=np.float64)).ravel()


@dataclass(frozen=True)
class SectionSource:
    """A section that can be read.

    Attributes
    ----------
    section
        Its id.
    files
        Gives the files it is made of, by which a change is seen; may raise InputError.
    read
        Reads it; may raise InputError.
    choices
        What else it is made from: ids and numbers that a change of makes it another.
    """

    section: str
    files: Callable[[], tuple[Path, ...]]
    read: Callable[[ReadSettings], RawSection]
    choices: tuple[object, ...] = ()


def broken_source(section: str, error: InputError) -> SectionSource:
    """A source that was found unusable, to be reported in its turn."""

    def fail(*_: object) -> RawSection:
        raise error

    return SectionSource(section, fail, fail)  # type: ignore[arg-type]


def whole_image(slide: Slide) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 of level 0.

    Raises
    ------
    InputError
        If it has more than `MAX_IMAGE_PX` pixels.
    """
    width, height = slide.size
    if width * height > MAX_IMAGE_PX:
        raise InputError(
            f"has {width} x {height} pixels, over the {MAX_IMAGE_PX / 1e6:.0f} million copied into a slide",
            path=slide.path,
            fix="leave --slides-out out, and use the image itself as the slide",
        )
    whole = width * height <= MAX_READ_PX
    return slide.read(0, 0, 0, width, height) if whole else slide.thumbnail(slide.mpp)
