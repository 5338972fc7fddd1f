"""Bags of a fold's patients: all slides of a patient in one bag, or each slide in its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.batches.feature_bags import BagDataset


@dataclass(frozen=True)
class PatientBags:
    """Bags, and the patient of each.

    Attributes
    ----------
    bags
        One bag per patient, or one per slide.
    owner
        (bags,) row of the bag's patient in the list of patients.
    """

    bags: BagDataset
    owner: NDArray[np.int64]

    def by_patient(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Average values over the bags of each patient.

        Parameters
        ----------
        values
            (..., bags, G).

        Returns
        -------
        (..., patients, G).
        """
        if len(np.unique(self.owner)) == len(self.owner):
            return values
        patients = int(self.owner.max()) + 1
        weight = (self.owner == np.arange(patients)[:, None]).astype(np.float32)
        return (weight / weight.sum(axis=1, keepdims=True)) @ values
