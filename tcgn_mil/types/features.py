"""Features of a slide's tiles, and their metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.types.tile_geometry import PatchSize, TileSpec
from tcgn_mil.types.tiles import Stain

# Meaning of the coordinates. Other tools store features with scaled coordinates, or with none.
LEVEL0, SCALED, UNKNOWN = POSITIONS = ("level-0 pixels", "tile pixels", "unknown")
# Beginning of the encoder's identity for features that were imported from a table of slides.
TABLE = "table:"
# Beginning of the identity of an encoder with random weights.
UNTRAINED = "untrained:"
# Ends of the layout in the identity of features that other tools made of a whole slide or patient.
_PER_SLIDE = ("-slide", "-patient")


def describes_slides(identity: str) -> bool:
    """Return whether features of this identity describe whole slides or patients, and not tiles.

    Examples
    --------
    >>> describes_slides("table:nuclei@1a2b3c4d"), describes_slides("uni2-h[cls]-1a2b")
    (True, False)
    """
    layout, colon, _ = identity.partition(":")
    return bool(colon) and (layout + colon == TABLE or layout.endswith(_PER_SLIDE))


def untrained_labels(identity: str) -> list[str]:
    """Return the label of results that rest on an encoder with random weights, if it has them.

    Examples
    --------
    >>> untrained_labels("uni2-h[cls]-1a2b")
    []
    """
    if not identity.startswith(UNTRAINED):
        return []
    return [f"the encoder is untrained: the weights of {identity[len(UNTRAINED) :]} are random"]


@dataclass(frozen=True)
class FeatureInfo:
    """Metadata of a feature file.

    Attributes
    ----------
    slide_id, patient_id
        Slide and patient of the tiles.
    n_tiles, width
        N and D.
    encoder
        Name and hash of the encoder, for example ``tcgn_tiny-1a2b...``. A slide model accepts
        features of one encoder only.
    spec
        Geometry of the tiles.
    stain
        Normalisation of the colours before the tiles were encoded. None for unchanged colours.
    positions
        Meaning of the coordinates: `LEVEL0`; `SCALED` (pixels of ``spec.mpp`` µm, if the resolution
        of the slide is not known); or `UNKNOWN` (all coordinates are -1). Maps on the slide need
        `LEVEL0`.
    tiling
        Rules for tissue and quality by which the tiles were chosen
        (:attr:`tcgn_mil.types.tiles.TileSet.settings`).
    """

    slide_id: str
    patient_id: str
    n_tiles: int
    width: int
    encoder: str
    spec: TileSpec
    stain: Stain | None = None
    positions: str = LEVEL0
    tiling: Mapping[str, Any] = field(default_factory=dict)

    @property
    def may_be_missing(self) -> bool:
        """Whether NaN is a missing value. In the features of an encoder it is an error."""
        return self.encoder.startswith(TABLE)

    def valid(self, features: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Return where features are finite, or missing if they may be."""
        return ~np.isinf(features) if self.may_be_missing else np.isfinite(features)

    def all_valid(self, features: NDArray[np.floating]) -> bool:
        """Return whether all features are finite, or missing if they may be."""
        if features.dtype == np.float16 and not self.may_be_missing:
            # NumPy's test takes ten times as long for float16 as one of the exponent, which is the
            # largest one in infinity and NaN.
            bits = features.reshape(-1).view(np.uint16)
            parts = (bits[start : start + 2**18] for start in range(0, len(bits), 2**18))
            return all(int((part & 0x7FFF).max()) < 0x7C00 for part in parts)
        return bool(self.valid(features).all())

    @property
    def per_slide(self) -> bool:
        """Whether the features describe the whole slide (or patient), and not tiles of it.

        Examples
        --------
        >>> spec = TileSpec.for_slide(PatchSize(8, 1.0), slide_mpp=1.0, level_downsamples=[1.0])
        >>> FeatureInfo("S1", "P1", 1, 768, "trident-slide:titan", spec).per_slide
        True
        """
        return describes_slides(self.encoder)

    @property
    def patch(self) -> PatchSize:
        """Physical field of a tile."""
        return self.spec.patch


class SlideFeatures(NamedTuple):
    """Features of a slide.

    Attributes
    ----------
    features
        (N, D) float32, or float16 from :func:`~tcgn_mil.io.feature_files.read_stored_features`. NaN
        is a missing value, which only features from a table may have.
    coords
        (N, 2) int64.
    info
        Metadata of the file.
    """

    features: NDArray[Any]
    coords: NDArray[np.int64]
    info: FeatureInfo
