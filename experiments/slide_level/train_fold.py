"""The bags of a fold's patients: all slides of one together, or each by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.batches.feature_bags import BagDataset
from tcgn_mil.experiments.slide_level.cohort import CohortData
from tcgn_mil.experiments.slide_level.config import FinetuneConfig


@dataclass(frozen=True)
class PatientBags:
    """Bags with the patient each belongs to.

    Attributes
    ----------
    bags
        One a patient, or one a slide.
    owner
        (bags,) row of the patient among those asked for.
    """

    bags: BagDataset
    owner: NDArray[np.int64]

    def by_patient(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """(..., bags, G) -> (..., patients, G): the mean over a patient's bags."""
        if len(np.unique(self.owner)) == len(self.owner):
            return values
        patients = int(self.owner.max()) + 1
        weight = (self.owner == np.arange(patients)[:, None]).astype(np.float32)
        return (weight / weight.sum(axis=1, keepdims=True)) @ values


def patient_bags(
    config: FinetuneConfig,
    data: CohortData,
    names: Sequence[str],
    scaled: NDArray[np.float32],
    *,
    seed: int,
) -> PatientBags:
    """Bags of patients with their standardised targets.

    Parameters
    ----------
    scaled
        (patients asked for, G).
    seed
        Of order and tile samples.
    """
    if config.several_slides == "bag":
        return PatientBags(BagDataset(names, data.slides, scaled, seed=seed), np.arange(len(names)))
    files = {
        f"{name}/{number}": [path]
        for name in names
        for number, path in enumerate(data.slides[name])
    }
    owner = np.repeat(np.arange(len(names)), [len(data.slides[name]) for name in names])
    return PatientBags(BagDataset(tuple(files), files, scaled[owner], seed=seed), owner)
