"""Marker genes of tissue and immunity, which are drawn when the user names no gene.

A pathologist can compare these maps with the slide: epithelium and stroma are seen at once, and
lymphocytes and macrophages at higher magnification. The markers are textbook ones. Most of those of
immune cells are also in the signatures of Danaher et al. (J. Immunother. Cancer 2017).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tcgn_mil.types.genes import canonical_gene

TISSUE_MARKERS: Mapping[str, tuple[str, ...]] = {
    "epithelium": ("EPCAM", "KRT8", "KRT18", "KRT19", "CDH1"),
    "stroma": ("COL1A1", "COL1A2", "COL3A1", "DCN", "LUM"),
    "T cells": ("CD3E", "CD3D", "CD2", "CD8A"),
    "macrophages": ("CD68", "CD163", "CD14"),
    "B cells": ("MS4A1", "CD79A", "CD19"),
    "vessels": ("PECAM1", "VWF", "CDH5"),
}


def marker_genes(
    genes: Sequence[str], r: Mapping[str, float] | None = None, *, most: int = 4
) -> tuple[str, ...]:
    """Choose one marker of each kind of tissue among the genes of a panel.

    Parameters
    ----------
    genes
        Genes of the panel.
    r
        Correlation of each gene in cross-validation, where it is known. Of the markers of a tissue
        the one with the highest r is taken; of markers without r, the first of the list.
    most
        Largest number of genes.

    Returns
    -------
    tuple of str
        Names as the panel spells them, in the order of `TISSUE_MARKERS`; empty if it has none.

    Examples
    --------
    >>> marker_genes(["ACTB", "CD3E", "KRT8", "EPCAM"], {"KRT8": 0.5, "EPCAM": 0.2})
    ('KRT8', 'CD3E')
    """
    spelled = {canonical_gene(gene): gene for gene in genes}
    chosen = []
    for markers in TISSUE_MARKERS.values():
        known = [spelled[marker] for marker in markers if marker in spelled]
        if known:
            scores = [_finite((r or {}).get(gene)) for gene in known]
            chosen.append(known[int(np.argmax(scores))])
    return tuple(chosen[:most])


def _finite(r: float | None) -> float:
    return float(r) if r is not None and np.isfinite(r) else -np.inf
