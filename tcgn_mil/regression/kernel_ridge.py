"""Ridge regression on a kernel of the samples, for many targets at once.

With the kernel matrix K of the n training samples, centred, the fitted values of a target y with
penalty a are K (K + a I)^-1 (y - mean(y)). The eigenvectors of K do not depend on y or a, so one
decomposition serves all targets, all penalties and all permutations of the labels. The error of
leaving a sample out follows in closed form from its residual e_i and its diagonal entry h_i of the
hat matrix, e_i / (1 - h_i), so that a penalty is selected without a second fit.

Thousands of genes follow a few programmes, such as proliferation and infiltration by immune cells,
which differ in how well a slide shows them. So the targets can be replaced by their leading
principal components, each with a penalty of its own: a component that the features do not predict
is shrunk towards its mean and adds no noise to the genes, and a component that they predict well is
shrunk little. One penalty for all genes, or one for each gene, can do neither.

References
----------
Hastie T, Tibshirani R, Friedman J. The Elements of Statistical Learning, 2nd edition (2009),
sections 3.4 (ridge regression), 5.8 (kernels) and 7.10 (leaving one out).
Breiman L, Friedman JH. Predicting multivariate responses in multiple linear regression. J R Stat
Soc B 1997 (shrinkage of each component of the responses by itself).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from tcgn_mil.types.arrays import Float64Array, FloatArray

Kernel = Literal["linear", "gaussian"]

PENALTIES = np.logspace(-2.5, 3, 23)
# Chosen on validation patients of TCGA-BRCA, LUAD and LUSC (experiments/results/tcga.md): r changes
# by less than 0.002 between half and double of each.
_WIDTH = 0.1
_CERTAINTY = 0.3


class KernelWeights(NamedTuple):
    """Weights of a fitted regression. A prediction is ``kernel @ dual @ loadings + bias``.

    Attributes
    ----------
    dual
        (n, K) weights of the training samples, for each component or target.
    loadings
        (K, G) weights of the components in the targets.
    bias
        (G,) means of the targets.
    """

    dual: Float64Array
    loadings: Float64Array
    bias: Float64Array


class CentredKernel:
    """Kernel between samples, centred on the training samples.

    The linear kernel of samples x and z with D features is x . z / D. The Gaussian kernel is
    exp(-w |x - z|^2 / D) / w with w = 0.1, which tends to the linear one for small w.

    Parameters
    ----------
    training
        (n, D) features of the training samples, of mean 0 and standard deviation 1.
    kind
        ``linear`` or ``gaussian``.
    """

    def __init__(self, training: FloatArray, kind: Kernel) -> None:
        self.training, self.kind = np.asarray(training, dtype=np.float64), kind
        plain = self._plain(self.training)
        self._column_means, self._mean = plain.mean(axis=0), plain.mean()
        self.matrix = self._centred(plain)

    def __call__(self, features: FloatArray) -> Float64Array:
        """Return the kernel (M, n) between samples (M, D) and the training samples."""
        return self._centred(self._plain(np.asarray(features, dtype=np.float64)))

    def _plain(self, features: Float64Array) -> Float64Array:
        products = features @ self.training.T / max(self.training.shape[1], 1)
        if self.kind == "linear":
            return products
        own, training = (np.square(values).mean(axis=1) for values in (features, self.training))
        distances = np.maximum(own[:, None] + training - 2 * products, 0)
        return np.exp(-_WIDTH * distances) / _WIDTH

    def _centred(self, plain: Float64Array) -> Float64Array:
        return plain - self._column_means - plain.mean(axis=1, keepdims=True) + self._mean


class KernelRidge:
    """Ridge regression on the kernel of training samples, ready for any targets.

    Parameters
    ----------
    kernel
        (n, n) centred kernel of the training samples.

    Examples
    --------
    A target that is a linear function of a feature, and one that is noise:

    >>> rng = np.random.default_rng(0)
    >>> features = rng.standard_normal((200, 5))
    >>> targets = np.stack([features[:, 0], rng.standard_normal(200)], axis=1)
    >>> kernel = CentredKernel(features, "linear")
    >>> weights = KernelRidge(kernel.matrix).fit_components(targets, 2)
    >>> new = np.array([[2.0, 0, 0, 0, 0]])
    >>> (kernel(new) @ weights.dual @ weights.loadings + weights.bias).round(1).tolist()
    [[2.0, 0.1]]
    """

    def __init__(self, kernel: Float64Array) -> None:
        # The constant vector is an eigenvector of every centred kernel, of value 0. It belongs to
        # the mean of the targets, which is not penalised, so that it takes no part in the
        # leave-one-out error. Its value is raised above all others, so that it comes last and is
        # not mixed with other vectors of value 0.
        raised = kernel + (np.trace(kernel) + 1) / len(kernel)
        values, vectors = np.linalg.eigh(raised)
        self._values, self._vectors = np.maximum(values[:-1], 0), vectors[:, :-1]
        # (penalties, n): 1 - h of each sample, divided by the penalty.
        self._left_out = np.stack(
            [np.square(self._vectors) @ (1 / (self._values + penalty)) for penalty in PENALTIES]
        )

    def fit(self, targets: FloatArray) -> KernelWeights:
        """Fit targets (n, G) with one penalty, selected by the leave-one-out error over all."""
        bias = np.asarray(targets, dtype=np.float64).mean(axis=0)
        rotated = self._vectors.T @ (targets - bias)
        best = PENALTIES[self._errors(rotated).mean(axis=1).argmin()]
        dual = self._vectors @ (rotated / (self._values + best)[:, None])
        return KernelWeights(dual, np.eye(len(bias)), bias)

    def fit_components(self, targets: FloatArray, components: int) -> KernelWeights:
        """Fit the leading principal components of targets (n, G), each with penalties of its own.

        The weights are averaged over the penalties. With the leave-one-out error m of a penalty,
        its share is proportional to exp(-0.3 n log(m) / 2), that is the likelihood of the left-out
        values, tempered because they depend on one another. An average is steadier than the best
        penalty alone, which matters for components that are predicted little.
        """
        bias = np.asarray(targets, dtype=np.float64).mean(axis=0)
        scores, loadings = principal_components(targets - bias, components)
        rotated = self._vectors.T @ scores  # (n - 1, K)
        evidence = -0.5 * _CERTAINTY * len(scores) * np.log(self._errors(rotated) + _TINY)
        share = np.exp(evidence - evidence.max(axis=0))
        share = share / share.sum(axis=0)  # (penalties, K)
        inverse = 1 / (self._values[:, None] + PENALTIES)  # (n - 1, penalties)
        dual = self._vectors @ (rotated * (inverse @ share))
        return KernelWeights(dual, loadings, bias)

    def _errors(self, rotated: Float64Array) -> Float64Array:
        """Return (penalties, K) mean squared leave-one-out errors of targets in eigenvectors."""
        errors = []
        for penalty, left_out in zip(PENALTIES, self._left_out, strict=True):
            dual = self._vectors @ (rotated / (self._values + penalty)[:, None])
            errors.append(np.square(dual / left_out[:, None]).mean(axis=0))
        return np.stack(errors)


_TINY = np.finfo(np.float64).tiny


def principal_components(centred: FloatArray, count: int) -> tuple[Float64Array, Float64Array]:
    """Return scores (n, K) and loadings (K, G) of the leading principal components.

    Parameters
    ----------
    centred
        (n, G) values with mean 0 in each column.
    count
        Number of components; fewer are returned if the values have a lower rank.
    """
    # By the n x n matrix of inner products, since there are far more genes than patients.
    values = np.asarray(centred, dtype=np.float64)
    variances, vectors = np.linalg.eigh(values @ values.T)
    order = np.argsort(variances)[::-1][:count]
    order = order[variances[order] > max(variances.max(), 0) * 1e-10]
    scale = np.sqrt(variances[order])
    return vectors[:, order] * scale, (vectors[:, order] / scale).T @ values
