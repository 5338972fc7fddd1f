"""Config of ``tcgn-mil associate``."""

from __future__ import annotations

from pydantic import Field

from tcgn_mil.config import config_class
from tcgn_mil.errors import InputError

KIND = "associate"
# Keys that name files or folders.
FILES = ("predicted", "measured", "covariates", "sets", "genes", "spots", "cell_types")


@config_class
class AssociationConfig:
    """Everything that decides the result of an association run."""

    predicted: str | None = Field(
        None,
        description="Predicted expression: the .h5ad file of finetune (out of fold) or of"
        " predict, or any table of patients by genes. Measured values can be given here as well.",
    )
    measured: str | None = Field(
        None,
        description="Measured expression: cohort.h5ad or a table. Without it, the measured"
        " values that came with the predictions are used (their layer truth).",
    )
    covariates: str | None = Field(
        None,
        description="Table with one row per patient, who is named in the first column; or a"
        " cohort.h5ad, for its sample types (column sample_type).",
    )
    covariate: tuple[str, ...] = Field(
        (),
        description="Columns of the covariates to test. By default all columns that can be used"
        " are tested.",
    )
    adjust_for: tuple[str, ...] = Field(
        (),
        description="Columns of the covariates to adjust for, for example purity: the ranks of"
        " these columns are regressed out in the partial correlations.",
    )
    zero_unknown: tuple[str, ...] = Field(
        (), description="Columns of the covariates in which 0 means that the value is not known."
    )
    sets: tuple[str, ...] = Field(
        (), description="GMT or CSV files of gene sets, in addition to those that are shipped."
    )
    shipped_sets: bool = Field(True, description="Use the immune gene sets that the package ships.")
    genes: str | None = Field(
        None,
        description="File of predictable genes, one per line. Without it, the genes are those"
        " that the predictions mark as predictable, or else those with q < 0.05 in this run.",
    )
    follow: str | None = Field(
        None, description="Signature, or numeric covariate, that every gene is tested against."
    )
    unit: str | None = Field(
        None, description="Unit of predictions that state none, named as for tcgn-mil bulk."
    )
    measured_unit: str | None = Field(None, description="Unit of measured values that state none.")
    spots: str | None = Field(
        None,
        description="Folder of tcgn-mil spot-cv, or one predicted_<section>.h5ad of it. The run is"
        " then about spots instead of patients.",
    )
    cell_types: str | None = Field(
        None,
        description="Cell-type proportions of the spots: a ZIP file or a folder of"
        " <section>-proportion.tsv.",
    )
    permutations: int = Field(1000, ge=1, description="Permutations of genes in GSEA.")
    min_set_genes: int = Field(
        5, ge=1, description="Smallest number of ranked genes that GSEA needs of a set."
    )
    seed: int = Field(0, ge=0, description="Seed of the permutations.")

    def __post_init__(self) -> None:
        # These keys name columns of the table; without it they would be ignored silently.
        if (self.adjust_for or self.covariate or self.zero_unknown) and self.covariates is None:
            raise InputError(
                "columns of covariates are named, but no table of covariates is given",
                fix="give the table with --covariates",
            )
