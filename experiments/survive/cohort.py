"""Join outcome, covariates and expression of the same patients for ``tcgn-mil survive``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.survive.config import SurviveConfig
from tcgn_mil.experiments.survive.sources import (
    ExpressionSource,
    expression_files,
    expression_source,
)
from tcgn_mil.io.clinical_file import read_survival
from tcgn_mil.io.cohort_file import mixed_types
from tcgn_mil.io.expression_file import PatientExpression
from tcgn_mil.signatures.scores import SignatureScores
from tcgn_mil.survival.covariates import (
    check_estimable,
    design_matrix,
    merge_rare_levels,
    numeric_where_possible,
)
from tcgn_mil.text import preview
from tcgn_mil.types.outcomes import SurvivalTable

_TRAINED_ON = "trained on"  # a value of obs["relation"] in the output of tcgn-mil predict


@dataclass(frozen=True, eq=False)
class SurvivalCohort:
    """Outcome, covariates and expression of the same M patients.

    Attributes
    ----------
    table
        Outcome, with follow-up cut at the horizon.
    design
        (M, c) covariates as numbers; no column if no covariate was asked for.
    sources
        Expression by ``predicted`` and ``measured``, as far as it was given.
    dropped
        Patients that are in some file but not here, with the columns patient_id and reason.
    notes
        Sentences that a reader must know.
    outside
        Patients of the clinical table of whom no expression was given, so that they do not belong
        to this cohort.
    """

    table: SurvivalTable
    design: pd.DataFrame
    sources: dict[str, ExpressionSource]
    dropped: pd.DataFrame
    notes: tuple[str, ...]
    outside: tuple[str, ...] = ()


def load_survival_cohort(config: SurviveConfig) -> SurvivalCohort:
    """Read the files, keep the patients that all of them have, and check the result.

    Raises
    ------
    InputError
        If a file cannot be read, if the files have no patient in common, if there are fewer than 10
        events, or if a covariate cannot be estimated; the message names the covariate.
    """
    table = read_survival(config.clinical, endpoint=config.endpoint)
    with_outcome = set(table.patient_id)
    dropped: list[tuple[str, str]] = []
    if config.horizon_days is not None:
        before, table = table, table.censor_at(config.horizon_days)
        left = set(table.patient_id)
        dropped += [
            (name, "enters after the horizon") for name in before.patient_id if name not in left
        ]
    files = expression_files(config)
    table, outside = _with_expression(table, files)
    for kind, file in files.items():
        usable, trained_on = _usable_patients(file)
        _check_shared(table, usable, file, config)
        dropped += [
            (name, f"its {kind} expression is of a model trained on it") for name in trained_on
        ]
        dropped += [
            (name, f"no {kind} expression") for name in table.patient_id if name not in usable
        ]
        dropped += [(name, f"no {table.endpoint}") for name in usable if name not in with_outcome]
        table = table.take(np.array([name in usable for name in table.patient_id]))
    covariates = _with_specimens(table.covariates, files, config.covariates)
    given, notes = numeric_where_possible(covariates, config.covariates)
    _check_held(given, config)
    chosen, merged, too_rare = merge_rare_levels(given, table.event)
    notes += merged
    complete = chosen.notna().all(axis=1).to_numpy()
    dropped += [
        (
            str(name),
            too_rare.get(str(name), f"no value of covariate {', '.join(row.index[row.isna()])}"),
        )
        for name, row in chosen[~complete].iterrows()
    ]
    table, design = table.take(complete), design_matrix(chosen[complete])
    table.check_events()
    if design.shape[1]:
        check_estimable(design, table)
    sources: dict[str, ExpressionSource] = {}
    mixed = [mixed_types(file.specimens) for file in files.values()]
    if "sample_type" not in config.covariates:
        notes += filter(None, mixed)
    for kind, file in files.items():
        sources[kind], more = expression_source(config, kind, file, table.patient_id)
        notes += more
    # A patient can be missing from several files; the first reason is kept.
    lost = pd.DataFrame(dropped, columns=["patient_id", "reason"]).drop_duplicates("patient_id")
    return SurvivalCohort(table, design, sources, lost, tuple(notes), outside)


def _with_expression(
    table: SurvivalTable, files: dict[str, PatientExpression]
) -> tuple[SurvivalTable, tuple[str, ...]]:
    """Return the patients of whom a file has expression, and the names of the others.

    A table of many cohorts, such as TCGA-CDR, names thousands of patients who were never meant to
    be in this one. They are counted, but they are not patients who were lost.
    """
    named = {name for file in files.values() for name in file.patients}
    inside = np.array([not files or name in named for name in table.patient_id], dtype=bool)
    if not inside.any():
        return table, ()  # the names do not fit together, which is said of each file
    outside = tuple(name for name, kept in zip(table.patient_id, inside, strict=True) if not kept)
    return table.take(inside), outside


def _check_held(covariates: pd.DataFrame, config: SurviveConfig) -> None:
    """Raise InputError if a covariate has no value for any patient of the cohort."""
    empty = [str(name) for name in covariates.columns if not covariates[name].notna().any()]
    if empty:
        raise InputError(
            f"covariate {preview(empty)} has no value for any of the {len(covariates)} patients of"
            " this cohort",
            path=config.clinical,
            fix="add the values with tcgn-mil clinical, or remove it from --covariate",
        )


def _with_specimens(
    covariates: pd.DataFrame, files: Mapping[str, PatientExpression], wanted: Sequence[str]
) -> pd.DataFrame:
    """Add covariates that the clinical table lacks from the tissue that a cohort describes."""
    for file in files.values():
        if file.specimens is not None:
            known = file.specimens.replace("not stated", None).reindex(covariates.index)
            added = [name for name in known if name in wanted and name not in covariates]
            covariates = covariates.join(known[added])
    return covariates


def _usable_patients(file: PatientExpression) -> tuple[dict[str, None], list[str]]:
    """Return the patients of a file in its order, and those on whom its model was trained.

    Predictions of training patients are closer to the truth than those of new patients, so that
    they would make survival look more predictable than it is.
    """
    if not file.relation:
        return dict.fromkeys(file.patients), []
    pairs = list(zip(file.patients, file.relation, strict=True))
    trained_on = [name for name, relation in pairs if relation == _TRAINED_ON]
    if len(trained_on) == len(pairs):
        raise InputError(
            "the model was trained on every patient in it, so that its predictions look better than"
            " those of new patients",
            path=file.path,
            fix="give out_of_fold.h5ad of the finetune run",
        )
    usable = dict.fromkeys(name for name, relation in pairs if relation != _TRAINED_ON)
    return usable, trained_on


def _check_shared(
    table: SurvivalTable, usable: dict[str, None], file: PatientExpression, config: SurviveConfig
) -> None:
    if not any(name in usable for name in table.patient_id):
        raise InputError(
            f"has no patient in common with {config.clinical} ({config.endpoint}):"
            f" {preview(list(usable), most=2)} against {preview(table.patient_id, most=2)}",
            path=file.path,
            fix="name the patients in the same way in both files, for example TCGA-A1-A0SB",
        )


def without_patients(cohort: SurvivalCohort, names: set[str], reason: str) -> SurvivalCohort:
    """Return the cohort without some patients, who are listed as dropped for `reason`."""
    kept = np.array([name not in names for name in cohort.table.patient_id])
    sources = {
        kind: dataclasses.replace(
            source, values=source.values[kept], scores=_kept_scores(source.scores, kept)
        )
        for kind, source in cohort.sources.items()
    }
    rows = pd.DataFrame({"patient_id": sorted(names), "reason": reason})
    dropped = pd.concat([cohort.dropped, rows], ignore_index=True)
    return SurvivalCohort(
        cohort.table.take(kept),
        cohort.design[kept],
        sources,
        dropped,
        cohort.notes,
        cohort.outside,
    )


def _kept_scores(scores: SignatureScores | None, kept: NDArray[np.bool_]) -> SignatureScores | None:
    return None if scores is None else dataclasses.replace(scores, values=scores.values[kept])
