"""Test scores and genes against covariates, and predicted genes against one score.

Spearman correlation serves numbers and Kruskal & Wallis' test serves categories. Out-of-fold
predictions are correlated within folds and combined by Fisher's z, as everywhere in this project
(docs/protocol.md, section Metrics per gene).

**Null variance of the combined z.** Folds are not independent: what is tested in one fold trains
the others. Between predictions and the labels that their models were trained on, the combined z
can have a variance of up to 2 instead of 1. Against a score that no model was trained on, such as a
covariate, the variance is 1 + R2, where R2 is the squared correlation of the score with a label
(:func:`tcgn_mil.statistics.fold_combination.fold_null_sd`). The largest R2 over the measured genes
is taken. Where most of the genes that were trained on are not measured, the upper bound of 2 stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.associate.study import AssociationStudy
from tcgn_mil.experiments.associate.tables import MEASURED, PREDICTED, scored_sources, sets_of
from tcgn_mil.statistics.correlation import (
    pearson_over_patients,
    spearman_over_patients,
    without_covariates,
)
from tcgn_mil.statistics.fold_combination import FOLD_NULL_SD, fold_null_sd
from tcgn_mil.statistics.kruskal_wallis import KruskalWallis, kruskal_wallis
from tcgn_mil.statistics.p_values import benjamini_hochberg
from tcgn_mil.statistics.ranks import patient_ranks
from tcgn_mil.text import preview
from tcgn_mil.types.genes import canonical_gene

SPEARMAN, KRUSKAL = "Spearman", "Kruskal-Wallis"


@dataclass(frozen=True, eq=False)
class FollowedScore:
    """The score that genes are tested against.

    Attributes
    ----------
    name
        Name of the signature or covariate.
    source
        ``predicted``, ``measured`` or ``covariate``.
    values
        (M,) values of the patients.
    genes
        Canonical names of the genes of a signature; empty for a covariate.
    """

    name: str
    source: str
    values: NDArray[np.float64]
    genes: frozenset[str]


def covariate_association(study: AssociationStudy) -> pd.DataFrame:
    """Test signatures and genes of the sets against each covariate.

    Returns
    -------
    DataFrame
        One row for each source, signature or gene, and covariate.

        For a number, ``effect`` is Spearman r, within folds and combined where predictions have
        folds; ``partial_r`` is added where there is something to adjust for. For a category the
        test is that of Kruskal & Wallis, and ``effect`` is epsilon squared, the share of the
        variance of the ranks that lies between categories; out-of-fold scores are ranked within
        their fold first.

        ``q`` is Benjamini-Hochberg over the signatures, or over the genes, of one source with all
        covariates. ``null_sd`` is the standard deviation of the combined z that p was computed
        with.
    """
    parts = []
    for source, scored in scored_sources(study).items():
        # Only predictions are made by several models. Measured values can be compared over all
        # patients.
        folds = study.folds if source == PREDICTED else None
        wanted = [
            column
            for column, gene in enumerate(scored.genes)
            if canonical_gene(gene) in study.set_genes
        ]
        blocks = {
            "signature": (scored.scores.names, scored.scores.values),
            "gene": ([scored.genes[column] for column in wanted], scored.values[:, wanted]),
        }
        for kind, (names, values) in blocks.items():
            if not len(names) or not len(study.covariates.columns):
                continue
            block = pd.concat(
                [
                    _one_covariate(study, names, values, covariate, folds)
                    for covariate in study.covariates.columns
                ]
            )
            # One family of tests: all signatures (or all genes) of a source with all covariates.
            block["q"] = benjamini_hochberg(block["p"].to_numpy())
            if "partial_p" in block:
                block["partial_q"] = benjamini_hochberg(block["partial_p"].to_numpy())
            parts.append(block.assign(source=source, kind=kind))
    if not parts:
        return pd.DataFrame()
    table = pd.concat(parts, ignore_index=True)
    first = ["source", "kind", "name", "covariate", "test", "n", "effect", "p", "q"]
    return table[[*first, *(column for column in table if column not in first)]]


def followed_score(study: AssociationStudy, name: str) -> FollowedScore:
    """Find the score to follow: a numeric covariate, or else a signature, measured if possible.

    Raises
    ------
    InputError
        If there is no score of that name, or if it is a category.
    """
    if name in study.covariates.columns:
        if study.covariates[name].dtype.kind != "f":
            raise InputError(
                f"covariate {name} is a category, and genes can follow numbers only",
                fix="give --follow a numeric covariate or a signature",
            )
        return FollowedScore(name, "covariate", study.covariates[name].to_numpy(float), frozenset())
    # The measured score is preferred, because it does not share the errors of the predictions.
    for source in (MEASURED, PREDICTED):
        scored = scored_sources(study).get(source)
        if scored is not None and name in scored.scores.names:
            genes = frozenset(map(canonical_gene, study.sets[name].genes))
            return FollowedScore(
                name, source, scored.scores.values[:, scored.scores.names.index(name)], genes
            )
    refused = {row.name: row.refused for row in study.predicted.scores.coverage if row.refused}
    if name in refused:
        raise InputError(
            f"signature {name} has no score: {refused[name]}", fix="give --follow another score"
        )
    names = [*study.predicted.scores.names, *study.covariates.columns]
    raise InputError(
        f"no score is called {name!r}", fix=f"give --follow a name among {preview(names)}"
    )


def genes_that_follow(study: AssociationStudy, score: FollowedScore) -> pd.DataFrame:
    """Test every predicted gene against one score.

    Returns
    -------
    DataFrame
        One row for each gene, the most certain first, with Spearman r, p and q, and with partial r
        where there is something to adjust for. ``part_of_score`` marks genes of the score itself.
        They follow it by construction if gene and score have the same source.
    """
    genes, values = study.predicted.genes, study.predicted.values
    table = _against(
        study, genes, values, score.values, study.folds, trained_on=score.source == PREDICTED
    ).rename(columns={"name": "gene", "effect": "r"})
    table["q"] = benjamini_hochberg(table["p"].to_numpy())
    if "partial_p" in table:
        table["partial_q"] = benjamini_hochberg(table["partial_p"].to_numpy())
    table["part_of_score"] = [canonical_gene(gene) in score.genes for gene in genes]
    table["sets"] = sets_of(study, genes)
    return table.sort_values(["p", "gene"], kind="stable").reset_index(drop=True)


def _one_covariate(
    study: AssociationStudy,
    names: Sequence[str],
    values: NDArray[np.float64],
    covariate: str,
    folds: NDArray[np.int64] | None,
) -> pd.DataFrame:
    column = study.covariates[covariate]
    if column.dtype.kind == "f":
        table = _against(study, names, values, column.to_numpy(float), folds)
        return table.assign(covariate=covariate, test=SPEARMAN)
    groups = column.astype("category").cat.codes.to_numpy(np.int64)
    null_sd = 1.0
    if folds is not None:
        # Epsilon squared takes the place of the squared correlation for a category.
        null_sd = fold_null_sd(_by_group(_trained_on(study), groups, folds).epsilon2)
    result = _by_group(values, groups, folds, null_sd)
    table = pd.DataFrame(
        {
            "name": list(names),
            "covariate": covariate,
            "test": KRUSKAL,
            "n": result.n,
            "effect": result.epsilon2,
            "p": result.p,
        }
    )
    return table if folds is None else table.assign(null_sd=null_sd)


def _by_group(
    values: NDArray[np.float64],
    groups: NDArray[np.int64],
    folds: NDArray[np.int64] | None,
    null_sd: float = 1.0,
) -> KruskalWallis:
    """Apply the test of Kruskal & Wallis, to ranks within folds where there are folds."""
    # Codes below 0 are patients whose category is not known.
    in_group = np.where((groups >= 0)[:, None], values, np.nan)
    return kruskal_wallis(
        in_group if folds is None else patient_ranks(in_group, folds), groups, null_sd=null_sd
    )


def _against(
    study: AssociationStudy,
    names: Sequence[str],
    values: NDArray[np.float64],
    score: NDArray[np.float64],
    folds: NDArray[np.int64] | None,
    *,
    trained_on: bool = False,
) -> pd.DataFrame:
    """Correlate each column with one score (two-sided Spearman), with partial r where possible.

    Parameters
    ----------
    study
        The study.
    names, values
        Names of the columns, and their values (M, number of columns).
    score
        (M,) values.
    folds
        Fold of each patient for out-of-fold values, or None.
    trained_on
        Whether the score itself is of predictions. It then shares everything that their models were
        trained on, and the null variance is at its upper bound.
    """
    labels = np.empty((len(score), 0)) if trained_on else _trained_on(study)
    null_sd = FOLD_NULL_SD
    if folds is not None:
        null_sd = fold_null_sd(np.square(spearman_over_patients(labels, score[:, None], folds).r))
    raw = spearman_over_patients(values, score[:, None], folds, null_sd=null_sd)
    table = pd.DataFrame({"name": list(names), "n": raw.n, "effect": raw.r, "p": raw.p})
    if folds is not None:
        table["null_sd"] = null_sd
    if study.adjust is not None:
        # Both sides are regressed on the covariates over the same patients: those with a score.
        adjust = np.where(np.isfinite(score)[:, None], study.adjust, np.nan)
        left, right = (
            without_covariates(values, adjust, folds),
            without_covariates(score[:, None], adjust, folds),
        )
        if folds is not None:
            adjusted_labels = without_covariates(labels, adjust, folds)
            null_sd = fold_null_sd(
                np.square(pearson_over_patients(adjusted_labels.values, right.values, folds).r)
            )
        partial = pearson_over_patients(
            left.values, right.values, folds, spent=left.spent, null_sd=null_sd
        )
        table = table.assign(partial_r=partial.r, partial_p=partial.p)
    return table


def _trained_on(study: AssociationStudy) -> NDArray[np.float64]:
    """Return the measured values (M, K) of the genes that are predicted.

    No column is returned where more than half of these genes were not measured, since the largest
    correlation with a measured gene would then be unknown.
    """
    columns = {canonical_gene(gene) for gene in study.predicted.genes}
    measured = study.measured
    shared = (
        []
        if measured is None
        else [at for at, gene in enumerate(measured.genes) if canonical_gene(gene) in columns]
    )
    if measured is None or 2 * len(shared) < len(columns):
        return np.empty((len(study.patients), 0))
    return measured.values[:, shared]
