"""Score patients on gene signatures from the expression of each signature's genes.

The score of a patient is the mean, over the genes of the signature, of the gene's rank among the
patients, as a share of them. It lies between 0 and 1, and it is the same for any unit that keeps
the order of the patients. Predicted values, measured values and z-scores with extreme tails can
therefore be scored alike. A score is relative to the patients that are scored together.

Cytolytic activity (Rooney et al. 2015, Cell 160:48) is recognised by its two genes. It is computed
as published, as the geometric mean of both genes, where the values are linear or are logarithms
with a known offset; otherwise it is a mean of ranks as well. A signature needs at least half of its
genes, and cytolytic activity needs both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tcgn_mil.errors import InputError
from tcgn_mil.signatures.gene_sets import GeneSet
from tcgn_mil.statistics.ranks import patient_ranks
from tcgn_mil.text import preview
from tcgn_mil.types.arrays import Float64Array, FloatArray, IntArray
from tcgn_mil.types.genes import canonical_gene, columns_by_gene, spelled_gene

CYTOLYTIC = frozenset({"GZMA", "PRF1"})
MIN_SHARE = 0.5
MEAN_OF_RANKS, GEOMETRIC_MEAN = "mean of ranks among patients", "geometric mean of linear values"


@dataclass(frozen=True)
class Coverage:
    """Genes of a signature that a table has, and the definition of its score.

    Attributes
    ----------
    name, description
        Name and description of the gene set.
    definition
        Definition of the score; empty if there is no score.
    present, missing
        Genes of the set that the table has and does not have.
    refused
        Reason why there is no score; empty if there is one.
    """

    name: str
    description: str
    definition: str
    present: tuple[str, ...]
    missing: tuple[str, ...]
    refused: str


@dataclass(frozen=True, eq=False)
class SignatureScores:
    """Signature scores of M patients.

    Attributes
    ----------
    names
        Names of the K signatures that have a score.
    values
        (M, K) float64; NaN for a patient without values for half of a signature's genes.
    coverage
        Coverage of all signatures that were asked for, in their order, with those without a score.
    """

    names: tuple[str, ...]
    values: Float64Array
    coverage: tuple[Coverage, ...]


def gene_columns(genes: Sequence[str]) -> dict[str, int]:
    """Return the column of each gene by its canonical name.

    Parameters
    ----------
    genes
        Names of the columns. Spellings such as ``HLA_A`` and ``HLA.A`` mean the gene ``HLA-A``.

    Raises
    ------
    InputError
        If two columns are the same gene.

    Examples
    --------
    >>> gene_columns(["CD8A", "HLA_A"])
    {'CD8A': 0, 'HLA-A': 1}
    """
    seen: dict[str, int] = {}
    for column, gene in enumerate(genes):
        earlier = seen.setdefault(spelled_gene(gene), column)
        if earlier != column:
            raise InputError(
                f"columns {genes[earlier]!r} and {gene!r} are one gene",
                fix="remove one of the two columns",
            )
    return columns_by_gene(genes)


def score_signatures(
    values: FloatArray,
    genes: Sequence[str],
    sets: Mapping[str, GeneSet] | Iterable[GeneSet],
    *,
    groups: IntArray | None = None,
    log_offset: float | None = None,
) -> SignatureScores:
    """Score patients on every gene set of which enough genes are present.

    Parameters
    ----------
    values
        (M, G) expression of M patients, NaN where a value is missing.
    genes
        Names of the G columns.
    sets
        Gene sets, as :func:`tcgn_mil.signatures.gene_sets.load_gene_sets` gives them.
    groups
        (M,) number of each patient's test fold, if values are out-of-fold predictions. Values of
        two folds come from two models, so that ranks are taken within folds.
    log_offset
        x if the values are log2(linear value + x); None if they are linear, z-scores or unknown.

    Raises
    ------
    InputError
        If two columns are the same gene, or if no set has enough genes.

    Examples
    --------
    >>> import numpy as np
    >>> tpm = np.array([[1.0, 4.0, 7.0], [9.0, 16.0, 5.0], [2.0, 8.0, 6.0]])
    >>> sets = [GeneSet("CYT", "", ("GZMA", "PRF1")), GeneSet("T", "", ("CD3D", "PRF1"))]
    >>> scores = score_signatures(tpm, ["GZMA", "PRF1", "CD3D"], sets)
    >>> scores.names
    ('CYT', 'T')
    >>> scores.values.round(2).tolist()
    [[2.0, 0.5], [12.0, 0.5], [4.0, 0.5]]
    """
    expression: Float64Array = np.asarray(values, dtype=np.float64)
    columns = gene_columns(genes)
    asked = tuple(sets.values() if isinstance(sets, Mapping) else sets)
    scored, coverage = [], []
    for gene_set in asked:
        # A set may list a gene twice, by its approved symbol and by a previous one.
        members = dict.fromkeys(map(canonical_gene, gene_set.genes))
        present = [columns[gene] for gene in members if gene in columns]
        linear = _linear(expression[:, present], log_offset)
        report = _coverage(gene_set, columns, linear=linear is not None)
        coverage.append(report)
        if not report.refused:
            scored.append(_score(expression[:, present], report, len(members), groups, log_offset))
    if not scored:
        example = (
            f"{coverage[0].name} lacks {preview(coverage[0].missing)}"
            if coverage
            else "no set was given"
        )
        raise InputError(
            f"none of {len(asked)} signatures has enough genes: {example}",
            fix="name genes by the symbols that the sets use, or give other sets",
        )
    names = tuple(report.name for report in coverage if not report.refused)
    return SignatureScores(names, np.stack(scored, axis=1), tuple(coverage))


def _coverage(gene_set: GeneSet, columns: Mapping[str, int], *, linear: bool) -> Coverage:
    genes = tuple({canonical_gene(gene): gene for gene in reversed(gene_set.genes)}.values())[::-1]
    present = tuple(gene for gene in genes if canonical_gene(gene) in columns)
    missing = tuple(gene for gene in genes if canonical_gene(gene) not in columns)
    cytolytic = frozenset(map(canonical_gene, genes)) == CYTOLYTIC
    refused = ""
    if not present:
        refused = f"none of its {len(genes)} genes is there"
    elif cytolytic and missing:
        refused = f"needs both of its genes and lacks {preview(missing)}"
    elif len(present) < MIN_SHARE * len(genes):
        refused = f"only {len(present)} of {len(genes)} genes are there, fewer than half"
    definition = "" if refused else GEOMETRIC_MEAN if cytolytic and linear else MEAN_OF_RANKS
    return Coverage(gene_set.name, gene_set.description, definition, present, missing, refused)


def _linear(values: Float64Array, log_offset: float | None) -> Float64Array | None:
    """Return values on the linear scale; None if some are negative, as z-scores are."""
    # Predicted logarithms may lie slightly below log2(offset), so that the difference is negative.
    linear = values if log_offset is None else np.maximum(np.exp2(values) - log_offset, 0)
    finite = linear[np.isfinite(linear)]
    return linear if finite.size and finite.min() >= 0 else None


def _score(
    values: Float64Array,
    report: Coverage,
    size: int,
    groups: IntArray | None,
    log_offset: float | None,
) -> Float64Array:
    """Score (M,) from the values (M, k) of the k genes that are present, of `size` in the set."""
    if report.definition == GEOMETRIC_MEAN:
        linear = _linear(values, log_offset)
        assert linear is not None
        return np.asarray(np.sqrt(linear.prod(axis=1)))
    ranks = patient_ranks(values, groups)
    finite = np.isfinite(ranks).sum(axis=1)
    total = np.nansum(ranks, axis=1)
    return np.where(finite >= MIN_SHARE * size, total / np.maximum(finite, 1), np.nan)
