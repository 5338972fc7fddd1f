"""Simple predictors that a model must beat: ridge regression, colour statistics, sequencing depth.

See docs/protocol.md, section Baselines.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.types.arrays import Float64Array, FloatArray

# Six channels (red, green, blue, haematoxylin, eosin, residual) with five statistics each.
COLOUR_STATISTICS = 30
PERCENTILES = (10, 50, 90)
_PENALTIES = np.logspace(0, 6, 13)
_PATCHES_AT_ONCE = 256


def colour_statistics(patches: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Colour and stain statistics of image patches.

    They are the mean, standard deviation and 10th, 50th and 90th percentile of six channels: red,
    green, blue, and the stains haematoxylin, eosin and residual. Stains are separated in optical
    density by the matrix of Ruifrok & Johnston (2001), as scikit-image implements it.

    Parameters
    ----------
    patches
        (S, H, W, 3) uint8 RGB.

    Returns
    -------
    (S, 30) float32, statistic by statistic.

    Examples
    --------
    >>> import numpy as np
    >>> white = np.full((1, 8, 8, 3), 255, dtype=np.uint8)
    >>> colour_statistics(white)[0, :3]  # mean of red, green and blue
    array([1., 1., 1.], dtype=float32)
    """
    from skimage.color import rgb2hed

    out = np.empty((len(patches), COLOUR_STATISTICS), dtype=np.float32)
    for start in range(0, len(patches), _PATCHES_AT_ONCE):
        rgb = patches[start : start + _PATCHES_AT_ONCE]
        channels = np.concatenate([rgb / np.float32(255), rgb2hed(rgb).astype(np.float32)], axis=-1)
        pixels = channels.reshape(len(rgb), -1, channels.shape[-1])
        stats = [
            pixels.mean(axis=1),
            pixels.std(axis=1),
            *np.percentile(pixels, PERCENTILES, axis=1),
        ]
        out[start : start + len(rgb)] = np.concatenate(stats, axis=1)
    return out


class RidgeWeights(NamedTuple):
    """A linear map of features without standardisation.

    Attributes
    ----------
    weight
        (G, F) float64.
    bias
        (G,) float64.
    """

    weight: Float64Array
    bias: Float64Array


def ridge_weights(train_features: FloatArray, train_targets: FloatArray) -> RidgeWeights:
    """Fit ridge regression, with the penalty selected by leave-one-out error.

    Parameters
    ----------
    train_features
        (S, F) features. They are standardised by their own mean and standard deviation.
    train_targets
        (S, G) values to predict.

    Returns
    -------
    Weights for features as they are: the standardisation is part of the weights.
    """
    from sklearn.linear_model import RidgeCV
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(train_features)
    model = RidgeCV(alphas=_PENALTIES).fit(scaler.transform(train_features), train_targets)
    # w' (x - mean) / scale + b = (w / scale)' x + (b - (w / scale)' mean)
    weight = np.reshape(model.coef_, (train_targets.shape[1], -1)) / scaler.scale_
    return RidgeWeights(weight, np.reshape(model.intercept_ - weight @ scaler.mean_, -1))


def ridge_predictions(
    train_features: FloatArray,
    train_targets: FloatArray,
    features: FloatArray,
) -> NDArray[np.float32]:
    """Predict by ridge regression, with the penalty selected by leave-one-out error.

    Parameters
    ----------
    train_features
        (S, F) features of the training samples.
    train_targets
        (S, G) values of the training samples.
    features
        (N, F) features of the samples to predict.

    Returns
    -------
    (N, G) float32.

    Examples
    --------
    >>> import numpy as np
    >>> features = np.arange(20.0)[:, None]
    >>> ridge_predictions(features, 2 * features, np.array([[30.0]])).round()
    array([[58.]], dtype=float32)
    """
    weight, bias = ridge_weights(train_features, train_targets)
    return np.asarray(features @ weight.T + bias, dtype=np.float32)


def depth_predictions(
    train_log_depth: FloatArray,
    train_targets: FloatArray,
    log_depth: FloatArray,
) -> NDArray[np.float32]:
    """Predict each gene from the sequencing depth of a spot alone (the depth control).

    The prediction is a cubic spline of the spot's log total count, fitted on the training spots. It
    uses no image, so that its score shows how much sequencing depth explains.

    Parameters
    ----------
    train_log_depth
        (S,) log total count of the training spots.
    train_targets
        (S, G) values of the training spots.
    log_depth
        (N,) log total count of the spots to predict.

    Returns
    -------
    (N, G) float32.
    """
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import SplineTransformer

    spline = SplineTransformer(n_knots=5, degree=3, knots="quantile", extrapolation="linear")
    model = make_pipeline(spline, LinearRegression())
    model.fit(np.reshape(train_log_depth, (-1, 1)), train_targets)
    return np.asarray(model.predict(np.reshape(log_depth, (-1, 1))), dtype=np.float32).reshape(
        len(log_depth), -1
    )
