"""Fingerprint the inputs of a run, so that it never continues on other inputs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.experiments.encode.resume import made_from
from tcgn_mil.experiments.slide_level.config import FinetuneConfig
from tcgn_mil.experiments.slide_level.inputs.cohort import CohortData
from tcgn_mil.experiments.slide_level.inputs.pixels import SlidePixels
from tcgn_mil.io.gene_list import read_gene_list
from tcgn_mil.types.folds import Fold


def input_digests(
    config: FinetuneConfig,
    data: CohortData,
    folds: Sequence[Fold],
    pixels: SlidePixels | None = None,
) -> dict[str, str]:
    """Return the SHA-256 digest of each input of a run, by its name in error messages.

    The digests are of what the files hold and not of their names, because a folder may be moved
    between two attempts. The features enter by their means for each patient: the files of a cohort
    are too large to be read again for a digest. If the encoder is tuned, the tiles of each slide
    and a digest of the slide enter as well.
    """
    slides = [(name, [path.stem for path in data.slides[name]]) for name in data.patients]
    groups = [
        [labels.get(name) for name in data.patients]
        for labels in (data.sites, data.donors, data.sources)
    ]
    descriptors = [values for _, values in sorted(data.descriptors.items())]
    digests = {
        "cohort": _digest((data.patients, data.genes, str(data.unit), groups), [data.values]),
        "features": _digest((data.encoder, data.stain, str(data.patch), slides), descriptors),
        "folds": _digest([fold.parts() for fold in folds], []),
    }
    if config.genes is not None:
        digests["gene list"] = _digest(read_gene_list(config.genes).genes, [])
    if pixels is not None:
        tiles = [
            [sorted(made_from(each, pixels.source).items()) for each in pixels.tiles[name]]
            for name in data.patients
        ]
        digests["slides or tiles"] = _digest(tiles, [])
    return digests


def _digest(names: object, arrays: Sequence[NDArray[np.float32]]) -> str:
    digest = hashlib.sha256(repr(names).encode())
    for values in arrays:
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()
