"""Tabulate scores and how well genes and signatures are predicted."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tcgn_mil.experiments.associate.config import AssociationConfig
from tcgn_mil.experiments.associate.study import AssociationStudy, ScoredExpression
from tcgn_mil.statistics.correlation import (
    Correlation,
    pearson_over_patients,
    spearman_over_patients,
    without_covariates,
)
from tcgn_mil.statistics.p_values import benjamini_hochberg
from tcgn_mil.types.genes import canonical_gene, matching_columns

# Names of the two sources, in the tables and in the summary.
PREDICTED, MEASURED = "predicted", "measured"


def coverage_table(study: AssociationStudy) -> pd.DataFrame:
    """Return one row for each source and set: genes present and missing, or why it has no score."""
    return pd.DataFrame(
        [
            {
                "source": source,
                "set": row.name,
                "genes": len(row.present) + len(row.missing),
                "present": len(row.present),
                "missing_genes": ";".join(row.missing),
                "definition": row.definition,
                "refused": row.refused,
                "description": row.description,
            }
            for source, scored in scored_sources(study).items()
            for row in scored.scores.coverage
        ]
    )


def scored_sources(study: AssociationStudy) -> dict[str, ScoredExpression]:
    """Return predicted and, if there is one, measured expression by the name of the source.

    If the only file is a cohort, its values are measured.
    """
    if study.measured is not None:
        return {PREDICTED: study.predicted, MEASURED: study.measured}
    return {MEASURED if study.source.is_cohort else PREDICTED: study.predicted}


def score_table(study: AssociationStudy) -> pd.DataFrame:
    """Return the scores of the patients, with columns ``<source>_<set>``."""
    columns = {
        f"{source}_{name}": scored.scores.values[:, column]
        for source, scored in scored_sources(study).items()
        for column, name in enumerate(scored.scores.names)
    }
    return pd.DataFrame(columns, index=pd.Index(study.patients, name="patient_id"))


def signature_prediction(config: AssociationConfig, study: AssociationStudy) -> pd.DataFrame:
    """Return one row for each signature: agreement of the predicted with the measured score."""
    assert study.measured is not None
    first, second = study.predicted.scores, study.measured.scores
    # A signature can be scored on one source only, if the other lacks its genes.
    names = [name for name in first.names if name in second.names]
    return _prediction(
        config,
        study,
        names,
        first.values[:, [first.names.index(name) for name in names]],
        second.values[:, [second.names.index(name) for name in names]],
    ).rename(columns={"name": "signature"})


def gene_prediction(config: AssociationConfig, study: AssociationStudy) -> pd.DataFrame:
    """Return one row for each gene of both sources: agreement, and the sets that the gene is in."""
    assert study.measured is not None
    # Two files may spell a gene differently, such as HLA-A and HLA_A.
    columns = matching_columns(study.predicted.genes, study.measured.genes)
    shared = [column for column, measured in enumerate(columns) if measured is not None]
    genes = [study.predicted.genes[column] for column in shared]
    table = _prediction(
        config,
        study,
        genes,
        study.predicted.values[:, shared],
        study.measured.values[:, [at for at in columns if at is not None]],
    ).rename(columns={"name": "gene"})
    return table.assign(sets=sets_of(study, genes))


def _prediction(
    config: AssociationConfig,
    study: AssociationStudy,
    names: Sequence[str],
    predicted: NDArray[np.float64],
    measured: NDArray[np.float64],
) -> pd.DataFrame:
    """Correlate predicted with measured columns.

    Returns
    -------
    DataFrame
        One row for each column, with Pearson, Spearman and (with covariates) partial Spearman r,
        their intervals, one-sided p and q over the rows.
    """
    pearson = partial(pearson_over_patients, one_sided=True, interval=True)
    spearman = partial(spearman_over_patients, one_sided=True, interval=True)
    correlations: dict[str, Correlation] = {
        "pearson": pearson(predicted, measured, study.folds),
        "spearman": spearman(predicted, measured, study.folds),
    }
    if study.adjust is not None:
        # Covariates are regressed out of both sides, within folds, and `spent` counts the degrees
        # of freedom that this costs.
        left = without_covariates(predicted, study.adjust, study.folds)
        right = without_covariates(measured, study.adjust, study.folds)
        # Pearson r of residuals of ranks is the partial Spearman correlation.
        correlations["partial"] = pearson(
            left.values, right.values, study.folds, spent=left.spent, ranks=True
        )
    table = pd.DataFrame({"name": list(names), "n": correlations["pearson"].n})
    for measure, values in correlations.items():
        table[f"{measure}_r"], table[f"{measure}_low"], table[f"{measure}_high"] = (
            values.r,
            values.low,
            values.high,
        )
        table[f"{measure}_p"], table[f"{measure}_q"] = values.p, benjamini_hochberg(values.p)
    return table


def sets_of(study: AssociationStudy, genes: Sequence[str]) -> list[str]:
    """Return the names of the sets that each gene is in, separated by semicolons."""
    members: dict[str, list[str]] = {}
    for gene_set in study.sets.values():
        for gene in gene_set.genes:
            members.setdefault(canonical_gene(gene), []).append(gene_set.name)
    return [";".join(members.get(canonical_gene(gene), [])) for gene in genes]
