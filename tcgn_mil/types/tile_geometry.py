"""Physical size of tiles: the field that an encoder sees, and the pixels that are read for it.

A tile is defined in micrometres, so that slides of different scanners are cut into the same field.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any

from tcgn_mil.errors import InputError

DEFAULT_PATCH_PX = 112
DEFAULT_PATCH_MPP = 0.69  # µm per pixel; 112 px are the 77.3 µm that TCGN was trained on
MPP_RANGE = (0.05, 20.0)  # no scanner is outside this range; such a value is a mistake in the file
# Enlarging a coarser image adds no detail. Up to a factor of 1.5 nuclei remain recognisable.
MAX_UPSAMPLING = 1.5


def check_mpp(mpp: float, *, what: str = "resolution", path: object = None) -> float:
    """Check that a resolution is plausible, and return it.

    Parameters
    ----------
    mpp
        Micrometres per pixel.
    what
        Name of the value in the error message.
    path
        File of the value, for the error message.

    Returns
    -------
    float
        `mpp`.

    Raises
    ------
    InputError
        If the value is not finite or is outside `MPP_RANGE`.
    """
    if not (math.isfinite(mpp) and MPP_RANGE[0] <= mpp <= MPP_RANGE[1]):
        raise InputError(
            f"{what} of {mpp} µm/px is outside {MPP_RANGE[0]:g} to {MPP_RANGE[1]:g}",
            path=None if path is None else str(path),
            fix="give the scanner's micrometres per pixel, for example 0.25 (40x) or 0.5 (20x)",
        )
    return float(mpp)


@dataclass(frozen=True)
class PatchSize:
    """The square field that an encoder sees, in pixels and in micrometres.

    Parameters
    ----------
    px
        Side in pixels, 8 to 4096.
    mpp
        Micrometres per pixel.

    Raises
    ------
    InputError
        If a value is out of range.

    Examples
    --------
    >>> print(PatchSize(px=256, mpp=0.5))
    128.0 µm (256 px at 0.5 µm/px)
    """

    px: int = DEFAULT_PATCH_PX
    mpp: float = DEFAULT_PATCH_MPP

    def __post_init__(self) -> None:
        if not 8 <= self.px <= 4096:
            raise InputError(
                f"patch size of {self.px} px is outside 8 to 4096",
                fix="give --patch-px in that range",
            )
        check_mpp(self.mpp, what="patch resolution")

    @property
    def um(self) -> float:
        """Side in micrometres."""
        return self.px * self.mpp

    def matches(self, other: PatchSize, *, tolerance: float = 0.02) -> bool:
        """Return whether two patch sizes have the same field and the same resolution.

        Parameters
        ----------
        other
            The other patch size.
        tolerance
            Largest relative difference in micrometres and in micrometres per pixel. Scanners
            state the same nominal resolution with differences of about 1 %.

        Returns
        -------
        bool
        """
        return math.isclose(self.um, other.um, rel_tol=tolerance) and math.isclose(
            self.mpp, other.mpp, rel_tol=tolerance
        )

    def __str__(self) -> str:
        return f"{self.um:.1f} µm ({self.px} px at {self.mpp:g} µm/px)"


def check_patch(expected: PatchSize, given: PatchSize, *, allow: bool = False) -> None:
    """Check that tiles have the physical size that a model was trained on.

    Parameters
    ----------
    expected
        Patch size of the model.
    given
        Patch size of the tiles.
    allow
        If True, any size is accepted.

    Raises
    ------
    InputError
        If the sizes differ and `allow` is False.
    """
    if not allow and not expected.matches(given):
        raise InputError(
            f"the model was trained on patches of {expected}, these are {given}",
            fix=f"tile with --patch-px {expected.px} --patch-mpp {expected.mpp:g}, or pass"
            " --allow-other-size",
        )


@dataclass(frozen=True)
class TileSpec:
    """Geometry of the tiles of one slide.

    `tile_px`, `mpp` and `stride_px` are chosen by the user. The other values follow from them and
    from the slide's own resolution (:meth:`for_slide`).

    Attributes
    ----------
    tile_px
        Side of a tile in pixels of `mpp` micrometres.
    mpp
        Micrometres per pixel of the tiles.
    stride_px
        Distance between neighbouring tiles in the same pixels; equal to `tile_px` for a grid
        without gaps or overlap.
    slide_mpp
        Micrometres per pixel of the slide's level 0.
    read_level
        Level of the slide's pyramid that is read.
    read_px
        Side of a tile in pixels of that level, before it is resized to `tile_px`.
    level0_px, level0_stride_px
        Side and distance in level-0 pixels. They are fractions, because the grid is laid in
        micrometres; each tile's corner is rounded on its own, so that errors do not add up.
    file_mpp
        Micrometres per pixel that the slide's file states, if the user overrode it with
        `slide_mpp`; else None.
    bounds_x, bounds_y
        Corner of the scanned area in level-0 pixels, for slides that state one. Viewers such as
        QuPath crop the slide there, so that this corner is their 0, 0.
    """

    tile_px: int
    mpp: float
    stride_px: int
    slide_mpp: float
    read_level: int
    read_px: int
    level0_px: float
    level0_stride_px: float
    file_mpp: float | None = None
    bounds_x: int = 0
    bounds_y: int = 0

    @classmethod
    def for_slide(
        cls,
        patch: PatchSize,
        *,
        slide_mpp: float,
        level_downsamples: Sequence[float],
        stride_px: int | None = None,
        max_upsampling: float = MAX_UPSAMPLING,
    ) -> TileSpec:
        """Derive the geometry for a slide.

        Parameters
        ----------
        patch
            Size of the tiles.
        slide_mpp
            Micrometres per pixel of level 0.
        level_downsamples
            Downsampling factor of each level; 1 for level 0.
        stride_px
            Distance between neighbouring tiles in tile pixels, at least 1. None for the side of a
            tile.
        max_upsampling
            Largest factor by which pixels may be enlarged.

        Returns
        -------
        TileSpec

        Raises
        ------
        InputError
            If the slide is coarser than ``patch.mpp * max_upsampling``, its resolution is not
            plausible, or the stride is below 1.

        Examples
        --------
        >>> spec = TileSpec.for_slide(
        ...     PatchSize(px=256, mpp=0.5), slide_mpp=0.25, level_downsamples=[1, 4, 16]
        ... )
        >>> spec.read_level, spec.read_px, spec.level0_px
        (0, 512, 512.0)
        """
        check_mpp(slide_mpp, what="slide resolution")
        if slide_mpp > patch.mpp * max_upsampling:
            raise InputError(
                f"the slide has {slide_mpp:.3g} µm/px, too coarse for tiles at {patch.mpp:.3g}"
                f" µm/px (pixels may be enlarged {max_upsampling:g} times at most)",
                fix="use a finer scan, or a model trained at a coarser resolution",
            )
        stride = patch.px if stride_px is None else stride_px
        if stride < 1:
            raise InputError(
                f"a stride of {stride} px is not possible", fix="give a stride of at least 1 px"
            )
        # Read the coarsest level that is still at least as fine as the tiles: the least data that
        # loses no detail. Scanners store factors such as 4.0003, hence the tolerance of 0.1 %.
        wanted = max(patch.mpp / slide_mpp, 1.0) * (1 + 1e-3)
        finer = [
            level for level, downsample in enumerate(level_downsamples) if downsample <= wanted
        ]
        level = max(finer, key=lambda index: level_downsamples[index]) if finer else 0
        level0_px = patch.um / slide_mpp
        return cls(
            tile_px=patch.px,
            mpp=patch.mpp,
            stride_px=stride,
            slide_mpp=slide_mpp,
            read_level=level,
            read_px=max(1, round(level0_px / level_downsamples[level])),
            level0_px=level0_px,
            level0_stride_px=stride * patch.mpp / slide_mpp,
        )

    @property
    def patch(self) -> PatchSize:
        """Physical field of one tile."""
        return PatchSize(self.tile_px, self.mpp)

    def as_dict(self) -> dict[str, Any]:
        """Return the values as plain Python values, as they are stored in HDF5 attributes.

        Facts that few slides have are left out where they have their default, so that the text is
        that of earlier versions.
        """
        rare = {each.name: each.default for each in fields(self) if each.default is not MISSING}
        return {
            name: value
            for name, value in asdict(self).items()
            if name not in rare or value != rare[name]
        }
