"""Tables of ``tcgn-mil associate``: how well genes and signatures are predicted, and what they follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.associate.config import AssociationConfig
from tcgn_mil.experiments.associate.study import AssociationStudy, ScoredExpression
from tcgn_mil.statistics.correlation import (
    Correlation,
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

PREDICTED, MEASURED = "predicted", "measured"
SPEARMAN, KRUSKAL = "Spearman", "Kruskal-Wallis"


@dataclass(frozen=True, eq=False)
class FollowedScore:
    """The score that genes are tested against: its name, where it is from, (M,) values, and its genes if it has any."""

    name: str
    source: str
    values: NDArray[np.float64]
    genes: frozenset[str]


def coverage_table(study: AssociationStudy) -> pd.DataFrame:
    """One row a source and set: how it is scored, its genes present and missing, and why it has no score."""
    return pd.DataFrame(
        [
            {
                "source": source,
                "set": one.name,
                "genes": len(one.present) + len(one.missing),
                "present": len(one.present),
                "missing_genes": ";".join(one.missing),
                "definition": one.definition,
                "refused": one.refused,
                "description": one.description,
            }
            for source, scored in scored_sources(study).items()
            for one in scored.scores.coverage
        ]
    )


def scored_sources(study: AssociationStudy) -> dict[str, ScoredExpression]:
    """Predicted and, where there is one, measured expression; a cohort alone is measured."""
    if study.measured is not None:
        return {PREDICTED: study.predicted, MEASURED: study.measured}
    return {MEASURED if study.source.is_cohort else PREDICTED: study.predicted}


def score_table(study: AssociationStudy) -> pd.DataFrame:
    """Patients x scores, columns ``<source>_<set>``."""
    columns = {
        f"{source}_{name}": scored.scores.values[:, column]
        for source, scored in scored_sources(study).items()
        for column, name in enumerate(scored.scores.names)
    }
    return pd.DataFrame(columns, index=pd.Index(study.patients, name="patient_id"))


def signature_prediction(config: AssociationConfig, study: AssociationStudy) -> pd.DataFrame:
    """One row a signature scored on both: agreement of the predicted with the measured score."""
    assert study.measured is not None
    first, second = study.predicted.scores, study.measured.scores
    names = [name for name in first.names if name in second.names]
    return _prediction(
        config,
        study,
        names,
        first.values[:, [first.names.index(name) for name in names]],
        second.values[:, [second.names.index(name) for name in names]],
    ).rename(columns={"name": "signature"})


def gene_prediction(config: AssociationConfig, study: AssociationStudy) -> pd.DataFrame:
    """One row a gene in both: agreement of predicted with measured expression, and the sets it is in."""
    assert study.measured is not None
    columns = {canonical_gene(gene): column for column, gene in enumerate(study.measured.genes)}
    shared = [
        column
        for column, gene in enumerate(study.predicted.genes)
        if canonical_gene(gene) in columns
    ]
    genes = [study.predicted.genes[column] for column in shared]
    table = _prediction(
        config,
        study,
        genes,
        study.predicted.values[:, shared],
        study.measured.values[:, [columns[canonical_gene(gene)] for gene in genes]],
    ).rename(columns={"name": "gene"})
    return table.assign(sets=_sets_of(study, genes))


def covariate_association(study: AssociationStudy) -> pd.DataFrame:
    """One row a source, score or gene of a set, and covariate.

    Numbers: ``effect`` is Spearman r (within folds, combined, where predictions have folds), with its partial r where
    there is something to adjust for. Categories: Kruskal & Wallis' test, ``effect`` epsilon squared, the share of the
    ranks' variance between levels; scores of folds are ranked within them first. q is over a source's signatures, or
    genes, with all covariates. ``null_sd`` is that of the z over folds that p was taken with, where there are folds.
    """
    parts = []
    for source, scored in scored_sources(study).items():
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
    """The score called `name`: a number among the covariates, else a signature, measured if there is one.

    Raises
    ------
    InputError
        If there is none of that name with a score, or it is a category.
    """
    if name in study.covariates.columns:
        if study.covariates[name].dtype.kind != "f":
            raise InputError(
                f"{name} is a category, and cannot be followed",
                fix="follow a number or a signature",
            )
        return FollowedScore(name, "covariate", study.covariates[name].to_numpy(float), frozenset())
    for source in (MEASURED, PREDICTED):
        scored = scored_sources(study).get(source)
        if scored is not None and name in scored.scores.names:
            genes = frozenset(map(canonical_gene, study.sets[name].genes))
            return FollowedScore(
                name, source, scored.scores.values[:, scored.scores.names.index(name)], genes
            )
    refused = {one.name: one.refused for one in study.predicted.scores.coverage if one.refused}
    if name in refused:
        raise InputError(f"signature {name} {refused[name]}", fix="follow another score")
    known = [*study.predicted.scores.names, *study.covariates.columns]
    raise InputError(f"no score is called {name!r}", fix=f"there are {preview(known)}")


def genes_that_follow(study: AssociationStudy, score: FollowedScore) -> pd.DataFrame:
    """One row a predicted gene, the most certain first: Spearman r with the score, p, q; partial too if asked.

    ``part_of_score`` marks the score's own genes, which follow it by construction where both are of one source.
    """
    genes, values = study.predicted.genes, study.predicted.values
    table = _against(
        study, genes, values, score.values, study.folds, trained_on=score.source == PREDICTED
    ).rename(columns={"name": "gene", "effect": "r"})
    table["q"] = benjamini_hochberg(table["p"].to_numpy())
    if "partial_p" in table:
        table["partial_q"] = benjamini_hochberg(table["partial_p"].to_numpy())
    table["part_of_score"] = [canonical_gene(gene) in score.genes for gene in genes]
    table["sets"] = _sets_of(study, genes)
    return table.sort_values(["p", "gene"], kind="stable").reset_index(drop=True)


def _prediction(
    config: AssociationConfig,
    study: AssociationStudy,
    names: Sequence[str],
    predicted: NDArray[np.float64],
    measured: NDArray[np.float64],
) -> pd.DataFrame:
    """Pearson, Spearman and partial Spearman r with interval, one-sided p and q over the rows."""
    options = {"one_sided": True, "replicates": config.replicates, "seed": config.seed}
    found: dict[str, Correlation] = {
        "pearson": pearson_over_patients(predicted, measured, study.folds, **options),
        "spearman": spearman_over_patients(predicted, measured, study.folds, **options),
    }
    if study.adjust is not None:
        left = without_covariates(predicted, study.adjust, study.folds)
        right = without_covariates(measured, study.adjust, study.folds)
        found["partial"] = pearson_over_patients(
            left.values, right.values, study.folds, spent=left.spent, **options
        )
    table = pd.DataFrame({"name": list(names), "n": found["pearson"].n})
    for measure, values in found.items():
        table[f"{measure}_r"], table[f"{measure}_low"], table[f"{measure}_high"] = (
            values.r,
            values.low,
            values.high,
        )
        table[f"{measure}_p"], table[f"{measure}_q"] = values.p, benjamini_hochberg(values.p)
    return table


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
        null_sd = fold_null_sd(_by_group(_trained_on(study), groups, folds).epsilon2)
    found = _by_group(values, groups, folds, null_sd)
    table = pd.DataFrame(
        {
            "name": list(names),
            "covariate": covariate,
            "test": KRUSKAL,
            "n": found.n,
            "effect": found.epsilon2,
            "p": found.p,
        }
    )
    return table if folds is None else table.assign(null_sd=null_sd)


def _by_group(
    values: NDArray[np.float64],
    groups: NDArray[np.int64],
    folds: NDArray[np.int64] | None,
    null_sd: float = 1.0,
) -> KruskalWallis:
    """Kruskal & Wallis' test, of ranks within folds where there are folds."""
    known = np.where((groups >= 0)[:, None], values, np.nan)
    return kruskal_wallis(
        known if folds is None else patient_ranks(known, folds), groups, null_sd=null_sd
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
    """Two-sided Spearman r of each column with one score, and partial r where there is something to adjust for.

    `trained_on` tells that the score is of predictions itself, which shares all that their models were trained on.
    """
    known, null_sd = np.empty((len(score), 0)) if trained_on else _trained_on(study), FOLD_NULL_SD
    if folds is not None:
        null_sd = fold_null_sd(np.square(spearman_over_patients(known, score[:, None], folds).r))
    raw = spearman_over_patients(values, score[:, None], folds, null_sd=null_sd)
    table = pd.DataFrame({"name": list(names), "n": raw.n, "effect": raw.r, "p": raw.p})
    if folds is not None:
        table["null_sd"] = null_sd
    if study.adjust is not None:
        adjust = np.where(
            np.isfinite(score)[:, None], study.adjust, np.nan
        )  # the same patients on both sides
        left, right = (
            without_covariates(values, adjust, folds),
            without_covariates(score[:, None], adjust, folds),
        )
        if folds is not None:
            theirs = without_covariates(known, adjust, folds)
            null_sd = fold_null_sd(
                np.square(pearson_over_patients(theirs.values, right.values, folds).r)
            )
        partial = pearson_over_patients(
            left.values, right.values, folds, spent=left.spent, null_sd=null_sd
        )
        table = table.assign(partial_r=partial.r, partial_p=partial.p)
    return table


def _trained_on(study: AssociationStudy) -> NDArray[np.float64]:
    """(M, K) measured values of the genes that are predicted; no column where more than half of those are not known."""
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


def _sets_of(study: AssociationStudy, genes: Sequence[str]) -> list[str]:
    """Sets that each gene is in, by ;."""
    members: dict[str, list[str]] = {}
    for one in study.sets.values():
        for gene in one.genes:
            members.setdefault(canonical_gene(gene), []).append(one.name)
    return [";".join(members.get(canonical_gene(gene), [])) for gene in genes]
