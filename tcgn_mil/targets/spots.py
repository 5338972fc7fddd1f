"""What models are trained on: normalised spot expression and transformed bulk expression (PROTOCOL, Targets).

What a spot network is trained on, made from normalised expression: without depth, and with what genes share.

On sparse sections most of a gene's variation between spots is counting noise, and much of the rest is sequencing depth,
which any statistic of tissue density predicts. Both can be taken out of training values, never of those that judge.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.statistics.sequencing_depth import residuals_on_depth
from tcgn_mil.types.genes import GenePanel, TargetScaler

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


def _dense(matrix: Any) -> NDArray[np.float64]:
    return np.asarray(matrix.toarray() if hasattr(matrix, "toarray") else matrix, dtype=np.float64)


_LEAST_SPREAD = 1e-6


def training_targets(
    sections: Sequence[tuple[NDArray[np.floating], NDArray[np.floating]]],
    scaler: TargetScaler,
    *,
    remove_depth: bool = False,
    rank: int = 0,
) -> NDArray[np.float32]:
    """Standardised values of the spots of several training sections, one below the other.

    Parameters
    ----------
    sections
        (expression (S, G), log_depth (S,)) of each section, expression in the unit of `scaler`.
    scaler
        Fitted on all of them.
    remove_depth
        Values are residuals on a cubic spline of log depth, section by section, each gene then of variance 1 in that
        section; so differences between sections, which are of batch and of depth, are out as well.
    rank
        Above 0, the values are projected on their so many leading principal components (over all spots): a gene keeps
        what it shares with others, which is measured far better than the gene itself.

    Returns
    -------
    (S_all, G) float32, standardised: :meth:`TargetScaler.unscale` brings predictions to the unit of expression.

    Raises
    ------
    ValueError
        If an expression value is not finite.
    """
    parts = [
        _beyond_depth(*section) if remove_depth else scaler.scale(section[0])
        for section in sections
    ]
    values = np.concatenate(parts)
    if not np.isfinite(values).all():
        raise ValueError("training values are not finite")
    return _leading_components(values, rank) if rank else values.astype(np.float32)


def _beyond_depth(
    expression: NDArray[np.floating], log_depth: NDArray[np.floating]
) -> NDArray[np.floating]:
    left = residuals_on_depth(expression, log_depth)
    spread = left.std(axis=0)
    return left / np.where(spread > _LEAST_SPREAD, spread, 1)


def _leading_components(values: NDArray[np.floating], rank: int) -> NDArray[np.float32]:
    """The closest values of that rank about the mean; all where there are no more components."""
    mean = values.mean(axis=0, dtype=np.float64)
    centred: Any = values - mean
    if rank >= min(values.shape):
        return values.astype(np.float32)
    left, size, right = _svd(centred, rank)
    return np.asarray((left * size) @ right + mean, dtype=np.float32)


def _svd(values: NDArray[np.floating], rank: int) -> tuple[NDArray, NDArray, NDArray]:
    """The leading singular vectors, exactly where the matrix is small, else by scikit-learn's randomised method."""
    if min(values.shape) <= 3000:
        left, size, right = np.linalg.svd(values, full_matrices=False)
        return left[:, :rank], size[:rank], right[:rank]
    from sklearn.utils.extmath import randomized_svd

    return randomized_svd(values, rank, n_iter=7, random_state=0)
