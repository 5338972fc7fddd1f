"""From slides to tile files: open, find tissue, lay the grid, keep the tiles with tissue, draw them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.slides.readers.base import Slide
from tcgn_mil.preprocessing.tiles.quality import MAX_BLUR, MAX_FOLD, MAX_PEN, MIN_FOCUS
from tcgn_mil.preprocessing.tiles.stain import StainTarget
from tcgn_mil.preprocessing.tiles.tissue import TISSUE_MPP
from tcgn_mil.types.tile_geometry import PatchSize, TileSpec

TISSUE_FINDER = "roughness-2"  # a new number when tissue or quality change, so that resumed cohorts stay uniform
STAIN_SAMPLE = 48  # tiles a slide that its stains are fitted on


@dataclass(frozen=True)
class TileSettings:
    """How slides are tiled.

    Attributes
    ----------
    patch
        Field of a tile.
    stride_px
        Step in the tile's pixels; None for tiles that touch.
    min_tissue
        Least share of a kept tile's area that is tissue. At 0.1, 99.5 to 100 % of the spots of five her2st
        sections lie in a tile.
    tissue_mpp
        µm per pixel at which tissue is found.
    min_focus
        Tissue below it is out of focus, by :class:`~tcgn_mil.types.tiles.TileQuality`; 0 calls nothing so.
    max_blur, max_pen, max_fold
        Largest share of a kept tile out of focus, under ink and under folds; 1 keeps all.
    stain
        Reference that stains are normalised to when tiles are read; None leaves pixels as they are.
    """

    patch: PatchSize = field(default_factory=PatchSize)
    stride_px: int | None = None
    min_tissue: float = 0.1
    tissue_mpp: float = TISSUE_MPP
    min_focus: float = MIN_FOCUS
    max_blur: float = MAX_BLUR
    max_pen: float = MAX_PEN
    max_fold: float = MAX_FOLD
    stain: StainTarget | None = None

    def __post_init__(self) -> None:
        for name in ("min_tissue", "max_blur", "max_pen", "max_fold"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(
                    f"{name} of {getattr(self, name)} is no share", fix="give a number from 0 to 1"
                )
        if not 0 <= self.min_focus < 1:
            raise InputError(
                f"min_focus of {self.min_focus} is outside 0 to 1",
                fix=f"leave it {MIN_FOCUS}, or 0 to keep blur",
            )
        if not 4 <= self.tissue_mpp <= 12:
            raise InputError(
                f"tissue_mpp of {self.tissue_mpp} is outside 4 to 12 µm/px",
                fix=f"leave it {TISSUE_MPP}",
            )
        if self.stride_px is not None and self.stride_px < 1:
            raise InputError(f"stride of {self.stride_px} px", fix="give a stride of at least 1 px")

    def for_slide(self, slide: Slide) -> TileSpec:
        """The geometry on one slide; InputError if the slide is too coarse for it."""
        try:
            return TileSpec.for_slide(
                self.patch,
                slide_mpp=slide.mpp,
                level_downsamples=slide.level_downsamples,
                stride_px=self.stride_px,
            )
        except InputError as error:
            raise InputError(error.reason, path=slide.path, fix=error.fix) from error

    def as_dict(self) -> dict[str, Any]:
        """What a tile file records beside its spec."""
        names = ("min_tissue", "tissue_mpp", "min_focus", "max_blur", "max_pen", "max_fold")
        found = {**{name: getattr(self, name) for name in names}, "tissue_finder": TISSUE_FINDER}
        return found if self.stain is None else {**found, "stain": self.stain.as_dict()}

    @classmethod
    def like(cls, patch: PatchSize, recorded: Mapping[str, Any]) -> TileSettings:
        """Those that :meth:`as_dict` recorded, and ``stride_px``; the default where something is not recorded.

        Raises
        ------
        InputError
            If a recorded value makes no sense.
        """
        names = {one.name for one in fields(cls)} - {"patch", "stain"}
        given = {name: value for name, value in recorded.items() if name in names}
        stain = recorded.get("stain")
        try:
            target = (
                None
                if stain is None
                else StainTarget(stain["method"], stain["reference"], (*stain["numbers"],))
            )
            return cls(patch=patch, stain=target, **given)
        except (KeyError, TypeError) as error:
            raise InputError(
                f"recorded tile settings make no sense ({error})", fix="tile the slides by hand"
            ) from error
