"""Risk scores of patients that a model did not see: penalised Cox, with everything chosen inside the training part.

Of a fold's training patients alone: genes are ranked, the strongest in univariable Cox regression are kept, and the
penalty is the one of highest cross-validated partial likelihood (Verweij & van Houwelingen, Stat. Med. 1993), with the
genes kept anew in each inner fold. Covariates join a gene score by an unpenalised Cox regression on the scores that
inner folds gave patients they did not see (stacking; a score is never given a weight below 0).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.settings.risk_score import RiskConfig
from tcgn_mil.survival.cox import fit_cox
from tcgn_mil.survival.elastic_net import elastic_net_path, penalties
from tcgn_mil.survival.gene_screen import cox_screen
from tcgn_mil.survival.risk_sets import Array, RiskSets
from tcgn_mil.targets.bulk import RankNormaliser
from tcgn_mil.types.outcomes import SurvivalTable

if TYPE_CHECKING:
    import pandas as pd




class FoldRisk(NamedTuple):
    """Scores of one fold's model, higher is worse, in sd of the training patients' around their median.

    Attributes
    ----------
    train, test
        (m,), (n,); 0 is the training median, at which test patients are cut. All 0 where nothing was chosen.
    calibrating
        (m,) a score of each training patient by a model that did not see it; for covariates the score itself.
    coefficients
        (D,) of the features, 0 for those not chosen; empty for covariates.
    penalty, l1_ratio
        Chosen, NaN for covariates.
    """

    train: Array
    test: Array
    calibrating: Array
    coefficients: Array
    penalty: float = float("nan")
    l1_ratio: float = float("nan")


def covariate_risk(
    train: SurvivalTable, design: pd.DataFrame, test: pd.DataFrame, *, where: str = ""
) -> FoldRisk:
    """Unpenalised Cox regression on covariates (m, c), and its scores for the test patients (n, c)."""
    coefficients = (
        fit_cox(train, design, where=where).params_[list(design.columns)].to_numpy(dtype=np.float64)
    )
    ours, theirs = (frame.to_numpy(dtype=np.float64) @ coefficients for frame in (design, test))
    return _centred(ours, theirs, ours, np.empty(0))


def gene_risk(
    train: SurvivalTable,
    x: NDArray[np.floating],
    test: NDArray[np.floating],
    config: RiskConfig,
    *,
    seed: int,
    sets: Array | None = None,
) -> FoldRisk:
    """Elastic-net Cox regression on genes `x` (m, G), and its scores for the test patients (n, G).

    Parameters
    ----------
    sets
        (G, D - G or D) weights of genes in signatures, for ``features`` other than ``genes``: a signature is the
        weighted sum of its genes' transformed values.
    """
    x, test = _transformed(x, test, config.transform)
    if config.features != "genes":
        assert sets is not None
        genes = config.features == "both"
        x, test = _standardised(
            *(np.hstack([part, part @ sets]) if genes else part @ sets for part in (x, test))
        )
    kept = _strongest(x, train, config.max_genes)
    paths = {ratio: _penalties(x[:, kept], train, ratio, config) for ratio in config.l1_ratios}
    tried = {
        ratio: _inner_scores(x, train, ratio, path, config, seed) for ratio, path in paths.items()
    }
    ratio = max(tried, key=lambda one: tried[one].gain.max())
    best = int(np.argmax(tried[ratio].gain))
    coefficients = np.zeros(x.shape[1])
    coefficients[kept] = _path(x[:, kept], train, ratio, paths[ratio])[:, best]
    unseen = tried[ratio].unseen[:, best]
    return _centred(
        x @ coefficients,
        test @ coefficients,
        unseen,
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
    """Covariates and a gene score in one unpenalised Cox regression; covariates alone where the score has no weight."""
    alone = covariate_risk(train, design, test, where=where)
    if not np.ptp(genes.calibrating) > 0:
        return alone
    score = "gene score"
    both = fit_cox(train, design.assign(**{score: genes.calibrating}), where=where).params_
    if both[score] <= 0:
        return alone
    coefficients = both[list(design.columns)].to_numpy(dtype=np.float64)
    fixed, theirs = (frame.to_numpy(dtype=np.float64) @ coefficients for frame in (design, test))
    scores = (genes.train, genes.test, genes.calibrating)
    parts = zip((fixed, theirs, fixed), scores, strict=True)
    ours, tested, unseen = (base + both[score] * part for base, part in parts)
    return _centred(ours, tested, unseen, np.empty(0))


def inner_folds(event: NDArray[np.bool_], count: int, *, seed: int) -> NDArray[np.int64]:
    """(m,) fold of each patient, events and the rest spread evenly."""
    generator = np.random.default_rng(seed)
    labels = np.empty(len(event), dtype=np.int64)
    for kind in (True, False):
        rows = generator.permutation(np.flatnonzero(event == kind))
        labels[rows] = np.arange(len(rows)) % count
    return labels


class _InnerScores(NamedTuple):
    """At each of P penalties: ``unseen`` (m, P), scores by inner models that did not see the patient; ``gain`` (P,)."""

    unseen: Array
    gain: Array


def _inner_scores(
    x: Array, train: SurvivalTable, ratio: float, path: Array, config: RiskConfig, seed: int
) -> _InnerScores:
    """Inner cross-validation along a path; the gain is the cross-validated partial log-likelihood."""
    labels = inner_folds(train.event, config.inner_folds, seed=seed)
    everyone = RiskSets(train.time_days, train.event, train.entry_days)
    unseen, gain = np.zeros((len(train), len(path))), np.zeros(len(path))
    for label in range(config.inner_folds):
        inside = labels != label
        part = train.take(inside)
        kept = _strongest(x[inside], part, config.max_genes)
        scores = x[:, kept] @ _path(x[inside][:, kept], part, ratio, path)
        unseen[~inside] = scores[~inside]
        without = RiskSets(part.time_days, part.event, part.entry_days)
        gain += everyone.log_likelihood(scores) - without.log_likelihood(scores[inside])
    return _InnerScores(unseen, gain)


def _penalties(x: Array, train: SurvivalTable, ratio: float, config: RiskConfig) -> Array:
    return penalties(
        x,
        train.time_days,
        train.event,
        train.entry_days,
        l1_ratio=ratio,
        count=config.n_penalties,
        smallest=config.smallest_penalty,
    )


def _path(x: Array, train: SurvivalTable, ratio: float, path: Array) -> Array:
    return elastic_net_path(
        x, train.time_days, train.event, train.entry_days, l1_ratio=ratio, penalty=path
    )


def _strongest(x: Array, train: SurvivalTable, most: int) -> NDArray[np.int64]:
    """Columns of the `most` smallest p-values, in their own order; all for 0."""
    if not most or x.shape[1] <= most:
        return np.arange(x.shape[1])
    p = cox_screen(x, train.time_days, train.event, entry=train.entry_days).p
    return np.sort(np.argsort(np.where(np.isnan(p), np.inf, p), kind="stable")[:most])


def _transformed(
    x: NDArray[np.floating], test: NDArray[np.floating], how: str
) -> tuple[Array, Array]:
    """Both in the training part's ranks or standard deviations, constant columns 0."""
    if how == "rank":
        ranks = RankNormaliser(x)
        x, test = ranks(x).astype(np.float64), ranks(test).astype(np.float64)
    return _standardised(x, test)


def _standardised(x: NDArray[np.floating], test: NDArray[np.floating]) -> tuple[Array, Array]:
    mean, sd = x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64)
    varies = sd > 1e-9 * np.maximum(np.abs(mean), 1e-300)
    scale = np.where(varies, sd, 1.0)
    ours, theirs = ((values - mean) / scale * varies for values in (x, test))
    return ours, theirs


def _centred(
    train: Array,
    test: Array,
    calibrating: Array,
    coefficients: Array,
    penalty: float = float("nan"),
    ratio: float = float("nan"),
) -> FoldRisk:
    """Scores around the training median, in the training sd."""
    middle, sd = np.median(train), train.std()
    if not sd > 1e-12:
        zero = np.zeros_like(train)
        return FoldRisk(zero, np.zeros_like(test), zero, coefficients, penalty, ratio)
    ours, theirs, unseen = ((scores - middle) / sd for scores in (train, test, calibrating))
    return FoldRisk(ours, theirs, unseen, coefficients, penalty, ratio)
