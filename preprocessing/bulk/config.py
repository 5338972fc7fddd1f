"""Settings of ``tcgn-mil bulk``."""

from __future__ import annotations

from pydantic import Field

from tcgn_mil.config import config_class


@config_class
class BulkConfig:
    """Settings of the join of expression and slides."""

    unit: str = Field(
        description="Unit of the values: tpm, tpm-subset, fpkm, fpkm-uq, counts, zscore, or a"
        " logarithm such as log2(tpm+1), ln(tpm+1) or log10(tpm+1). The values are checked against"
        " it."
    )
    format: str = Field(
        "auto",
        description="Layout of the tables: auto, wide, samples-by-genes, genes-by-samples,"
        " cbioportal, firehose, gct, geo-series, recount3, sequoia, porpoise, isb-cgc, gdc or"
        " h5ad.",
    )
    gene_ids: str = Field("symbol", description="Name genes by symbol or by ensembl id.")
    gene_map: str | None = Field(
        None,
        description="Table of gene ids and symbols: a Xena probe map, or HGNC's complete set; hgnc,"
        " the default, for the shipped table of HGNC (July 2024), which names Entrez and Ensembl"
        " ids and replaces previous symbols; or none.",
    )
    layer: str | None = Field(None, description="Layer of an .h5ad file to read instead of X.")
    preparation: str = Field(
        "any", description="Slides to join, by their TCGA names: any, diagnostic or frozen."
    )
    clinical: str | None = Field(
        None,
        description="clinical.csv that tcgn-mil clinical wrote, to count events among the joined"
        " patients. It does not decide which patients are joined.",
    )
