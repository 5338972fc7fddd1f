"""Give each gene of a section one name, sum the counts of repeated names, and check raw counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.gene_names import GeneReport, is_ensembl, name_genes
from tcgn_mil.text import preview

GENE_EXPRESSION = "Gene Expression"
MAX_COUNT = np.iinfo(np.int32).max


@dataclass(frozen=True)
class SectionGenes:
    """Genes of a section.

    Attributes
    ----------
    names
        Names of the G genes, all different.
    ids
        Names of the G genes in the source. Several names of one gene are joined by ``;``. None if
        they are equal to `names`.
    report
        Counts of ids that were renamed, merged and so on.
    other_features
        Type to number of features that were left out because they are not gene expression, such as
        antibodies.
    """

    names: tuple[str, ...]
    ids: tuple[str, ...] | None
    report: GeneReport
    other_features: dict[str, int] = field(default_factory=dict)

    def as_row(self) -> dict[str, int]:
        """Return the numbers as a row of gene_report.csv."""
        return {**self.report.as_dict(), "other_features": sum(self.other_features.values())}

    def note(self) -> str | None:
        """Return one message for the user if genes were changed or left out, else None."""
        report = self.report
        left_out = [
            f"{number} features of type {kind} left out"
            for kind, number in sorted(self.other_features.items())
        ]
        mixed = report.named_by_id and report.named_by_symbol
        if not (
            left_out or report.versions or report.merged or report.renamed or report.dates or mixed
        ):
            return None
        return "; ".join(["genes: " + str(report), *left_out])


def name_counts(
    counts: sparse.csr_matrix,
    ids: Sequence[str],
    symbols: Sequence[str] | None = None,
    *,
    types: Sequence[str] | None = None,
    by: str = "symbol",
    path: object = None,
) -> tuple[sparse.csr_matrix, SectionGenes]:
    """Name the genes of a section and sum the columns of one gene.

    The rules for names are those of :mod:`~tcgn_mil.preprocessing.gene_names`.

    Parameters
    ----------
    counts
        (S, F) counts.
    ids, symbols, types
        Ids, symbols and types of the F features. Features of a type other than `GENE_EXPRESSION`
        are left out.
    by
        Name genes by ``symbol`` or by ``ensembl`` id.
    path
        The file, for messages.

    Returns
    -------
    counts : scipy.sparse.csr_matrix
        (S, G) float32.
    genes : SectionGenes
        The G genes.

    Raises
    ------
    InputError
        If no feature is a gene, a gene has no name, or Ensembl ids are asked for and there are
        none.

    Examples
    --------
    >>> counts, genes = name_counts(sparse.csr_matrix([[1, 2, 4]]), ["CD3D", "TP53", "CD3D"])
    >>> genes.names, counts.toarray().tolist()
    (('CD3D', 'TP53'), [[5.0, 2.0]])
    """
    where = None if path is None else str(path)
    ids = [str(name) for name in ids]
    other: Counter[str] = Counter()
    if types is not None:
        genes = np.asarray(types, dtype=object) == GENE_EXPRESSION
        other.update(str(kind) for kind in np.asarray(types, dtype=object)[~genes])
        if not genes.any():
            raise InputError(
                f"holds no gene expression, only {preview(sorted(other))}",
                path=where,
                fix="give the matrix of gene expression",
            )
        counts = counts[:, genes]
        ids = [name for name, kept in zip(ids, genes, strict=True) if kept]
        if symbols is not None:
            symbols = [name for name, kept in zip(symbols, genes, strict=True) if kept]
    named = name_genes(ids, symbols, by=by, path=path)
    if by == "ensembl" and not any(map(is_ensembl, ids)):
        raise InputError("names no gene by Ensembl id", path=where, fix="use --gene-ids symbol")
    merged, names = sum_repeated(counts, named.names)
    originals = _originals(ids, named.names)
    own_ids = None if originals == list(names) else tuple(originals)
    return merged, SectionGenes(tuple(names), own_ids, named.report, dict(other))


def sum_repeated(
    counts: sparse.csr_matrix, names: Sequence[str]
) -> tuple[sparse.csr_matrix, list[str]]:
    """Sum the columns of each name.

    The sum is a product with the (F, G) matrix that has a 1 for each feature and its gene.

    Returns
    -------
    counts : scipy.sparse.csr_matrix
        (S, G) float32.
    names : list of str
        The G names, in the order in which they first occur.
    """
    codes, distinct = pd.factorize(np.asarray(names, dtype=object))
    if len(distinct) < len(codes):
        members = sparse.csr_matrix(
            (np.ones(len(codes)), (np.arange(len(codes)), codes)), shape=(len(codes), len(distinct))
        )
        counts = counts.astype(np.float64) @ members
    return sparse.csr_matrix(counts, dtype=np.float32), [str(name) for name in distinct]


def _originals(ids: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return the ids of each name, joined, in the order in which the names first occur."""
    together: dict[str, list[str]] = {}
    for own, name in zip(ids, names, strict=True):
        together.setdefault(name, []).append(own)
    return [";".join(owns) for owns in together.values()]


def check_counts(
    counts: Any, spots: Sequence[str], genes: Sequence[str], *, path: object
) -> sparse.csr_matrix:
    """Return (S, F) raw counts as float64 CSR without stored zeros.

    Raises
    ------
    InputError
        If a value is not a count; the message names the gene and the spot of the first one.
    """
    try:
        matrix = sparse.csr_matrix(counts, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"its counts are not numbers ({error})", path=str(path), fix="give raw UMI counts"
        ) from error
    bad = np.flatnonzero(~are_counts(matrix.data))
    if len(bad):
        row = int(np.searchsorted(matrix.indptr, bad[0], side="right")) - 1
        column = int(matrix.indices[bad[0]])
        raise InputError(
            f"gene {genes[column]}, spot {spots[row]}: {matrix.data[bad[0]]:g} is not a count",
            path=str(path),
            fix="give raw UMI counts: whole numbers, neither negative nor missing nor normalised",
        )
    matrix.eliminate_zeros()
    return matrix


def are_counts(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Return for each value whether it is a whole number from 0 to 2^31 - 1."""
    with np.errstate(invalid="ignore"):
        return (
            np.isfinite(values)
            & (values >= 0)
            & (values <= MAX_COUNT)
            & (values == np.floor(values))
        )
