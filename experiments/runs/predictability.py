"""Say in a few words how well a gene is predicted, for the titles of maps and explanations."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from tcgn_mil.plotting import r_text
from tcgn_mil.statistics.p_values import MAX_Q


class Predictability(NamedTuple):
    """The quality of the prediction of a gene.

    Attributes
    ----------
    words
        Words for a title.
    is_predictable
        False if cross-validation shows that the gene cannot be predicted. A gene that was never
        tested counts as predictable, because nothing is known against it.
    """

    words: str
    is_predictable: bool


UNKNOWN = Predictability("r not known", True)


def gene_predictability(table: pd.DataFrame, gene: str) -> Predictability:
    """Return how well a slide model predicts a gene.

    Parameters
    ----------
    table
        Genes of the model, as :func:`~tcgn_mil.io.gene_list.read_model_genes` returns them.
    gene
        Name of the gene.

    Examples
    --------
    >>> table = pd.DataFrame(
    ...     {"r_model": [0.61, 0.58, 0.02], "q_model": [1e-6, 1e-6, 0.8]}, index=["A", "B", "C"]
    ... )
    >>> table["predictable"] = [True, False, False]
    >>> [gene_predictability(table, gene).words for gene in "ABCD"]
    ['r 0.61', 'r 0.58, not above baselines', 'not predictable (r 0.02)', 'r not known']
    """
    if gene not in table.index:
        return UNKNOWN
    row = table.loc[gene]
    r, q = (float(row.get(name, np.nan)) for name in ("r_model", "q_model"))
    if not np.isfinite(r):
        pooled = float(row.get("pooled_r_model", np.nan))
        # In small cohorts no gene has an r within folds.
        known = np.isfinite(pooled)
        return Predictability(f"pooled r {r_text(pooled)} (biased)", True) if known else UNKNOWN
    if r <= 0 or (np.isfinite(q) and q >= MAX_Q):
        return Predictability(f"not predictable (r {r_text(r)})", False)
    if not np.isfinite(q) or bool(row.get("predictable", True)):
        return Predictability(f"r {r_text(r)}", True)
    return Predictability(f"r {r_text(r)}, not above baselines", True)
