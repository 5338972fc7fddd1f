"""Test whether genes of interest are enriched in gene sets: hypergeometric test and preranked GSEA.

The background is the panel, that is the genes that a model predicts. The genome would be the wrong
background, because a gene outside the panel cannot be among the genes of interest. GSEA is that of
Subramanian et al. (PNAS 2005) as gseapy computes it, with sets in memory: nothing is downloaded.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tcgn_mil.signatures.gene_sets import GeneSet
from tcgn_mil.statistics.p_values import benjamini_hochberg
from tcgn_mil.types.arrays import FloatArray
from tcgn_mil.types.genes import canonical_gene, columns_by_gene

if TYPE_CHECKING:
    import pandas as pd

_WEIGHT = 1.0  # exponent of the ranking statistic in the running sum, as published


def hypergeometric(
    chosen: Iterable[str], panel: Sequence[str], sets: Sequence[GeneSet]
) -> pd.DataFrame:
    """Test whether each gene set contains more of the chosen genes than expected by chance.

    Parameters
    ----------
    chosen
        Genes of interest. Those outside the panel do not count.
    panel
        All genes that could have been chosen: the background.
    sets
        Gene sets.

    Returns
    -------
    One row for each set that shares a gene with the panel, in the order of `sets`, with the columns

    - ``set``, ``genes``: name of the set and its number of genes;
    - ``in_panel``, ``chosen``: number of its genes in the panel, and of those the chosen ones;
    - ``expected``, ``fold``: number of chosen genes expected by chance, and observed / expected;
    - ``p``, ``q``: one-sided p-value of as many chosen genes or more, and its false discovery rate
      over the sets;
    - ``overlap``: the chosen genes, separated by semicolons.

    Examples
    --------
    >>> panel = [f"G{number}" for number in range(20)]
    >>> table = hypergeometric(panel[:5], panel, [GeneSet("FIRST", "", ("G0", "G1", "G2"))])
    >>> table[["in_panel", "chosen", "expected", "fold"]].iloc[0].tolist()
    [3.0, 3.0, 0.75, 4.0]
    >>> float(table["p"].iloc[0].round(4))
    0.0088
    """
    import pandas as pd
    from scipy.stats import hypergeom

    names = {gene: panel[at] for gene, at in columns_by_gene(panel).items()}
    picked = {canonical_gene(gene) for gene in chosen} & names.keys()
    rows = []
    for gene_set in sets:
        inside = [
            gene for gene in dict.fromkeys(map(canonical_gene, gene_set.genes)) if gene in names
        ]
        if not inside:
            continue
        overlap = [names[gene] for gene in inside if gene in picked]
        expected = len(picked) * len(inside) / len(names)
        rows.append(
            {
                "set": gene_set.name,
                "genes": len(gene_set.genes),
                "in_panel": len(inside),
                "chosen": len(overlap),
                "expected": expected,
                "fold": len(overlap) / expected if expected else np.nan,
                # Of N panel genes, K chosen and n in the set, P(X >= x) for hypergeometric X.
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
    statistic: FloatArray,
    sets: Sequence[GeneSet],
    *,
    min_genes: int = 5,
    permutations: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Run a preranked gene set enrichment analysis.

    Parameters
    ----------
    genes
        Names of G genes.
    statistic
        (G,) statistic by which genes are ranked, highest first, for example r. A gene with NaN is
        left out.
    sets
        Gene sets.
    min_genes
        Smallest number of ranked genes that a set must contain.
    permutations
        Number of permutations of the genes.
    seed
        Seed of the permutations.

    Returns
    -------
    One row for each set that has enough ranked genes, the most significant first, with the columns

    - ``set``, ``in_panel``: name of the set and its number of ranked genes;
    - ``es``, ``nes``: enrichment score, and the score normalised by that of permutations;
    - ``p``: share of permutations with a score as large; 0 means fewer than one of all;
    - ``q``: false discovery rate as GSEA defines it;
    - ``leading``: the genes of the leading edge, separated by semicolons.
    """
    import gseapy
    import pandas as pd

    finite = np.isfinite(statistic)
    names = [gene for gene, there in zip(genes, finite, strict=True) if there]
    for gene, at in columns_by_gene(names).items():
        names[at] = gene
    ranked = pd.Series(np.asarray(statistic, dtype=float)[finite], index=names).sort_values(
        ascending=False, kind="stable"
    )
    inside = {
        gene_set.name: sorted(set(map(canonical_gene, gene_set.genes)) & set(names))
        for gene_set in sets
    }
    inside = {
        name: members for name, members in inside.items() if min_genes <= len(members) < len(names)
    }
    columns = ["set", "in_panel", "es", "nes", "p", "q", "leading"]
    if not inside:
        return pd.DataFrame(columns=columns)
    # gseapy warns of tied statistics and of its own defaults, which are fixed here.
    logging.getLogger("gseapy").setLevel(logging.ERROR)
    result = gseapy.prerank(
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
            "set": result["Term"],
            "in_panel": [len(inside[name]) for name in result["Term"]],
            **{
                new: pd.to_numeric(result[old])
                for new, old in (
                    ("es", "ES"),
                    ("nes", "NES"),
                    ("p", "NOM p-val"),
                    ("q", "FDR q-val"),
                )
            },
            "leading": result["Lead_genes"],
        },
        columns=columns,
    )
    return table.sort_values(
        ["q", "p", "nes"], ascending=[True, True, False], kind="stable"
    ).reset_index(drop=True)
