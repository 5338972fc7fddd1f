"""What ``tcgn-mil associate`` is about: predictions, measured values and covariates of the same patients, scored."""

from __future__ import annotations

from dataclasses import dataclass

from tcgn_mil.errors import InputError


@dataclass(frozen=True)
class AssociationConfig:
    """What to associate with what. Paths are files; of patients, or with `spots` of spots.

    Attributes
    ----------
    predicted
        h5ad of ``finetune`` (out of fold) or ``predict``, or any table of patients x genes; measured values will do.
    measured
        cohort.h5ad or a table; the predictions' own layer ``truth`` if not given.
    covariates, covariate
        Table with a row a patient, and its columns wanted; all that can be used if none is named.
    adjust_for
        Columns of it whose ranks are taken out for partial correlations.
    zero_unknown
        Columns of it in which exactly 0 means not known.
    sets, shipped_sets
        GMT or CSV files of gene sets, beside those shipped (immune.gmt) unless told.
    genes
        File of predictable genes, one a line; else what the predictions say, else q < 0.05 here.
    follow
        Signature, or number among the covariates, that genes are tested against.
    unit, measured_unit
        Units of files that state none.
    spots, cell_types
        Folder of ``spot-cv`` (or a predicted_<section>.h5ad), and cell-type proportions of its spots.
    replicates, permutations
        Of the bootstrap over patients and of GSEA.
    min_set_genes
        Ranked genes that GSEA needs of a set.
    seed
        Of both.
    """

    predicted: str | None = None
    measured: str | None = None
    covariates: str | None = None
    covariate: tuple[str, ...] = ()
    adjust_for: tuple[str, ...] = ()
    zero_unknown: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()
    shipped_sets: bool = True
    genes: str | None = None
    follow: str | None = None
    unit: str | None = None
    measured_unit: str | None = None
    spots: str | None = None
    cell_types: str | None = None
    replicates: int = 1000
    permutations: int = 1000
    min_set_genes: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.adjust_for or self.covariate or self.zero_unknown) and self.covariates is None:
            raise InputError(
                "columns of covariates without a table of them", fix="give --covariates"
            )
        if self.replicates < 0 or self.permutations < 1 or self.min_set_genes < 1:
            raise InputError(
                "replicates, permutations and min_set_genes cannot be negative",
                fix="give 0, 1, 1 or more",
            )
