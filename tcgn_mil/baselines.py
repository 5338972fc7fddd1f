"""Ridge regression on colour statistics: what a model must beat before it is worth a GPU (PROTOCOL, Baselines)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

COLOUR_STATISTICS = (
    30  # 6 channels (red, green, blue, haematoxylin, eosin, residual) x 5 statistics
)
_PERCENTILES = (10, 50, 90)
_PENALTIES = np.logspace(0, 6, 13)
_CHUNK = 256


def colour_statistics(patches: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Mean, standard deviation and 10th, 50th, 90th percentile of each colour and stain channel.

    Stains are separated in optical density by the matrix of Ruifrok & Johnston (2001), as scikit-image has it.

    Parameters
    ----------
    patches
        (S, H, W, 3) uint8 RGB.

    Returns
    -------
    (S, 30) float32.
    """
    from skimage.color import rgb2hed

    out = np.empty((len(patches), COLOUR_STATISTICS), dtype=np.float32)
    for start in range(0, len(patches), _CHUNK):
        rgb = patches[start : start + _CHUNK]
        channels = np.concatenate([rgb / np.float32(255), rgb2hed(rgb).astype(np.float32)], axis=-1)
        pixels = channels.reshape(len(rgb), -1, channels.shape[-1])
        stats = [
            pixels.mean(axis=1),
            pixels.std(axis=1),
            *np.percentile(pixels, _PERCENTILES, axis=1),
        ]
        out[start : start + len(rgb)] = np.concatenate(stats, axis=1)
    return out


class RidgeWeights(NamedTuple):
    """A linear map of features as they come: ``weight`` (G, F) and ``bias`` (G,), float64."""

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]


def ridge_weights(
    train_features: NDArray[np.floating], train_targets: NDArray[np.floating]
) -> RidgeWeights:
    """Ridge with the penalty chosen by leave-one-out error on the training samples.

    Parameters
    ----------
    train_features, train_targets
        (S, F) and (S, G); features are standardised by their training statistics, which the weights take up.
    """
    from sklearn.linear_model import RidgeCV
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(train_features)
    model = RidgeCV(alphas=_PENALTIES).fit(scaler.transform(train_features), train_targets)
    weight = np.reshape(model.coef_, (train_targets.shape[1], -1)) / scaler.scale_
    return RidgeWeights(weight, np.reshape(model.intercept_ - weight @ scaler.mean_, -1))


def ridge_predictions(
    train_features: NDArray[np.floating],
    train_targets: NDArray[np.floating],
    features: NDArray[np.floating],
) -> NDArray[np.float32]:
    """Ridge with the penalty chosen by leave-one-out error on the training samples.

    Parameters
    ----------
    train_features, train_targets
        (S, F) and (S, G); features are standardised by their training statistics.
    features
        (S', F) to predict for.

    Returns
    -------
    (S', G) float32.
    """
    weight, bias = ridge_weights(train_features, train_targets)
    return np.asarray(features @ weight.T + bias, dtype=np.float32)


def depth_predictions(
    train_log_depth: NDArray[np.floating],
    train_targets: NDArray[np.floating],
    log_depth: NDArray[np.floating],
) -> NDArray[np.float32]:
    """The depth control: each gene from a cubic spline of the spot's log total count, fitted on training spots.

    It knows no gene and no image; what it scores is what sequencing depth alone explains.

    Parameters
    ----------
    train_log_depth, train_targets
        (S,) and (S, G).
    log_depth
        (S',) of the spots to predict.

    Returns
    -------
    (S', G) float32.
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
