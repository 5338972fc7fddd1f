"""How far a slide lies from the slides a model was trained on: an out-of-distribution score.

Mean features of a slide (or patient) are taken to the leading principal components of the training patients', and the
Mahalanobis distance there is joined by what the components leave out, each in units of the training patients' spread.
A wrong stain, organ or scale moves the mean of all tiles far more than patients differ. Distances of the training
patients themselves are taken with each left out, so that a new slide is compared with distances of its own kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.io.atomic import atomic_path

FILE = "reference.safetensors"
FLAG_PERCENTILE = 99
_MOST_COMPONENTS, _PATIENTS_A_COMPONENT = 16, 5
_LEFT_OUT_GROUPS = 10


@dataclass(frozen=True)
class Reference:
    """Training patients' mean features, and how far each lies from the others.

    Attributes
    ----------
    mean, scale
        (D,) by which features are standardised.
    components
        (K, D) leading principal components.
    variance
        (K,) of the training patients along them.
    residual
        Mean square of what the components leave out.
    distances
        (M,) sorted, of the training patients, each from the others.
    """

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    components: NDArray[np.float32]
    variance: NDArray[np.float32]
    residual: NDArray[np.float32]
    distances: NDArray[np.float32]

    def distance(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """(M, D) mean features -> (M,) root of the mean square of standardised scores and of the residual's share."""
        standard = (np.asarray(features, dtype=np.float64) - self.mean) / self.scale
        scores = standard @ self.components.T
        left = np.square(standard - scores @ self.components).sum(axis=1) / max(
            float(self.residual[0]), 1e-12
        )
        along = np.square(scores) / self.variance
        return np.sqrt((along.sum(axis=1) + left) / (len(self.variance) + 1))

    def score(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """(M,) distance over the 99th percentile of the training patients' own: above 1 is out of distribution."""
        return self.distance(features) / max(
            float(np.percentile(self.distances, FLAG_PERCENTILE)), 1e-12
        )


def fit_reference(features: NDArray[np.floating], *, seed: int = 0) -> Reference:
    """Reference of training patients' mean features (M, D)."""
    features = np.asarray(features, dtype=np.float64)
    groups = np.random.default_rng(seed).permutation(len(features)) % min(
        _LEFT_OUT_GROUPS, len(features)
    )
    distances = np.empty(len(features))
    for group in np.unique(groups):
        inside = groups == group
        distances[inside] = _fit(features[~inside], np.zeros(1)).distance(features[inside])
    return _fit(features, np.sort(distances))


def _fit(features: NDArray[np.float64], distances: NDArray[np.float64]) -> Reference:
    mean, scale = features.mean(axis=0), features.std(axis=0)
    scale = np.where(scale > 1e-4 * np.maximum(np.abs(mean), 1e-3), scale, 1.0)
    standard = (features - mean) / scale
    _, singular, rows = np.linalg.svd(standard, full_matrices=False)
    kept = max(
        1,
        min(_MOST_COMPONENTS, len(features) // _PATIENTS_A_COMPONENT, int((singular > 1e-6).sum())),
    )
    left = np.square(standard - standard @ rows[:kept].T @ rows[:kept]).sum(axis=1).mean()
    variance = np.maximum(np.square(singular[:kept]) / len(features), 1e-12)
    values = (mean, scale, rows[:kept], variance, np.array([left]), distances)
    return Reference(*(np.ascontiguousarray(value, dtype=np.float32) for value in values))


def write_reference(folder: str | Path, features: NDArray[np.floating]) -> None:
    """Write the reference of a run's patients (M, D) into its folder."""
    from safetensors.numpy import save_file

    found = fit_reference(features)
    with atomic_path(Path(folder) / FILE) as temporary:
        save_file(
            {name: getattr(found, name) for name in Reference.__dataclass_fields__}, temporary
        )


def read_reference(folder: str | Path) -> Reference:
    """The reference of a run.

    Raises
    ------
    InputError
        If there is none, or it is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = Path(folder) / FILE
    if not path.is_file():
        raise InputError(
            "has no reference of its training features",
            path=path,
            fix="run tcgn-mil finetune again",
        )
    try:
        return Reference(**load_file(path))
    except (SafetensorError, TypeError, OSError) as error:
        raise InputError(
            f"cannot be read ({error})", path=path, fix="run tcgn-mil finetune again"
        ) from error
