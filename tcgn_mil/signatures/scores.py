"""Signature scores of patients from the expression of a set's genes.

The score is the mean over the set's genes of the gene's rank among the patients, as a share of them: 0 to 1, and the
same whatever the unit, so that predicted and measured values, or z-scores with tails of 1e4, can be scored alike. It
is relative to the patients given.

Cytolytic activity (Rooney et al. 2015, Cell 160:48), recognised by its two genes, is as published their geometric mean
where the values allow one: linear values, and logs of known offset, which are taken back to linear. Other values have
the mean of ranks. A score needs half of its set's genes, cytolytic activity both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.signatures.gene_sets import GeneSet
from tcgn_mil.statistics.ranks import patient_ranks
from tcgn_mil.text import preview
from tcgn_mil.types.genes import canonical_gene

CYTOLYTIC = frozenset({"GZMA", "PRF1"})
LEAST_SHARE = 0.5
MEAN_OF_RANKS, GEOMETRIC_MEAN = "mean of ranks among patients", "geometric mean of linear values"


@dataclass(frozen=True)
class Coverage:
    """What a signature has of its genes.

    Attributes
    ----------
    name, description
        Of the set.
    definition
        How it was scored; empty where it was refused.
    present, missing
        Genes of the set that the table has, and those it lacks.
    refused
        Why there is no score; empty where there is one.
    """

    name: str
    description: str
    definition: str
    present: tuple[str, ...]
    missing: tuple[str, ...]
    refused: str


@dataclass(frozen=True, eq=False)
class SignatureScores:
    """Scores of M patients.

    Attributes
    ----------
    names
        The K signatures that have a score.
    values
        (M, K) float64; NaN for a patient without half of a signature's genes.
    coverage
        All signatures asked for, the refused ones too, in their order.
    """

    names: tuple[str, ...]
    values: NDArray[np.float64]
    coverage: tuple[Coverage, ...]


def gene_columns(genes: Sequence[str]) -> dict[str, int]:
    """Canonical name -> column.

    Raises
    ------
    InputError
        If two columns are one gene.
    """
    columns: dict[str, int] = {}
    for column, gene in enumerate(genes):
        known = columns.setdefault(canonical_gene(gene), column)
        if known != column:
            raise InputError(
                f"columns {genes[known]!r} and {gene!r} are one gene", fix="keep one of them"
            )
    return columns


def score_signatures(
    values: NDArray[np.floating],
    genes: Sequence[str],
    sets: Mapping[str, GeneSet] | Iterable[GeneSet],
    *,
    groups: NDArray[np.int64] | None = None,
    log_offset: float | None = None,
) -> SignatureScores:
    """Score patients on every set that has enough genes.

    Parameters
    ----------
    values
        (M, G), NaN where missing.
    genes
        The G columns' names.
    sets
        Gene sets, by name or in a row.
    groups
        (M,) number of each patient's fold, whose predictions come from one model: ranks are among its patients, and
        rest on no other fold's.
    log_offset
        x where the values are log2(linear + x); None where they are linear, z-scores, or not known.

    Raises
    ------
    InputError
        If two columns are one gene, or no set has enough genes, naming what is missing.
    """
    known = np.asarray(values, dtype=np.float64)
    columns = gene_columns(genes)
    asked = tuple(sets.values() if isinstance(sets, Mapping) else sets)
    scored, coverage = [], []
    for one in asked:
        found = [columns[gene] for gene in map(canonical_gene, one.genes) if gene in columns]
        report = _coverage(one, columns, linear=_linear(known[:, found], log_offset) is not None)
        coverage.append(report)
        if not report.refused:
            scored.append(_score(known[:, found], report, len(one.genes), groups, log_offset))
    if not scored:
        raise InputError(
            f"none of {len(asked)} signatures has enough genes: {coverage[0].name if asked else 'no set'} lacks"
            f" {preview(coverage[0].missing) if asked else 'all'}",
            fix="name genes by symbol as the sets do, or give other sets",
        )
    names = tuple(report.name for report in coverage if not report.refused)
    return SignatureScores(names, np.stack(scored, axis=1), tuple(coverage))


def _coverage(one: GeneSet, columns: Mapping[str, int], *, linear: bool) -> Coverage:
    present = tuple(gene for gene in one.genes if canonical_gene(gene) in columns)
    missing = tuple(gene for gene in one.genes if canonical_gene(gene) not in columns)
    whole = _is_cytolytic(one.genes)
    refused = ""
    if not present:
        refused = f"none of its {len(one.genes)} genes is there"
    elif whole and missing:
        refused = f"needs both of its genes and lacks {preview(missing)}"
    elif len(present) < LEAST_SHARE * len(one.genes):
        refused = f"only {len(present)} of {len(one.genes)} genes are there, fewer than half"
    definition = "" if refused else GEOMETRIC_MEAN if whole and linear else MEAN_OF_RANKS
    return Coverage(one.name, one.description, definition, present, missing, refused)


def _is_cytolytic(genes: Sequence[str]) -> bool:
    return frozenset(map(canonical_gene, genes)) == CYTOLYTIC


def _linear(values: NDArray[np.float64], log_offset: float | None) -> NDArray[np.float64] | None:
    """Values on the linear scale; None where they have none, that is where some are negative."""
    linear = values if log_offset is None else np.maximum(np.exp2(values) - log_offset, 0)
    known = linear[np.isfinite(linear)]
    return linear if known.size and known.min() >= 0 else None


def _score(
    values: NDArray[np.float64],
    report: Coverage,
    size: int,
    groups: NDArray[np.int64] | None,
    log_offset: float | None,
) -> NDArray[np.float64]:
    """(M,) score from the (M, k) values of the genes present."""
    if report.definition == GEOMETRIC_MEAN:
        linear = _linear(values, log_offset)
        assert linear is not None
        return np.asarray(np.sqrt(linear.prod(axis=1)))
    ranks = patient_ranks(values, groups)
    known = np.isfinite(ranks).sum(axis=1)
    total = np.nansum(ranks, axis=1)
    return np.where(known >= LEAST_SHARE * size, total / np.maximum(known, 1), np.nan)
