"""Configs of ``tcgn-mil predict``: what is predicted, and the slides that it encodes itself."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tcgn_mil.config import config_class
from tcgn_mil.experiments.encode.config import (
    BATCH_HELP,
    PRECISION_HELP,
    READERS_HELP,
    Precision,
)
from tcgn_mil.settings.device_names import DEVICE_HELP, DEVICE_NAMES
from tcgn_mil.settings.encoder import EncoderOptions

TableFormat = Literal["csv", "parquet"]


@config_class
class PredictConfig:
    """Everything that decides the result of a prediction run."""

    model: str = Field(
        "slide-model",
        description="Folder that tcgn-mil finetune or publish wrote, or a published model on the"
        " hub, as hf-hub:owner/name or hf-hub:owner/name@revision.",
    )
    features: str = Field("features", description="Folder that tcgn-mil encode wrote.")
    thumbnails: str | None = Field(
        None,
        description="Folder that tcgn-mil tile wrote, whose pictures are drawn under the maps.",
    )
    map_genes: tuple[str, ...] = Field(
        (),
        description="Gene whose maps are drawn. Without any, markers of epithelium, stroma, T cells"
        " and macrophages are drawn, and the genes that were predicted best in cross-validation"
        " where the panel lacks such markers.",
    )
    maps: bool = Field(
        True,
        description="Draw attention and expression maps of each slide as .png, .geojson and .h5ad.",
    )
    map_origin: Literal["bounds", "slide"] = Field(
        "bounds",
        description="Point that is 0, 0 in the GeoJSON: bounds is the corner of the scanned area,"
        " to which QuPath crops MIRAX, Leica and Ventana slides; slide is that of level 0.",
    )
    map_signatures: str | None = Field(
        None,
        description="GMT file of gene sets to draw. The map of a set is the mean of the"
        " standardised tile scores of its genes.",
    )
    table_formats: tuple[TableFormat, ...] = Field(
        ("csv",), description="Format of the table beside predicted.h5ad: csv or parquet."
    )
    allow_other_size: bool = Field(
        False,
        description="Accept tiles of another physical size than those the model was trained on. The"
        " results are labelled so.",
    )


@config_class
class SlideOptions:
    """Slides that are tiled and encoded before they are predicted, and how."""

    slides: str = Field(
        description="Slides to predict instead of features: one slide, a folder, or a table. They"
        " are tiled as the training slides of the model were, and encoded."
    )
    encoder: str = Field(
        "encoder/encoder.safetensors",
        description="With --slides: the encoder of the model's features, in any form that tcgn-mil"
        " encode takes.",
    )
    mpp: float | None = Field(
        None,
        description="With --slides: µm per pixel of level 0, for slides that do not state it. A"
        " slide that states another is refused.",
    )
    override_mpp: bool = Field(
        False,
        description="With --slides: use --mpp, or the column mpp of the slides table, in spite of"
        " the slides' files. Both values are recorded.",
    )
    recursive: bool = Field(
        False, description="With --slides: take the slides in all folders below, too."
    )
    encoder_options: EncoderOptions = Field(
        default_factory=EncoderOptions,
        description="How the encoder is built, pooled, and given its weights.",
    )
    batch_size: int = Field(64, ge=1, description=f"With --slides: {BATCH_HELP}")
    precision: Precision = Field("auto", description=f"With --slides: {PRECISION_HELP}")
    device: str = Field("auto", pattern=DEVICE_NAMES, description=f"With --slides: {DEVICE_HELP}")
    readers: int | None = Field(None, ge=1, description=f"With --slides: {READERS_HELP}")
    keep_features: bool = Field(
        False, description="With --slides: keep the tiles and the features in <out>/work."
    )
    patch_px: int | None = Field(
        None,
        description="With --slides: side of a tile in stored pixels; the default is that of the"
        " model.",
    )
    patch_mpp: float | None = Field(
        None, description="With --slides: µm per stored pixel; the default is that of the model."
    )
