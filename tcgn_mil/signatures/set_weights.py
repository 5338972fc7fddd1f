"""Weights that turn the gene scores of several models into scores of gene sets.

Maps of a slide show gene-set scores of every tile. They are means over genes and over models, which
are linear in the models' gene scores, so that they can be summed model by model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.signatures.gene_sets import GeneSet
from tcgn_mil.text import preview
from tcgn_mil.types.genes import GenePanel, canonical_gene, columns_by_gene


class CoveredSets(NamedTuple):
    """Gene sets that all models can score, and those that they cannot.

    Attributes
    ----------
    kept
        Sets of which every model has at least half of the genes.
    left_out
        Reason why each other set is left out, by its name. It lists the missing genes.
    """

    kept: tuple[GeneSet, ...]
    left_out: dict[str, str]


def covered_sets(sets: Iterable[GeneSet], panels: Sequence[GenePanel]) -> CoveredSets:
    """Split gene sets by whether every model has at least half of their genes.

    Parameters
    ----------
    sets
        Gene sets.
    panels
        Gene panel of each model.

    Examples
    --------
    >>> panel = GenePanel(("CD3D", "CD8A"))
    >>> covered = covered_sets([GeneSet("T", "", ("CD3D",)), GeneSet("B", "", ("MS4A1",))], [panel])
    >>> covered.left_out
    {'B': 'a model lacks 1 of 1 genes: MS4A1'}
    """
    panel_genes = [set(map(canonical_gene, panel.genes)) for panel in panels]
    kept: list[GeneSet] = []
    left_out: dict[str, str] = {}
    for gene_set in sets:
        missing = max(
            (
                [gene for gene in gene_set.genes if canonical_gene(gene) not in genes]
                for genes in panel_genes
            ),
            key=len,
        )
        if 2 * len(missing) <= len(gene_set.genes):
            kept.append(gene_set)
        else:
            left_out[gene_set.name] = (
                f"a model lacks {len(missing)} of {len(gene_set.genes)} genes: {preview(missing)}"
            )
    return CoveredSets(tuple(kept), left_out)


class SetWeights(NamedTuple):
    """Contribution of one model to the scores of S sets: ``scores[:, genes] @ weights``.

    Attributes
    ----------
    genes
        K genes of the model that belong to a set.
    weights
        (K, S) float32.
    """

    genes: tuple[str, ...]
    weights: NDArray[np.float32]


def mean_weights(sets: Sequence[GeneSet], panels: Sequence[GenePanel]) -> list[SetWeights]:
    """Return the weights of each model, whose contributions sum to the scores of the sets.

    The score of a set is the mean over its genes, and the value of a gene is the mean over the
    models that have it. Genes that no model has are left out. Because contributions are summed, the
    gene scores of one model at a time are enough.

    Parameters
    ----------
    sets
        S gene sets.
    panels
        Gene panel of each model.

    Returns
    -------
    One :class:`SetWeights` for each model.

    Examples
    --------
    >>> panels = [GenePanel(("CD3D", "CD8A")), GenePanel(("CD8A", "GZMB"))]
    >>> for own in mean_weights([GeneSet("T", "", ("CD3D", "CD8A"))], panels):
    ...     print(own.genes, own.weights.ravel().tolist())
    ('CD3D', 'CD8A') [0.5, 0.25]
    ('CD8A',) [0.25]
    """
    # The weight of gene g of a model in set s is 1 / (genes of s that any model has)
    # / (models that have g), or 0 if g does not belong to s.
    columns = [columns_by_gene(panel.genes) for panel in panels]
    models_with = Counter(gene for own in columns for gene in own)
    names = [list(dict.fromkeys(map(canonical_gene, gene_set.genes))) for gene_set in sets]
    members = list(dict.fromkeys(gene for genes in names for gene in genes if gene in models_with))
    share = np.zeros((len(members), len(sets)), dtype=np.float32)
    row = {gene: index for index, gene in enumerate(members)}
    for column, genes in enumerate(names):
        present = [gene for gene in genes if gene in row]
        share[[row[gene] for gene in present], column] = 1 / max(len(present), 1)
    share /= np.array([models_with[gene] for gene in members], dtype=np.float32).reshape(-1, 1)
    weights = []
    for panel, own in zip(panels, columns, strict=True):
        rows = [index for index, gene in enumerate(members) if gene in own]
        named = tuple(panel.genes[own[members[index]]] for index in rows)
        weights.append(SetWeights(named, share[rows]))
    return weights
