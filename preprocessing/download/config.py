"""Settings of ``tcgn-mil download``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tcgn_mil.config import config_class

GDC_API = "https://api.gdc.cancer.gov"
_ADDRESS = r"^https?://[^\s/]+(/[^\s]*)?$"


@config_class
class TransferConfig:
    """Settings of the transport, which all sources share."""

    workers: int = Field(4, ge=1, le=16, description="Number of files that are fetched at once.")
    attempts: int = Field(
        6,
        ge=1,
        le=20,
        description="Number of times that a server is asked again when it is busy or cannot be"
        " reached, or when a transfer stops without any new byte.",
    )
    backoff_s: float = Field(
        2.0,
        ge=0,
        le=60,
        description="Seconds of the first wait between two attempts; each wait is twice as long as"
        " the one before.",
    )
    timeout_s: float = Field(
        60.0, gt=0, le=600, description="Seconds without any byte after which a transfer is cut."
    )


@config_class
class GdcConfig:
    """Settings of a download from the Genomic Data Commons (GDC)."""

    project: str = Field(
        min_length=1, max_length=100, description="Project of the GDC, for example TCGA-COAD."
    )
    cases: str | None = Field(
        None,
        description="File with the patients to download, one barcode on each line. By default all"
        " of the project.",
    )
    slides: Literal["diagnostic", "frozen", "all", "none"] = Field(
        "diagnostic", description="Slides to download: diagnostic, frozen, all or none."
    )
    expression: Literal["star", "none"] = Field(
        "star", description="Expression to download: star (STAR counts of RNA-seq) or none."
    )
    clinical: bool = Field(
        True, description="Download survival and clinical variables, which is the default."
    )
    api: str = Field(GDC_API, pattern=_ADDRESS, description="Address of the GDC's API.")


@config_class
class Her2stConfig:
    """Settings of a download of the her2st sections."""

    address: str = Field(
        "https://raw.githubusercontent.com/almaan/her2st",
        pattern=_ADDRESS,
        description="Address of the repository's raw files.",
    )
