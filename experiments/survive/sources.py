"""Read predicted and measured expression for the survival models, with scores of gene sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.survive.config import SurviveConfig
from tcgn_mil.io.expression_file import PatientExpression, read_expression
from tcgn_mil.signatures.gene_sets import GeneSet, load_gene_sets, read_gene_sets
from tcgn_mil.signatures.scores import SignatureScores, gene_columns, score_signatures
from tcgn_mil.targets.bulk import training_scale
from tcgn_mil.types.genes import canonical_gene

PREDICTED, MEASURED, CLINICAL = "predicted", "measured", "clinical"


@dataclass(frozen=True, eq=False)
class ExpressionSource:
    """Expression of the M patients of a survival cohort.

    Attributes
    ----------
    genes
        Names of the G genes that have a value for every patient.
    values
        (M, G) expression.
    set_names
        Names of the K gene sets that a risk score is to use; empty if it uses genes alone.
    sets
        (G, K) weights that average the genes of each set, or None.
    scores
        Signature scores of the patients, the same as those of ``tcgn-mil associate``; None if no
        signature has enough genes.
    """

    genes: tuple[str, ...]
    values: NDArray[np.float64]
    set_names: tuple[str, ...] = ()
    sets: NDArray[np.float64] | None = None
    scores: SignatureScores | None = None


def expression_files(config: SurviveConfig) -> dict[str, PatientExpression]:
    """Read the expression files that the config names, by ``predicted`` and ``measured``.

    Measured values that were stored beside the predictions are used if no others are given.

    Raises
    ------
    InputError
        If there is neither expression nor a covariate to predict survival from.
    """
    files = {
        kind: read_expression(path)
        for kind, path in ((PREDICTED, config.predicted), (MEASURED, config.measured))
        if path is not None
    }
    own = files.get(PREDICTED)
    if MEASURED not in files and own is not None and own.truth is not None:
        files[MEASURED] = PatientExpression(own.path, own.patients, own.genes, own.truth, own.unit)
    if not files and not config.covariates:
        raise InputError(
            "nothing to predict survival from", fix="give --predicted, --measured or --covariate"
        )
    return files


def expression_source(
    config: SurviveConfig, kind: str, file: PatientExpression, patients: Sequence[str]
) -> tuple[ExpressionSource, list[str]]:
    """Take the expression of a cohort's patients from a file.

    Parameters
    ----------
    config
        Config of the run.
    kind
        ``predicted`` or ``measured``, for the notes.
    file
        Expression of these patients and perhaps of others.
    patients
        The M patients of the cohort.

    Returns
    -------
    The expression, and notes on what was left out and on what a reader must know.

    Raises
    ------
    InputError
        If no gene has a value for every patient.
    """
    row = {name: index for index, name in enumerate(file.patients)}
    rows = np.array([row[name] for name in patients], dtype=np.int64)
    # The Cox models need every value. Genes are left out rather than patients, since a gene without
    # a value in one patient costs less than a patient.
    complete = np.isfinite(file.values[rows]).all(axis=0)
    if not complete.any():
        raise InputError(
            "no gene has a value for every patient",
            path=file.path,
            fix="fill the missing values, or remove the patients or genes that have them",
        )
    columns = np.flatnonzero(complete)
    genes = tuple(file.genes[column] for column in columns)
    notes = [f"{kind}: {note}" for note in file.notes]
    if len(genes) < len(file.genes):
        notes.append(
            f"{kind}: {len(file.genes) - len(genes)} genes left out, because a patient has no value"
        )
    if file.folds is not None and config.folds is None:
        notes.append(
            f"{kind}: predictions of {len(np.unique(file.folds))} models, whose levels differ; give"
            " --folds the folds of the run that made them, and C compares patients of one model"
            " alone"
        )
    gene_sets = read_gene_sets(config.signatures) if config.signatures else load_gene_sets()
    values = file.values[rows][:, columns]
    groups = None if file.folds is None else file.folds[rows]
    scores = _scores(gene_sets, values, genes, file.unit, groups)
    if config.risk.features == "genes":
        return ExpressionSource(genes, values, scores=scores), notes
    names, weights, more = signature_weights(gene_sets, values, genes)
    notes += [f"{kind}: {note}" for note in more]
    return ExpressionSource(genes, values, names, weights, scores), notes


def _scores(
    gene_sets: Mapping[str, GeneSet],
    values: NDArray[np.float64],
    genes: Sequence[str],
    unit: str,
    groups: NDArray[np.int64] | None,
) -> SignatureScores | None:
    """Score the gene sets on the training scale, ranked within the fold of each prediction."""
    scaled, log_offset = training_scale(values, unit)
    try:
        return score_signatures(scaled, genes, gene_sets, groups=groups, log_offset=log_offset)
    except InputError:
        # No set has enough genes, or two columns are the same gene. The genes can still be used.
        return None


def signature_weights(
    gene_sets: Mapping[str, GeneSet], values: NDArray[np.float64], genes: Sequence[str]
) -> tuple[tuple[str, ...], NDArray[np.float64], list[str]]:
    """Return weights that average the genes of each gene set.

    Parameters
    ----------
    gene_sets
        The gene sets.
    values
        (M, G) expression, by which it is decided which genes are present.
    genes
        Names of the G genes.

    Returns
    -------
    Names of the K sets with enough genes, weights (G, K), and a note on each other set.
    """
    columns = gene_columns(genes)
    coverage = score_signatures(values, genes, gene_sets).coverage
    scored = [covered for covered in coverage if not covered.refused]
    weights = np.zeros((len(genes), len(scored)))
    for index, covered in enumerate(scored):
        rows = [columns[canonical_gene(gene)] for gene in covered.present]
        weights[rows, index] = 1 / len(covered.present)
    notes = [
        f"signature {covered.name} is left out: {covered.refused}"
        for covered in coverage
        if covered.refused
    ]
    return tuple(covered.name for covered in scored), weights, notes
