"""Risk scores of patients whom a model did not see, by Cox regression with an elastic-net penalty.

Everything is chosen within the training patients of a fold. Features are kept by the p-value of
their univariable Cox regression. The penalty is the one with the highest cross-validated partial
likelihood (Verweij & van Houwelingen, Stat. Med. 1993); the features are selected anew in each
inner fold. Covariates and a gene score are combined by an unpenalised Cox regression, in which each
training patient has the score that an inner fold gave without seeing that patient (stacking). A
gene score never has a negative weight. See docs/protocol.md, section Survival.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tcgn_mil.regression.rank_normaliser import RankNormaliser
from tcgn_mil.settings.risk_score import RiskConfig
from tcgn_mil.statistics.variation import RELATIVE_SPREAD_FLOOR_FLOAT64
from tcgn_mil.survival.cox import fit_cox
from tcgn_mil.survival.elastic_net import elastic_net_path, penalty_path
from tcgn_mil.survival.gene_screen import cox_screen
from tcgn_mil.survival.risk_sets import RiskSets
from tcgn_mil.types.arrays import BoolArray, Float64Array, FloatArray, IntArray
from tcgn_mil.types.outcomes import SurvivalTable

if TYPE_CHECKING:
    import pandas as pd


class FoldRisk(NamedTuple):
    """Risk scores by the model of one fold.

    Higher scores are worse. Their unit is the standard deviation of the training patients' scores,
    and 0 is the training median, at which test patients are divided into two groups. All scores
    are 0 if the model kept no feature.

    Attributes
    ----------
    train, test
        (m,) and (n,) scores of the training and the test patients.
    calibrating
        (m,) score of each training patient by a model that did not see this patient. For covariates
        alone it is the same as `train`, since a few coefficients hardly overfit.
    coefficients
        (D,) coefficients of the features, 0 for those not selected; empty for covariates.
    penalty, l1_ratio
        Selected settings of the elastic net; NaN for covariates.
    """

    train: Float64Array
    test: Float64Array
    calibrating: Float64Array
    coefficients: Float64Array
    penalty: float = float("nan")
    l1_ratio: float = float("nan")


def covariate_risk(
    train: SurvivalTable, design: pd.DataFrame, test: pd.DataFrame, *, where: str = ""
) -> FoldRisk:
    """Compute risk scores from covariates alone, by unpenalised Cox regression.

    Parameters
    ----------
    train
        Survival times of the m training patients.
    design, test
        (m, c) and (n, c) numeric covariates of the training and the test patients.
    where
        Text to append to the message of an error, for example `` in fold 2``.
    """
    coefficients = (
        fit_cox(train, design, where=where).params_[list(design.columns)].to_numpy(dtype=np.float64)
    )
    of_train, of_test = (
        frame.to_numpy(dtype=np.float64) @ coefficients for frame in (design, test)
    )
    return _centred(of_train, of_test, of_train, np.empty(0))


def gene_risk(
    train: SurvivalTable,
    x: FloatArray,
    test: FloatArray,
    config: RiskConfig,
    *,
    seed: int,
    sets: Float64Array | None = None,
) -> FoldRisk:
    """Compute risk scores from genes or signatures, by Cox regression with an elastic-net penalty.

    Parameters
    ----------
    train
        Survival times of the m training patients.
    x, test
        (m, G) and (n, G) expression of the training and the test patients.
    config
        Settings.
    seed
        Seed of the inner folds.
    sets
        (G, K) weights of the genes in K signatures; needed unless ``config.features`` is ``genes``.
        The value of a signature is the weighted sum of its genes' transformed values.
    """
    x, test = _transformed(x, test, config.transform)
    if config.features != "genes":
        assert sets is not None
        with_genes = config.features == "both"
        x, test = _standardised(
            *(np.hstack([part, part @ sets]) if with_genes else part @ sets for part in (x, test))
        )
    kept = _strongest(x, train, config.max_genes)
    paths = {
        ratio: penalty_path(
            x[:, kept],
            train,
            l1_ratio=ratio,
            count=config.n_penalties,
            smallest=config.smallest_penalty,
        )
        for ratio in config.l1_ratios
    }
    tried = {
        ratio: _inner_scores(x, train, ratio, path, config, seed) for ratio, path in paths.items()
    }
    ratio = max(tried, key=lambda candidate: tried[candidate].gain.max())
    best = int(np.argmax(tried[ratio].gain))
    coefficients = np.zeros(x.shape[1])
    # The whole path is fitted, not its best penalty alone: each penalty starts from the solution of
    # the one before it, as in the inner folds.
    path = elastic_net_path(x[:, kept], train, l1_ratio=ratio, penalty=paths[ratio])
    coefficients[kept] = path[:, best]
    return _centred(
        x @ coefficients,
        test @ coefficients,
        tried[ratio].unseen[:, best],
        coefficients,
        float(paths[ratio][best]),
        ratio,
    )


def combined_risk(
    train: SurvivalTable,
    design: pd.DataFrame,
    test: pd.DataFrame,
    genes: FoldRisk,
    *,
    where: str = "",
) -> FoldRisk:
    """Compute risk scores from covariates and a gene score together, by unpenalised Cox regression.

    Parameters
    ----------
    train, design, test, where
        As in :func:`covariate_risk`.
    genes
        Gene scores of the same patients, from :func:`gene_risk`.

    Returns
    -------
    The scores of covariates alone if the gene score is constant or would have a negative weight.
    """
    # `genes.calibrating` is used here instead of `genes.train`: scores of patients whom the model
    # has seen are too good, and the regression would give them too much weight.
    alone = covariate_risk(train, design, test, where=where)
    if not np.ptp(genes.calibrating) > 0:
        return alone
    score = "gene score"
    both = fit_cox(train, design.assign(**{score: genes.calibrating}), where=where).params_
    if both[score] <= 0:
        return alone
    coefficients = both[list(design.columns)].to_numpy(dtype=np.float64)
    of_train, of_test = (
        frame.to_numpy(dtype=np.float64) @ coefficients for frame in (design, test)
    )
    scores = (genes.train, genes.test, genes.calibrating)
    parts = zip((of_train, of_test, of_train), scores, strict=True)
    train_risk, test_risk, unseen_risk = (base + both[score] * part for base, part in parts)
    return _centred(train_risk, test_risk, unseen_risk, np.empty(0))


def inner_folds(event: BoolArray, count: int, *, seed: int) -> IntArray:
    """Return the fold of each training patient, with events and censored patients spread evenly.

    Parameters
    ----------
    event
        (m,) whether the event was observed.
    count
        Number of folds.
    seed
        Seed of the shuffle.

    Returns
    -------
    (m,) int64 from 0 to count - 1.
    """
    generator = np.random.default_rng(seed)
    labels = np.empty(len(event), dtype=np.int64)
    for kind in (True, False):
        rows = generator.permutation(np.flatnonzero(event == kind))
        labels[rows] = np.arange(len(rows)) % count
    return labels


class _InnerScores(NamedTuple):
    """Results of the inner cross-validation at each of P penalties.

    Attributes
    ----------
    unseen
        (m, P) score of each training patient by the inner model that did not see this patient.
    gain
        (P,) cross-validated partial log-likelihood.
    """

    unseen: Float64Array
    gain: Float64Array


def _inner_scores(
    x: Float64Array,
    train: SurvivalTable,
    ratio: float,
    path: Float64Array,
    config: RiskConfig,
    seed: int,
) -> _InnerScores:
    # The cross-validated partial log-likelihood is the sum over folds k of l(b_-k) - l_-k(b_-k):
    # the likelihood of all patients minus that of the patients outside fold k, both at the
    # coefficients b_-k fitted without fold k. The patients of one fold alone have risk sets too
    # small for a partial likelihood of their own.
    labels = inner_folds(train.event, config.inner_folds, seed=seed)
    everyone = RiskSets(train.time_days, train.event, train.entry_days)
    unseen, gain = np.zeros((len(train), len(path))), np.zeros(len(path))
    for label in range(config.inner_folds):
        inside = labels != label
        part = train.take(inside)
        kept = _strongest(x[inside], part, config.max_genes)
        fitted = elastic_net_path(x[inside][:, kept], part, l1_ratio=ratio, penalty=path)
        scores = x[:, kept] @ fitted
        unseen[~inside] = scores[~inside]
        without = RiskSets(part.time_days, part.event, part.entry_days)
        gain += everyone.log_likelihood(scores) - without.log_likelihood(scores[inside])
    return _InnerScores(unseen, gain)


def _strongest(x: Float64Array, train: SurvivalTable, most: int) -> IntArray:
    """Return the columns with the `most` smallest p-values, in their order; all columns for 0."""
    if not most or x.shape[1] <= most:
        return np.arange(x.shape[1])
    p = cox_screen(x, train.time_days, train.event, entry=train.entry_days).p
    return np.sort(np.argsort(np.where(np.isnan(p), np.inf, p), kind="stable")[:most])


def _transformed(x: FloatArray, test: FloatArray, how: str) -> tuple[Float64Array, Float64Array]:
    """Return normal scores among the training patients, or values, both standardised by them."""
    if how == "rank":
        ranks = RankNormaliser(x)
        x, test = ranks(x).astype(np.float64), ranks(test).astype(np.float64)
    return _standardised(x, test)


def _standardised(x: FloatArray, test: FloatArray) -> tuple[Float64Array, Float64Array]:
    """Bring both to mean 0 and standard deviation 1 of `x`; columns constant in `x` become 0."""
    mean, sd = x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64)
    varies = sd > RELATIVE_SPREAD_FLOOR_FLOAT64 * np.maximum(np.abs(mean), 1e-300)
    scale = np.where(varies, sd, 1.0)
    return (x - mean) / scale * varies, (test - mean) / scale * varies


def _centred(
    train: Float64Array,
    test: Float64Array,
    calibrating: Float64Array,
    coefficients: Float64Array,
    penalty: float = float("nan"),
    ratio: float = float("nan"),
) -> FoldRisk:
    """Subtract the training median from scores, and divide by the training standard deviation."""
    middle, sd = np.median(train), train.std()
    if not sd > 1e-12:
        zero = np.zeros_like(train)
        return FoldRisk(zero, np.zeros_like(test), zero, coefficients, penalty, ratio)
    of_train, of_test, of_unseen = ((scores - middle) / sd for scores in (train, test, calibrating))
    return FoldRisk(of_train, of_test, of_unseen, coefficients, penalty, ratio)
