"""Signature scores of patients from the expression of a set's genes.

The score is the mean over the set's genes of the gene's rank among the patients, as a share of them: 0 to 1, and the
same whatever the unit, so that predicted and measured values, or z-scores with tails of 1e4, can be scored alike. It
is relative to the patients given.

Cytolytic activity (Rooney et al. 2015, Cell 160:48), recognised by its two genes, is as published their geometric mean
where the values allow one: linear values, and logs of known offset, which are taken back to linear. Other values have
the mean of ranks. A score needs half of its set's genes, cytolytic activity both.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.text import content_hash, duplicates, preview

if TYPE_CHECKING:
    pass


_ALIASES = {"FAM30A": "KIAA0125"}  # approved since the lists were published -> name in the lists
_HLA = re.compile(r"HLA[._-]?(?=[A-Z]+\d*$)")


def canonical_gene(name: str) -> str:
    """The name under which a gene is compared: ``HLA_A``, ``HLA.A`` and ``HLA-A`` are one; renamed genes too."""
    plain = name.strip()
    plain = _HLA.sub("HLA-", plain)
    return _ALIASES.get(plain, plain)


@dataclass(frozen=True)
class GenePanel:
    """An ordered set of genes; its hash travels with every (·, G) array and every checkpoint."""

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
        """Digest of the ids in their order."""
        return content_hash(list(self.genes))

    def index_in(self, genes: Sequence[str], *, path: object = None) -> NDArray[np.int64]:
        """(G,) positions of the panel's genes within `genes`.

        Raises
        ------
        InputError
            Naming the panel genes that are missing.
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
    """Per-gene standardisation, fitted on training patients (or spots) only.

    Attributes
    ----------
    transform
        Name of the unit in which mean and std are taken, for example ``log1p(counts per 1e4)``.
    mean, std
        (G,) float32; genes constant in training have std 1, so that they stay at zero.
    """

    transform: str
    mean: NDArray[np.float32]
    std: NDArray[np.float32]

    @classmethod
    def fit(cls, values: NDArray[np.floating], *, transform: str) -> TargetScaler:
        """Fit on ``values`` (samples, G)."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a gene that no sample knows
            mean = np.nan_to_num(np.asarray(np.nanmean(values, axis=0, dtype=np.float64)))
            std = np.asarray(np.nanstd(values, axis=0, dtype=np.float64))
        std = np.where(std > 1e-6, std, 1.0)
        return cls(transform, mean.astype(np.float32), std.astype(np.float32))

    def scale(self, values: NDArray[np.floating]) -> NDArray[np.float32]:
        """(·, G) in `transform` -> standardised."""
        return ((values - self.mean) / self.std).astype(np.float32)

    def unscale(self, values: NDArray[np.floating]) -> NDArray[np.float32]:
        """(·, G) standardised -> in `transform`."""
        return (values * self.std + self.mean).astype(np.float32)
