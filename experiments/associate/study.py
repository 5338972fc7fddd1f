"""Read predictions, measured values and covariates of the same patients, and score signatures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.associate.config import AssociationConfig
from tcgn_mil.io.cohort_file import mixed_types
from tcgn_mil.io.expression_file import PatientExpression, read_expression
from tcgn_mil.io.gene_list import read_gene_list
from tcgn_mil.io.tables.covariate_table import read_covariates
from tcgn_mil.signatures.gene_sets import GeneSet, load_gene_sets
from tcgn_mil.signatures.scores import SignatureScores, gene_columns, score_signatures
from tcgn_mil.statistics.correlation import MIN_PATIENTS_PER_FOLD
from tcgn_mil.statistics.fold_combination import MIN_FOLDS
from tcgn_mil.targets.bulk import library_size, training_scale
from tcgn_mil.types.genes import canonical_gene

MIN_PATIENTS = 10


@dataclass(frozen=True, eq=False)
class ScoredExpression:
    """Expression of one source for M patients, with its signature scores.

    Attributes
    ----------
    genes
        Names of the genes.
    values
        (M, G) expression.
    scores
        Signature scores.
    """

    genes: tuple[str, ...]
    values: NDArray[np.float64]
    scores: SignatureScores


@dataclass(frozen=True, eq=False)
class AssociationStudy:
    """Everything that is analysed, aligned to the same M patients.

    Attributes
    ----------
    patients
        Names of the M patients.
    sets
        Gene sets by name.
    predicted
        Predicted expression with scores.
    measured
        Measured expression with scores, or None.
    folds
        (M,) fold of each prediction; None where predictions can be compared over all patients.
    covariates
        M rows; no columns if no covariates were given.
    adjust
        (M, C) numbers that partial correlations adjust for: the columns that were named, and
        library size where expression comes as counts. None if there are none.
    source
        The predictions as read, with what their file says of the genes.
    notes
        Sentences that a reader of the results should know.
    """

    patients: tuple[str, ...]
    sets: dict[str, GeneSet]
    predicted: ScoredExpression
    measured: ScoredExpression | None
    folds: NDArray[np.int64] | None
    covariates: pd.DataFrame
    adjust: NDArray[np.float64] | None
    source: PatientExpression
    notes: tuple[str, ...]

    @property
    def set_genes(self) -> frozenset[str]:
        """Canonical names of all genes of the sets."""
        return frozenset(
            canonical_gene(gene) for gene_set in self.sets.values() for gene in gene_set.genes
        )


def load_study(config: AssociationConfig) -> AssociationStudy:
    """Read the files, align them to the same patients and score signatures.

    Raises
    ------
    InputError
        If a file cannot be read, if the files share too few patients, or if no set has enough
        genes.
    """
    if config.predicted is None:
        raise InputError(
            "no predictions are given", fix="give --predicted, or --spots and --cell-types"
        )
    sets = gene_sets(config)
    source = read_expression(config.predicted)
    measured, rows, own_truth = None, list(range(len(source.patients))), source.truth
    notes = [*source.notes]
    if config.measured is not None:
        measured = read_expression(config.measured)
        notes += measured.notes
        rows = _shared_rows(source, measured)
        if len(rows) < len(source.patients):
            notes.append(
                f"{len(source.patients) - len(rows)} of {len(source.patients)} patients have no"
                " measured values and are left out"
            )
    elif own_truth is not None:
        measured = PatientExpression(
            source.path, source.patients, source.genes, own_truth, source.unit
        )
    if len(rows) < MIN_PATIENTS:
        raise InputError(
            f"{len(rows)} patients are too few for an association",
            path=source.path,
            fix=f"give predictions of at least {MIN_PATIENTS} patients",
        )
    patients = tuple(source.patients[row] for row in rows)
    folds, more = _folds(source, rows)
    mixed = mixed_types((source if measured is None else measured).specimens)
    if mixed and "sample_type" not in (*config.covariate, *config.adjust_for):
        notes.append(mixed)
    covariates, adjust, left_out = _covariates(config, patients)
    # Measured values that came with the predictions are in the unit of the predictions.
    measured_unit = config.unit if config.measured is None else config.measured_unit
    depth = _depth((source, config.unit), (measured, measured_unit), patients=patients)
    if depth is not None:
        adjust = depth if adjust is None else np.hstack([adjust, depth])
        more.append("expression comes as counts, so partial correlations adjust for library size")
    return AssociationStudy(
        patients,
        sets,
        _scored(source, patients, config.unit, sets, folds),
        None if measured is None else _scored(measured, patients, measured_unit, sets, None),
        folds,
        covariates,
        adjust,
        source,
        (*notes, *more, *left_out),
    )


def gene_sets(config: AssociationConfig) -> dict[str, GeneSet]:
    """Return the shipped sets and those of the given files by name."""
    sets = load_gene_sets(config.sets, shipped=config.shipped_sets)
    if not sets:
        raise InputError("there are no gene sets", fix="give --sets, or set shipped_sets=true")
    return sets


def predictable_genes(config: AssociationConfig, study: AssociationStudy) -> tuple[str, ...] | None:
    """Return the genes that the given list, or the predictions' file, calls predictable.

    None is returned where neither says so.
    """
    if config.genes is not None:
        listed = read_gene_list(config.genes).genes
        predicted = {canonical_gene(gene) for gene in study.predicted.genes}
        if not predicted & {canonical_gene(gene) for gene in listed}:
            raise InputError(
                "names no gene of the predictions",
                path=config.genes,
                fix="write gene names as in the file of predictions",
            )
        return listed
    if study.source.predictable is None:
        return None
    return tuple(
        gene for gene, yes in zip(study.source.genes, study.source.predictable, strict=True) if yes
    )


def _shared_rows(first: PatientExpression, second: PatientExpression) -> list[int]:
    """Return the rows of `first` whose patients `second` has too."""
    if not {*map(canonical_gene, first.genes)} & {*map(canonical_gene, second.genes)}:
        raise InputError(
            f"shares no gene with {first.path.name}: its first gene is {second.genes[0]!r}, that of"
            f" {first.path.name} is {first.genes[0]!r}",
            path=second.path,
            fix="use the same gene names in both files",
        )
    shared = set(second.patients)
    rows = [row for row, patient in enumerate(first.patients) if patient in shared]
    if not rows:
        raise InputError(
            f"shares no patient with {first.path.name}: its first patient is"
            f" {second.patients[0]!r}, that of {first.path.name} is {first.patients[0]!r}",
            path=second.path,
            fix="use the same patient names in both files",
        )
    return rows


def _folds(
    source: PatientExpression, rows: Sequence[int]
) -> tuple[NDArray[np.int64] | None, list[str]]:
    """Return the folds over which correlations are combined, with notes for the reader."""
    notes = []
    if "trained on" in source.relation:
        notes.append(
            f"{source.relation.count('trained on')} patients were trained on, so that their"
            " predictions look better than those of new patients"
        )
    if source.folds is None:
        if "out of fold" in source.relation:
            notes.append(
                "predictions of the models of several folds are pooled, which biases r; give"
                " out_of_fold.h5ad instead"
            )
        return None, notes
    folds = source.folds[list(rows)]
    large = int((np.bincount(folds) >= MIN_PATIENTS_PER_FOLD).sum())
    if large < MIN_FOLDS:
        notes.append(
            f"only {large} folds have {MIN_PATIENTS_PER_FOLD} patients or more, which is too few to"
            " combine; r is pooled over folds and biased"
        )
        return None, notes
    notes.append(
        "p-values of out-of-fold predictions are approximate, since the models of two folds share"
        " training patients: the null standard deviation of the combined z is taken as sqrt(2), and"
        " against covariates as sqrt(1 + the largest squared r of a measured gene with them)"
    )
    return folds, notes


def _covariates(
    config: AssociationConfig, patients: Sequence[str]
) -> tuple[pd.DataFrame, NDArray[np.float64] | None, list[str]]:
    """Return the covariates to test, the numbers (M, C) to adjust for, and notes on both."""
    if config.covariates is None:
        return pd.DataFrame(index=list(patients)), None, []
    wanted = config.covariate
    # The score to follow may be a covariate that --covariate does not name.
    if wanted and config.follow is not None:
        everything, _ = read_covariates(
            config.covariates, patients, zero_unknown=config.zero_unknown
        )
        wanted = (
            *wanted,
            *(name for name in everything.columns if name == config.follow and name not in wanted),
        )
    shown, notes = read_covariates(
        config.covariates, patients, wanted, zero_unknown=config.zero_unknown
    )
    if not config.adjust_for:
        return shown, None, notes
    columns, _ = read_covariates(
        config.covariates, patients, config.adjust_for, zero_unknown=config.zero_unknown
    )
    complete = columns.notna().all(axis=1)
    # A category becomes one indicator column for each level but the first, which the others imply.
    numbers = pd.get_dummies(columns, drop_first=True, dtype=float).where(complete)
    notes.append(
        f"partial correlations use the {int(complete.sum())} patients for whom"
        f" {', '.join(columns.columns)} is known"
    )
    return shown, numbers.to_numpy(dtype=np.float64), notes


def _depth(
    *files: tuple[PatientExpression | None, str | None], patients: Sequence[str]
) -> NDArray[np.float64] | None:
    """Return the library size (M, 1) of the patients from the first file that holds counts.

    Library size is a confounder of bulk counts as depth is one of spots (docs/protocol.md, section
    Baselines).
    """
    for expression, unit in files:
        if expression is None:
            continue
        row_of = {patient: row for row, patient in enumerate(expression.patients)}
        values = expression.values[[row_of[patient] for patient in patients]]
        if (size := library_size(values, expression.unit or unit or "")) is not None:
            return size[:, None]
    return None


def _scored(
    expression: PatientExpression,
    patients: Sequence[str],
    unit: str | None,
    sets: dict[str, GeneSet],
    folds: NDArray[np.int64] | None,
) -> ScoredExpression:
    """Bring the patients' expression to the scale of training, and score the signatures."""
    row_of = {patient: row for row, patient in enumerate(expression.patients)}
    values = expression.values[[row_of[patient] for patient in patients]]
    try:
        gene_columns(expression.genes)
        values, log_offset = training_scale(
            values, unit if not expression.unit and unit else expression.unit
        )
        # Ranks of out-of-fold predictions are taken within folds, whose models differ in level.
        scores = score_signatures(
            values, expression.genes, sets, groups=folds, log_offset=log_offset
        )
    except InputError as error:
        raise InputError(error.reason, path=expression.path, fix=error.fix) from error
    return ScoredExpression(expression.genes, values, scores)
