"""Config of ``tcgn-mil explain``."""

from __future__ import annotations

from pydantic import Field

from tcgn_mil.config import config_class
from tcgn_mil.errors import InputError
from tcgn_mil.settings.encoder import EncoderOptions
from tcgn_mil.text import duplicates, preview


@config_class
class ExplainConfig:
    """Images to explain (spots, the centre of an image, or tiles of slides) and the model."""

    encoder: str = Field(
        "encoder/encoder.safetensors",
        description="Encoder checkpoint of tcgn-mil pretrain. With --model it may be in any"
        " form that tcgn-mil encode takes.",
    )
    genes: tuple[str, ...] = Field(
        (),
        description="Genes to explain. By default these are markers of epithelium, stroma, T cells"
        " and macrophages, as far as the model has them.",
    )
    spots: str | None = Field(
        None, description="Explain spots: a folder that tcgn-mil spots wrote, or one .h5ad of it."
    )
    sections: tuple[str, ...] = Field(
        (), description="Sections to explain. By default all sections are explained."
    )
    barcodes: tuple[str, ...] = Field(
        (),
        description="Spots to explain. Without them, the spots with the highest predictions of"
        " each gene are explained.",
    )
    image: str | None = Field(
        None, description="Explain the centre of this image, whose resolution is given by --mpp."
    )
    mpp: float | None = Field(
        None,
        description="µm per pixel of the image, or of slides that do not state it. A file that"
        " states another is refused.",
    )
    override_mpp: bool = Field(
        False,
        description="Use mpp, or the column mpp of the slides table, in spite of the files.",
    )
    recursive: bool = Field(
        False, description="Take the slides in all folders below a folder of slides, too."
    )
    slide_model: str | None = Field(
        None,
        description="Explain the tiles with the highest attention: the folder that tcgn-mil"
        " finetune or publish wrote, or hf-hub:owner/name.",
    )
    features: str = Field("features", description="Folder that tcgn-mil encode wrote.")
    tiles: str = Field("tiles", description="Folder that tcgn-mil tile wrote.")
    slides: str | None = Field(
        None, description="Slides as given to tcgn-mil encode: one file, a folder or a table."
    )
    slide_ids: tuple[str, ...] = Field((), description="Slides whose tiles are explained.")
    encoder_options: EncoderOptions = Field(
        default_factory=EncoderOptions,
        description="How the encoder is built, pooled, and given its weights.",
    )
    top: int = Field(3, ge=1, description="Spots per gene, or tiles per slide.")
    steps: int = Field(64, ge=2, description="Steps of the integrated gradients.")

    def __post_init__(self) -> None:
        kinds = ("spots", "image", "slide_model")
        given = [name for name in kinds if getattr(self, name) is not None]
        if len(given) != 1:
            raise InputError(
                f"{len(given)} of --spots, --image and --model are given, but exactly one is"
                " needed",
                fix="give one of --spots, --image and --model",
            )
        lists = {"gene": self.genes, "spot": self.barcodes, "slide": self.slide_ids}
        for what, names in lists.items():
            if repeated := duplicates(names):
                raise InputError(
                    f"{what} {preview(repeated)} is named twice", fix=f"give each --{what} once"
                )
        self._check_spots_and_slides()

    def _check_spots_and_slides(self) -> None:
        if self.spots is None and (self.sections or self.barcodes):
            raise InputError(
                "--section or --spot is given without --spots",
                fix="give --spots too, or remove --section and --spot",
            )
        if self.slide_model is None and (self.slides or self.slide_ids):
            raise InputError(
                "--slides or --slide is given without --model",
                fix="give --model too, or remove --slides and --slide",
            )
        if self.slide_model is not None and not (self.slides and self.slide_ids):
            raise InputError(
                "--model is given, but no slide is named",
                fix="give --slides (as to tcgn-mil encode) and --slide",
            )
