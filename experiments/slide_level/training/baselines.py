"""Simple predictors of patients that a slide model must beat (docs/protocol.md, Baselines).

They read the same input as the closed-form models, normal scores of ranks among the training
patients, because a baseline that reads raw columns with heavy tails is weaker than it could be.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.regression.kernel_ridge import CentredKernel, KernelRidge
from tcgn_mil.regression.rank_normaliser import FeatureScale
from tcgn_mil.types.arrays import Float64Array

# Descriptor of the patients, kernel, and name of the baseline.
_REGRESSIONS = (
    ("colour", "linear", "ridge_colour"),
    ("mean_features", "linear", "ridge_mean_features"),
    ("mean_features", "gaussian", "kernel_mean_features"),
)


def patient_baselines(
    train: Mapping[str, NDArray[np.floating]],
    train_targets: NDArray[np.floating],
    test: Mapping[str, NDArray[np.floating]],
) -> dict[str, NDArray[np.float32]]:
    """Predict by the training mean, and by ridge and kernel ridge regression on descriptors.

    Each regression has one penalty for all genes, selected by the leave-one-out error of the
    training patients, which is nested in the cross-validation.

    Parameters
    ----------
    train, test
        (M_train, F) and (M_test, F) descriptors by name, ``mean_features`` and ``colour``. A
        descriptor that is not there has no baseline. NaN where a feature is missing.
    train_targets
        (M_train, G), NaN where a value is missing.

    Returns
    -------
    (M_test, G) predictions by the name of the baseline; NaN for genes without a training value.
    """
    count = len(next(iter(test.values())))
    unknown = ~np.isfinite(train_targets).any(axis=0)
    # A gene without any value gets the placeholder 0, so that one regression can be fitted to all
    # genes at once; its predictions are set to NaN below.
    with_placeholders = np.where(unknown, 0, train_targets)
    train_mean = np.nanmean(with_placeholders, axis=0)
    # A regression cannot leave single values out, so a missing one becomes the gene's mean.
    complete_targets = np.where(np.isfinite(with_placeholders), with_placeholders, train_mean)
    predictions: dict[str, NDArray[np.floating]] = {
        "training_mean": np.broadcast_to(train_mean, (count, len(train_mean)))
    }
    for descriptor, kind, name in _REGRESSIONS:
        if descriptor in train:
            predictions[name] = _regression(
                train[descriptor], complete_targets, test[descriptor], kind
            )
    return {
        name: np.where(unknown, np.nan, values).astype(np.float32)
        for name, values in predictions.items()
    }


def _regression(
    train: NDArray[np.floating],
    targets: NDArray[np.floating],
    test: NDArray[np.floating],
    kind: str,
) -> Float64Array:
    scale = FeatureScale(train)
    kernel = CentredKernel(scale(train), "linear" if kind == "linear" else "gaussian")
    # The penalty is selected on standardised genes, so that genes of large variance do not decide.
    spread = targets.std(axis=0)
    spread = np.where(spread > 0, spread, 1)
    weights = KernelRidge(kernel.matrix).fit(targets / spread)
    return (kernel(scale(test)) @ weights.dual + weights.bias) * spread
