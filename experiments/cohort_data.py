"""A cohort as a study sees it: patients with both expression and features, and what the baselines know of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from tcgn_mil.contracts import PatchSize, stain_identity
from tcgn_mil.data.bags import check_same_encoder
from tcgn_mil.data.cohort_files import cohort_unit, read_cohort, slides_of
from tcgn_mil.data.feature_files import find_features, read_feature_info, read_features, read_mean_colour
from tcgn_mil.data.units import ExpressionUnit
from tcgn_mil.errors import InputError


@dataclass(frozen=True)
class CohortData:
    """A cohort with its features: patients in order, their slides, and expression in the training unit.

    Z-scored expression is as given here; each fold ranks it within its own training patients.
    """

    patients: tuple[str, ...]
    slides: dict[str, tuple[Path, ...]]
    genes: tuple[str, ...]
    values: NDArray[np.float32]
    unit: ExpressionUnit
    sites: dict[str, str]
    donors: dict[str, str]
    encoder: str
    width: int
    patch: PatchSize
    stain: str
    dropped: pd.DataFrame


def rows_of(data: CohortData, patients: Sequence[str]) -> NDArray[np.int64]:
    """Row of each patient in the cohort."""
    row = {name: index for index, name in enumerate(data.patients)}
    return np.array([row[name] for name in patients], dtype=np.int64)


def load_cohort(cohort_path: str | Path, features_dir: str | Path) -> CohortData:
    """Read the cohort and find its features; slides without features and patients without slides are listed.

    Raises
    ------
    InputError
        If no patient has both expression and features, or the features differ in encoder, tile size or stain.
    """
    cohort = read_cohort(cohort_path)
    unit = cohort_unit(cohort)
    found = find_features(features_dir)
    table = slides_of(cohort)
    dropped = [("slide", slide, "no feature file") for slide in table["slide_id"] if slide not in found]
    usable = table[table["slide_id"].isin(found)]
    slides = {str(patient): tuple(found[s] for s in rows["slide_id"]) for patient, rows in usable.groupby("patient_id")}
    patients = tuple(name for name in cohort.obs_names if name in slides)
    dropped += [("patient", name, "no slide with features") for name in cohort.obs_names if name not in slides]
    if not patients:
        raise InputError(
            f"none of its {cohort.n_obs} patients has features in {features_dir}",
            path=cohort_path,
            fix="encode this cohort's slides, or give its own features folder",
        )
    files = [path for name in patients for path in slides[name]]
    first = check_same_encoder([read_feature_info(path) for path in files], files)
    sites = cohort.obs["site"].astype(str).to_dict() if "site" in cohort.obs else {}
    return CohortData(
        patients=patients,
        slides=slides,
        genes=tuple(cohort.var_names),
        values=unit.to_training(np.asarray(cohort[list(patients)].X, dtype=np.float32)),
        unit=unit,
        sites=sites,
        donors=cohort.obs["donor"].astype(str).to_dict()
        if "donor" in cohort.obs
        else {name: name for name in patients},
        encoder=first.encoder,
        width=first.width,
        patch=first.patch,
        stain=stain_identity(first.stain),
        dropped=pd.DataFrame(dropped, columns=["kind", "id", "reason"]),
    )


def patient_descriptors(data: CohortData) -> dict[str, NDArray[np.float32]]:
    """What the baselines see of a patient, averaged over slides: (M, D) mean features, and (M, 30) colour if stored."""
    means, colours = [], []
    for patient in tqdm(data.patients, desc="baseline descriptors", unit="patient"):
        means.append(np.mean([read_features(path)[0].mean(axis=0) for path in data.slides[patient]], axis=0))
        colours.append([read_mean_colour(path) for path in data.slides[patient]])
    found = {"mean_features": np.stack(means)}
    if all(colour is not None for row in colours for colour in row):
        found["colour"] = np.stack([np.mean(row, axis=0) for row in colours])
    return found
