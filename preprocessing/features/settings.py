"""Settings of ``tcgn-mil import-features``."""

from __future__ import annotations

from pydantic import Field

from tcgn_mil.config import config_class


@config_class
class ImportSettings:
    """Facts about features that their files may not hold."""

    encoder: str | None = Field(
        None,
        description="Name of the encoder. The default is the name that the file states (CLAM's"
        " files state none). A file that states another name is refused.",
    )
    patch_px: int | None = Field(
        None,
        description="Side of a tile in pixels, as it was cut. The default is the one that the"
        " file states.",
    )
    patch_mpp: float | None = Field(
        None,
        description="µm per pixel of a tile. By default it follows from the file and the resolution"
        " of the slide.",
    )
