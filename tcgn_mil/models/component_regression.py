"""Closed-form slide model: kernel ridge regression of expression on the mean features of a patient.

It is the simple model beside the attention network of :mod:`tcgn_mil.models.slide_regressor`, and
the better one where a slide is described by one vector. The features become normal scores of their
ranks among the training patients (:class:`tcgn_mil.regression.rank_normaliser.FeatureScale`), and
the leading principal components of expression are each predicted with a penalty of their own
(:mod:`tcgn_mil.regression.kernel_ridge`). There is nothing to train by gradient, no learning rate
and no early stopping, so that the validation patients are used for the fit as well.

Since the model reads the mean over tiles, it has no score for single tiles and draws no maps.

Notes
-----
Shapes: n training patients, D features, K components, G genes.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tcgn_mil.regression.kernel_ridge import CentredKernel, Kernel, KernelRidge, KernelWeights
from tcgn_mil.regression.rank_normaliser import FeatureScale
from tcgn_mil.settings.slide_model import MilConfig
from tcgn_mil.types.arrays import Float64Array, FloatArray

KERNELS: dict[str, Kernel] = {"ridge": "linear", "kernel": "gaussian"}


class RegressionInputs:
    """Features of the training patients, prepared once for any number of fits.

    Parameters
    ----------
    features
        (n, D) mean features of the training patients, NaN where a value is missing.
    kind
        ``ridge`` (linear kernel) or ``kernel`` (Gaussian kernel).
    """

    def __init__(self, features: FloatArray, kind: str) -> None:
        self.scale = FeatureScale(features)
        self.kernel = CentredKernel(self.scale(features), KERNELS[kind])
        self._ridge = KernelRidge(self.kernel.matrix)

    def fit(self, targets: FloatArray, components: int) -> KernelWeights:
        """Fit standardised targets (n, G), NaN where unknown; see ``KernelRidge``."""
        # A target that is not known becomes the training mean, which is 0.
        return self._ridge.fit_components(np.nan_to_num(targets), components)

    def predict(self, weights: KernelWeights, features: FloatArray) -> NDArray[np.float32]:
        """Predict (M, G) standardised expression from features (M, D)."""
        kernel = self.kernel(self.scale(features))
        return (kernel @ weights.dual @ weights.loadings + weights.bias).astype(np.float32)


class ComponentRegression(nn.Module):
    """Map the mean features of a patient to standardised expression.

    Parameters
    ----------
    in_features
        D, width of the features.
    num_genes
        G, number of genes.
    config
        Settings; ``kind`` is ``ridge`` or ``kernel``.
    patients
        n, number of patients on which the model is fitted.

    Notes
    -----
    The Gaussian kernel needs the features of the training patients, so a checkpoint holds them.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> features = rng.standard_normal((60, 4)).astype(np.float32)
    >>> model = ComponentRegression(4, 3, MilConfig(kind="ridge"), patients=60)
    >>> model.fit(features, features[:, :3])
    >>> model.predict(np.zeros((2, 4))).shape
    (2, 3)
    """

    feature_ranks: Tensor
    inputs: Tensor
    dual: Tensor
    loadings: Tensor
    bias: Tensor

    def __init__(
        self, in_features: int, num_genes: int, config: MilConfig, *, patients: int
    ) -> None:
        super().__init__()
        self.config, self.in_features, self.num_genes = config, in_features, num_genes
        components = min(config.components, patients - 1, num_genes)
        shapes = {
            "feature_ranks": (patients, in_features),  # sorted within each feature
            "inputs": (patients, in_features),
            "dual": (patients, components),
            "loadings": (components, num_genes),
            "bias": (num_genes,),
        }
        for name, shape in shapes.items():
            self.register_buffer(name, torch.zeros(shape))
        self._prepared: tuple[FeatureScale, CentredKernel] | None = None

    def fit(self, features: FloatArray, targets: FloatArray) -> None:
        """Fit the model to features (n, D) and standardised targets (n, G), NaN where unknown."""
        inputs = RegressionInputs(features, self.config.kind)
        self.set_weights(inputs, inputs.fit(targets, self.config.components))

    def set_weights(self, inputs: RegressionInputs, weights: KernelWeights) -> None:
        """Take over a fit of the prepared features of the training patients."""
        # Targets of a lower rank have fewer components; the others stay zero.
        count = len(weights.loadings)
        for buffer, values in (
            (self.feature_ranks, inputs.scale.training),
            (self.inputs, inputs.kernel.training),
            (self.dual[:, :count], weights.dual),
            (self.loadings[:count], weights.loadings),
            (self.bias, weights.bias),
        ):
            buffer.copy_(torch.from_numpy(np.asarray(values, dtype=np.float32)))
        self._prepared = None

    def predict(self, features: FloatArray) -> NDArray[np.float32]:
        """Predict standardised expression (M, G) from mean features (M, D), NaN where missing."""
        if self._prepared is None:
            self._prepared = (
                FeatureScale(self.feature_ranks.numpy()),
                CentredKernel(self.inputs.numpy(), KERNELS[self.config.kind]),
            )
        scale, kernel = self._prepared
        return self._from_kernel(kernel(scale(features)))

    def predict_by_own_scale(self, features: FloatArray) -> NDArray[np.float32]:
        """Predict a cohort whose features are ranked among its own patients.

        Another laboratory or cancer shifts features as a whole. Ranks within the new cohort remove
        this shift, and with it any true difference of the cohorts, so that the predictions compare
        the patients of the cohort with one another and not with those of training.

        Parameters
        ----------
        features
            (M, D) mean features of the whole cohort, some dozens of patients or more.
        """
        kernel = CentredKernel(self.inputs.numpy(), KERNELS[self.config.kind])
        return self._from_kernel(kernel(FeatureScale(features)(features)))

    def _from_kernel(self, kernel: Float64Array) -> NDArray[np.float32]:
        dual, loadings, bias = (
            buffer.numpy().astype(np.float64) for buffer in (self.dual, self.loadings, self.bias)
        )
        return (kernel @ dual @ loadings + bias).astype(np.float32)
