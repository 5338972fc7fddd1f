"""What describes a slide-level run: one config for ``tcgn-mil finetune`` and ``tcgn-mil slide-cv``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from tcgn_mil.errors import InputError
from tcgn_mil.models.end_to_end import EncoderTrain
from tcgn_mil.models.slide_regressor import MilConfig
from tcgn_mil.training.loop import TrainingConfig

CROSS_VALIDATION_REFITS = 50  # PROTOCOL, What counts as predictable


@dataclass(frozen=True)
class EncoderTuning:
    """How an encoder is fine-tuned through the bag.

    Attributes
    ----------
    tiles
        Of a patient that are encoded, with gradient, in a step.
    val_tiles
        Of a validation patient that are encoded at each epoch.
    training
        Its ``lr`` is that of pooling and head; layers of the encoder have it times ``layer_decay`` to the power of
        their depth from the output.
    """

    tiles: int = 32
    val_tiles: int = 128
    training: TrainingConfig = field(
        default_factory=lambda: TrainingConfig(
            epochs=10, batch_size=16, lr=1e-4, layer_decay=0.7, patience=3, loss="mix"
        )
    )

    def __post_init__(self) -> None:
        for name in ("tiles", "val_tiles"):
            if getattr(self, name) < 1:
                raise InputError(
                    f"tuning.{name} is {getattr(self, name)}", fix="give at least 1; 32 are usual"
                )


@dataclass(frozen=True)
class FinetuneConfig:
    """Everything that decides the result of a run.

    Attributes
    ----------
    cohort, features
        cohort.h5ad of ``tcgn-mil bulk`` and the folder of ``tcgn-mil encode``.
    encoder
        Checkpoint of ``tcgn-mil pretrain`` that made the features: its head is where the additive form starts, and
        what the zero-shot baseline predicts with. None: neither.
    folds
        CSV with the columns fold, part, id, or a folder of published lists (:mod:`tcgn_mil.io.fold_lists`); made from
        `seed` where it is not given.
    n_folds
        Folds to make, at least 3.
    group_by
        ``patient``, or ``site`` to keep each TCGA tissue source site in one fold.
    several_slides
        ``bag``: all slides of a patient are one bag; ``mean``: each is a bag of its own with the patient's profile as
        its target, and the patient's prediction is their mean.
    cohorts
        Of expression from several sources: ``within``: standardised within each on its training patients, labels
        permuted and r taken within each; ``pooled``: as of one.
    genes
        File with one gene a line; otherwise the genes expressed in at least `min_expressed` of training patients.
    min_expressed
        Share of training patients, 0 to 1.
    max_tiles
        Tiles sampled per bag and epoch in training; prediction uses all.
    refits
        Refits on permuted labels that the p-values come from. 0: none, and the p-values are approximate, and labelled
        so.
    replicates
        Resamplings of patients behind the confidence intervals.
    coverage
        Of the prediction intervals, 0 to 1.
    seed
        Of folds, initialisation, tile samples, permutations and resamplings.
    encoder_train
        ``none``: on stored features; ``last``, ``all``: after that the last stage of the encoder, or all of it, is
        fine-tuned through the bag, fold by fold (:mod:`tcgn_mil.experiments.slide_level.tune_encoder`).
    slides, tiles
        Where the encoder is fine-tuned: the slides (one, a folder, a table), and the folder of their tiles.
    mpp
        µm per pixel of level 0, for slides that do not state it.
    tuning
        How.
    """

    cohort: str = "cohort.h5ad"
    features: str = "features"
    encoder: str | None = None
    folds: str | None = None
    n_folds: int = 5
    group_by: Literal["patient", "site"] = "patient"
    several_slides: Literal["bag", "mean"] = "bag"
    cohorts: Literal["within", "pooled"] = "within"
    genes: str | None = None
    min_expressed: float = 0.5
    max_tiles: int = 2000
    refits: int = 0
    replicates: int = 1000
    coverage: float = 0.9
    seed: int = 0
    model: MilConfig = field(default_factory=MilConfig)
    training: TrainingConfig = field(
        default_factory=lambda: TrainingConfig(
            epochs=60, batch_size=16, lr=1e-3, patience=15, loss="mix"
        )
    )
    encoder_train: EncoderTrain = "none"
    slides: str | None = None
    tiles: str | None = None
    mpp: float | None = None
    tuning: EncoderTuning = field(default_factory=EncoderTuning)

    def __post_init__(self) -> None:
        for name in ("refits", "seed"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} is {getattr(self, name)}", fix="give 0 or more")
        if self.replicates < 1:
            raise InputError(
                f"replicates is {self.replicates}", fix="give at least 1; 1000 are usual"
            )
        if not 0 < self.coverage < 1:
            raise InputError(
                f"coverage is {self.coverage}", fix="give a share between 0 and 1, such as 0.9"
            )
        if not 0 <= self.min_expressed <= 1:
            raise InputError(
                f"min_expressed is {self.min_expressed}", fix="give a share of patients, 0 to 1"
            )
        if self.refits and self.training.average:
            raise InputError(
                "refits do not average weights", fix="set training.average=0, or refits=0"
            )
        if self.model.form == "additive" and self.model.spot_hidden:
            raise InputError("model.spot_hidden is taken from the encoder", fix="leave it at 0")
        if self.encoder_train not in get_args(EncoderTrain):
            choices = ", ".join(get_args(EncoderTrain))
            raise InputError(
                f"encoder_train is {self.encoder_train!r}", fix=f"choose one of {choices}"
            )
        if self.encoder_train != "none":
            self._check_tuning()

    def _check_tuning(self) -> None:
        needed = {"--encoder": self.encoder, "--slides": self.slides, "--tiles": self.tiles}
        if missing := [name for name, value in needed.items() if value is None]:
            raise InputError(
                f"encoder_train={self.encoder_train} without {' and '.join(missing)}",
                fix="give the encoder that made the features, the slides, and the tiles that they were made from",
            )
        if self.several_slides != "bag":
            raise InputError(
                f"encoder_train={self.encoder_train} goes with several_slides=bag",
                fix="leave it so",
            )
        if self.refits:
            raise InputError(
                f"refits of a run with encoder_train={self.encoder_train} would train the encoder again each time",
                fix="set refits=0; p-values are then approximate, and labelled so",
            )


@dataclass(frozen=True)
class SlideCvConfig(FinetuneConfig):
    """The same for ``tcgn-mil slide-cv``, whose p-values come from refits unless told otherwise."""

    refits: int = CROSS_VALIDATION_REFITS
