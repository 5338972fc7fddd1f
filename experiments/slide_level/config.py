"""Configs of slide-level runs: ``tcgn-mil finetune`` and ``tcgn-mil slide-cv``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tcgn_mil.config import config_class
from tcgn_mil.errors import InputError
from tcgn_mil.settings.encoder import EncoderOptions, LoraSettings
from tcgn_mil.settings.slide_model import EncoderTrain, MilConfig
from tcgn_mil.settings.training import TrainingConfig

# docs/protocol.md, section Predictable genes: at least 50 refits on permuted labels.
CROSS_VALIDATION_REFITS = 50


_GROUP_BY = (
    "Unit that is never split across folds: patient; site (the TCGA tissue source site); or both,"
    " which makes two runs, by site in the folder itself and by patient in its subfolder"
    " by-patient. Without enough sites, both is patient."
)


def _tuning_defaults() -> TrainingConfig:
    return TrainingConfig(
        epochs=10, batch_size=16, lr=1e-4, layer_decay=0.7, patience=3, loss="mix"
    )


def _training_defaults() -> TrainingConfig:
    return TrainingConfig(epochs=60, batch_size=16, lr=1e-3, patience=15, loss="mix")


@config_class
class EncoderTuning:
    """Settings of an encoder that is fine-tuned with the loss of whole bags of tiles."""

    tiles: int = Field(
        32, ge=1, description="Tiles of a patient that are encoded, with gradient, in one step."
    )
    val_tiles: int = Field(
        128, ge=1, description="Tiles of a validation patient that are encoded after each epoch."
    )
    training: TrainingConfig = Field(
        default_factory=_tuning_defaults,
        description="Training of the encoder. lr is the learning rate of the aggregator and the"
        " head; layers of the encoder learn more slowly, by layer_decay.",
    )
    lora: LoraSettings = Field(
        default_factory=LoraSettings,
        description="Low-rank adapters of the encoder's attention, with encoder_train=lora.",
    )


@config_class
class FinetuneConfig:
    """Everything that decides the result of a slide-level run."""

    cohort: str = Field("cohort.h5ad", description="cohort.h5ad that tcgn-mil bulk wrote.")
    features: str = Field("features", description="Folder that tcgn-mil encode wrote.")
    encoder: str | None = Field(
        None,
        description="Encoder that made the features, in any form that tcgn-mil encode takes. If it"
        " is a checkpoint of tcgn-mil pretrain, the additive form starts from its head, and the"
        " zero-shot baseline predicts with it.",
    )
    encoder_options: EncoderOptions = Field(
        default_factory=EncoderOptions,
        description="How the encoder is built, pooled, and given its weights.",
    )
    folds: str | None = Field(
        None,
        description="Folds to use: a CSV file with the columns fold, part and id, or a folder of"
        " published lists (SurvPath, CLAM, SEQUOIA). Without it, folds are made from the seed.",
    )
    n_folds: int = Field(5, ge=3, description="Number of folds to make.")
    group_by: Literal["patient", "site", "both"] = Field("patient", description=_GROUP_BY)
    targets: str = Field(
        "genes",
        description="What is predicted: genes; signatures, the scores of the shipped gene sets from"
        " measured expression; or a table of scores with one row per patient.",
    )
    several_slides: Literal["bag", "mean"] = Field(
        "bag",
        description="Treatment of patients with several slides: bag puts all slides into one"
        " bag; mean makes each slide a bag with the profile of the patient as its target, and the"
        " prediction of the patient is the mean over slides.",
    )
    cohorts: Literal["within", "pooled"] = Field(
        "within",
        description="Treatment of expression from several sources: within standardises the"
        " values of each source on its training patients, and keeps r and the permutations within"
        " sources; pooled treats all values as one source.",
    )
    genes: str | None = Field(
        None,
        description="File with one gene per line. Without it, the genes are those expressed in at"
        " least min_expressed of the training patients.",
    )
    min_expressed: float = Field(
        0.5, ge=0, le=1, description="Share of training patients in which a gene must be expressed."
    )
    max_tiles: int = Field(
        2000,
        ge=1,
        description="Tiles that are sampled per bag and epoch in training. Prediction uses all"
        " tiles.",
    )
    refits: int = Field(
        0,
        ge=0,
        description="Refits on permuted labels from which the p-values come. With 0 the p-values"
        " are approximate, and the tables say so.",
    )
    replicates: int = Field(
        1000,
        ge=1,
        description="Random draws for the 95 % intervals of medians over genes.",
    )
    coverage: float = Field(0.9, gt=0, lt=1, description="Coverage of the prediction intervals.")
    seed: int = Field(
        0,
        ge=0,
        description="Seed of the folds, initialisation, batches, sampled tiles, permutations and"
        " the draws for intervals.",
    )
    model: MilConfig = Field(default_factory=MilConfig, description="The slide model.")
    training: TrainingConfig = Field(
        default_factory=_training_defaults,
        description="Training of the slide model. A step holds batch_size patients, over which the"
        " correlation loss is computed.",
    )
    encoder_train: EncoderTrain = Field(
        "none",
        description="Training of the encoder: none uses stored features as they are; last, lora or"
        " all, after training on stored features, also fine-tunes the last stage of the encoder,"
        " low-rank adapters of its attention, or all of it, with the loss of whole bags, once per"
        " fold.",
    )
    slides: str | None = Field(
        None,
        description="Slides (one file, a folder or a table), needed if the encoder is trained.",
    )
    tiles: str | None = Field(
        None,
        description="Folder of the tiles from which the features were made, needed if the"
        " encoder is trained.",
    )
    mpp: float | None = Field(
        None,
        description="µm per pixel of level 0, for slides that do not state it. A slide that states"
        " another is refused.",
    )
    override_mpp: bool = Field(
        False,
        description="Use mpp, or the column mpp of the slides table, in spite of the files.",
    )
    recursive: bool = Field(
        False, description="Take the slides in all folders below a folder of slides, too."
    )
    tuning: EncoderTuning = Field(
        default_factory=EncoderTuning,
        description="Fine-tuning of the encoder with the loss of whole bags.",
    )

    def __post_init__(self) -> None:
        if self.refits and self.training.average:
            raise InputError(
                "refits cannot use an average of weights (training.average)",
                fix="set training.average=0, or refits=0",
            )
        if self.model.form == "additive" and self.model.spot_hidden:
            raise InputError(
                f"model.spot_hidden is {self.model.spot_hidden}, but the run takes it from the"
                " encoder",
                fix="remove model.spot_hidden from the config",
            )
        if self.model.form == "additive" and self.model.kind in ("ridge", "kernel"):
            raise InputError(
                f"model.form=additive is a form of the network, but model.kind is"
                f" {self.model.kind}",
                fix="set model.kind=attention, or model.form=pooled",
            )
        if self.targets != "genes" and self.encoder is not None:
            raise InputError(
                f"targets is {self.targets}, but an encoder predicts genes",
                fix="remove --encoder, or set targets=genes",
            )
        if self.encoder_train != "none":
            self._check_tuning()

    def _check_tuning(self) -> None:
        needed = {"--encoder": self.encoder, "--slides": self.slides, "--tiles": self.tiles}
        if missing := [name for name, value in needed.items() if value is None]:
            raise InputError(
                f"encoder_train={self.encoder_train} needs {' and '.join(missing)}",
                fix="give the encoder that made the features, the slides, and the folder of tiles",
            )
        if self.model.kind in ("ridge", "kernel"):
            raise InputError(
                f"encoder_train={self.encoder_train} trains through a network, but model.kind is"
                f" {self.model.kind}",
                fix="set model.kind=attention, or encoder_train=none",
            )
        if self.several_slides != "bag":
            raise InputError(
                f"encoder_train={self.encoder_train} cannot be combined with"
                f" several_slides={self.several_slides}",
                fix="set several_slides=bag, or remove the key",
            )
        if self.refits:
            raise InputError(
                f"refits={self.refits} with encoder_train={self.encoder_train} would train the"
                " encoder again for each refit",
                fix="set refits=0; the p-values are then approximate, and the tables say so",
            )


@config_class
class SlideCvConfig(FinetuneConfig):
    """The config of ``slide-cv``: that of ``finetune``, by site and patient, with refits."""

    group_by: Literal["patient", "site", "both"] = Field("both", description=_GROUP_BY)
    refits: int = Field(
        CROSS_VALIDATION_REFITS,
        ge=0,
        description="Refits on permuted labels from which the p-values come. With 0 the p-values"
        " are approximate, and the tables say so.",
    )
