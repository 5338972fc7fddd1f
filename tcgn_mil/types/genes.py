"""Gene names, ordered gene panels, and the scaling of expression targets."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.hgnc.gene_map import shipped_gene_map
from tcgn_mil.text import content_hash, duplicates, preview

_ENSEMBL = re.compile(r"(ENSG\d{11})(?:\.\d+)?")
_HLA = re.compile(r"HLA[._-]?(?=[A-Z]+\d*$)")


def canonical_gene(name: str) -> str:
    """Return the spelling under which gene names are compared.

    Tables spell HLA genes in several ways (R replaces the hyphen by a dot), some genes have been
    renamed, and some tables name genes by Ensembl ids. Names with the same result are one gene. The
    approved symbol of a previous one, and of an id, is the one of :mod:`tcgn_mil.hgnc`.

    Parameters
    ----------
    name
        Gene symbol.

    Returns
    -------
    str

    Examples
    --------
    >>> canonical_gene("HLA.A"), canonical_gene("MARCH1"), canonical_gene("ENSG00000141510.17")
    ('HLA-A', 'MARCHF1', 'TP53')
    """
    hgnc = shipped_gene_map()
    plain = spelled_gene(name)
    if match := _ENSEMBL.fullmatch(plain):
        return hgnc.symbol_of.get(match[1], plain)
    return hgnc.renamed.get(plain, plain)


def spelled_gene(name: str) -> str:
    """Return a name in the spelling of HGNC, without looking up whether it was replaced.

    Examples
    --------
    >>> spelled_gene("HLA.A"), spelled_gene("MARCH1")
    ('HLA-A', 'MARCH1')
    """
    return _HLA.sub("HLA-", name.strip())


def columns_by_gene(names: Sequence[str]) -> dict[str, int]:
    """Return the position of each gene by its canonical name.

    Where several names are one gene, such as an approved symbol and a previous one, the position is
    that of the approved symbol, and otherwise of the first name.

    Examples
    --------
    >>> columns_by_gene(["MARCH1", "TP53", "MARCHF1"])
    {'TP53': 1, 'MARCHF1': 2}
    """
    canonical = [canonical_gene(name) for name in names]
    columns: dict[str, int] = {}
    for at, name in enumerate(names):
        if spelled_gene(name) == canonical[at]:
            columns.setdefault(canonical[at], at)
    for at, gene in enumerate(canonical):
        columns.setdefault(gene, at)
    return columns


def matching_columns(genes: Sequence[str], others: Sequence[str]) -> list[int | None]:
    """Find genes among other names: first under their own name, then under another of the gene.

    Parameters
    ----------
    genes
        Names to look for.
    others
        Names of columns.

    Returns
    -------
    list of int or None
        Column of each gene. No column is found for two genes.

    Examples
    --------
    >>> matching_columns(["MARCH1", "MARCHF1", "TP53"], ["TP53", "MARCHF1"])
    [None, 1, 0]
    """
    columns: dict[str, int] = {}
    for column, name in enumerate(others):
        columns.setdefault(spelled_gene(name), column)
    matches = [columns.get(spelled_gene(gene)) for gene in genes]
    taken = {*matches}
    columns = columns_by_gene(others)
    for index, gene in enumerate(genes):
        other = columns.get(canonical_gene(gene))
        if matches[index] is None and other not in taken:
            matches[index] = other
            taken.add(other)
    return matches


@dataclass(frozen=True)
class GenePanel:
    """An ordered list of different genes.

    The panel's hash is stored with every checkpoint and every table of predictions, so that
    columns of different panels are never mixed.

    Parameters
    ----------
    genes
        Gene names; at least one, all different.

    Raises
    ------
    InputError
        If the panel is empty or repeats a gene.

    Examples
    --------
    >>> panel = GenePanel(("GZMA", "PRF1"))
    >>> panel.index_in(["PRF1", "ACTB", "GZMA"]).tolist()
    [2, 0]
    """

    genes: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.genes:
            raise InputError(
                "the gene panel is empty", fix="check the panel file or the selection thresholds"
            )
        repeated = duplicates(self.genes)
        if repeated:
            raise InputError(
                f"the gene panel repeats {preview(repeated)}",
                fix="name each gene once; sum or rename duplicates",
            )

    def __len__(self) -> int:
        return len(self.genes)

    @cached_property
    def hash(self) -> str:
        """Hash of the gene names in their order."""
        return content_hash(list(self.genes))

    def index_in(self, genes: Sequence[str], *, path: object = None) -> NDArray[np.int64]:
        """Find the panel's genes in another list of genes.

        Parameters
        ----------
        genes
            Names to search, for example the columns of a table.
        path
            File of these names, for the error message.

        Returns
        -------
        ndarray
            (G,) int64 positions in `genes`, in the order of the panel. A gene that is not there
            under its own name is found by :func:`matching_columns`.

        Raises
        ------
        InputError
            If a gene of the panel is missing.
        """
        position = {gene: index for index, gene in enumerate(genes)}
        missing = [gene for gene in self.genes if gene not in position]
        if missing:
            matches = zip(self.genes, matching_columns(self.genes, genes), strict=True)
            position = {gene: at for gene, at in matches if at is not None}
            missing = [gene for gene in missing if gene not in position]
        if missing:
            raise InputError(
                f"{len(missing)} of {len(self)} panel genes are missing: {preview(missing)}",
                path=None if path is None else str(path),
                fix="use data with the model's genes, or a panel restricted to the genes in common",
            )
        return np.fromiter((position[gene] for gene in self.genes), dtype=np.int64, count=len(self))


@dataclass(frozen=True)
class TargetScaler:
    """Standardise each gene by the mean and standard deviation of training samples.

    Attributes
    ----------
    transform
        Name of the scale on which the mean and the standard deviation were taken, for example
        ``log1p(counts per 1e4)``.
    mean, std
        (G,) float32. A gene that is constant in training has a standard deviation of 1 here, so
        that its scaled values are 0 and not NaN.

    Examples
    --------
    >>> import numpy as np
    >>> scaler = TargetScaler.fit(np.array([[1.0], [3.0]]), transform="log2(TPM + 1)")
    >>> scaler.scale(np.array([[1.0], [2.0]])).tolist()
    [[-1.0], [0.0]]
    """

    transform: str
    mean: NDArray[np.float32]
    std: NDArray[np.float32]

    @classmethod
    def fit(cls, values: NDArray[np.floating], *, transform: str) -> TargetScaler:
        """Fit the scaler.

        Parameters
        ----------
        values
            (samples, G). NaN values are ignored. Give training samples only, so that test
            patients do not influence the scale.
        transform
            Name of the scale of `values`.

        Returns
        -------
        TargetScaler
        """
        with warnings.catch_warnings():
            # numpy warns about a gene that is NaN in all samples; its mean becomes 0 below.
            warnings.simplefilter("ignore", RuntimeWarning)
            mean = np.nan_to_num(np.asarray(np.nanmean(values, axis=0, dtype=np.float64)))
            std = np.asarray(np.nanstd(values, axis=0, dtype=np.float64))
        std = np.where(std > 1e-6, std, 1.0)
        return cls(transform, mean.astype(np.float32), std.astype(np.float32))

    def scale(self, values: NDArray[np.floating]) -> NDArray[np.float32]:
        """Standardise values (any number of rows, G) on the scale `transform`."""
        return ((values - self.mean) / self.std).astype(np.float32)

    def unscale(self, values: NDArray[np.floating]) -> NDArray[np.float32]:
        """Bring standardised values (any number of rows, G) back to the scale `transform`."""
        return (values * self.std + self.mean).astype(np.float32)
