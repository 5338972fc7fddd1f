"""Configs of ``tcgn-mil publish`` and ``tcgn-mil export-predictions``."""

from __future__ import annotations

from pydantic import Field

from tcgn_mil.config import config_class
from tcgn_mil.hub import parse_hub_name
from tcgn_mil.settings.patient_names import NameTreatment


@config_class
class PublishConfig:
    """The run that is published, where it goes, and what the run itself does not know."""

    run: str = Field(description="Folder that tcgn-mil pretrain, finetune or slide-cv wrote.")
    to: str | None = Field(
        None,
        description="Repository on the hub to upload to, as owner/name or owner/name@branch."
        " Without it, nothing leaves this machine.",
    )
    private: bool = Field(
        True,
        description="Make a new repository private. One that exists keeps its visibility.",
    )
    licence: str | None = Field(
        None,
        description="Licence of the weights, such as cc-by-nc-4.0. Without it, the card says that"
        " the licence is not stated, and others may not use the model.",
    )
    data_licence: str | None = Field(
        None,
        description="Licence or terms of use of the data that the model was trained on, for the"
        " card. No run knows it.",
    )
    names: NameTreatment = Field(
        "hashed",
        description="Names of patients, slides and sections in the published files: hashed (salted;"
        " a training patient is still recognised by its name), kept (for public names such as TCGA"
        " barcodes), or removed (training patients are predicted like new ones).",
    )

    def __post_init__(self) -> None:
        if self.to is not None:
            parse_hub_name(self.to)


@config_class
class ExportConfig:
    """Runs whose predictions are exported."""

    runs: tuple[str, ...] = Field(
        description="Folders that tcgn-mil finetune, slide-cv or predict wrote."
    )
