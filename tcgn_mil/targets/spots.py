"""What models are trained on: normalised spot expression and transformed bulk expression (PROTOCOL, Targets)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.types.tiles import GenePanel

Normalisation = Literal["library", "published"]
SPOT_SCALE = 1e4


def spot_expression(
    counts: Any, panel_index: NDArray[np.int64], *, normalisation: Normalisation = "library"
) -> NDArray[np.float32]:
    """log1p of counts scaled to 1e4 a spot.

    Parameters
    ----------
    counts
        (S, G_all) raw counts, dense or scipy sparse.
    panel_index
        (G,) columns of the panel.
    normalisation
        ``library``: the total over all measured genes; ``published``: over the panel only, as TCGN's paper did.

    Returns
    -------
    (S, G) float32, NaN for a spot whose total is zero.
    """
    chosen = _dense(counts[:, panel_index])
    total = chosen.sum(axis=1) if normalisation == "published" else total_counts(counts)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log1p(chosen * (SPOT_SCALE / total)[:, None]).astype(np.float32)


def total_counts(counts: Any) -> NDArray[np.float64]:
    """(S,) sum of counts over all measured genes."""
    return np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()


def detection(counts: Any, panel_index: NDArray[np.int64]) -> NDArray[np.float64]:
    """(G,) share of spots with at least one count."""
    return np.asarray((counts[:, panel_index] > 0).mean(axis=0), dtype=np.float64).ravel()


def choose_spot_panel(
    sections: Sequence[tuple[Sequence[str], Any]], *, min_detection: float, max_genes: int
) -> GenePanel:
    """Genes measured in every training section and seen often enough, the most variable of them, in alphabetical order.

    Parameters
    ----------
    sections
        (gene names, counts (S, G_all)) of each training section.
    min_detection
        Least share of training spots with a count.
    max_genes
        At most so many, by scanpy's measure of variation beyond what a gene's mean leads to expect (its flavour
        ``seurat``; Satija et al., Nat Biotechnol 2015), ranked section by section.
    """
    shared = sorted(set.intersection(*(set(genes) for genes, _ in sections)))
    if not shared:
        raise InputError(
            "the training sections share no gene", fix="check that all use one kind of gene id"
        )
    panel = GenePanel(tuple(shared))
    columns = [panel.index_in(list(genes)) for genes, _ in sections]
    spots = np.array([counts.shape[0] for _, counts in sections])
    seen = np.average(
        [detection(counts, index) for (_, counts), index in zip(sections, columns, strict=True)],
        axis=0,
        weights=spots,
    )
    frequent = np.flatnonzero(seen >= min_detection)
    if not frequent.size:
        raise InputError(
            f"no gene is seen in {min_detection:.0%} of the training spots",
            fix="lower panel.min_detection",
        )
    if len(frequent) > max_genes:
        values = [
            spot_expression(counts, index[frequent])
            for (_, counts), index in zip(sections, columns, strict=True)
        ]
        frequent = frequent[_most_variable(values, max_genes)]
    return GenePanel(tuple(shared[i] for i in sorted(frequent)))


def _most_variable(sections: Sequence[NDArray[np.float32]], count: int) -> NDArray[np.int64]:
    """Columns of the most variable genes of (S, G) log1p values, by scanpy, ranked within sections."""
    import anndata
    import pandas as pd
    import scanpy

    values = np.concatenate(sections)
    known = np.isfinite(values).all(axis=1)
    batch = np.repeat(
        [str(number) for number in range(len(sections))], [len(part) for part in sections]
    )
    adata = anndata.AnnData(
        values[known], obs=pd.DataFrame({"section": pd.Categorical(batch[known])})
    )
    adata.obs_names = [str(row) for row in range(adata.n_obs)]
    found = scanpy.pp.highly_variable_genes(
        adata, n_top_genes=count, flavor="seurat", batch_key="section", inplace=False
    )
    return np.flatnonzero(found["highly_variable"].to_numpy())


def expressed_genes(
    values: NDArray[np.floating], *, min_fraction: float, floor: float | None = 0.0
) -> NDArray[np.int64]:
    """(G_kept,) columns above `floor` in at least `min_fraction` of training patients, and not constant in them.

    `values` (M_train, G) is in the training unit; `floor` is its value of zero expression, None where it has none
    (z-scores), so that every gene that varies is kept.
    """
    varies = np.nanstd(values, axis=0) > 1e-6
    if floor is None:
        return np.flatnonzero(varies)
    above = np.nanmean(values > floor + 1e-6, axis=0)
    return np.flatnonzero((above >= min_fraction) & varies)


def standardise_within(
    values: NDArray[np.floating], train: NDArray[np.int64], cohort_of: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Values (M, G) of all cohorts brought to one mean and spread, those of training patients, gene by gene.

    A cohort's mean over its training patients becomes that of all, its standard deviation the root of the mean variance
    within cohorts, so that what is learnt is how patients of a cohort differ, not how tables do. A gene that does not
    vary in a cohort keeps its spread.

    Parameters
    ----------
    train
        Rows of the training patients.
    cohort_of
        (M,) cohort of each patient. One without training patients is left as it is.
    """
    out = np.asarray(values, dtype=np.float64)
    cohorts = np.unique(cohort_of[train])
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", RuntimeWarning
        )  # a gene that no training patient of a cohort knows
        parts = [out[train[cohort_of[train] == cohort]] for cohort in cohorts]
        mean, std = (
            np.stack([reduce(part, axis=0) for part in parts]) for reduce in (np.nanmean, np.nanstd)
        )
        known = np.stack([np.isfinite(part).sum(axis=0) for part in parts])
        common_mean = np.nansum(known * mean, axis=0) / known.sum(axis=0)
        common_std = np.sqrt(np.nansum(known * std**2, axis=0) / known.sum(axis=0))
    out = out.copy()
    for cohort, own_mean, own_std in zip(cohorts, mean, std, strict=True):
        varies = (own_std > 1e-6) & (common_std > 1e-6)
        factor = np.where(varies, common_std / np.where(varies, own_std, 1), 1)
        shift = np.where(np.isfinite(own_mean), own_mean, common_mean)
        out[cohort_of == cohort] = (out[cohort_of == cohort] - shift) * factor + common_mean
    return out.astype(np.float32)


class RankNormaliser:
    """Map values to normal scores by their rank among training patients, gene by gene.

    For z-scored expression, whose tails reach 1e4. A value tied with or between training values gets the score of its
    average rank; beyond them, that of the extreme rank.
    """

    def __init__(self, training: NDArray[np.floating]) -> None:
        self.known = np.isfinite(training).sum(axis=0)
        self.sorted_training = np.sort(np.where(np.isfinite(training), training, np.inf), axis=0)

    def __call__(self, values: NDArray[np.floating]) -> NDArray[np.float32]:
        """(M, G) -> (M, G) float32 normal scores, NaN where the value is."""
        from scipy.stats import norm

        count = self.known
        below, below_or_equal = _ranks_among(self.sorted_training, values)
        average = (below + below_or_equal + 1) / 2
        scores = norm.ppf(np.clip(average, 1, np.maximum(count, 1)) / (count + 1))
        return np.where(np.isfinite(values) & (count > 0), scores, np.nan).astype(np.float32)


def _ranks_among(
    ordered: NDArray[np.floating], values: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Per column, how many of `ordered` lie below, and below or at, each value.

    A rank among both, less the rank among the values alone, counts the training values.
    """
    from scipy.stats import rankdata

    values = np.where(np.isfinite(values), values, np.inf)
    both = np.concatenate([values, ordered])
    low, high = (
        rankdata(both, axis=0, method=ties)[: len(values)] - rankdata(values, axis=0, method=ties)
        for ties in ("min", "max")
    )
    return low, high


def _dense(matrix: Any) -> NDArray[np.float64]:
    return np.asarray(matrix.toarray() if hasattr(matrix, "toarray") else matrix, dtype=np.float64)
