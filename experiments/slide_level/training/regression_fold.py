"""Fit the closed-form slide model of one fold, and refit it on permuted labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.experiments.slide_level.inputs.cohort import CohortData
from tcgn_mil.experiments.slide_level.inputs.targets import FoldTargets
from tcgn_mil.models.component_regression import ComponentRegression, RegressionInputs
from tcgn_mil.progress import Progress
from tcgn_mil.settings.slide_model import MilConfig
from tcgn_mil.types.folds import Fold


class RegressionFold(NamedTuple):
    """A fitted model, its predictions, and what refits on permuted labels need.

    Attributes
    ----------
    model
        The fitted model.
    predicted
        (M_test, G) standardised predictions of the test patients.
    refits
        Function that yields the standardised predictions of some refits, given a function that
        returns the targets of each, and their numbers.
    """

    model: ComponentRegression
    predicted: NDArray[np.float32]
    refits: Callable[[Callable[[int], FoldTargets], Sequence[int]], Iterator[NDArray[np.float32]]]


def fit_regression(
    config: MilConfig, data: CohortData, fold: Fold, targets: FoldTargets
) -> RegressionFold:
    """Fit a model to the training and validation patients of a fold.

    Validation patients take part, because penalties are selected by leaving one patient out and
    nothing else reads the validation part. Genes and scales of the targets still come from the
    training patients alone, as for the network.
    """
    features = data.descriptors["mean_features"]
    used, test = data.rows_of([*fold.train, *fold.val]), data.rows_of(fold.test)
    inputs = RegressionInputs(features[used], config.kind)
    weights = inputs.fit(targets.scaled[used], config.components)
    model = ComponentRegression(data.width, len(targets.panel), config, patients=len(used))
    model.set_weights(inputs, weights)

    def refits(
        permuted: Callable[[int], FoldTargets], numbers: Sequence[int]
    ) -> Iterator[NDArray[np.float32]]:
        # The decomposition of the kernel does not depend on labels, so a refit costs one product.
        for number in Progress(
            numbers, desc=f"fold {fold.index}, refits", unit="refit", leave=False
        ):
            scaled = permuted(number).scaled[used]
            yield inputs.predict(inputs.fit(scaled, config.components), features[test])

    return RegressionFold(model, model.predict(features[test]), refits)
