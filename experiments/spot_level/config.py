"""Configs of spot-level runs, ``tcgn-mil pretrain`` and ``tcgn-mil spot-cv``, and their presets."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

from pydantic import Field

from tcgn_mil.config import config_class
from tcgn_mil.errors import InputError
from tcgn_mil.panels import shipped_panels
from tcgn_mil.settings.augmentation import AugmentConfig
from tcgn_mil.settings.encoder import EncoderOptions, LoraSettings
from tcgn_mil.settings.training import TrainingConfig

# The small network of docs/protocol.md, section Baselines.
SMALL_NETWORK = "resnet10t"
SMALL_NETWORK_PX = 128


def _training_defaults() -> TrainingConfig:
    return TrainingConfig(epochs=30, batch_size=32, lr=1e-3, loss="mix")


@config_class
class PanelConfig:
    """Genes to predict: those of a file, or the most variable ones that are seen often enough."""

    file: str | None = Field(
        None,
        description="File with one gene per line, in the order of the output, or tcgn-her2st for"
        " the 785 genes of the published TCGN. Without it, the genes are chosen on the training"
        " sections by min_detection and max_genes.",
    )
    min_detection: float = Field(
        0.1, ge=0, le=1, description="Smallest share of training spots in which a gene has a count."
    )
    max_genes: int = Field(
        1000,
        ge=1,
        description="Largest number of genes; the most variable ones are kept (scanpy's flavour"
        " seurat, ranked within sections).",
    )
    missing: Literal["error", "zero", "drop"] = Field(
        "error",
        description="Treatment of panel genes that a section did not measure: error stops the"
        " run; zero sets their counts in that section to 0; drop leaves them out of the run. zero"
        " and drop list the genes in missing_genes.csv.",
    )

    @property
    def own_file(self) -> str | None:
        """The user's file; None if genes are chosen, or if the list comes with the package."""
        return None if self.file in shipped_panels() else self.file


@config_class
class TargetConfig:
    """Changes to the values that the network is trained on.

    Results are always judged against normalised expression (docs/protocol.md, section Targets).
    """

    remove_depth: bool = Field(
        False,
        description="Subtract the cubic spline of the log total count from the values of each"
        " training section, so that the network learns what sequencing depth does not explain. It"
        " is off as in the published TCGN; on real sections it did better together with rank=3.",
    )
    rank: int = Field(
        0,
        ge=0,
        description="Number of principal components that the training values are projected on. What"
        " genes share is measured far better than any single gene. 0 keeps all of the values.",
    )
    standardise: bool = Field(
        True,
        description="Bring each gene to mean 0 and variance 1, so that all genes weigh the same."
        " If remove_depth is set, this is done over the spots of each section.",
    )

    def __post_init__(self) -> None:
        if (self.remove_depth or self.rank) and not self.standardise:
            raise InputError(
                "target.standardise=false cannot be combined with target.remove_depth or"
                " target.rank",
                fix="set target.standardise=true, or remove the key",
            )


@config_class
class SpotConfig:
    """Everything that decides the result of a spot-level run."""

    spots: str = Field("spots", description="Folder that tcgn-mil spots wrote.")
    protocol: Literal["own", "hest"] = Field(
        "own",
        description="Protocol of spot-cv: own, or hest for the recipe of HEST-Bench (frozen"
        " features, 256 principal components, ridge, 50 variable genes).",
    )
    preset: Literal["published"] | None = Field(
        None, description="Name of the preset that is in use. spot-cv --preset sets it."
    )
    val_sections: tuple[str, ...] = Field(
        (),
        description="Sections on which pretrain stops early. Without them, the run chooses"
        " sections; with three training patients or more it chooses whole patients, which then do"
        " not train.",
    )
    test_sections: tuple[str, ...] = Field(
        (), description="Sections that pretrain reads once, at the end. All other sections train."
    )
    group_by: Literal["patient", "section"] = Field(
        "patient",
        description="Unit that spot-cv tests together: all sections of a patient, or one section."
        " With section, other sections of the same patient train, and the result is labelled as"
        " patient leakage.",
    )
    n_folds: int = Field(
        0,
        ge=0,
        description="Number of folds of spot-cv. 0 leaves out each patient (or section) once.",
    )
    folds: str | None = Field(
        None,
        description="CSV file with the columns fold, part and id for spot-cv. An id is a section,"
        " or a patient, which stands for all of the patient's sections.",
    )
    validation: Literal["select", "join"] = Field(
        "select",
        description="Use of the validation part: select chooses the epoch on it; join adds it to"
        " the training part and trains for all epochs without selection, for settings that were"
        " chosen before.",
    )
    select_on_test: bool = Field(
        False,
        description="Choose the epoch on the test part, as in the TCGN paper. The result is"
        " labelled accordingly.",
    )
    model: str = Field(
        "tcgn_ti",
        description="Encoder: tcgn_ti, tcgn_xs, tcgn_tiny, the name of a timm model, or any form"
        " that tcgn-mil encode takes, such as uni2-h or hf-hub:<owner>/<name>.",
    )
    encoder_options: EncoderOptions = Field(
        default_factory=EncoderOptions,
        description="How the encoder is built, pooled, and given its weights.",
    )
    checkpoint: str | None = Field(
        None,
        description="Weights to start from: those of a TCGN for the same genes, in the published or"
        " in this package's layout, or those of a timm model.",
    )
    trunk: str | None = Field(
        None,
        description="ImageNet weights of CMT to start the trunk of TCGN from, instead of"
        " checkpoint.",
    )
    train: Literal["all", "lora", "head", "none"] = Field(
        "all",
        description="Part of the network that is trained: all trains end to end; lora trains"
        " low-rank adapters of the attention and the head; head trains a linear layer on the frozen"
        " encoder; none fits ridge regression on the features of the frozen encoder.",
    )
    lora: LoraSettings = Field(
        default_factory=LoraSettings, description="Low-rank adapters, with train=lora."
    )
    input_px: int | None = Field(
        None,
        ge=1,
        description="Side, in pixels, to which patches are resized. The default is the model's"
        " own size.",
    )
    allow_other_size: bool = Field(
        False,
        description="Accept patches of another physical size than those that the encoder was"
        " trained on.",
    )
    views: Literal[1, 4, 8] = Field(
        4,
        description="Symmetries of the square over which the prediction of a test spot is averaged:"
        " 1, 4 (the rotations) or 8.",
    )
    members: int = Field(
        1,
        ge=1,
        description="Networks that spot-cv trains from successive seeds and whose predictions it"
        " averages. pretrain trains one.",
    )
    baselines: bool = Field(
        True,
        description="Also train the small network of the protocol by the same recipe, and fit"
        " ridge regression on the features of the untrained network, in spot-cv.",
    )
    normalisation: Literal["library", "published"] = Field(
        "library",
        description="Normalisation of the counts: library scales them to 10,000 over all genes;"
        " published scales them over the panel, as in the TCGN paper.",
    )
    min_umi: int = Field(
        100,
        description="Smallest number of counts of a spot. Spots with fewer counts are left out"
        " and listed.",
    )
    map_genes: tuple[str, ...] = Field(
        (),
        description="Genes whose maps are drawn. Without them, the best predicted genes are drawn.",
    )
    panel: PanelConfig = Field(default_factory=PanelConfig, description="Genes to predict.")
    target: TargetConfig = Field(
        default_factory=TargetConfig, description="Changes to the training values."
    )
    augment: AugmentConfig = Field(
        default_factory=AugmentConfig, description="Augmentation of the training patches."
    )
    training: TrainingConfig = Field(
        default_factory=_training_defaults, description="Training of the network."
    )

    def __post_init__(self) -> None:
        if self.select_on_test and self.validation == "join":
            raise InputError(
                "select_on_test needs validation=select, but validation is join",
                fix="remove one of the two keys",
            )
        if self.n_folds == 1:
            raise InputError(
                "n_folds is 1", fix="give 0 to leave each patient out once, or at least 2"
            )


PUBLISHED_EPOCHS = 79
# The protocol of the TCGN paper (Xiao et al. 2024). One section is left out, and the epoch is
# chosen on that same section. Targets are normalised over the panel and not standardised. Adam
# runs at a constant rate of 1e-5. The preset serves to reproduce the paper's numbers only.
_PUBLISHED: Mapping[str, Any] = MappingProxyType(
    {
        "preset": "published",
        "group_by": "section",
        "select_on_test": True,
        "model": "tcgn_ti",
        "normalisation": "published",
        "target": {"remove_depth": False, "rank": 0, "standardise": False},
        "views": 1,
        "members": 1,
        "augment": {"flips": True, "stain": 0.0, "blur": 0.0},
        "training": {
            "epochs": PUBLISHED_EPOCHS,
            "batch_size": 32,
            "lr": 1e-5,
            "weight_decay": 0.0,
            "warmup_fraction": 0.0,
            "optimizer": "adam",
            "schedule": "constant",
            "average": 0.0,
            "patience": PUBLISHED_EPOCHS,
            "loss": "mse",
            "clip_norm": 1e9,
        },
    }
)
PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType({"published": _PUBLISHED})


def preset_values(name: str | None) -> Mapping[str, Any]:
    """Return the keys that a preset sets, nested like a config file; none without a preset.

    Raises
    ------
    InputError
        If there is no preset of this name.

    Examples
    --------
    >>> preset_values(None)
    {}
    >>> preset_values("published")["group_by"]
    'section'
    """
    if name is None:
        return {}
    if name not in PRESETS:
        raise InputError(
            f"there is no preset {name!r}", fix=f"give --preset one of: {', '.join(PRESETS)}"
        )
    return {
        key: dict(value) if isinstance(value, Mapping) else value
        for key, value in PRESETS[name].items()
    }
