"""Settings of ``tcgn-mil import-features``."""

from __future__ import annotations

from pydantic import Field

from tcgn_mil.config import config_class


@config_class
class ImportSettings:
    """Facts about features that their files may not hold."""

    encoder: str | None = Field(
        None,
        description="Name of the encoder, or of the program that made a table. The default is the"
        " name that the file or its folder states (CLAM's files and tables state none). A file that"
        " states another name is refused, unless its features have a width that is not possible"
        " under that name.",
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


@config_class
class TableSettings:
    """Meaning of the columns of a table of features, where the table does not make it clear."""

    slide_column: str | None = Field(
        None,
        description="Column of a table that names the slides. By default it is the first column or"
        " the one with 'slide' in its name, if its values are all different; without such a column,"
        " a patient with one row is its slide.",
    )
    patient_column: str | None = Field(
        None,
        description="Column of a table that names the patients. By default it is the one whose"
        " every value is a TCGA barcode, or one with a usual name such as patient_id.",
    )
    leave_out: tuple[str, ...] = Field(
        (), description="Column of a table that is no feature of the slide."
    )
