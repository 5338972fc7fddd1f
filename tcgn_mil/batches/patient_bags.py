"""The bags of a fold's patients: all slides of one together, or each by itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.batches.feature_bags import BagDataset


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
