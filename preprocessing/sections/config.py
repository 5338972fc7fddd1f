"""Settings of ``tcgn-mil spots``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tcgn_mil.config import config_class
from tcgn_mil.types.tile_geometry import PatchSize


@config_class
class SpotsConfig:
    """Settings for reading sections of spatial transcriptomics."""

    format: str = Field(
        "auto",
        description="Layout of the source: her2st, visium, xenium, spatialdata, h5ad or hest, or"
        " auto to judge it by the contents.",
    )
    sections: tuple[str, ...] | None = Field(
        None, description="Section to read. By default all sections are read."
    )
    image: str | None = Field(
        None,
        description="Full-resolution image, for a source with one section. Layouts that hold their"
        " own images need none. Of a SpatialData store with several images give the folder of one,"
        " STORE.zarr/images/NAME.",
    )
    patch: PatchSize = Field(default_factory=PatchSize, description="Physical size of the patches.")
    spot_pitch_um: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="Distance between the centres of neighbouring spots in µm, from which the"
        " resolution of the image is measured. It is known for her2st (200) and for the hexagonal"
        " array of Visium (100). For other grids it has to be stated here, in a column of a table,"
        " or by the files.",
    )
    mpp: float | None = Field(
        None,
        description="µm per pixel of the full-resolution images, used instead of a measured"
        " value. A value more than 5 % off the measured one, or 2 % off one that a file states, is"
        " refused.",
    )
    override_mpp: bool = Field(
        False,
        description="Use --mpp also if the files of a section contradict it. The contradiction is"
        " recorded in sections.csv.",
    )
    pool_um: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="Side in µm of the squares over which the counts of bins (Visium HD) and cells"
        " (Xenium) are summed; for bins the nearest whole number of them. The default is the side"
        " of a patch. The size of a bin leaves bins as they are.",
    )
    pool_from: Literal["cells", "transcripts", "nuclei"] = Field(
        "cells",
        description="What is summed of a Xenium section: cells, the counts of cells at their"
        " centres; transcripts, all transcripts of quality 20 or more at their places, also those"
        " outside of cells; or nuclei, the transcripts over nuclei.",
    )
    gene_ids: Literal["symbol", "ensembl"] = Field(
        "symbol", description="Name genes by symbol or by ensembl id, if the source has both."
    )
    allow_coarse: bool = Field(
        False,
        description="Write patches even if the image is so coarse that they must be enlarged"
        " beyond the limit. Such patches show less detail than slide tiles, and a model does not"
        " notice it.",
    )
    slides_out: str | None = Field(
        None,
        description="Also write each section here as a pyramidal TIFF slide, with slides.csv and"
        " the summed counts in pseudobulk.csv (unit counts). A gene that a section does not name"
        " counts as 0.",
    )
    pseudobulk_by: Literal["section", "patient"] = Field(
        "section",
        description="With --slides-out: sum counts, and join slides, by section or by patient."
        " Sections of one donor are not independent; the column donor in slides.csv lets you keep"
        " them in one fold.",
    )
