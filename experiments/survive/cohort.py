"""What ``tcgn-mil survive`` is about: outcome, covariates and expression of the same patients, and its config."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.survive.config import SurviveConfig
from tcgn_mil.io.clinical_file import read_survival
from tcgn_mil.io.expression_file import PatientExpression, read_expression
from tcgn_mil.signatures.gene_sets import GeneSet, load_gene_sets, read_gene_sets
from tcgn_mil.signatures.scores import SignatureScores, gene_columns, score_signatures
from tcgn_mil.survival.covariates import check_estimable, design_matrix, numeric_where_possible
from tcgn_mil.targets.bulk import training_scale
from tcgn_mil.text import preview
from tcgn_mil.types.genes import canonical_gene
from tcgn_mil.types.outcomes import SurvivalTable

PREDICTED, MEASURED, CLINICAL = "predicted", "measured", "clinical"
_TRAINED_ON = "trained on"  # obs["relation"] of tcgn-mil predict


@dataclass(frozen=True, eq=False)
class Source:
    """Expression of the M patients.

    Attributes
    ----------
    genes, values
        (M, G).
    set_names, sets
        (G, K) weights of signatures in a risk score, where it is to use them.
    scores
        Signature scores of the patients, as those of ``tcgn-mil associate``; None where no signature has enough genes.
    """

    genes: tuple[str, ...]
    values: NDArray[np.float64]
    set_names: tuple[str, ...] = ()
    sets: NDArray[np.float64] | None = None
    scores: SignatureScores | None = None


@dataclass(frozen=True, eq=False)
class SurvivalCohort:
    """Everything aligned to the same M patients.

    Attributes
    ----------
    table
        Outcome, after the horizon.
    design
        (M, c) covariates as numbers; no column where none was asked for.
    sources
        ``predicted``, ``measured``, those given.
    dropped
        patient_id, reason: who is in some file and not here.
    notes
        What a reader should know.
    """

    table: SurvivalTable
    design: pd.DataFrame
    sources: dict[str, Source]
    dropped: pd.DataFrame
    notes: tuple[str, ...]


def load_survival_cohort(config: SurviveConfig) -> SurvivalCohort:
    """Read, join by patient and check.

    Raises
    ------
    InputError
        As the readers; if the files have no patient in common, there are fewer than 10 events, or a covariate cannot
        be estimated, naming it.
    """
    table = read_survival(config.clinical, endpoint=config.endpoint)
    dropped: list[tuple[str, str]] = []
    with_outcome = set(table.patient_id)
    if config.horizon_days is not None:
        cut = table.censor_at(config.horizon_days)
        dropped += [
            (name, "enters after the horizon")
            for name in table.patient_id
            if name not in {*cut.patient_id}
        ]
        table = cut
    files = expression_files(config)
    for kind, found in files.items():
        usable = _usable(found, kind, dropped)
        _check_shared(table, usable, found, config)
        dropped += [
            (name, f"no {kind} expression") for name in table.patient_id if name not in usable
        ]
        dropped += [(name, f"no {table.endpoint}") for name in usable if name not in with_outcome]
        table = table.take(np.array([name in usable for name in table.patient_id]))
    chosen = numeric_where_possible(table.covariates, config.covariates)
    known = chosen.notna().all(axis=1).to_numpy()
    dropped += [
        (str(name), f"no value of covariate {', '.join(row.index[row.isna()])}")
        for name, row in chosen[~known].iterrows()
    ]
    table, design = table.take(known), design_matrix(chosen[known])
    table.check_events()
    if design.shape[1]:
        check_estimable(design, table)
    sources, notes = {}, []
    for kind, found in files.items():
        sources[kind], more = _source(config, kind, found, table)
        notes += more
    lost = pd.DataFrame(dropped, columns=["patient_id", "reason"]).drop_duplicates("patient_id")
    return SurvivalCohort(table, design, sources, lost, tuple(notes))


def expression_files(config: SurviveConfig) -> dict[str, PatientExpression]:
    """The tables of expression given; measured values that came with the predictions where no others are.

    Raises
    ------
    InputError
        If nothing was given to predict from.
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


def _usable(found: PatientExpression, kind: str, dropped: list[tuple[str, str]]) -> dict[str, None]:
    """Patients of a table, in its order, without those that its model was trained on."""
    if not found.relation:
        return dict.fromkeys(found.patients)
    seen = [
        name for name, how in zip(found.patients, found.relation, strict=True) if how == _TRAINED_ON
    ]
    dropped += [(name, f"its {kind} expression is of a model trained on it") for name in seen]
    if len(seen) == len(found.patients):
        raise InputError(
            "every patient in it was trained on, which flatters",
            path=found.path,
            fix="give finetune's out_of_fold.h5ad",
        )
    return dict.fromkeys(name for name in found.patients if name not in set(seen))


def _check_shared(
    table: SurvivalTable, usable: dict[str, None], found: PatientExpression, config: SurviveConfig
) -> None:
    if not any(name in usable for name in table.patient_id):
        raise InputError(
            f"has no patient in common with {config.clinical} ({config.endpoint}): {preview(list(usable), most=2)}"
            f" against {preview(table.patient_id, most=2)}",
            path=found.path,
            fix="name patients alike in both, such as TCGA-A1-A0SB",
        )


def _source(
    config: SurviveConfig, kind: str, found: PatientExpression, table: SurvivalTable
) -> tuple[Source, list[str]]:
    """Rows of the cohort's patients, genes that all of them have, and the weights of signatures where they are used."""
    row = {name: index for index, name in enumerate(found.patients)}
    values = found.values[[row[name] for name in table.patient_id]]
    complete = np.isfinite(values).all(axis=0)
    if not complete.any():
        raise InputError(
            "no gene has a value for every patient",
            path=found.path,
            fix="fill or remove what is missing",
        )
    genes = tuple(gene for gene, kept in zip(found.genes, complete.tolist(), strict=True) if kept)
    notes = []
    if len(genes) < len(found.genes):
        notes.append(
            f"{kind}: {len(found.genes) - len(genes)} genes left out, unknown in some patient"
        )
    if found.folds is not None and config.folds is None:
        notes.append(
            f"{kind}: predictions of {len(np.unique(found.folds))} models, whose levels differ; with the folds of the"
            " run that made them (--folds), C compares patients of one model alone"
        )
    sets = read_gene_sets(config.signatures) if config.signatures else load_gene_sets()
    values = values[:, complete]
    if config.risk.features == "genes":
        return Source(genes, values, scores=_scores(sets, values, genes, found, row, table)), notes
    names, weights, more = signature_weights(sets, values, genes)
    notes += [f"{kind}: {note}" for note in more]
    return Source(
        genes, values, names, weights, _scores(sets, values, genes, found, row, table)
    ), notes


def _scores(
    sets: Mapping[str, GeneSet],
    values: NDArray[np.float64],
    genes: Sequence[str],
    found: PatientExpression,
    row: Mapping[str, int],
    table: SurvivalTable,
) -> SignatureScores | None:
    """Scores on the scale of training, ranked within the fold of each prediction; None where there are none."""
    scaled, log_offset = training_scale(values, found.unit)
    groups = None if found.folds is None else found.folds[[row[name] for name in table.patient_id]]
    try:
        return score_signatures(
            scaled, genes, sets, groups=groups, log_offset=log_offset
        )
    except InputError:
        return None  # no signature has enough genes, or two columns are one gene: there are genes to judge all the same


def signature_weights(
    sets: Mapping[str, GeneSet], values: NDArray[np.float64], genes: Sequence[str]
) -> tuple[tuple[str, ...], NDArray[np.float64], list[str]]:
    """Names (K), weights (G, K) that average a set's genes, and a note on each set without enough of its genes."""
    columns = gene_columns(genes)
    found = score_signatures(values, genes, sets)
    scored = [one for one in found.coverage if not one.refused]
    weights = np.zeros((len(genes), len(scored)))
    for index, one in enumerate(scored):
        weights[[columns[canonical_gene(gene)] for gene in one.present], index] = 1 / len(
            one.present
        )
    notes = [
        f"signature {one.name} {one.refused}: left out" for one in found.coverage if one.refused
    ]
    return tuple(one.name for one in scored), weights, notes


def without_patients(cohort: SurvivalCohort, names: set[str], reason: str) -> SurvivalCohort:
    """The cohort without some patients, who are listed as dropped."""
    kept = np.array([name not in names for name in cohort.table.patient_id])
    sources = {
        kind: dataclasses.replace(
            source, values=source.values[kept], scores=_kept(source.scores, kept)
        )
        for kind, source in cohort.sources.items()
    }
    rows = pd.DataFrame({"patient_id": sorted(names), "reason": reason})
    dropped = pd.concat([cohort.dropped, rows], ignore_index=True)
    return SurvivalCohort(
        cohort.table.take(kept), cohort.design[kept], sources, dropped, cohort.notes
    )


def _kept(scores: SignatureScores | None, kept: NDArray[np.bool_]) -> SignatureScores | None:
    return None if scores is None else dataclasses.replace(scores, values=scores.values[kept])
