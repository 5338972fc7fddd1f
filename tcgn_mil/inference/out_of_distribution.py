"""Score how far a slide is from the training slides (out-of-distribution score).

The mean features of the training patients are standardised and reduced to their leading principal
components. The distance of a slide joins the Mahalanobis distance along these components with the
distance from the space that they span. With scores t_k of variance v_k along K components, and the
squared residual e of mean E over the training patients,

    distance = sqrt((sum_k t_k^2 / v_k + e / E) / (K + 1)).

A wrong stain, organ or scale moves the mean of all tiles far more than patients differ from one
another. The distance of each training patient is computed with this patient left out (in ten
groups), so that the distance of a new slide is compared with distances of its own kind. The score
is the distance divided by the 99th percentile of these distances: above 1, a slide is out of
distribution.
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
_MAX_COMPONENTS, _PATIENTS_PER_COMPONENT = 16, 5
_LEFT_OUT_GROUPS = 10
_EPSILON = 1e-12  # avoids a division by zero


@dataclass(frozen=True)
class Reference:
    """Distribution of the mean features of the training patients.

    Attributes
    ----------
    mean, scale
        (D,) each, by which features are standardised.
    components
        (K, D) leading principal components.
    variance
        (K,) variance of the training patients along the components.
    residual
        (1,) mean squared residual of the training patients.
    distances
        (M,) distance of each training patient from the others, in ascending order.
    """

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    components: NDArray[np.float32]
    variance: NDArray[np.float32]
    residual: NDArray[np.float32]
    distances: NDArray[np.float32]

    def distance(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """Compute the distances (M,) of mean features (M, D); the formula is in the module.

        A missing value (NaN) counts as the mean.
        """
        standard = (np.asarray(features, dtype=np.float64) - self.mean) / self.scale
        standard = np.where(np.isnan(standard), 0, standard)
        scores = standard @ self.components.T
        residual = np.square(standard - scores @ self.components).sum(axis=1)
        residual = residual / max(float(self.residual[0]), _EPSILON)
        along = np.square(scores) / self.variance
        return np.sqrt((along.sum(axis=1) + residual) / (len(self.variance) + 1))

    def score(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """Compute the scores (M,) of mean features (M, D); above 1 is out of distribution."""
        usual = float(np.percentile(self.distances, FLAG_PERCENTILE))
        return self.distance(features) / max(usual, _EPSILON)


def fit_reference(features: NDArray[np.floating], *, seed: int = 0) -> Reference:
    """Fit the distribution of the training patients.

    Parameters
    ----------
    features
        (M, D) mean features of the training patients; NaN where a value is missing.
    seed
        Seed of the groups of patients that are left out.

    Examples
    --------
    >>> import numpy as np
    >>> features = np.random.default_rng(0).standard_normal((50, 8))
    >>> reference = fit_reference(features)
    >>> reference.score(features[:1]) < 1, reference.score(features[:1] + 10) > 1
    (array([ True]), array([ True]))
    """
    values = np.asarray(features, dtype=np.float64)
    groups = np.random.default_rng(seed).permutation(len(values)) % min(
        _LEFT_OUT_GROUPS, len(values)
    )
    distances = np.empty(len(values))
    for group in np.unique(groups):
        inside = groups == group
        distances[inside] = _fit(values[~inside], np.zeros(1)).distance(values[inside])
    return _fit(values, np.sort(distances))


def _fit(features: NDArray[np.float64], distances: NDArray[np.float64]) -> Reference:
    known = ~np.isnan(features)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, features, 0).sum(axis=0) / count
    features = np.where(known, features, mean)
    scale = features.std(axis=0)
    # A smaller spread is rounding of float16 features, which must not be magnified.
    scale = np.where(scale > 1e-4 * np.maximum(np.abs(mean), 1e-3), scale, 1.0)
    standard = (features - mean) / scale
    _, singular, rows = np.linalg.svd(standard, full_matrices=False)
    # Few enough components that each variance is estimated from five patients or more.
    kept = max(
        1,
        min(
            _MAX_COMPONENTS, len(features) // _PATIENTS_PER_COMPONENT, int((singular > 1e-6).sum())
        ),
    )
    residual = np.square(standard - standard @ rows[:kept].T @ rows[:kept]).sum(axis=1).mean()
    variance = np.maximum(np.square(singular[:kept]) / len(features), _EPSILON)
    values = (mean, scale, rows[:kept], variance, np.array([residual]), distances)
    return Reference(*(np.ascontiguousarray(value, dtype=np.float32) for value in values))


def write_reference(folder: str | Path, features: NDArray[np.floating]) -> None:
    """Fit the distribution of a run's patients (M, D) and write it into the run's folder."""
    from safetensors.numpy import save_file

    reference = fit_reference(features)
    arrays = {name: getattr(reference, name) for name in Reference.__dataclass_fields__}
    with atomic_path(Path(folder) / FILE) as temporary:
        save_file(arrays, temporary)


def read_reference(folder: str | Path) -> Reference:
    """Read the distribution of a run's training patients.

    Raises
    ------
    InputError
        If the file does not exist or is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = Path(folder) / FILE
    if not path.is_file():
        raise InputError(
            "does not exist, so slides cannot be compared with the training slides",
            path=path,
            fix="run tcgn-mil finetune again",
        )
    try:
        return Reference(**load_file(path))
    except (SafetensorError, TypeError, OSError) as error:
        raise InputError(
            f"cannot be read ({error})", path=path, fix="run tcgn-mil finetune again"
        ) from error
