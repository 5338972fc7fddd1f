"""Settings of tiling: the size of the tiles, and the limits for tissue and quality."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from pydantic import Field

from tcgn_mil.config import config_class
from tcgn_mil.errors import InputError
from tcgn_mil.types.tile_geometry import PatchSize, TileSpec

if TYPE_CHECKING:
    from tcgn_mil.preprocessing.slides.readers.base import Slide

# Raise the number when the rules for tissue or quality change. Tile files record it, so a resumed
# run then tiles all slides of the cohort again, by the same rules.
TISSUE_FINDER = "roughness-2"
STAIN_SAMPLE = 48  # tiles of a slide that its stains are fitted on
TISSUE_MPP = 8.0  # resolution at which tissue is looked for
MIN_FOCUS, MAX_BLUR, MAX_PEN, MAX_FOLD = 0.3, 0.25, 0.25, 0.35


@dataclass(frozen=True)
class StainTarget:
    """Reference to which the colours of slides are normalised.

    Attributes
    ----------
    method
        ``macenko`` or ``reinhard``.
    reference
        Base name of the reference image, or ``published``.
    numbers
        Parameters of the reference, as in :class:`~tcgn_mil.types.tiles.Stain`.
    """

    method: str
    reference: str
    numbers: tuple[float, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for the settings of a tile file."""
        return {"method": self.method, "reference": self.reference, "numbers": list(self.numbers)}


@config_class
class TileSettings:
    """Size of the tiles, and the rules by which they are kept.

    Examples
    --------
    >>> TileSettings(patch=PatchSize(256, 0.5), min_tissue=0.5).min_tissue
    0.5
    """

    patch: PatchSize = Field(default_factory=PatchSize, description="Size of a tile.")
    stride_px: int | None = Field(
        None,
        ge=1,
        description="Step from one tile to the next in pixels of the tile. By default the tiles"
        " touch each other.",
    )
    min_tissue: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Smallest share of tissue in the area of a kept tile.",
    )
    tissue_mpp: float = Field(
        TISSUE_MPP,
        ge=4,
        le=12,
        description="µm per pixel of the image in which tissue is searched.",
    )
    min_focus: float = Field(
        MIN_FOCUS,
        ge=0,
        lt=1,
        description="Focus below which tissue counts as out of focus. With 0, no tissue does.",
    )
    max_blur: float = Field(
        MAX_BLUR,
        ge=0,
        le=1,
        description="Largest share of a kept tile that is out of focus. With 1, all tiles are"
        " kept.",
    )
    max_pen: float = Field(
        MAX_PEN,
        ge=0,
        le=1,
        description="Largest share of a kept tile that is under ink. With 1, all tiles are kept.",
    )
    max_fold: float = Field(
        MAX_FOLD,
        ge=0,
        le=1,
        description="Largest share of a kept tile that is under folds. With 1, all tiles are kept.",
    )
    stain: StainTarget | None = Field(
        None,
        description="Reference to which the colours are normalised when tiles are read. By"
        " default they are not changed.",
    )

    def for_slide(self, slide: Slide) -> TileSpec:
        """Return the geometry of the tiles on a slide.

        Raises
        ------
        InputError
            If the slide is too coarse for the tiles.
        """
        try:
            spec = TileSpec.for_slide(
                self.patch,
                slide_mpp=slide.mpp,
                level_downsamples=slide.level_downsamples,
                stride_px=self.stride_px,
            )
        except InputError as error:
            raise InputError(error.reason, path=slide.path, fix=error.fix) from error
        x, y = slide.bounds_corner
        return replace(spec, file_mpp=slide.file_mpp, bounds_x=x, bounds_y=y)

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
