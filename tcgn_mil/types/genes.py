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
from tcgn_mil.text import content_hash, duplicates, preview

# HGNC approved some names after the signature lists were published. Key: approved name;
# value: the name in those lists.
_ALIASES = {"FAM30A": "KIAA0125"}
_HLA = re.compile(r"HLA[._-]?(?=[A-Z]+\d*$)")


def canonical_gene(name: str) -> str:
    """Return the spelling under which gene names are compared.

    Tables spell HLA genes in several ways (R replaces the hyphen by a dot), and some genes have
    been renamed. Names with the same result are one gene.

    Parameters
    ----------
    name
        Gene symbol.

    Returns
    -------
    str

    Examples
    --------
    >>> canonical_gene("HLA.A"), canonical_gene("HLA_A"), canonical_gene("CD8A")
    ('HLA-A', 'HLA-A', 'CD8A')
    """
    plain = _HLA.sub("HLA-", name.strip())
    return _ALIASES.get(plain, plain)


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
            (G,) int64 positions in `genes`, in the order of the panel.

        Raises
        ------
        InputError
            If a gene of the panel is missing.
        """
        position = {gene: index for index, gene in enumerate(genes)}
        missing = [gene for gene in self.genes if gene not in position]
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
