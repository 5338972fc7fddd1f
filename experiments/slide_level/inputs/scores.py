"""Use scores of patients as targets in place of genes: signatures, or a table of scores.

A model that is trained on a score itself can predict it better than the score of predicted genes,
because noise of single genes need not be predicted first.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.slide_level.config import FinetuneConfig
from tcgn_mil.experiments.slide_level.inputs.cohort import CohortData
from tcgn_mil.io.tables.patient_table import read_patient_table
from tcgn_mil.signatures.gene_sets import load_gene_sets
from tcgn_mil.signatures.scores import score_signatures
from tcgn_mil.targets.bulk import training_scale
from tcgn_mil.text import counted, preview
from tcgn_mil.types.genes import canonical_gene
from tcgn_mil.types.units import ZSCORE, ExpressionUnit

GENES, SIGNATURES = "genes", "signatures"


def check_targets(targets: str) -> None:
    """Refuse targets that are neither ``genes`` nor ``signatures`` nor a file.

    Raises
    ------
    InputError
        If there is no such file.
    """
    if targets not in (GENES, SIGNATURES) and not Path(targets).is_file():
        raise InputError(
            f"targets is {targets!r}, which is no file",
            fix=f"give {GENES}, {SIGNATURES}, or the path of a table with one row per patient",
        )


def with_targets(config: FinetuneConfig, data: CohortData) -> CohortData:
    """Replace the genes of a cohort by the scores that ``config.targets`` names.

    Scores have any unit, so that they are ranked within the training patients as z-scores are.
    Scores that are left out, and patients without any score, are listed in ``dropped``.

    Raises
    ------
    InputError
        If a table of scores cannot be read, shares no patient with the cohort, or has no column of
        numbers; or if no signature has enough genes.
    """
    if config.targets == GENES:
        return data
    if config.targets == SIGNATURES:
        names, values, left_out = _signature_scores(data)
    else:
        names, values, left_out = _table_of_scores(Path(config.targets), data.patients)
    names = _unlike_genes(names, data.genes)
    known = np.asarray(np.isfinite(values).any(axis=1))
    rows = [("target", name, reason) for name, reason in left_out]
    rows += [("patient", data.patients[row], "no score") for row in np.flatnonzero(~known)]
    dropped = pd.DataFrame(rows, columns=["kind", "id", "reason"])
    kept = dataclasses.replace(
        data,
        genes=tuple(names),
        values=values.astype(np.float32),
        unit=ExpressionUnit(ZSCORE),
        dropped=pd.concat([data.dropped, dropped], ignore_index=True),
    )
    return kept.only(np.flatnonzero(known))


def _signature_scores(
    data: CohortData,
) -> tuple[list[str], NDArray[np.float64], list[tuple[str, str]]]:
    """Score the shipped gene sets on the measured expression, within each cohort."""
    values, log_offset = training_scale(data.values.astype(np.float64), data.unit.training_unit)
    cohorts = data.cohort_of(data.patients) if data.cohorts else None
    scores = score_signatures(
        values, data.genes, load_gene_sets(), groups=cohorts, log_offset=log_offset
    )
    left_out = [(report.name, report.refused) for report in scores.coverage if report.refused]
    return list(scores.names), scores.values, left_out


def _table_of_scores(
    path: Path, patients: Sequence[str]
) -> tuple[list[str], NDArray[np.float64], list[tuple[str, str]]]:
    """Read the scores of some patients, NaN where the table has none."""
    table, notes = read_patient_table(path)
    if not table.index.isin(patients).any():
        raise InputError(
            f"has none of the patients of the cohort: its first patient is {table.index[0]!r}, that"
            f" of the cohort is {patients[0]!r}",
            path=path,
            fix="name the patients in the first column as the cohort names them",
        )
    table = table.reindex(list(patients))
    scores: dict[str, NDArray[np.float64]] = {}
    left_out = [("rows", note) for note in notes]
    for name, column in table.items():
        numbers = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
        numbers[np.isinf(numbers)] = np.nan
        if column.notna().any() and not np.isfinite(numbers).any():
            left_out.append((str(name), "holds text, and a score is a number"))
        elif np.unique(numbers[np.isfinite(numbers)]).size < 2:
            left_out.append((str(name), "does not vary among the patients of the cohort"))
        else:
            scores[str(name)] = numbers
            if unread := int((column.notna() & ~np.isfinite(numbers)).sum()):
                cells = counted(unread, "cell")
                left_out.append((str(name), f"{cells} without a number, taken as missing"))
    if not scores:
        raise InputError(
            f"has no score that can be predicted ({preview([reason for _, reason in left_out])})",
            path=path,
            fix="give columns of numbers that vary among the patients",
        )
    return list(scores), np.stack(list(scores.values()), axis=1), left_out


def _unlike_genes(names: Sequence[str], genes: Sequence[str]) -> list[str]:
    """Mark scores that are named like a gene of the cohort, such as CD8A.

    Later steps would take the column for the expression of the gene.
    """
    taken = {canonical_gene(gene) for gene in genes}
    return [f"{name} (score)" if canonical_gene(name) in taken else name for name in names]
