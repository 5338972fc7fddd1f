"""Tell whether a patient's slides are like those of the training patients.

A patient is described by the mean of its tile features and, if it has several tiles, by their
spread, after the maps of :mod:`tcgn_mil.inference.feature_spaces`. The distance of the mean speaks
of the patient as a whole. That of the (logarithm of the) spread speaks of its tiles among each
other: blur, another scale or one tissue only change the spread even where the mean is usual. The
logarithms of both distances are standardised by the training patients, and the score of a patient
is the larger of the two. A training patient's own distances are computed with this patient left out
(in ten groups). The probability that a patient of the training kind has a score s or more is
estimated as in conformal prediction (Vovk et al. 2005), from the scores s_i of M training patients:

    p = (1 + number of s_i >= s) / (M + 1).

A patient with p <= 0.05 is out of distribution. With fewer than 19 training patients no p can be
that small, and the answer is then "unknown".

Few tiles give a less certain mean than many. Distances of the training patients are therefore
computed for samples of 1, 2, 3, 4, 6, 8 ... tiles, and a patient is compared with those of its
size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tcgn_mil.inference.feature_spaces import (
    Moments,
    PatientSpace,
    RobustScale,
    Whitening,
    fit_patient_space,
    fit_scale,
    whiten,
)
from tcgn_mil.inference.patient_distances import (
    MIN_TILES,
    describe,
    log_distances,
    patient_spaces,
)

IN, OUT, UNKNOWN = STATES = ("in", "out", "unknown")
MAX_P = 0.05
FEWEST_PATIENTS = 19  # the smallest M with 1 / (M + 1) <= MAX_P
LEVELS, BOTH = ("patient", "tiles"), "both"  # of the two distances
MAX_TILES = 256
_LEFT_OUT_GROUPS = 10
_SCALED_TILES = 10_000  # of all patients together, on which the scale is fitted


class Verdict(NamedTuple):
    """Comparison of a patient with the training patients.

    Attributes
    ----------
    score
        Larger of the two standardised distances: 0 is usual, 3 is far away.
    p
        Probability of such a score, or a higher one, for a patient of the training kind.
    state
        ``in``, ``out`` or ``unknown`` (too few training patients to tell).
    level
        Distance that is unusual by itself: ``patient`` (the mean of the features), ``tiles`` (their
        spread) or ``both``; if none is, the larger one.
    """

    score: float
    p: float
    state: str
    level: str


@dataclass(frozen=True, eq=False)
class Reference:
    """Features of the training patients, as far as new patients are compared with them.

    Attributes
    ----------
    patients
        Names of the M training patients.
    scale
        Scale of the D features.
    white
        Map of the scaled features of tiles to white ones. None if most patients have a single
        vector, which is compared as it is.
    means, spreads
        Spaces of the means and of the logarithms of the spread; None if tiles have no spread.
    sizes
        (S,) numbers of tiles, ascending, for which distances were computed.
    counts
        (M,) number of tiles that were sampled of each training patient.
    left_out
        (S, M, 2) logarithms of the distances of each training patient from the others; NaN if it
        has no spread.
    """

    patients: tuple[str, ...]
    scale: RobustScale
    white: Whitening | None
    means: PatientSpace
    spreads: PatientSpace | None
    sizes: NDArray[np.int32]
    counts: NDArray[np.int32]
    left_out: NDArray[np.float32]

    @property
    def can_tell(self) -> bool:
        """Whether there are enough training patients to tell."""
        return len(self.patients) >= FEWEST_PATIENTS

    def judge(self, tiles: NDArray[np.floating]) -> Verdict:
        """Compare a new patient with the training patients.

        Parameters
        ----------
        tiles
            (n, D) features of its tiles in random order (:func:`shuffled`), NaN where missing.
        """
        row = self._row_of(len(tiles))
        values = self.scale(tiles)
        if self.white is None:
            described = describe([values])
        else:
            described = describe([self.white(values)], int(self.sizes[row]))
        distances = log_distances(self.means, self.spreads, described)[0]
        return self._compare(self._standard(distances, row), self._training_scores(row))

    @cached_property
    def training(self) -> dict[str, Verdict]:
        """Comparison of each training patient with the others."""
        verdicts = {}
        scores = [self._training_scores(row) for row in range(len(self.sizes))]
        for index, (patient, count) in enumerate(zip(self.patients, self.counts, strict=True)):
            row = self._row_of(int(count))
            others = np.delete(scores[row], index, axis=0)
            verdicts[patient] = self._compare(scores[row][index], others)
        return verdicts

    def _compare(self, own: NDArray[np.float64], others: NDArray[np.float64]) -> Verdict:
        """Compare standardised distances (2,) with those (n, 2) of training patients."""
        score = float(np.nanmax(own))
        p = _conformal_p(score, np.nanmax(others, axis=1)) if len(others) else 1.0
        unusual = [
            level
            for level, distance, usual in zip(LEVELS, own, others.T, strict=True)
            if np.isfinite(distance) and _conformal_p(distance, usual) <= MAX_P
        ]
        level = BOTH if len(unusual) == len(LEVELS) else (unusual or [LEVELS[np.nanargmax(own)]])[0]
        state = UNKNOWN if not self.can_tell else OUT if p <= MAX_P else IN
        return Verdict(score, p, state, level)

    def _row_of(self, count: int) -> int:
        """Return the row of the largest size that a patient with `count` tiles has."""
        return max(0, int(np.searchsorted(self.sizes, count, side="right")) - 1)

    def _training_scores(self, row: int) -> NDArray[np.float64]:
        """Return the standardised distances (M, 2) of the training patients."""
        return self._standard(self.left_out[row], row)

    def _standard(self, distances: NDArray[np.floating], row: int) -> NDArray[np.float64]:
        """Standardise logarithms of distances (..., 2) by those of the training patients."""
        usual = self.left_out[row].astype(np.float64)
        known = np.isfinite(usual).any(axis=0)
        low, middle, high = np.nanquantile(np.where(known, usual, 0), [0.16, 0.5, 0.84], axis=0)
        unit = np.maximum((high - low) / 2, 1e-3)
        return np.where(known, (distances - middle) / unit, np.nan)


def _conformal_p(score: float, others: NDArray[np.float64]) -> float:
    return float((1 + (others >= score).sum()) / (len(others) + 1))


def verdict_table(verdicts: Mapping[str, Verdict | None]) -> pd.DataFrame:
    """Return the columns ``ood_score``, ``ood_p``, ``ood_state`` and ``ood_level`` by patient."""
    rows = {patient: verdict for patient, verdict in verdicts.items() if verdict is not None}
    return pd.DataFrame.from_dict(
        {patient: tuple(verdict) for patient, verdict in rows.items()},
        orient="index",
        columns=[f"ood_{name}" for name in Verdict._fields],
    )


def shuffled(tiles: NDArray[np.floating], *, seed: int = 0) -> NDArray[np.floating]:
    """Return at most `MAX_TILES` tiles (n, D) in a random order."""
    return tiles[np.random.default_rng(seed).permutation(len(tiles))[:MAX_TILES]]


def fit_reference(
    patients: Sequence[str], tiles: Sequence[NDArray[np.floating]], *, seed: int = 0
) -> Reference:
    """Fit the reference to samples of tiles of the training patients.

    Parameters
    ----------
    patients
        Names of the M training patients.
    tiles
        (n_i, D) features of each patient's tiles, or a sample of them, in random order
        (:func:`shuffled`); NaN where a value is missing.
    seed
        Seed of the groups of patients that are left out.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> names = [f"P{i}" for i in range(40)]
    >>> reference = fit_reference(names, [rng.standard_normal((32, 8)) for _ in names])
    >>> reference.judge(rng.standard_normal((32, 8))).state
    'in'
    >>> far = reference.judge(rng.standard_normal((32, 8)) + 3)
    >>> far.state, far.level, round(far.p, 3)
    ('out', 'both', 0.024)
    >>> fit_reference(names[:9], [rng.standard_normal((32, 8)) for _ in range(9)]).judge(
    ...     rng.standard_normal((32, 8))
    ... ).state
    'unknown'
    """
    counts = np.array([len(sample) for sample in tiles], dtype=np.int32)
    order = np.random.default_rng(seed).permutation(len(tiles))
    group_of = order % min(_LEFT_OUT_GROUPS, len(tiles))
    fit = _fit_tiles if np.median(counts) >= MIN_TILES else _fit_vectors
    return fit(tuple(patients), tiles, counts, group_of)


def _fit_vectors(
    patients: tuple[str, ...],
    tiles: Sequence[NDArray[np.floating]],
    counts: NDArray[np.int32],
    group_of: NDArray[np.int64],
) -> Reference:
    """Fit the reference of patients who have a single vector each, or one for each slide."""
    left_out = np.empty((1, len(tiles), len(LEVELS)), dtype=np.float32)
    fewest = _fewest(group_of)
    for group in np.unique(group_of):
        inside, others = _rows(group_of == group), _others(group_of, group)
        scale = fit_scale(np.concatenate([tiles[i] for i in others]))
        means, _ = describe([scale(tiles[i]) for i in others])
        left_out[0, inside] = log_distances(
            fit_patient_space(means, patients=fewest),
            None,
            describe([scale(tiles[i]) for i in inside]),
        )
    scale = fit_scale(np.concatenate(list(tiles)))
    return Reference(
        patients=patients,
        scale=scale,
        white=None,
        means=fit_patient_space(
            describe([scale(sample) for sample in tiles]).means, patients=fewest
        ),
        spreads=None,
        sizes=np.array([1], dtype=np.int32),
        counts=counts,
        left_out=left_out,
    )


def _fit_tiles(
    patients: tuple[str, ...],
    tiles: Sequence[NDArray[np.floating]],
    counts: NDArray[np.int32],
    group_of: NDArray[np.int64],
) -> Reference:
    """Fit the reference of patients who have several tiles."""
    few = max(1, _SCALED_TILES // len(tiles))
    scale = fit_scale(np.concatenate([sample[:few] for sample in tiles]))
    values = [scale(sample).astype(np.float32) for sample in tiles]
    moments = [_moments([values[i] for i in _rows(group_of == g)]) for g in np.unique(group_of)]
    whole = whiten(reduce(Moments.__add__, moments))
    sizes, fewest = _sizes(counts), _fewest(group_of)
    left_out = np.empty((len(sizes), len(tiles), len(LEVELS)), dtype=np.float32)
    for group in np.unique(group_of):
        inside, others = _rows(group_of == group), _others(group_of, group)
        # The directions are found anew without the patients that are left out. Otherwise those
        # that are special to such a patient would be among them, as they are not for a new patient.
        kept = [each for g, each in enumerate(moments) if g != group] or moments
        white = whiten(reduce(Moments.__add__, kept), directions=whole.weights.shape[1])
        spaces = patient_spaces([white(values[i]) for i in others], fewest)
        held = [white(values[i]) for i in inside]
        for row, size in enumerate(sizes):
            left_out[row, inside] = log_distances(*spaces, describe(held, int(size)))
    means, spreads = patient_spaces([whole(sample) for sample in values], fewest)
    return Reference(patients, scale, whole, means, spreads, sizes, counts, left_out)


def _moments(values: Sequence[NDArray[np.floating]]) -> Moments:
    return reduce(Moments.__add__, (Moments.of(sample.astype(np.float64)) for sample in values))


def _sizes(counts: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the numbers of tiles for which distances are computed; no step is above 1.5 times.

    Most patients are judged by all of their sample, if they have equally many tiles.
    """
    powers = 2 ** np.arange(int(np.log2(MAX_TILES)) + 1)
    sizes = np.unique([*powers, *(3 * powers // 2), int(np.median(counts))])
    return sizes[(sizes >= 1) & (sizes <= counts.max())].astype(np.int32)


def _fewest(group_of: NDArray[np.int64]) -> int:
    """Return the number of patients that are left when the largest group is left out."""
    return max(1, len(group_of) - int(np.bincount(group_of).max()))


def _rows(mask: NDArray[np.bool_]) -> list[int]:
    rows: list[int] = np.flatnonzero(mask).tolist()
    return rows


def _others(group_of: NDArray[np.int64], group: int) -> list[int]:
    """Return the patients outside a group; a single patient is compared with itself."""
    return _rows(group_of != group) or [*range(len(group_of))]
