"""What describes a prediction: one config for ``tcgn-mil predict``."""

from __future__ import annotations

from dataclasses import dataclass

from tcgn_mil.errors import InputError
from tcgn_mil.text import preview

TABLE_FORMATS = ("csv", "parquet")


@dataclass(frozen=True)
class PredictConfig:
    """What to predict with and on.

    Attributes
    ----------
    model
        Folder of ``tcgn-mil finetune``.
    features
        Folder of ``tcgn-mil encode``.
    thumbnails
        Folder of ``tcgn-mil tile``, for the pictures under the maps.
    map_genes
        Genes to draw; the best predicted ones in cross-validation if empty.
    maps
        Whether to draw maps.
    map_signatures
        GMT file of gene sets to draw: means over their genes' standardised tile scores.
    table_formats
        Of the table beside predicted.h5ad: ``csv``, ``parquet`` or both.
    allow_other_size
        Accept features of tiles of another physical size than the model's, labelled so.
    """

    model: str
    features: str
    thumbnails: str | None = None
    map_genes: tuple[str, ...] = ()
    maps: bool = True
    map_signatures: str | None = None
    table_formats: tuple[str, ...] = ("csv",)
    allow_other_size: bool = False

    def __post_init__(self) -> None:
        if unknown := [name for name in self.table_formats if name not in TABLE_FORMATS]:
            raise InputError(
                f"unknown table format {preview(unknown)}",
                fix=f"choose of {', '.join(TABLE_FORMATS)}",
            )
