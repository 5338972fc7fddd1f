"""Transform spot expression to the scale that spot networks are trained on, and select the panel.

Counts of a spot are scaled to a common total and log-transformed (docs/protocol.md, section
Targets). For training, two things can be removed from these values in addition: sequencing depth,
and what a gene does not share with other genes. On sparse sections most of a gene's variation
between spots is counting noise, and much of the rest is sequencing depth, which any statistic of
tissue density predicts. Both are removed from training values only, never from the values on which
a network is judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.statistics.sequencing_depth import residuals_on_depth
from tcgn_mil.types.arrays import Float64Array, FloatArray, IntArray
from tcgn_mil.types.genes import GenePanel, TargetScaler

Counts = Any  # NumPy array or scipy sparse matrix; the two have no common type
Normalisation = Literal["library", "published"]
SPOT_SCALE = 1e4  # total of a spot after scaling
_MIN_RESIDUAL_SD = 1e-6  # standard deviation below which residuals count as constant
_EXACT_SVD_ROWS = 3000  # the exact decomposition takes seconds up to this size


def spot_expression(
    counts: Counts, panel_index: IntArray, *, normalisation: Normalisation = "library"
) -> NDArray[np.float32]:
    """Normalise expression: log1p of counts that are scaled to a total of 1e4 in each spot.

    Parameters
    ----------
    counts
        (S, G_all) raw counts, dense or scipy sparse.
    panel_index
        (G,) columns of the panel.
    normalisation
        ``library`` scales by the total over all measured genes, ``published`` by the total over the
        panel alone, as the TCGN paper did. The second makes a gene depend on the choice of panel.

    Returns
    -------
    (S, G) float32; NaN for a spot whose total is 0.

    Examples
    --------
    >>> import numpy as np
    >>> values = spot_expression(np.array([[1, 0, 3], [0, 0, 0]]), np.array([0]))
    >>> values.astype(float).round(3).tolist()
    [[7.824], [nan]]
    """
    chosen = _dense(counts[:, panel_index])
    total = chosen.sum(axis=1) if normalisation == "published" else total_counts(counts)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log1p(chosen * (SPOT_SCALE / total)[:, None]).astype(np.float32)


def total_counts(counts: Counts) -> Float64Array:
    """Sum the counts of each spot over all measured genes, (S,), from `counts` (S, G_all)."""
    return np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()


def detection(counts: Counts, panel_index: IntArray) -> Float64Array:
    """Return the share of the spots in which each panel gene has a count.

    Parameters
    ----------
    counts, panel_index
        As in :func:`spot_expression`.

    Returns
    -------
    (G,) float64 in [0, 1].
    """
    return np.asarray((counts[:, panel_index] > 0).mean(axis=0), dtype=np.float64).ravel()


def choose_spot_panel(
    sections: Sequence[tuple[Sequence[str], Counts]], *, min_detection: float, max_genes: int
) -> GenePanel:
    """Select the genes to predict, from the training sections only.

    A gene must be measured in every section and be detected often enough. If there are more than
    `max_genes`, the most variable ones are kept.

    Parameters
    ----------
    sections
        (gene names, counts (S, G_all)) of each training section.
    min_detection
        Least share of the training spots with a count of the gene.
    max_genes
        Largest number of genes. They are ranked within sections by scanpy's measure of the
        variation beyond what is expected of a gene with this mean (flavor ``seurat``; Satija et
        al., Nat Biotechnol 2015).

    Returns
    -------
    The panel, in alphabetical order.

    Raises
    ------
    InputError
        If the sections share no gene, or no gene is detected often enough.
    """
    shared = sorted(set.intersection(*(set(genes) for genes, _ in sections)))
    if not shared:
        raise InputError(
            "the training sections have no gene in common",
            fix="use one kind of gene id (symbols or Ensembl ids) in all sections",
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
            f"no gene is detected in {min_detection:.0%} of the training spots",
            fix="lower panel.min_detection",
        )
    if len(frequent) > max_genes:
        values = [
            spot_expression(counts, index[frequent])
            for (_, counts), index in zip(sections, columns, strict=True)
        ]
        frequent = frequent[_most_variable(values, max_genes)]
    return GenePanel(tuple(shared[i] for i in sorted(frequent)))


def _most_variable(sections: Sequence[NDArray[np.float32]], count: int) -> IntArray:
    """Return the columns of the `count` most variable genes of normalised values (S, G)."""
    import anndata
    import pandas as pd
    import scanpy

    values = np.concatenate(sections)
    finite = np.isfinite(values).all(axis=1)
    batch = np.repeat(
        [str(number) for number in range(len(sections))], [len(part) for part in sections]
    )
    adata = anndata.AnnData(
        values[finite], obs=pd.DataFrame({"section": pd.Categorical(batch[finite])})
    )
    adata.obs_names = [str(row) for row in range(adata.n_obs)]
    table = scanpy.pp.highly_variable_genes(
        adata, n_top_genes=count, flavor="seurat", batch_key="section", inplace=False
    )
    return np.flatnonzero(table["highly_variable"].to_numpy())


def _dense(matrix: Counts) -> Float64Array:
    return np.asarray(matrix.toarray() if hasattr(matrix, "toarray") else matrix, dtype=np.float64)


def training_targets(
    sections: Sequence[tuple[FloatArray, FloatArray]],
    scaler: TargetScaler,
    *,
    remove_depth: bool = False,
    rank: int = 0,
) -> NDArray[np.float32]:
    """Return the standardised training values of the spots of all training sections.

    Parameters
    ----------
    sections
        (expression (S, G), log_depth (S,)) of each section, in the unit of `scaler`.
    scaler
        Scaler fitted on all of these sections.
    remove_depth
        Replace the values by their residuals on a cubic spline of log depth, section by section,
        and scale each gene to variance 1 within the section. This removes differences between
        sections as well, which are differences of batch and depth.
    rank
        If above 0, project the values on this number of leading principal components over all
        spots. A gene keeps what it shares with other genes, which is measured far better than the
        gene itself.

    Returns
    -------
    (S_all, G) float32, sections one below the other. :meth:`TargetScaler.unscale` brings
    predictions back to the unit of expression.

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
        raise ValueError("expression of the training spots has missing or infinite values")
    return _leading_components(values, rank) if rank else values.astype(np.float32)


def _beyond_depth(expression: FloatArray, log_depth: FloatArray) -> FloatArray:
    left = residuals_on_depth(expression, log_depth)
    spread = left.std(axis=0)
    return left / np.where(spread > _MIN_RESIDUAL_SD, spread, 1)


def _leading_components(values: FloatArray, rank: int) -> NDArray[np.float32]:
    """Return the closest matrix of this rank around the mean of `values`."""
    mean = values.mean(axis=0, dtype=np.float64)
    centred = values - mean
    if rank >= min(values.shape):
        return values.astype(np.float32)
    left, size, right = _svd(centred, rank)
    return np.asarray((left * size) @ right + mean, dtype=np.float32)


def _svd(values: FloatArray, rank: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Compute the leading singular vectors and values; approximate ones for large matrices."""
    if min(values.shape) <= _EXACT_SVD_ROWS:
        left, size, right = np.linalg.svd(values, full_matrices=False)
        return left[:, :rank], size[:rank], right[:rank]
    from sklearn.utils.extmath import randomized_svd

    return randomized_svd(values, rank, n_iter=7, random_state=0)
