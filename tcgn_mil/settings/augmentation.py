"""Settings of the augmentation of training patches (:func:`tcgn_mil.batches.augment.augment`)."""

from __future__ import annotations

from pydantic import Field

from tcgn_mil.config import config_class

MAX_BLUR_SD_PX = 5.0


@config_class
class AugmentConfig:
    """Random changes to a training patch that leave its expression as it is."""

    flips: bool = Field(True, description="Random flips and rotations by 90 degrees.")
    stain: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Standard deviation of the relative strength of each stain (haematoxylin,"
        " eosin and the residual). 0 leaves the stains as they are; 0.1 is a usual strength.",
    )
    blur: float = Field(
        0.0,
        ge=0,
        le=MAX_BLUR_SD_PX,
        description="Largest standard deviation of a Gaussian blur, in stored pixels. Each patch"
        " gets a blur of its own, between no blur and this one.",
    )
