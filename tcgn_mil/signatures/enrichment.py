"""Whether genes of interest gather in gene sets: hypergeometric against the panel, and preranked GSEA.

The background is the panel, the genes that could have been found, never the genome. GSEA is that of Subramanian et al.
(PNAS 2005) as gseapy computes it, here from sets in memory: nothing is downloaded.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.signatures.gene_sets import GeneSet
from tcgn_mil.statistics.p_values import benjamini_hochberg
from tcgn_mil.types.genes import canonical_gene

if TYPE_CHECKING:
    import pandas as pd

_WEIGHT = 1.0  # of the ranking statistic, as published


def hypergeometric(
    chosen: Iterable[str], panel: Sequence[str], sets: Sequence[GeneSet]
) -> pd.DataFrame:
    """One row a set, in their order, that shares genes with the panel.

    Parameters
    ----------
    chosen
        Genes of interest; those outside the panel do not count.
    panel
        The background.

    Returns
    -------
    ``set``, ``genes`` of it, ``in_panel``, ``chosen`` of those, ``expected`` by chance, ``fold`` of the two, one-sided
    ``p`` of as many or more, ``q`` over sets, ``overlap`` (the genes, by ;).
    """
    import pandas as pd
    from scipy.stats import hypergeom

    names = {canonical_gene(gene): gene for gene in panel}
    picked = {canonical_gene(gene) for gene in chosen} & names.keys()
    rows = []
    for one in sets:
        inside = [gene for gene in dict.fromkeys(map(canonical_gene, one.genes)) if gene in names]
        if not inside:
            continue
        overlap = [names[gene] for gene in inside if gene in picked]
        expected = len(picked) * len(inside) / len(names)
        rows.append(
            {
                "set": one.name,
                "genes": len(one.genes),
                "in_panel": len(inside),
                "chosen": len(overlap),
                "expected": expected,
                "fold": len(overlap) / expected if expected else np.nan,
                "p": hypergeom.sf(len(overlap) - 1, len(names), len(picked), len(inside)),
                "overlap": ";".join(overlap),
            }
        )
    columns = ["set", "genes", "in_panel", "chosen", "expected", "fold", "p", "overlap"]
    table = pd.DataFrame(rows, columns=columns)
    table.insert(7, "q", benjamini_hochberg(table["p"].to_numpy(dtype=float)))
    return table


def preranked(
    genes: Sequence[str],
    statistic: NDArray[np.floating],
    sets: Sequence[GeneSet],
    *,
    min_genes: int = 5,
    permutations: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Preranked GSEA of genes by a statistic (G,), highest first; genes without one are left out.

    Returns
    -------
    One row a set with at least `min_genes` ranked genes, best first: ``set``, ``in_panel``, ``es``, ``nes``, ``p``
    (a count of permutations of genes: 0 means fewer than one in them all), ``q`` (GSEA's own FDR), ``leading`` genes
    (by ;). No row where no set has enough genes.
    """
    import gseapy
    import pandas as pd

    known = np.isfinite(statistic)
    names = [canonical_gene(gene) for gene, there in zip(genes, known, strict=True) if there]
    ranked = pd.Series(np.asarray(statistic, dtype=float)[known], index=names).sort_values(
        ascending=False, kind="stable"
    )
    inside = {one.name: sorted(set(map(canonical_gene, one.genes)) & set(names)) for one in sets}
    inside = {
        name: members for name, members in inside.items() if min_genes <= len(members) < len(names)
    }
    columns = ["set", "in_panel", "es", "nes", "p", "q", "leading"]
    if not inside:
        return pd.DataFrame(columns=columns)
    logging.getLogger("gseapy").setLevel(logging.ERROR)
    found = gseapy.prerank(
        rnk=ranked,
        gene_sets=inside,
        outdir=None,
        min_size=min_genes,
        max_size=len(names),
        weight=_WEIGHT,
        permutation_num=permutations,
        threads=1,
        seed=seed,
        no_plot=True,
        verbose=False,
    ).res2d
    table = pd.DataFrame(
        {
            "set": found["Term"],
            "in_panel": [len(inside[name]) for name in found["Term"]],
            **{
                new: pd.to_numeric(found[old])
                for new, old in (
                    ("es", "ES"),
                    ("nes", "NES"),
                    ("p", "NOM p-val"),
                    ("q", "FDR q-val"),
                )
            },
            "leading": found["Lead_genes"],
        },
        columns=columns,
    )
    return table.sort_values(
        ["q", "p", "nes"], ascending=[True, True, False], kind="stable"
    ).reset_index(drop=True)
