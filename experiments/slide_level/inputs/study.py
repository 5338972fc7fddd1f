"""Collect what all folds of a slide-level run share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tcgn_mil.experiments.slide_level.config import FinetuneConfig
from tcgn_mil.experiments.slide_level.inputs.cohort import CohortData
from tcgn_mil.experiments.slide_level.inputs.pixels import SlidePixels
from tcgn_mil.experiments.slide_level.inputs.spot_initialisation import SpotInitialisation


@dataclass(frozen=True)
class SlideLevelStudy:
    """Everything that the folds of a run share.

    Attributes
    ----------
    config
        Config of the run.
    data
        The cohort.
    spots
        Head and panel that the encoder learnt from spots, or None if no encoder was given.
    out_dir
        Folder of the run.
    pixels
        Tiles of the slides, if the encoder is fine-tuned.
    """

    config: FinetuneConfig
    data: CohortData
    spots: SpotInitialisation | None
    out_dir: Path
    pixels: SlidePixels | None = None
