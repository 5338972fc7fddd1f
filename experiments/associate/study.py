"""What ``tcgn-mil associate`` is about: predictions, measured values and covariates of the same patients, scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.associate.config import AssociationConfig
from tcgn_mil.io.expression_file import PatientExpression, read_expression
from tcgn_mil.io.gene_list import read_gene_list
from tcgn_mil.io.tables.covariate_table import read_covariates
from tcgn_mil.signatures.gene_sets import GeneSet, load_gene_sets
from tcgn_mil.signatures.scores import SignatureScores, gene_columns, score_signatures
from tcgn_mil.targets.bulk import library_size, training_scale
from tcgn_mil.types.genes import canonical_gene

LEAST_PATIENTS = 10
_LEAST_FOLDS, _LEAST_IN_FOLD = 3, 4


@dataclass(frozen=True, eq=False)
class ScoredExpression:
    """One source of expression, aligned to the M patients: ``values`` (M, G) of ``genes``, and its scores."""

    genes: tuple[str, ...]
    values: NDArray[np.float64]
    scores: SignatureScores


@dataclass(frozen=True, eq=False)
class AssociationStudy:
    """Everything aligned to the same M patients.

    Attributes
    ----------
    patients
        M names.
    sets
        Gene sets by name.
    predicted, measured
        Expression and scores; measured is None where there is none.
    folds
        (M,) fold of each prediction; None where they are comparable over patients.
    covariates
        M rows; no columns where none were given.
    adjust
        (M, C) numbers to take out, those named and library size where there are counts; None where there are none.
    source
        The predictions' file, with what it says of its genes.
    notes
        What a reader should know.
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
        """Canonical names of the genes of any set."""
        return frozenset(canonical_gene(gene) for one in self.sets.values() for gene in one.genes)


def load_study(config: AssociationConfig) -> AssociationStudy:
    """Read, align and score.

    Raises
    ------
    InputError
        As the readers; or if the files share no, or too few, patients, or no set has enough genes.
    """
    if config.predicted is None:
        raise InputError("no predictions", fix="give --predicted, or --spots and --cell-types")
    sets = gene_sets(config)
    source = read_expression(config.predicted)
    measured, rows, own_truth = None, list(range(len(source.patients))), source.truth
    notes = []
    if config.measured is not None:
        measured = read_expression(config.measured)
        rows = _shared_rows(source, measured)
        if len(rows) < len(source.patients):
            notes.append(
                f"{len(source.patients) - len(rows)} of {len(source.patients)} patients have no measured values"
            )
    elif own_truth is not None:
        measured = PatientExpression(
            source.path, source.patients, source.genes, own_truth, source.unit
        )
    if len(rows) < LEAST_PATIENTS:
        raise InputError(
            f"{len(rows)} patients are too few",
            path=source.path,
            fix=f"give at least {LEAST_PATIENTS}",
        )
    patients = tuple(source.patients[row] for row in rows)
    folds, more = _folds(source, rows)
    covariates, adjust, left_out = _covariates(config, patients)
    measured_unit = config.unit if config.measured is None else config.measured_unit
    depth = _depth((source, config.unit), (measured, measured_unit), patients=patients)
    if depth is not None:
        adjust = depth if adjust is None else np.hstack([adjust, depth])
        more.append("expression comes as counts: partial correlations are given library size too")
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
    """Shipped sets and those of files, by name."""
    sets = load_gene_sets(config.sets, shipped=config.shipped_sets)
    if not sets:
        raise InputError("no gene sets", fix="give --sets, or leave shipped_sets on")
    return sets


def predictable_genes(config: AssociationConfig, study: AssociationStudy) -> tuple[str, ...] | None:
    """Genes named predictable by the list given, or by the predictions; None where neither says."""
    if config.genes is not None:
        listed = read_gene_list(config.genes).genes
        known = {canonical_gene(gene) for gene in study.predicted.genes}
        if not known & {canonical_gene(gene) for gene in listed}:
            raise InputError(
                "names no gene of the predictions", path=config.genes, fix="name genes as they do"
            )
        return listed
    if study.source.predictable is None:
        return None
    return tuple(
        gene for gene, yes in zip(study.source.genes, study.source.predictable, strict=True) if yes
    )


def _shared_rows(first: PatientExpression, second: PatientExpression) -> list[int]:
    """Rows of the first whose patients the second has too."""
    if not {*map(canonical_gene, first.genes)} & {*map(canonical_gene, second.genes)}:
        raise InputError(
            f"shares no gene with {first.path.name}: its first is {second.genes[0]!r}, there it is {first.genes[0]!r}",
            path=second.path,
            fix="name genes alike in both",
        )
    known = set(second.patients)
    rows = [row for row, patient in enumerate(first.patients) if patient in known]
    if not rows:
        raise InputError(
            f"shares no patient with {first.path.name}: its first is {second.patients[0]!r}, there it is"
            f" {first.patients[0]!r}",
            path=second.path,
            fix="name patients alike in both",
        )
    return rows


def _folds(
    source: PatientExpression, rows: Sequence[int]
) -> tuple[NDArray[np.int64] | None, list[str]]:
    """Folds that correlations are combined over, and what to know of them."""
    notes = []
    if "trained on" in source.relation:
        notes.append(
            f"{source.relation.count('trained on')} patients were trained on: their predictions flatter the model"
        )
    if source.folds is None:
        if "out of fold" in source.relation:
            notes.append(
                "predictions of several folds' models are pooled, which biases r: give out_of_fold.h5ad instead"
            )
        return None, notes
    folds = source.folds[list(rows)]
    large = int((np.bincount(folds) >= _LEAST_IN_FOLD).sum())
    if large < _LEAST_FOLDS:
        notes.append(
            f"{large} folds of {_LEAST_IN_FOLD} patients or more, too few to combine: r is pooled, and biased"
        )
        return None, notes
    notes.append(
        "p of predictions out of fold are approximate, as folds inform one another: the null sd of the combined z is"
        " taken as sqrt(2), and against covariates as sqrt(1 + the largest squared r of a measured gene with them)"
    )
    return folds, notes


def _covariates(
    config: AssociationConfig, patients: Sequence[str]
) -> tuple[pd.DataFrame, NDArray[np.float64] | None, list[str]]:
    """Covariates to show; (M, C) numbers to take out; columns left out."""
    if config.covariates is None:
        return pd.DataFrame(index=list(patients)), None, []
    wanted = config.covariate
    if wanted and config.follow is not None:  # may be a covariate that is not among those wanted
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
    found, _ = read_covariates(
        config.covariates, patients, config.adjust_for, zero_unknown=config.zero_unknown
    )
    known = found.notna().all(axis=1)
    numbers = pd.get_dummies(found, drop_first=True, dtype=float).where(known)
    notes.append(
        f"partial correlations are of the {int(known.sum())} patients whose {', '.join(found.columns)} is known"
    )
    return shown, numbers.to_numpy(dtype=np.float64), notes


def _depth(
    *files: tuple[PatientExpression | None, str | None], patients: Sequence[str]
) -> NDArray[np.float64] | None:
    """(M, 1) library size of the patients from the first file that holds counts (PROTOCOL), None without."""
    for expression, unit in files:
        if expression is None:
            continue
        row_of = {patient: row for row, patient in enumerate(expression.patients)}
        values = expression.values[[row_of[patient] for patient in patients]]
        if (found := library_size(values, expression.unit or unit or "")) is not None:
            return found[:, None]
    return None


def _scored(
    expression: PatientExpression,
    patients: Sequence[str],
    unit: str | None,
    sets: dict[str, GeneSet],
    folds: NDArray[np.int64] | None,
) -> ScoredExpression:
    """Rows of the patients on the scale of training, and their scores."""
    row_of = {patient: row for row, patient in enumerate(expression.patients)}
    values = expression.values[[row_of[patient] for patient in patients]]
    try:
        gene_columns(expression.genes)
        values, log_offset = training_scale(
            values, unit if not expression.unit and unit else expression.unit
        )
        scores = score_signatures(
            values, expression.genes, sets, groups=folds, log_offset=log_offset
        )
    except InputError as error:
        raise InputError(error.reason, path=expression.path, fix=error.fix) from error
    return ScoredExpression(expression.genes, values, scores)
