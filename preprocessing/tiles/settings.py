"""Settings of tiling: the size of the tiles, and the limits for tissue and quality."""

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

# Raise the number when the rules for tissue or quality change. Tile files record it, so a resumed
# run then tiles all slides of the cohort again, by the same rules.
TISSUE_FINDER = "roughness-2"
STAIN_SAMPLE = 48  # tiles of a slide that its stains are fitted on


@dataclass(frozen=True)
class TileSettings:
    """Settings of tiling.

    Attributes
    ----------
    patch
        Size of a tile.
    stride_px
        Step from one tile to the next in pixels of the tile; None for tiles that touch.
    min_tissue
        Smallest share of tissue in a kept tile's area, 0 to 1. With 0.1, 99.5 to 100 % of the spots
        of five her2st sections lie in a kept tile.
    tissue_mpp
        Micrometres per pixel at which tissue is looked for, 4 to 12.
    min_focus
        Tissue with a lower focus (see :class:`~tcgn_mil.types.tiles.TileQuality`) is out of focus,
        0 to 1. With 0 no tissue is.
    max_blur, max_pen, max_fold
        Largest share of a kept tile that is out of focus, under ink and under folds, 0 to 1. With 1
        no tile is rejected for it.
    stain
        Reference that the colours are normalised to when tiles are read; None for no normalisation.

    Raises
    ------
    InputError
        If a value is out of range.

    Examples
    --------
    >>> TileSettings(patch=PatchSize(256, 0.5), min_tissue=0.5).min_tissue
    0.5
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
                    f"{name} of {getattr(self, name)} is not a share",
                    fix="give a number from 0 to 1",
                )
        if not 0 <= self.min_focus < 1:
            raise InputError(
                f"min_focus of {self.min_focus} is outside 0 to 1",
                fix=f"use the default of {MIN_FOCUS}, or 0 to keep blurred tiles",
            )
        if not 4 <= self.tissue_mpp <= 12:
            raise InputError(
                f"tissue_mpp of {self.tissue_mpp} is outside 4 to 12 µm/px",
                fix=f"use the default of {TISSUE_MPP}",
            )
        if self.stride_px is not None and self.stride_px < 1:
            raise InputError(f"stride of {self.stride_px} px", fix="give a stride of at least 1 px")

    def for_slide(self, slide: Slide) -> TileSpec:
        """Return the geometry of the tiles on a slide.

        Raises
        ------
        InputError
            If the slide is too coarse for the tiles.
        """
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
        """Return the settings that a tile file records beside its geometry."""
        names = ("min_tissue", "tissue_mpp", "min_focus", "max_blur", "max_pen", "max_fold")
        values = {**{name: getattr(self, name) for name in names}, "tissue_finder": TISSUE_FINDER}
        return values if self.stain is None else {**values, "stain": self.stain.as_dict()}

    @classmethod
    def like(cls, patch: PatchSize, recorded: Mapping[str, Any]) -> TileSettings:
        """Restore settings that :meth:`as_dict` recorded.

        Parameters
        ----------
        patch
            Size of a tile.
        recorded
            Settings of :meth:`as_dict`, and `stride_px`. What is missing gets its default.

        Raises
        ------
        InputError
            If a recorded value is invalid.
        """
        names = {each.name for each in fields(cls)} - {"patch", "stain"}
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
                f"the recorded tile settings are invalid ({error})",
                fix="tile the slides with `tcgn-mil tile`, and give the tiles or their features",
            ) from error
