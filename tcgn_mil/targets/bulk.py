"""Expression of any file on the scale that models are trained on, and what of its unit matters to associations."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from tcgn_mil.errors import InputError
from tcgn_mil.signatures.scores import patient_ranks
from tcgn_mil.types.units import ExpressionUnit

_LOG = re.compile(r"log2\(.+\+\s*(?P<offset>[0-9.eE-]+)\)")


def training_scale(
    values: NDArray[np.float64], unit: str
) -> tuple[NDArray[np.float64], float | None]:
    """Values as models are trained on them: log2 of linear ones, normal scores of z-scores; and the logs' offset."""
    if found := _LOG.fullmatch(unit):
        return values, float(found["offset"])
    parsed = _parsed(unit)
    if parsed is None:
        return values, None  # of predictions already, or of somebody else's making
    if parsed.needs_ranks:
        return norm.ppf(patient_ranks(values)), None
    return parsed.to_training(values).astype(np.float64), 1.0


def library_size(values: NDArray[np.float64], unit: str) -> NDArray[np.float64] | None:
    """(M,) total of each patient's counts (M, G); None for units whose total says nothing of sequencing depth."""
    parsed = _parsed(unit)
    if parsed is None or parsed.base != "counts":
        return None
    counts = values if parsed.log_offset is None else np.exp2(values) - parsed.log_offset
    return np.asarray(np.nansum(counts, axis=1))


def _parsed(unit: str) -> ExpressionUnit | None:
    try:
        return ExpressionUnit.parse(unit)
    except InputError:
        return None
