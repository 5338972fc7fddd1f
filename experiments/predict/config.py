"""Config of ``tcgn-mil predict``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tcgn_mil.config import config_class

TableFormat = Literal["csv", "parquet"]


@config_class
class PredictConfig:
    """Everything that decides the result of a prediction run."""

    model: str = Field("slide-model", description="Folder that tcgn-mil finetune wrote.")
    features: str = Field("features", description="Folder that tcgn-mil encode wrote.")
    thumbnails: str | None = Field(
        None,
        description="Folder that tcgn-mil tile wrote, whose pictures are drawn under the maps.",
    )
    map_genes: tuple[str, ...] = Field(
        (),
        description="Genes whose maps are drawn. Without them, the genes that were predicted best in"
        " cross-validation.",
    )
    maps: bool = Field(
        True,
        description="Draw attention and expression maps of each slide, as .png, .geojson and .h5ad.",
    )
    map_signatures: str | None = Field(
        None,
        description="GMT file of gene sets to draw. The map of a set is the mean of the standardised"
        " tile scores of its genes.",
    )
    table_formats: tuple[TableFormat, ...] = Field(
        ("csv",), description="Formats of the table beside predicted.h5ad: csv, parquet or both."
    )
    allow_other_size: bool = Field(
        False,
        description="Accept tiles of another physical size than those the model was trained on. The"
        " results are labelled so.",
    )
